//! Where a picture or slide that somebody asked for may be written: never over what is not ours to lose.

use microtome_vault::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

const PNG_SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// A slide goes where nothing is.
///
/// # Errors
/// `Usage` when something is there.
pub(super) fn check_new(out: &Path) -> Result<()> {
    match out.exists() {
        true => Err(refused("there is a file of that name already", out)),
        false => Ok(()),
    }
}

/// A folder is new or empty, or holds `ours`, a file that an earlier command like this one wrote.
///
/// # Errors
/// `Usage` when it holds something else; `Io`.
pub(super) fn check_folder(out: &Path, ours: &str) -> Result<()> {
    if !out.exists() || out.join(ours).is_file() {
        return Ok(());
    }
    if !out.is_dir() {
        return Err(refused("there is a file of that name already", out));
    }
    let mut held = out.read_dir().map_err(|error| Error::io("reading the folder", &error).at(out))?;
    match held.next() {
        None => Ok(()),
        Some(_) => Err(refused("the output folder holds something else", out)),
    }
}

/// A PNG goes where nothing is, or another PNG, but for the one that it is made of.
///
/// # Errors
/// `Usage` when something else is there.
pub(super) fn check_png(out: &Path, source: &Path) -> Result<()> {
    if !out.exists() {
        return Ok(());
    }
    if is_same_file(out, source) {
        return Err(refused("the picture would be written over what it is made of", out));
    }
    let mut signature = [0; 8];
    let read = File::open(out).and_then(|mut file| file.read_exact(&mut signature));
    match read.is_ok() && signature == PNG_SIGNATURE {
        true => Ok(()),
        false => Err(refused("there is something else than a PNG of that name already", out)),
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn refused(what: &str, out: &Path) -> Error {
    Error::usage(what).at(out).advise("choose another --out, or delete it; nothing was touched")
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_vault::{Fault, disk};

    #[test]
    fn nothing_is_written_over_what_somebody_may_need() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        disk::write_atomic(at("a.png"), &[&PNG_SIGNATURE[..], b"rest"].concat()).unwrap();
        disk::write_atomic(at("notes.txt"), b"mine").unwrap();
        disk::create_folder_all(at("folder")).unwrap();
        let is_refused = |outcome: Result<()>| outcome.is_err_and(|error| error.fault() == Fault::Usage);
        assert!(check_new(&at("new.tif")).is_ok());
        assert!(check_png(&at("new.png"), &at("slide.tif")).is_ok());
        assert!(check_png(&at("a.png"), &at("slide.tif")).is_ok());
        for name in ["a.png", "notes.txt", "folder"] {
            assert!(is_refused(check_new(&at(name))), "{name}");
        }
        for name in ["notes.txt", "folder"] {
            assert!(is_refused(check_png(&at(name), &at("slide.tif"))), "{name}");
        }
        assert!(is_refused(check_png(&at("a.png"), &at("folder/../a.png"))));
        assert!(check_folder(&at("new"), "tiles.csv").is_ok());
        assert!(check_folder(&at("folder"), "tiles.csv").is_ok());
        assert!(is_refused(check_folder(&at("notes.txt"), "tiles.csv")));
        disk::write_atomic(at("folder/other.txt"), b"mine").unwrap();
        assert!(is_refused(check_folder(&at("folder"), "tiles.csv")));
        disk::write_atomic(at("folder/tiles.csv"), b"ours").unwrap();
        assert!(check_folder(&at("folder"), "tiles.csv").is_ok());
    }
}
