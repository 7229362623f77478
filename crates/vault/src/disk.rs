//! Durable files: whole or absent, after an error, a kill or a power cut.
//!
//! A file is written under a temporary name in its own folder, synced, renamed over the old one, and the
//! folder is synced. The few calls that can fail are the [`Disk`] trait, so that tests fail each of them in
//! turn in the very code that runs in earnest.

#![allow(clippy::disallowed_methods)] // The one place that writes files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Budget, Error, Result};

/// The calls to the operating system that change a disk.
pub trait Disk: Sync {
    /// Creates a file that must not exist yet, open for writing.
    fn create_new(&self, path: &Path) -> io::Result<File>;
    /// Writes some of `bytes`; returns how many.
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize>;
    /// Returns when the content of the file is on the device.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Replaces `to` by `from` in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Returns when the names in the folder are on the device.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Creates one folder, in a folder that exists.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_new(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(path)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        file.write(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// A folder can be opened and synced on Unix only; elsewhere the rename itself is as durable as it gets.
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }
}

/// How often a call that a signal interrupted is tried again before that counts as a failure.
const INTERRUPTIONS_BORNE: usize = 64;

/// Calls again after `EINTR`, which is no error but a signal that arrived.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..INTERRUPTIONS_BORNE {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
    call()
}

/// The folder that a path lies in: `.` for a bare name.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Bytes collected before they are handed to the operating system.
const BUFFER_BYTES: usize = 1 << 16;

/// A file in the making: the bytes written become the file's content at [`commit`](Self::commit), all or
/// none. Dropped without a commit, it leaves nothing.
pub struct AtomicWriter<'disk> {
    disk: &'disk dyn Disk,
    target: PathBuf,
    temporary: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
    /// Bytes that are not on the device yet, at most.
    unsynced: usize,
    broken: bool,
}

/// Bytes of a file that are written before they are synced.
const SYNC_EVERY_BYTES: usize = 32 << 20;

impl AtomicWriter<'static> {
    /// Begins a file that will replace `path`.
    ///
    /// # Errors
    /// `Io` when the folder is missing, read-only or full.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        Self::create_on(&RealDisk, path.as_ref())
    }
}

impl<'disk> AtomicWriter<'disk> {
    /// [`create`](AtomicWriter::create) on a disk of one's own.
    ///
    /// # Errors
    /// `Io` when the folder is missing, read-only or full.
    pub fn create_on(disk: &'disk dyn Disk, path: &Path) -> Result<Self> {
        let failed = |error: &io::Error| {
            Error::io("writing", error).at(path).advise(match error.kind() {
                ErrorKind::NotFound => "create its folder first",
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space; nothing was changed",
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    "choose a folder you may write to"
                }
                _ => "nothing was changed",
            })
        };
        if path.file_name().is_none() || path.is_dir() {
            return Err(Error::usage("a file cannot be written here, it is a folder").at(path));
        }
        let (file, temporary) = create_temporary(disk, path).map_err(|error| failed(&error))?;
        Ok(Self {
            disk,
            target: path.to_owned(),
            temporary,
            file: Some(file),
            buffer: Vec::new(),
            unsynced: 0,
            broken: false,
        })
    }

    /// Makes the file whole and durable under its name. On an error the old file is as it was, unless the
    /// message says that only the last step, syncing the folder, failed.
    ///
    /// # Errors
    /// `Io` when the disk refuses; also when an earlier write had failed.
    pub fn commit(mut self) -> Result<()> {
        let kept = "the file of that name, if there was one, is as it was";
        self.finish().map_err(|error| Error::io("writing", &error).at(&self.target).advise(kept))?;
        let (disk, temporary, target) = (self.disk, self.temporary.clone(), self.target.clone());
        uninterrupted(|| disk.rename(&temporary, &target))
            .map_err(|error| Error::io("renaming the finished file", &error).at(&self.target).advise(kept))?;
        self.temporary.clear();
        uninterrupted(|| disk.sync_folder(folder_of(&target))).map_err(|error| {
            let advice = "the new file is in place, but might not survive a power cut";
            Error::io("syncing the folder", &error).at(&self.target).advise(advice)
        })
    }

    /// Hands what is buffered to the operating system, and waits until all of it is on the device.
    fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        let file = self.file.take().ok_or_else(broken)?;
        uninterrupted(|| self.disk.sync(&file))
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        let file = self.file.as_mut().ok_or_else(broken)?;
        write_whole(self.disk, file, &self.buffer)?;
        self.unsynced += self.buffer.len();
        self.buffer.clear();
        // Synced as it grows, a large file does not keep its end waiting for all of it.
        if self.unsynced >= SYNC_EVERY_BYTES {
            uninterrupted(|| self.disk.sync(file))?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Writes `bytes` over those from `at` on, which were written before: an offset that is known at the end only.
    ///
    /// # Errors
    /// `Io` when the disk refuses; the file cannot be finished then.
    pub fn overwrite(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let outcome = self.flush().and_then(|()| {
            let file = self.file.as_mut().ok_or_else(broken)?;
            let end = file.stream_position()?;
            if at.saturating_add(bytes.len() as u64) > end {
                return Err(io::Error::other("overwriting beyond the end"));
            }
            file.seek(SeekFrom::Start(at))?;
            write_whole(self.disk, file, bytes)?;
            file.seek(SeekFrom::Start(end)).map(|_| ())
        });
        self.broken |= outcome.is_err();
        outcome.map_err(|error| Error::io("writing", &error).at(&self.target))
    }
}

fn write_whole(disk: &dyn Disk, file: &mut File, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        let written = uninterrupted(|| disk.write(file, rest))?;
        rest = rest.get(written..).filter(|_| written > 0).ok_or(ErrorKind::WriteZero)?;
    }
    Ok(())
}

fn broken() -> io::Error {
    io::Error::other("an earlier write failed")
}

impl Write for AtomicWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.broken {
            return Err(broken());
        }
        let outcome = self.write_buffer();
        self.broken = outcome.is_err();
        outcome
    }
}

impl Drop for AtomicWriter<'_> {
    fn drop(&mut self) {
        self.file = None;
        if !self.temporary.as_os_str().is_empty() {
            // Best effort: whoever drops the writer has a better error to report already.
            let _ = uninterrupted(|| self.disk.remove_file(&self.temporary));
        }
    }
}

/// What the name of a temporary file holds before the process id.
const TEMPORARY_MARK: &str = ".tmp-";

/// Characters of the file's own name in a temporary name: a name may have up to 255 bytes, and this one is
/// longer.
const NAME_CHARS_KEPT: usize = 40;

/// Creates `.NAME.tmp-PID-N` beside `path`, with the first N that is free.
fn create_temporary(disk: &dyn Disk, path: &Path) -> io::Result<(File, PathBuf)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().take(NAME_CHARS_KEPT).collect();
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".{name}{TEMPORARY_MARK}{}-{number}", std::process::id());
        let temporary = folder_of(path).join(name);
        match uninterrupted(|| disk.create_new(&temporary)) {
            // Left by a killed process that had the same id, as in containers.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && temporary.exists() => {}
            outcome => return outcome.map(|file| (file, temporary)),
        }
    }
}

/// Replaces the content of `path` by `bytes`: after an error or a power cut it is the old one or the new one.
///
/// # Errors
/// `Io`, with the path and what was kept.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    write_atomic_on(&RealDisk, path.as_ref(), bytes)
}

/// [`write_atomic`] on a disk of one's own.
///
/// # Errors
/// `Io`, with the path and what was kept.
pub fn write_atomic_on(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut writer = AtomicWriter::create_on(disk, path)?;
    writer.write_all(bytes).map_err(|error| Error::io("writing", &error).at(path))?;
    writer.commit()
}

/// Replaces the content of `path` by what `write` leaves in the file that it is given: for libraries that write files by their
/// path alone.
///
/// # Errors
/// What `write` gives; `Io`, with the path.
pub fn write_by_path(path: impl AsRef<Path>, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let path = path.as_ref();
    let failed = |error: &io::Error| Error::io("writing", error).at(path);
    let (file, temporary) = create_temporary(&RealDisk, path).map_err(|error| failed(&error))?;
    drop(file);
    let written = write(&temporary).and_then(|()| {
        let file = File::options().write(true).open(&temporary).map_err(|error| failed(&error))?;
        uninterrupted(|| file.sync_all()).map_err(|error| failed(&error))?;
        rename(&temporary, path)
    });
    if written.is_err() {
        // Nothing is lost by a temporary file that stays.
        let _ = uninterrupted(|| RealDisk.remove_file(&temporary));
    }
    written
}

/// A folder in the making: the files written become the folder's content at [`commit`](Self::commit), all or none. Dropped
/// without a commit, it leaves nothing. Many threads may write at once.
pub struct AtomicFolder<'disk> {
    disk: &'disk dyn Disk,
    target: PathBuf,
    temporary: PathBuf,
    /// Where what was there before waits until it is replaced.
    replaced: PathBuf,
}

impl AtomicFolder<'static> {
    /// Begins a folder that will replace `path`.
    ///
    /// # Errors
    /// `Io` when the folder that it lies in is missing, read-only or full.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        Self::create_on(&RealDisk, path.as_ref())
    }
}

impl<'disk> AtomicFolder<'disk> {
    /// [`create`](AtomicFolder::create) on a disk of one's own.
    ///
    /// # Errors
    /// `Io` when the folder that it lies in is missing, read-only or full.
    pub fn create_on(disk: &'disk dyn Disk, path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name: String = name.chars().take(NAME_CHARS_KEPT).collect();
        let temporary = folder_of(path).join(format!(".{name}.partial"));
        let replaced = folder_of(path).join(format!(".{name}.replaced"));
        // Left by a killed process: the folder's owner holds its lock.
        if replaced.exists() && !path.exists() {
            uninterrupted(|| disk.rename(&replaced, path))
                .map_err(|error| Error::io("putting the old folder back", &error).at(path))?;
        }
        remove_folder_all(&replaced)?;
        remove_folder_all(&temporary)?;
        create_folder_all_on(disk, &temporary)?;
        Ok(Self { disk, target: path.to_owned(), temporary, replaced })
    }

    /// Writes a file; `name` may lie in folders of its own, which are made.
    ///
    /// # Errors
    /// `Io` when the disk refuses, or the file was written before.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.temporary.join(name);
        create_folder_all_on(self.disk, folder_of(&path))?;
        let outcome = uninterrupted(|| self.disk.create_new(&path)).and_then(|mut file| {
            write_whole(self.disk, &mut file, bytes)?;
            uninterrupted(|| self.disk.sync(&file))
        });
        outcome.map_err(|error| Error::io("writing", &error).at(self.target.join(name)))
    }

    /// A file that was written, or none.
    ///
    /// # Errors
    /// `Io` when it cannot be read.
    pub fn read(&self, name: &str, budget: Budget) -> Result<Option<Vec<u8>>> {
        let path = self.temporary.join(name);
        if path.is_file() { read_file_bounded(&path, budget).map(Some) } else { Ok(None) }
    }

    /// Puts the folder in place.
    ///
    /// # Errors
    /// `Io` when the disk refuses; what was there before still is, or comes back when the folder is begun again.
    pub fn commit(mut self) -> Result<()> {
        self.sync_folders(&self.temporary)
            .map_err(|error| Error::io("syncing the folder", &error).at(&self.target))?;
        let renamed = |error: io::Error| Error::io("renaming the finished folder", &error).at(&self.target);
        if self.target.exists() {
            uninterrupted(|| self.disk.rename(&self.target, &self.replaced)).map_err(renamed)?;
        }
        if let Err(error) = uninterrupted(|| self.disk.rename(&self.temporary, &self.target)) {
            // If this fails too, the folder comes back when it is begun again.
            let _ = uninterrupted(|| self.disk.rename(&self.replaced, &self.target));
            return Err(renamed(error));
        }
        self.temporary.clear();
        uninterrupted(|| self.disk.sync_folder(folder_of(&self.target)))
            .map_err(|error| Error::io("syncing the folder", &error).at(&self.target))?;
        remove_folder_all(&self.replaced)
    }

    fn sync_folders(&self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.sync_folders(&entry.path())?;
            }
        }
        uninterrupted(|| self.disk.sync_folder(folder))
    }
}

impl Drop for AtomicFolder<'_> {
    fn drop(&mut self) {
        if !self.temporary.as_os_str().is_empty() {
            // Best effort: whoever drops it has a better error to report already.
            let _ = remove_folder_all(&self.temporary);
        }
    }
}

/// Creates a folder and those it lies in, durably; one that exists is fine.
///
/// # Errors
/// `Io` when the disk refuses, or when a file has that name.
pub fn create_folder_all(path: impl AsRef<Path>) -> Result<()> {
    create_folder_all_on(&RealDisk, path.as_ref())
}

/// [`create_folder_all`] on a disk of one's own.
///
/// # Errors
/// `Io` when the disk refuses, or when a file has that name.
pub fn create_folder_all_on(disk: &dyn Disk, path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    create_folder_all_on(disk, folder_of(path))?;
    match uninterrupted(|| disk.create_folder(path)) {
        // Another process was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        outcome => outcome.map_err(|error| Error::io("creating the folder", &error).at(path))?,
    }
    uninterrupted(|| disk.sync_folder(folder_of(path)))
        .map_err(|error| Error::io("syncing the new folder", &error).at(path))
}

/// Removes a file; one that does not exist is fine.
///
/// # Errors
/// `Io` when the disk refuses.
pub fn remove_file(path: impl AsRef<Path>) -> Result<()> {
    remove_file_on(&RealDisk, path.as_ref())
}

/// [`remove_file`] on a disk of one's own.
///
/// # Errors
/// `Io` when the disk refuses.
pub fn remove_file_on(disk: &dyn Disk, path: &Path) -> Result<()> {
    match uninterrupted(|| disk.remove_file(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        outcome => outcome.map_err(|error| Error::io("removing", &error).at(path))?,
    }
    uninterrupted(|| disk.sync_folder(folder_of(path)))
        .map_err(|error| Error::io("syncing the folder after removing", &error).at(path))
}

/// Removes a folder and what is in it; one that does not exist is fine.
///
/// # Errors
/// `Io` when the disk refuses.
pub fn remove_folder_all(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome.map_err(|error| Error::io("removing the folder", &error).at(path)),
    }
}

/// Gives a file or a folder another name, durably; nothing has that name.
///
/// # Errors
/// `Io` when the disk refuses.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    uninterrupted(|| RealDisk.rename(from, to))
        .and_then(|()| uninterrupted(|| RealDisk.sync_folder(folder_of(to))))
        .map_err(|error| Error::io("renaming", &error).at(from))
}

/// Bytes of the files in a folder and below it; what cannot be looked at counts as nothing.
pub fn size_of_folder(folder: impl AsRef<Path>) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => size_of_folder(entry.path()),
        Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |metadata| metadata.len()),
        _ => 0,
    };
    entries.map(size).sum()
}

/// Removes the temporary files that killed processes left in `folder`, and returns how many. Only for who
/// holds the folder's [lock](crate::lock): otherwise they may be another process's work.
///
/// # Errors
/// `Io` when the disk refuses.
pub fn remove_leftovers(folder: impl AsRef<Path>) -> Result<usize> {
    let folder = folder.as_ref();
    let failed = |error: io::Error| Error::io("listing the folder", &error).at(folder);
    let mut removed = 0;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && is_temporary_name(&entry.file_name().to_string_lossy()) {
            remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a name is `.NAME.tmp-PID-N`.
fn is_temporary_name(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers =
        name.strip_prefix('.').and_then(|name| name.rsplit_once(TEMPORARY_MARK)).map(|(_, after)| after);
    numbers.and_then(|numbers| numbers.split_once('-')).is_some_and(|(pid, n)| is_number(pid) && is_number(n))
}

/// Opens a file for reading; what is not a plain file (or a link to one) is refused before it is touched.
///
/// # Errors
/// `Input` when there is no such file, or it is a folder or a device; `Io` when it cannot be opened.
pub fn open_file(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    let metadata = uninterrupted(|| fs::metadata(path)).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Error::input("there is no such file").at(path),
        _ => Error::io("opening", &error).at(path),
    })?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a folder, not a file" } else { "not a plain file" };
        return Err(Error::input(what).at(path));
    }
    uninterrupted(|| File::open(path)).map_err(|error| Error::io("opening", &error).at(path))
}

/// The whole content of a file that fits into the budget.
///
/// # Errors
/// `Input` when there is no such file, `Limit` when it is larger than the budget, `Io` when the disk refuses.
pub fn read_file_bounded(path: impl AsRef<Path>, budget: Budget) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let failed = |error: io::Error| Error::io("reading", &error).at(path);
    let file = open_file(path)?;
    let expected = file.metadata().map_err(failed)?.len();
    let capacity = budget.grant("this file", expected, 1).map_err(|error| error.at(path))?;
    let mut bytes = Vec::with_capacity(capacity);
    // A file may grow while it is read.
    file.take(budget.bytes().saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    budget.grant("this file", bytes.len() as u64, 1).map_err(|error| error.at(path))?;
    Ok(bytes)
}
