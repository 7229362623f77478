//! The layers of the small networks: dilated convolutions of few channels, batch normalisation with ELU.
//!
//! Tensors are NCHW slices: image, channel, row, column. The networks of the contrastive method have 8 channels at
//! full resolution, where a general matrix product starves (44–84 GFLOP/s a core was measured at 3→8 channels); the
//! direct kernels here keep 8 outputs × 2 vectors of pixels in registers instead.
//!
//! Paths: AVX-512, AVX2 with FMA, NEON, and portable code, chosen at run time by [`vector::Path::best`]; the
//! environment variable `MICROTOME_VECTOR` (`avx512`, `avx2`, `neon`, `portable`) forces one for tests and measurements.

#![allow(unsafe_code)] // Vector registers are read and written through pointers; bounds are argued in each kernel.

pub mod adam;
pub mod channels_last;
pub mod distance;
pub mod entropy;
mod lanes;
pub mod loss;
pub mod normalisation;
pub mod peak;
pub mod tower;
pub mod vector;
mod winograd_line;

use crate::Size;

/// Extent of an NCHW tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planes {
    /// Number of images (N).
    pub images: usize,
    /// Number of channels an image (C).
    pub channels: usize,
    /// Extent of one channel (H×W).
    pub size: Size,
}

impl Planes {
    /// Number of values in the tensor.
    pub fn len(self) -> usize {
        self.images * self.channels * self.size.area_px()
    }

    /// Whether the tensor holds no value.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The same images with another number of channels.
    pub fn with_channels(self, channels: usize) -> Self {
        Self { channels, ..self }
    }

    /// Where row `y` of a channel of an image begins.
    #[inline]
    pub(crate) fn row_start(self, image: usize, channel: usize, y: usize) -> usize {
        ((image * self.channels + channel) * self.size.height_px + y) * self.size.width_px
    }
}
