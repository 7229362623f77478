//! What the tests of this crate share: the sample pictures, and reading bytes as if they were a file.

#![allow(dead_code)] // Each test file uses a part of it.
#![allow(clippy::disallowed_methods)] // A durable write for each of 70,000 damaged files would take minutes.

pub(crate) mod dicom;
pub(crate) mod tiff;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use microtome_slide::{Picture, ReadSettings, Slide, read_picture};
use microtome_vault::{Budget, Result};

/// The settings of all tests.
pub(crate) const SETTINGS: ReadSettings = ReadSettings { budget: Budget::DEFAULT };

/// A sample picture, and what another program decodes from it.
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) rgb: Vec<u8>,
}

/// All samples, by name; `samples/make.py` made them.
pub(crate) fn samples() -> Vec<Sample> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let references = names.iter().filter_map(|name| name.strip_suffix(".rgb"));
    let samples: Vec<Sample> = references
        .map(|name| Sample {
            name: name.to_owned(),
            bytes: std::fs::read(folder.join(name)).unwrap(),
            rgb: std::fs::read(folder.join(format!("{name}.rgb"))).unwrap(),
        })
        .collect();
    assert!(samples.len() >= 43, "{} samples", samples.len());
    samples
}

/// A folder in which bytes are read as a file, one after the other.
pub(crate) struct Reader {
    folder: tempfile::TempDir,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// The file that was read last.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("picture")
    }

    /// Reads `bytes` as a file without an extension; no error may lack the path.
    pub(crate) fn read(&self, bytes: &[u8]) -> Result<Picture> {
        self.read_with(bytes, &SETTINGS)
    }

    pub(crate) fn read_with(&self, bytes: &[u8], settings: &ReadSettings) -> Result<Picture> {
        let path = self.path();
        // A new file: some file systems flush one that is overwritten.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, bytes).unwrap();
        let outcome = read_picture(&path, settings);
        match &outcome {
            Ok(picture) => assert_eq!(picture.rgb.len(), 3 * picture.size.area_px()),
            Err(error) => assert_eq!(error.path(), Some(path.as_path())),
        }
        outcome
    }
}

/// A folder in which bytes are opened as a slide, one after the other.
pub(crate) struct Folder(pub(crate) tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn put(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("slide");
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn open(&self, bytes: &[u8]) -> Result<Slide> {
        Slide::open(self.put(bytes), Budget::DEFAULT)
    }
}

/// Runs `work` and fails if it takes longer than `limit`.
pub(crate) fn within<T>(limit: Duration, what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    assert!(start.elapsed() < limit, "{what} took {:?}", start.elapsed());
    result
}
