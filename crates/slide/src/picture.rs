//! A picture in memory, and reading one.

use std::path::{Path, PathBuf};

use microtome_vault::{Budget, Result, checksum, disk};

use crate::find::name_of;
use crate::{MicronsPerPixel, Size, formats};

/// A picture, as 8-bit RGB on white.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The name of the file without its folder and its extension, and without `.ome` before that.
    pub name: String,
    /// Where it was read from.
    pub path: PathBuf,
    /// Its extent.
    pub size: Size,
    /// Red, green, blue of each pixel, row-major: `[height_px][width_px][3]`.
    pub rgb: Vec<u8>,
    /// The resolution that the file states, if it is one that a microscope could have.
    pub mpp: Option<MicronsPerPixel>,
    /// SHA-256 of the file's bytes, in hexadecimal.
    pub sha256: String,
    /// What was not taken as it is in the file: a sentence each, without a full stop.
    pub warnings: Vec<String>,
}

/// How pictures are read.
#[derive(Clone, Copy, Debug)]
pub struct ReadSettings {
    /// The most memory that the file, and again its pixels while they are decoded, may take.
    pub budget: Budget,
}

/// Reads a PNG, JPEG, BMP or TIFF file, whatever its name.
///
/// # Errors
/// `Input` when the file is missing, not a picture, damaged or of a kind that is not read; `Limit` when it
/// exceeds the budget; `Io` when it cannot be read.
pub fn read_picture(path: impl AsRef<Path>, settings: &ReadSettings) -> Result<Picture> {
    let path = path.as_ref();
    let bytes = disk::read_file_bounded(path, settings.budget)?;
    let sha256 = checksum::sha256_hex(&bytes);
    let decoded = formats::decode(bytes, settings.budget).map_err(|error| error.at(path))?;
    Ok(Picture {
        name: name_of(path),
        path: path.to_owned(),
        size: decoded.size,
        rgb: decoded.rgb,
        mpp: decoded.mpp,
        sha256,
        warnings: decoded.warnings,
    })
}
