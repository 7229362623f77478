//! The files of the repository, without what is built or hidden.

use std::path::{Path, PathBuf};

/// Folders that hold no source.
const PASSED_OVER: [&str; 3] = ["target", "microtome-demo", "__pycache__"];

/// A text file of the repository.
#[derive(Clone, Debug)]
pub(crate) struct TextFile {
    /// From the repository's root, with slashes.
    pub(crate) path: String,
    /// What it says.
    pub(crate) text: String,
}

/// All text files with the extension, by path.
pub(crate) fn with_extension(root: &Path, extension: &str) -> Vec<TextFile> {
    let mut paths = Vec::new();
    collect(root, &mut paths);
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths.iter().filter_map(|path| read(root, path)).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('.') || PASSED_OVER.contains(&name.as_ref()) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&path, paths),
            Ok(kind) if kind.is_file() => paths.push(path),
            _ => {}
        }
    }
}

fn read(root: &Path, path: &Path) -> Option<TextFile> {
    let text = std::fs::read_to_string(path).ok()?;
    let relative = path.strip_prefix(root).ok()?;
    let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    Some(TextFile { path: parts.join("/"), text })
}
