//! Confidence maps: what every method gives, and what instances are made of.

use microtome_kernels::Size;

/// How sure a method is that a pixel belongs to a nucleus.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfidenceMap {
    /// Extent of the picture.
    pub size: Size,
    /// 0 to 1 for each pixel, row-major.
    pub values: Vec<f32>,
}

impl ConfidenceMap {
    /// Where the confidence is above one half.
    pub fn mask(&self) -> Vec<bool> {
        self.values.iter().map(|&value| value > 0.5).collect()
    }
}
