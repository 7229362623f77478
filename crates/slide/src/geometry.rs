//! Lengths and resolutions that cannot be mistaken for one another.

use std::fmt;
use std::ops::RangeInclusive;

use microtome_vault::{Error, Result};

pub use microtome_kernels::Size;

/// What a person may state: from electron microscopes to a photographed slide.
const ALLOWED_MPP: RangeInclusive<f64> = 0.01..=100.0;

/// What a file is believed: a microscope with an objective between 100× and 1×. Most pictures carry the 72 or
/// 96 dots per inch of a screen, which would be 353 or 265 µm.
const PLAUSIBLE_MPP: RangeInclusive<f64> = 0.05..=20.0;

/// How far the two directions may differ before pixels are not square.
const SQUARE_TOLERANCE: f64 = 0.01;

/// The width of a pixel on the tissue, in µm: about 0.25 at 40×, 0.5 at 20×.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct MicronsPerPixel(f64);

impl MicronsPerPixel {
    /// A resolution that a person states.
    ///
    /// # Errors
    /// `Usage` unless it is a number from 0.01 to 100.
    pub fn new(mpp: f64) -> Result<Self> {
        // A NaN is in no range.
        ALLOWED_MPP.contains(&mpp).then_some(Self(mpp)).ok_or_else(|| {
            Error::usage(format!("{mpp} µm per pixel is out of range"))
                .advise("it is a number from 0.01 to 100: about 0.25 for an objective of 40×, 0.5 for 20×")
        })
    }

    /// The number of µm.
    pub fn microns(self) -> f64 {
        self.0
    }

    /// A resolution that a file states, if a microscope could have it.
    pub(crate) fn plausible(mpp: f64) -> Option<Self> {
        PLAUSIBLE_MPP.contains(&mpp).then_some(Self(mpp))
    }

    /// From the width and height of a pixel in µm, if plausible and square.
    pub(crate) fn plausible_square(mpp_x: f64, mpp_y: f64) -> Option<Self> {
        let is_square = (mpp_x - mpp_y).abs() <= SQUARE_TOLERANCE * mpp_x.abs();
        Self::plausible(mpp_x).filter(|_| is_square)
    }
}

impl fmt::Display for MicronsPerPixel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} µm per pixel", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolution_is_a_number_in_range() {
        assert_eq!(MicronsPerPixel::new(0.25).unwrap().microns(), 0.25);
        for wrong in [0.0, -0.25, 0.009, 100.1, f64::NAN, f64::INFINITY] {
            assert_eq!(MicronsPerPixel::new(wrong).unwrap_err().fault(), microtome_vault::Fault::Usage);
        }
    }

    #[test]
    fn a_file_is_believed_if_a_microscope_could_have_taken_it() {
        let screen = 25_400.0 / 96.0;
        assert_eq!(MicronsPerPixel::plausible_square(screen, screen), None);
        assert_eq!(MicronsPerPixel::plausible_square(0.5, 0.6), None);
        assert_eq!(MicronsPerPixel::plausible_square(f64::NAN, 0.5), None);
        assert_eq!(MicronsPerPixel::plausible_square(0.5, f64::NAN), None);
        assert_eq!(MicronsPerPixel::plausible_square(0.5, 0.501), MicronsPerPixel::plausible(0.5));
    }
}
