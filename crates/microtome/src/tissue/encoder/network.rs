//! Residual networks as backbones.

use super::Backbone;
use crate::tissue::look::Look;
use microtome_kernels::Size;
use microtome_kernels::network::channels_last::Maps;
use microtome_kernels::views::stain::stain_channels;
use microtome_nets::resnet::FoldedResNet;

/// Tiles that are encoded at a time.
const BATCH: usize = 32;

/// What a network is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Red, green, blue from 0 to 1.
    Colour,
    /// Haematoxylin, eosin and mean density in units of their slide.
    Stain,
    /// Red, green, blue less ImageNet's means, in its deviations: what torchvision's own weights expect.
    ImageNet,
}

impl Input {
    const ALL: [(Self, &str); 3] =
        [(Self::Colour, "colour"), (Self::Stain, "stain"), (Self::ImageNet, "imagenet")];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(input, _)| *input == self).map_or("", |(_, name)| name)
    }

    /// The input of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, own)| *own == name).map(|(input, _)| *input)
    }

    fn values(self, rgb: &[u8], look: &Look) -> Vec<f32> {
        let colours = || rgb.iter().map(|value| f32::from(*value) / 255.0);
        match self {
            Self::Colour => colours().collect(),
            Self::Stain => stain_channels(rgb, &look.stain),
            Self::ImageNet => {
                let (mean, deviation) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
                colours().enumerate().map(|(at, value)| (value - mean[at % 3]) / deviation[at % 3]).collect()
            }
        }
    }
}

/// A residual network.
pub struct Network {
    /// The weights.
    pub network: FoldedResNet,
    /// What it is shown.
    pub input: Input,
}

/// The coarsest level but two that maps are taken from: the paper's levels are 2, 3 and 4.
const FINEST_LEVEL: usize = 2;

impl Backbone for Network {
    fn levels(&self) -> Vec<usize> {
        let deepest = self.network.architecture().deepest_level();
        // Only torchvision's networks have stages of different strides to choose from.
        match self.network.architecture().stride_px(deepest) > 8 {
            true => (FINEST_LEVEL..=deepest).collect(),
            false => vec![deepest],
        }
    }

    fn dimensions(&self, level: usize) -> usize {
        self.network.architecture().channels(level)
    }

    fn stride_px(&self, level: usize) -> usize {
        self.network.architecture().stride_px(level)
    }

    fn halo_px(&self, level: usize) -> usize {
        self.network.architecture().reach_px(level)
    }

    fn cells(&self, rgb: &[u8], size: Size, look: &Look, level: usize) -> Vec<f32> {
        let shape = Maps { images: 1, size, channels: 3 };
        self.network.maps(&self.input.values(rgb, look), shape, level).0
    }

    fn tiles(&self, rgb: &[u8], side_px: usize, look: &Look, level: usize) -> Vec<f32> {
        let size = Size::new(side_px, side_px);
        let batch = |tiles: &[u8]| {
            let shape = Maps { images: tiles.len() / (3 * size.area_px()), size, channels: 3 };
            self.network.pooled(&self.input.values(tiles, look), shape, level)
        };
        rgb.chunks(BATCH * 3 * size.area_px()).flat_map(batch).collect()
    }
}
