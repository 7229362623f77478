//! One writer a folder: a lock that the operating system releases when its holder ends, however it ends.

#![allow(clippy::disallowed_methods)] // The lock file is a note for people, not an artefact.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

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
    let note = format!("{holder} (process {}, since {})\n", std::process::id(), utc(SystemTime::now()));
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

/// A time as `2026-11-21T09:30:00Z`.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The Gregorian date of a day counted from 1 January 1970.
fn civil_from_days(mut day: u64) -> (u64, u64, u64) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    #[test]
    fn times_are_written_in_utc() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
