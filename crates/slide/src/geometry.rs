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

/// A corner between pixels of level 0; (0, 0) is the upper left corner of the slide. It may lie outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointInLevel0 {
    /// Pixels of level 0 to the right.
    pub x_px: i64,
    /// Pixels of level 0 down.
    pub y_px: i64,
}

impl PointInLevel0 {
    /// The point `x_px` to the right of the slide's upper left corner and `y_px` below it.
    pub const fn new(x_px: i64, y_px: i64) -> Self {
        Self { x_px, y_px }
    }
}

/// A corner between pixels of one level; (0, 0) is the upper left corner of the slide. It may lie outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointInLevel {
    /// Pixels of the level to the right.
    pub x_px: i64,
    /// Pixels of the level down.
    pub y_px: i64,
}

impl PointInLevel {
    /// The point `x_px` to the right of the slide's upper left corner and `y_px` below it.
    pub const fn new(x_px: i64, y_px: i64) -> Self {
        Self { x_px, y_px }
    }
}

/// A rectangle of one level; it may reach beyond the slide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RectangleInLevel {
    /// Its upper left corner.
    pub corner: PointInLevel,
    /// Its extent, in pixels of the level.
    pub size: Size,
}

impl RectangleInLevel {
    /// The rectangle with a border of `border_px` around it.
    pub fn with_border(self, border_px: usize) -> Self {
        let border = border_px as i64;
        let corner = PointInLevel::new(self.corner.x_px - border, self.corner.y_px - border);
        Self {
            corner,
            size: Size::new(self.size.width_px + 2 * border_px, self.size.height_px + 2 * border_px),
        }
    }

    /// The part of it that lies in a level of extent `level`, from its upper left corner on.
    pub fn within(self, level: Size) -> Self {
        let clamp = |at: i64, length: usize| at.clamp(0, length as i64);
        let end = |start: i64, length: usize| start.saturating_add(length as i64);
        let (left, top) = (clamp(self.corner.x_px, level.width_px), clamp(self.corner.y_px, level.height_px));
        let right = clamp(end(self.corner.x_px, self.size.width_px), level.width_px);
        let bottom = clamp(end(self.corner.y_px, self.size.height_px), level.height_px);
        Self {
            corner: PointInLevel::new(left, top),
            size: Size::new((right - left).max(0) as usize, (bottom - top).max(0) as usize),
        }
    }

    /// Whether the pixel whose upper left corner is the point lies in it.
    pub fn holds(self, point: PointInLevel) -> bool {
        let holds = |at: i64, start: i64, length: usize| at >= start && at - start < length as i64;
        holds(point.x_px, self.corner.x_px, self.size.width_px)
            && holds(point.y_px, self.corner.y_px, self.size.height_px)
    }
}

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

    /// The resolution of a level whose pixels are `downsample` times as wide.
    pub fn of_level(self, downsample: f64) -> Self {
        Self(self.0 * downsample)
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
