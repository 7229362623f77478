//! Bytes as a file.

use std::path::PathBuf;
use std::sync::OnceLock;

/// The path of a file that holds `bytes`, until the next call.
pub fn holding(bytes: &[u8]) -> PathBuf {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let path = FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path().join("file");
    std::fs::write(&path, bytes).unwrap();
    path
}
