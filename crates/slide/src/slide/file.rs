//! A slide's file: read in pieces, at positions, by many threads at once.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use microtome_vault::{Error, Result, disk};

/// An open file and its length.
#[derive(Debug)]
pub(super) struct SlideFile {
    file: File,
    path: PathBuf,
    length: u64,
}

impl SlideFile {
    /// Opens a file.
    ///
    /// # Errors
    /// `Input` when it is missing, `Io` when it cannot be opened.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = disk::open_file(path)?;
        let metadata =
            file.metadata().map_err(|error| Error::io("asking for the length", &error).at(path))?;
        Ok(Self { file, path: path.to_owned(), length: metadata.len() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes, when it was opened.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// `count` bytes from `at` on, or none if they do not all lie within the file. Memory is taken only for what is
    /// there.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub(super) fn bytes(&self, at: u64, count: u64) -> Result<Option<Vec<u8>>> {
        let is_within = at.checked_add(count).is_some_and(|end| end <= self.length);
        let Some(count) = usize::try_from(count).ok().filter(|_| is_within) else { return Ok(None) };
        let mut bytes = vec![0; count];
        match read_exact_at(&self.file, &mut bytes, at) {
            Ok(()) => Ok(Some(bytes)),
            // Someone has made the file shorter since.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(Error::io("reading", &error).at(&self.path)),
        }
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_read(file, bytes, at)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[count..];
        at += count as u64;
    }
    Ok(())
}
