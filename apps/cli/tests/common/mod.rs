//! What the tests of the program share: one call of it, and what a folder holds before and after.

#![allow(dead_code)] // Each test file uses a part of it.
#![allow(clippy::disallowed_methods)] // Test files need not survive a power cut.

pub(crate) mod textures;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Six pictures of 320×256 pixels, stained with haematoxylin and eosin.
pub(crate) const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/dsb2018/images");
/// The nuclei that people drew in them.
pub(crate) const TRUTH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/dsb2018/instances");
/// Their names.
pub(crate) const NAMES: [&str; 6] = ["0121d675", "4d14a362", "65c8527c", "a5fe0b74", "a7f6194d", "eb1df8ed"];

/// The default method, with a training of a second.
pub(crate) const BEST: [&str; 8] =
    ["--method", "best", "--best-steps", "2", "--best-crop-px", "64", "--best-batch", "2"];
/// The paper's method, with a training of a second.
pub(crate) const CONTRASTIVE: [&str; 8] = [
    "--method",
    "contrastive",
    "--contrastive-epochs",
    "1",
    "--contrastive-crop-px",
    "120",
    "--contrastive-batch",
    "2",
];
/// The method that learns nothing.
pub(crate) const STAIN: [&str; 2] = ["--method", "stain"];

/// How a call of the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program, about to be called in `folder`.
pub(crate) fn command<S: AsRef<OsStr>>(folder: &Path, arguments: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_microtome"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command
}

/// Calls the program in `folder` and waits for its end.
pub(crate) fn microtome<S: AsRef<OsStr>>(folder: &Path, arguments: &[S]) -> Ended {
    let output = command(folder, arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let ended = Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    };
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    ended
}

/// Calls the program, which must succeed.
pub(crate) fn succeed(folder: &Path, arguments: &[&str]) -> Ended {
    let ended = microtome(folder, arguments);
    assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
    ended
}

/// Calls the program, which must refuse with one message that has all of `phrases`, and touch nothing in `folder`.
pub(crate) fn refuse(folder: &Path, arguments: &[&str], code: i32, phrases: &[&str]) {
    let before = files_below(folder);
    let ended = microtome(folder, arguments);
    assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
    assert_eq!(ended.stderr.matches("error: ").count(), 1, "{arguments:?}: {ended:?}");
    for phrase in phrases {
        assert!(ended.stderr.contains(phrase), "“{phrase}” after {arguments:?}: {ended:?}");
    }
    assert!(before == files_below(folder), "{arguments:?} touched {folder:?}");
}

/// The program at work, ended when this is dropped.
pub(crate) struct Working(pub(crate) Child);

impl Working {
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = command(folder, arguments);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `nuclei run PICTURES --out OUT` and the values of a method.
pub(crate) fn run_of<'a>(pictures: &'a str, out: &'a str, values: &[&'a str]) -> Vec<&'a str> {
    [&["nuclei", "run", pictures, "--out", out], values].concat()
}

/// Every file below a folder with its bytes, and every folder, by its path from there.
pub(crate) fn files_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
                files.insert(name, Vec::new());
            } else {
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    files
}

/// What a run found: all its files but those that tell the time.
pub(crate) fn findings_of(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = files_below(out);
    files.retain(|path, _| !path.starts_with(".microtome") && !path.ends_with("run.json"));
    files.remove(Path::new("report.html")).expect("a report");
    files
}

/// Whether two runs found the same, to the byte; the message names the files that differ.
pub(crate) fn assert_same_findings(one: &Path, other: &Path) {
    let (one, other) = (findings_of(one), findings_of(other));
    assert!(one.keys().eq(other.keys()), "{:?} and {:?}", one.keys(), other.keys());
    let differ: Vec<&PathBuf> = one.keys().filter(|path| one[*path] != other[*path]).collect();
    assert!(differ.is_empty(), "these differ: {differ:?}");
}

/// Writes a file.
pub(crate) fn put(folder: &Path, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Puts a copy of a bundled picture.
pub(crate) fn put_picture(folder: &Path, name: impl AsRef<Path>, bundled: &str) {
    put(folder, name, std::fs::read(Path::new(IMAGES).join(format!("{bundled}.png"))).unwrap());
}

/// Puts a part of a bundled picture, from its upper left corner.
pub(crate) fn put_part(folder: &Path, name: &str, width_px: u32, height_px: u32) {
    let whole = image::open(Path::new(IMAGES).join("0121d675.png")).unwrap();
    whole.crop_imm(0, 0, width_px, height_px).save(folder.join(name)).unwrap();
}

/// Puts a picture of one colour.
pub(crate) fn put_plain(folder: &Path, name: &str, side_px: u32, rgb: [u8; 3]) {
    image::RgbImage::from_pixel(side_px, side_px, image::Rgb(rgb)).save(folder.join(name)).unwrap();
}

/// The record of a run.
pub(crate) fn record_of(out: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(out.join("run.json")).unwrap()).unwrap()
}

/// A PNG file of 69 bytes that says it has 100,000 × 100,000 pixels.
pub(crate) const VAST_PNG: &[u8] = b"\x89PNG\x0d\x0a\x1a\x0a\x00\x00\x00\x0dIHDR\x00\x01\x86\xa0\x00\x01\x86\xa0\x08\x02\x00\x00\x00'0\x9c\x9f\x00\x00\x00\x0cIDATx\x9cc`\xa0=\x00\x00\x00d\x00\x01\x86d<5\x00\x00\x00\x00IEND\xaeB`\x82";
