//! Writing and reading on the real disk: odd names, missing folders, links, sizes beyond the budget.

#![allow(clippy::disallowed_methods)] // Sets up what is read.

use std::fs;
use std::io::Write;

use microtome_vault::disk::{
    self, AtomicFolder, AtomicWriter, create_folder_all, read_file_bounded, write_atomic,
};
use microtome_vault::{Budget, Fault};

#[test]
fn any_name_that_the_disk_takes_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let longest = "x".repeat(255);
    let names = ["plain.png", "two words.png", "😐.svs", ".hidden", "né-é.tif", "a.tmp-1-2", "-", &longest];
    for name in names {
        write_atomic(folder.path().join(name), name.as_bytes()).unwrap();
        let read = read_file_bounded(folder.path().join(name), Budget::DEFAULT).unwrap();
        assert_eq!(read, name.as_bytes());
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), names.len());
    let too_long = write_atomic(folder.path().join("x".repeat(256)), b"").unwrap_err();
    assert_eq!(too_long.fault(), Fault::Io);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), names.len());
}

#[test]
fn what_cannot_be_written_is_said_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none/file");
    let error = write_atomic(&missing, b"x").unwrap_err();
    assert_eq!((error.fault(), error.path()), (Fault::Io, Some(missing.as_path())));
    assert_eq!(error.advice(), Some("create its folder first"));
    assert_eq!(write_atomic(folder.path(), b"x").unwrap_err().fault(), Fault::Usage);
    write_atomic(folder.path().join("file"), b"x").unwrap();
    assert_eq!(create_folder_all(folder.path().join("file/below")).unwrap_err().fault(), Fault::Io);
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = AtomicWriter::create(folder.path().join("file")).unwrap();
    writer.write_all(&[1; 100_000]).unwrap();
    drop(writer);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn two_writers_of_one_file_leave_one_of_the_two_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let contents: Vec<Vec<u8>> = (0..8).map(|number| vec![number; 100_000]).collect();
    std::thread::scope(|scope| {
        for content in &contents {
            scope.spawn(|| write_atomic(&path, content).unwrap());
        }
    });
    assert!(contents.contains(&fs::read(&path).unwrap()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn only_temporary_files_are_leftovers() {
    let folder = tempfile::tempdir().unwrap();
    let kept = [".a.tmp-12", "a.tmp-1-2", ".a.tmp-1-x", ".lock", ".a.tmp--"];
    for name in kept.iter().chain(&[".a.tmp-12-0", ".a.tmp-b.tmp-1-22"]) {
        fs::write(folder.path().join(name), b"").unwrap();
    }
    assert_eq!(disk::remove_leftovers(folder.path()).unwrap(), 2);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), kept.len());
}

#[test]
fn reading_keeps_to_plain_files_and_to_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    write_atomic(&path, &[7; 1000]).unwrap();
    assert_eq!(read_file_bounded(&path, Budget::of_bytes(1000)).unwrap().len(), 1000);
    let fault_of = |path: &std::path::Path, bytes| {
        let error = read_file_bounded(path, Budget::of_bytes(bytes)).unwrap_err();
        assert_eq!(error.path(), Some(path));
        error.fault()
    };
    assert_eq!(fault_of(&path, 999), Fault::Limit);
    assert_eq!(fault_of(folder.path(), 999), Fault::Input);
    assert_eq!(fault_of(&folder.path().join("none"), 999), Fault::Input);
    assert_eq!(fault_of(&path.join("below"), 999), Fault::Input);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_devices_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("file"), folder.path().join("link"));
    write_atomic(&path, b"content").unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(read_file_bounded(&link, Budget::DEFAULT).unwrap(), b"content");
    let device = read_file_bounded("/dev/zero", Budget::DEFAULT).unwrap_err();
    assert_eq!(
        (device.fault(), device.to_string()),
        (Fault::Input, "not a plain file: /dev/zero".to_owned())
    );
}

#[test]
fn a_folder_is_created_with_those_it_lies_in_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a/b/c");
    create_folder_all(&deep).unwrap();
    create_folder_all(&deep).unwrap();
    assert!(deep.is_dir());
    disk::remove_file(deep.join("none")).unwrap();
}

#[test]
fn a_folder_is_there_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("array.zarr");
    let begun = AtomicFolder::create(&target).unwrap();
    begun.write("0/c/0/1", b"first").unwrap();
    assert_eq!(begun.read("0/c/0/1", Budget::DEFAULT).unwrap().as_deref(), Some(b"first".as_slice()));
    assert_eq!(begun.read("0/c/0/2", Budget::DEFAULT).unwrap(), None);
    assert!(begun.write("0/c/0/1", b"again").is_err(), "each file is written once");
    drop(begun);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    for content in [b"one", b"two"] {
        let begun = AtomicFolder::create(&target).unwrap();
        begun.write("zarr.json", content).unwrap();
        begun.commit().unwrap();
        assert_eq!(std::fs::read(target.join("zarr.json")).unwrap(), content);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
