//! Results as files that other programs open, one format a file.
//!
//! [`labels`] and [`confidence`] are rasters for Python, ImageJ and napari; [`overlay`] is a picture to look
//! at; [`geojson`] is for QuPath; [`csv`] is for spreadsheets and statistics; [`run_json`] says how all of it
//! was made; [`pyramid`], [`zarr`] and [`density`] are for whole slides. Every file is written whole or not at all. Coordinates are pixels of the picture as it was read:
//! (0, 0) is the upper left corner of the first pixel, whose centre is at (0.5, 0.5).

pub mod confidence;
pub mod csv;
pub mod density;
pub mod geojson;
pub mod labels;
pub mod overlay;
pub mod png;
pub mod pyramid;
pub mod run_json;
pub mod zarr;

use std::path::{Path, PathBuf};

use microtome_vault::{Error, Result};

/// `FOLDER/NAME.EXTENSION`.
///
/// # Errors
/// `Usage` when `name` is not the name of a file in that folder, but leads elsewhere.
pub(crate) fn file_in(folder: &Path, name: &str, extension: &str) -> Result<PathBuf> {
    let is_plain = Path::new(name).file_name().is_some_and(|plain| plain == name);
    if !is_plain {
        return Err(Error::usage(format!("\"{name}\" cannot be the name of a file"))
            .advise("rename the picture: no slash, and not \"..\""));
    }
    Ok(folder.join(format!("{name}.{extension}")))
}

/// A number rounded to a fixed number of decimals, so that files do not change with the last bit; -0 becomes
/// 0.
pub(crate) fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        let folder = Path::new("out");
        assert_eq!(file_in(folder, "a.b", "png").unwrap(), Path::new("out/a.b.png"));
        for name in ["", "..", ".", "../a", "/a", "a/b", "a/"] {
            assert!(file_in(folder, name, "png").is_err(), "{name}");
        }
    }

    #[test]
    fn rounding_keeps_no_negative_zero() {
        assert_eq!(rounded(1.234_56, 3), 1.235);
        assert_eq!(rounded(-0.000_1, 3).to_bits(), 0f64.to_bits());
        assert!(rounded(f64::NAN, 3).is_nan());
    }
}
