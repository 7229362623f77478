//! The confidence map as a grey picture: black is 0, white is 1.

use std::path::{Path, PathBuf};

use crate::nuclei::confidence::nearest;
use microtome_kernels::Size;
use microtome_vault::Result;

use super::file_in;
use super::png::{Samples, write_png};

/// Writes `NAME.png` (8 bits, grey) and returns its path.
///
/// # Shapes
/// `confidence`: `[height, width]`, 0 to 1.
///
/// # Errors
/// `Io` when the disk refuses; `Input` when the map has no pixels; `Bug` when `confidence` does not fill
/// `size`.
pub fn write_confidence(folder: &Path, name: &str, size: Size, confidence: &[f32]) -> Result<PathBuf> {
    let path = file_in(folder, name, "png")?;
    write_png(&path, size, Samples::Grey8(&confidence_grey(confidence)))?;
    Ok(path)
}

/// One byte a pixel: 0 to 1 becomes 0 to 255, rounded to nearest; what is not a number becomes 0.
pub fn confidence_grey(confidence: &[f32]) -> Vec<u8> {
    confidence.iter().map(|&value| nearest(value * 255.0).min(255) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_values_are_confidences_in_255ths() {
        let folder = tempfile::tempdir().unwrap();
        for value in (-20..1100).map(|i| i as f32 / 1020.0) {
            let rounded = (value * 255.0).round() as u8;
            let below = f32::from_bits(value.to_bits().saturating_sub(1));
            assert_eq!(confidence_grey(&[value, below]), [rounded, (below * 255.0).round() as u8], "{value}");
        }
        let confidence = [0.0, 1.0, 0.5, -3.0, 9.0, f32::NAN];
        let path = write_confidence(folder.path(), "map", Size::new(3, 2), &confidence).unwrap();
        assert_eq!(image::open(path).unwrap().into_luma8().into_raw(), [0, 255, 128, 0, 255, 0]);
        assert!(write_confidence(folder.path(), "map", Size::new(4, 2), &confidence).is_err());
    }
}
