//! Every durable operation with every one of its calls to the disk failing in turn, once and for ever (the
//! method of SQLite's tests): the file is the old or the new one, nothing else is left, and the message names
//! the file.

#![allow(clippy::disallowed_methods)] // Sets up what is to survive.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

use microtome_vault::disk::{self, AtomicFolder, AtomicWriter, Disk, RealDisk};
use microtome_vault::{Fault, Result};

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
    Os(i32),
    /// Only half of the bytes are written, which is no error.
    ShortWrite,
    /// Half of the bytes are written, then the device is full: what a nearly full disk does.
    TornWrite,
}

const EINTR: Failure = Failure::Os(4);
const EIO: Failure = Failure::Os(5);
const FAILURES: [Failure; 8] = [
    EIO,
    Failure::Os(28), // ENOSPC
    Failure::Os(13), // EACCES
    Failure::Os(24), // EMFILE
    Failure::Os(30), // EROFS
    EINTR,
    Failure::ShortWrite,
    Failure::TornWrite,
];

/// A disk whose `nth` call fails, and those after it when `for_ever`.
struct FaultyDisk {
    failure: Failure,
    nth: usize,
    for_ever: bool,
    calls: Mutex<usize>,
}

impl FaultyDisk {
    fn strike(&self) -> Option<Failure> {
        let mut calls = self.calls.lock().unwrap();
        *calls += 1;
        (*calls == self.nth || (self.for_ever && *calls > self.nth)).then_some(self.failure)
    }

    fn gate(&self) -> io::Result<()> {
        match self.strike() {
            Some(Failure::Os(code)) => Err(io::Error::from_raw_os_error(code)),
            _ => Ok(()),
        }
    }

    fn has_struck(&self) -> bool {
        *self.calls.lock().unwrap() >= self.nth
    }
}

impl Disk for FaultyDisk {
    fn create_new(&self, path: &Path) -> io::Result<File> {
        self.gate().and_then(|()| RealDisk.create_new(path))
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        let half = &bytes[..bytes.len().div_ceil(2)];
        match self.strike() {
            None => RealDisk.write(file, bytes),
            Some(Failure::ShortWrite) => RealDisk.write(file, half),
            Some(Failure::TornWrite) => RealDisk.write(file, half).and(Err(io::Error::from_raw_os_error(28))),
            Some(Failure::Os(code)) => Err(io::Error::from_raw_os_error(code)),
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.gate().and_then(|()| RealDisk.sync(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.gate().and_then(|()| RealDisk.rename(from, to))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.gate().and_then(|()| RealDisk.sync_folder(folder))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.gate().and_then(|()| RealDisk.remove_file(path))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.gate().and_then(|()| RealDisk.create_folder(path))
    }
}

/// Runs `operation` in a fresh folder with call 1, 2, 3 … failing until none does; returns how many points
/// were tried.
fn sweep(
    prepare: impl Fn(&Path),
    operation: impl Fn(&dyn Disk, &Path) -> Result<()>,
    verify: impl Fn(&Path, &Result<()>, Failure, bool),
) -> usize {
    let mut points = 0;
    for (failure, for_ever) in FAILURES.into_iter().flat_map(|failure| [(failure, false), (failure, true)]) {
        for nth in 1.. {
            let folder = tempfile::tempdir().unwrap();
            prepare(folder.path());
            let disk = FaultyDisk { failure, nth, for_ever, calls: Mutex::new(0) };
            let outcome = operation(&disk, folder.path());
            verify(folder.path(), &outcome, failure, for_ever);
            points += 1;
            if !disk.has_struck() {
                assert!(outcome.is_ok());
                break;
            }
        }
    }
    points
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The outcome of replacing `old` by `new` in `folder/masks.png`.
fn verify_replaced(
    folder: &Path,
    outcome: &Result<()>,
    failure: Failure,
    for_ever: bool,
    [old, new]: [Option<&[u8]>; 2],
) {
    let path = folder.join("masks.png");
    let content = fs::read(&path).ok();
    let benign = failure == Failure::ShortWrite || (failure == EINTR && !for_ever);
    match outcome {
        Ok(()) => assert_eq!(content.as_deref(), new),
        Err(error) => {
            assert!(!benign, "{failure:?} is no error: {error}");
            assert_eq!((error.fault(), error.path()), (Fault::Io, Some(path.as_path())));
            let folder_unsynced = error.to_string().contains("syncing the folder");
            assert_eq!(content.as_deref(), if folder_unsynced { new } else { old }, "{error}");
        }
    }
    let leftovers = names_in(folder).iter().filter(|name| name.contains(".tmp-")).count();
    // A disk that never works again cannot even remove the temporary file.
    assert!(leftovers == 0 || for_ever, "{:?}", names_in(folder));
    disk::remove_leftovers(folder).unwrap();
    assert!(names_in(folder).iter().all(|name| name == "masks.png"));
}

#[test]
fn an_atomic_write_leaves_the_old_file_or_the_new_one() {
    let new: Vec<u8> = (0..200_000u32).map(|i| (i % 253) as u8).collect();
    let mut points = 0;
    for old in [None, Some(&b"old"[..])] {
        points += sweep(
            |folder| old.into_iter().for_each(|old| fs::write(folder.join("masks.png"), old).unwrap()),
            |disk, folder| disk::write_atomic_on(disk, &folder.join("masks.png"), &new),
            |folder, outcome, failure, for_ever| {
                verify_replaced(folder, outcome, failure, for_ever, [old, Some(&new)]);
            },
        );
    }
    println!("{points} points of failure");
    assert!(points >= 150);
}

#[test]
fn a_streamed_write_leaves_the_old_file_or_the_new_one_even_if_its_errors_are_ignored() {
    let new: Vec<u8> = (0..300_000u32).map(|i| (i % 241) as u8).collect();
    let points = sweep(
        |folder| fs::write(folder.join("masks.png"), b"old").unwrap(),
        |disk, folder| {
            let mut writer = AtomicWriter::create_on(disk, &folder.join("masks.png"))?;
            for piece in new.chunks(7_001) {
                let _ = writer.write(piece);
            }
            writer.commit()
        },
        |folder, outcome, failure, for_ever| {
            verify_replaced(folder, outcome, failure, for_ever, [Some(b"old"), Some(&new)]);
        },
    );
    println!("{points} points of failure");
    assert!(points >= 100);
}

#[test]
fn a_removal_removes_or_says_why_not() {
    let points = sweep(
        |folder| fs::write(folder.join("masks.png"), b"old").unwrap(),
        |disk, folder| disk::remove_file_on(disk, &folder.join("masks.png")),
        |folder, outcome, failure, for_ever| match outcome {
            Err(error) if !error.to_string().contains("syncing") => {
                assert!(folder.join("masks.png").exists());
                assert!(failure != EINTR || for_ever);
            }
            _ => assert!(!folder.join("masks.png").exists()),
        },
    );
    assert!(points >= 30);
}

#[test]
fn folders_are_created_to_the_last_or_the_error_names_the_one_that_failed() {
    let points = sweep(
        |_| {},
        |disk, folder| disk::create_folder_all_on(disk, &folder.join("a/b/c")),
        |folder, outcome, _, _| match outcome {
            Ok(()) => assert!(folder.join("a/b/c").is_dir()),
            Err(error) => assert!(error.path().unwrap().starts_with(folder.join("a"))),
        },
    );
    assert!(points >= 60);
}

#[test]
fn a_folder_is_replaced_whole_or_stays_as_it_was() {
    let put = |disk: &dyn Disk, folder: &Path, content: &[u8]| -> Result<()> {
        let begun = AtomicFolder::create_on(disk, &folder.join("a.zarr"))?;
        for chunk in ["0/c/0/0", "0/c/0/1", "zarr.json"] {
            begun.write(chunk, content)?;
        }
        begun.commit()
    };
    let content = |folder: &Path| {
        let read = |chunk: &str| fs::read(folder.join("a.zarr").join(chunk)).ok();
        ["0/c/0/0", "0/c/0/1", "zarr.json"].map(read)
    };
    let all = |content: &[u8]| [Some(content.to_vec()), Some(content.to_vec()), Some(content.to_vec())];
    let mut points = 0;
    for old in [None, Some(&b"old"[..])] {
        points += sweep(
            |folder| old.into_iter().for_each(|old| put(&RealDisk, folder, old).unwrap()),
            |disk, folder| put(disk, folder, b"new"),
            |folder, outcome, _, for_ever| {
                let before = old.map_or([None, None, None], all);
                match outcome {
                    Ok(()) => assert_eq!(content(folder), all(b"new")),
                    Err(error) if error.to_string().contains("syncing the folder") && !for_ever => {
                        assert!([all(b"new"), before].contains(&content(folder)), "{error}");
                    }
                    // What could not be put back at once is when the folder is begun again.
                    Err(error) => {
                        drop(AtomicFolder::create(folder.join("a.zarr")).unwrap());
                        assert!([all(b"new"), before].contains(&content(folder)), "{error}");
                    }
                }
                drop(AtomicFolder::create(folder.join("a.zarr")).unwrap());
                assert!(names_in(folder).iter().all(|name| name == "a.zarr"), "{:?}", names_in(folder));
            },
        );
    }
    println!("{points} points of failure");
    assert!(points >= 200, "{points}");
}
