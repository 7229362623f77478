//! Vectors that were made elsewhere: there is no network, only their length.

use super::Backbone;
use crate::tissue::look::Look;
use microtome_kernels::Size;

/// What such an encoder is called.
pub const KIND: &str = "imported";
/// Its only level.
pub const LEVEL: usize = 0;

/// Nothing that sees.
pub struct Imported {
    /// Values of a vector.
    pub dimensions: usize,
}

impl Backbone for Imported {
    fn levels(&self) -> Vec<usize> {
        vec![LEVEL]
    }

    fn dimensions(&self, _: usize) -> usize {
        self.dimensions
    }

    fn stride_px(&self, _: usize) -> usize {
        1
    }

    fn halo_px(&self, _: usize) -> usize {
        0
    }

    fn sees_pixels(&self) -> bool {
        false
    }

    fn cells(&self, _: &[u8], _: Size, _: &Look, _: usize) -> Vec<f32> {
        Vec::new()
    }

    fn tiles(&self, _: &[u8], _: usize, _: &Look, _: usize) -> Vec<f32> {
        Vec::new()
    }
}
