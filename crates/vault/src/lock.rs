//! One writer a folder: a lock that the operating system releases when its holder ends, however it ends.

#![allow(clippy::disallowed_methods)] // The lock file is a note for people, not an artefact.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;
use std::time::SystemTime;

use crate::clock::rfc3339_utc;
use crate::{Error, Result};

/// The name of the lock file. It stays when the lock is released, empty: removing it would race with the next
/// holder.
pub const LOCK_NAME: &str = ".lock";

/// The most that is read of what a lock file says about its holder.
const NOTE_BYTES: u64 = 400;

/// The exclusive use of a folder, until dropped.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
}

impl FolderLock {
    /// Takes the folder, or says who has it. `holder` is what a person would recognise: the command that
    /// runs.
    ///
    /// # Errors
    /// `Usage` when another process, or another part of this one, holds it; `Io` when the folder cannot be
    /// written.
    pub fn acquire(folder: impl AsRef<Path>, holder: &str) -> Result<Self> {
        let folder = folder.as_ref();
        let path = folder.join(LOCK_NAME);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(|error| Error::io("locking the folder", &error).at(folder))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(folder, &mut file)),
            Err(TryLockError::Error(error)) => {
                let advice = "this file system has no locks; choose a folder on another one";
                return Err(Error::io("locking the folder", &error).at(folder).advise(advice));
            }
        }
        // The note is a courtesy: the lock holds without it, on a full disk too.
        let _ = write_note(&mut file, holder);
        Ok(Self { file })
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

fn write_note(file: &mut File, holder: &str) -> std::io::Result<()> {
    let holder = holder.replace(char::is_control, " ");
    let note =
        format!("{holder} (process {}, since {})\n", std::process::id(), rfc3339_utc(SystemTime::now()));
    file.set_len(0)?;
    file.write_all(note.as_bytes())
}

fn in_use(folder: &Path, file: &mut File) -> Error {
    let mut note = Vec::new();
    let read = file.take(NOTE_BYTES).read_to_end(&mut note);
    let note = String::from_utf8_lossy(&note).replace(char::is_control, " ");
    let holder = match (read, note.trim()) {
        (Err(_), _) | (_, "") => "another process",
        (_, note) => note,
    };
    Error::usage(format!("this folder is in use by {holder}"))
        .at(folder)
        .advise("wait until that ends, stop it, or choose another folder")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fault;

    #[test]
    fn the_second_who_wants_a_folder_hears_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::acquire(folder.path(), "microtome nuclei\nsegment").unwrap();
        let refused = FolderLock::acquire(folder.path(), "microtome desk").unwrap_err();
        assert_eq!(refused.fault(), Fault::Usage);
        let expected = format!("in use by microtome nuclei segment (process {}, since 2", std::process::id());
        assert!(refused.to_string().contains(&expected), "{refused}");
        drop(lock);
        FolderLock::acquire(folder.path(), "microtome desk").unwrap();
    }

    #[test]
    fn a_stale_or_odd_lock_file_does_not_lock() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LOCK_NAME), vec![255; 5000]).unwrap();
        let _lock = FolderLock::acquire(folder.path(), "").unwrap();
        assert_eq!(FolderLock::acquire(folder.path().join("none"), "x").unwrap_err().fault(), Fault::Io);
    }
}
