//! From what a person names, files and folders, to the pictures that are meant.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use microtome_vault::{Error, Result};

use crate::slide::{OPENSLIDE_EXTENSIONS, dicom};

/// Extensions by which pictures and slides are found in a folder, in lower case, beside those of
/// [`OPENSLIDE_EXTENSIONS`]. A file that is named itself may have any.
pub const PICTURE_EXTENSIONS: [&str; 9] = ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "svs", "dcm", "dicom"];

/// The pictures that `inputs` name: files as they are given, and of folders the picture files directly
/// inside, by name. A file that is named twice is taken once, and so is a slide in several DICOM files: its file with the
/// largest level stands for it.
///
/// # Errors
/// `Input` when a path does not exist or a folder holds no picture; `Usage` when nothing is named, or when
/// two pictures have the same name but for the extension, so that what is written for one would replace what
/// is written for the other.
pub fn find_pictures(inputs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if inputs.is_empty() {
        return Err(Error::usage("no picture is named").advise("name pictures, or folders of pictures"));
    }
    let mut found = Vec::new();
    for input in inputs {
        let metadata = std::fs::metadata(input).map_err(|error| cannot_open(input, &error))?;
        if metadata.is_dir() {
            found.append(&mut pictures_in(input)?);
        } else {
            found.push(input.clone());
        }
    }
    let mut seen = BTreeSet::new();
    found.retain(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
    let found = with_series_as_one(found);
    refuse_equal_names(&found)?;
    Ok(found)
}

fn cannot_open(path: &Path, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::input("there is no such file or folder").at(path),
        _ => Error::io("opening", error).at(path),
    }
}

/// The picture files directly in a folder, sorted by name; hidden ones are left out.
fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: std::io::Error| Error::io("listing the folder", &error).at(folder);
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut names: Vec<OsString> =
        entries.map(|entry| Ok(entry.map_err(failed)?.file_name())).collect::<Result<_>>()?;
    names.retain(|name| is_picture_name(Path::new(name)) && !folder.join(name).is_dir());
    names.sort();
    if names.is_empty() {
        let extensions = [&PICTURE_EXTENSIONS[..], &OPENSLIDE_EXTENSIONS[..]].concat().join(", ");
        return Err(Error::input("this folder holds no pictures")
            .at(folder)
            .advise(format!("looked for {extensions} files directly in it, not in folders below")));
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

fn is_picture_name(name: &Path) -> bool {
    let is_hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
    let extension = name.extension().unwrap_or_default().to_ascii_lowercase();
    !is_hidden && PICTURE_EXTENSIONS.iter().chain(&OPENSLIDE_EXTENSIONS).any(|known| extension == *known)
}

/// Leaves of the DICOM files of a slide one, where the first of them was.
fn with_series_as_one(found: Vec<PathBuf>) -> Vec<PathBuf> {
    let is_dicom = |path: &PathBuf| {
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        extension == "dcm" || extension == "dicom"
    };
    let files: Vec<PathBuf> = found.iter().filter(|path| is_dicom(path)).cloned().collect();
    let stands_for = dicom::slides_of(&files);
    let mut seen = BTreeSet::new();
    let each = found.into_iter().map(|path| stands_for.get(&path).cloned().unwrap_or(path));
    each.filter(|path| seen.insert(path.clone())).collect()
}

/// What the results of a picture or slide are named after: its file's name without the extension, and without the `.ome`
/// of `.ome.tif` and `.ome.tiff`. Bytes that are no text make names equal.
pub fn name_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    match stem.strip_suffix(".ome") {
        Some(name) if !name.is_empty() && (extension == "tif" || extension == "tiff") => name.to_owned(),
        _ => stem.into_owned(),
    }
}

fn refuse_equal_names(pictures: &[PathBuf]) -> Result<()> {
    let mut path_of_name = BTreeMap::new();
    for path in pictures {
        let name = name_of(path);
        if let Some(earlier) = path_of_name.insert(name.clone(), path) {
            let what = format!("two pictures are named {name}: {}", earlier.display());
            return Err(Error::usage(what).at(path).advise(
                "their outputs would replace each other; rename one, or work on them one after the other",
            ));
        }
    }
    Ok(())
}
