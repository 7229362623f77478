//! The confidence network without tensors: batch norm folded into the convolutions, tiles with a halo.
//!
//! Every output pixel sees [`REACH_PX`](crate::confidence::REACH_PX) pixels around it, so a tile that is read with
//! that much halo gives what the whole picture gives, in bounded memory: the very bytes where tiles lie side by side; to the
//! last bits where they begin at other rows, because rows are computed in groups of four, whose sums round together.

use crate::confidence::{DILATIONS, REACH_PX, WIDTH};
use crate::operations::tower::EPSILON;
use crate::weights::{NamedTensor, named};
use microtome_kernels::Size;
use microtome_kernels::network::Planes;
use microtome_kernels::network::normalisation::{Affine, Moments};
use microtome_kernels::network::tower::{FoldedTower, Tower};
use microtome_vault::Result;
use rayon::prelude::*;

/// Side of a tile's inner part, in pixels, at most. With its halo and 8 channels in three copies it takes about 300 MB.
const TILE_PX: usize = 1600;

/// The confidence network, ready to be applied.
#[derive(Clone, Debug)]
pub struct FoldedNetwork {
    tower: FoldedTower,
    epsilon: f32,
}

impl FoldedNetwork {
    /// Folds the weights of a [`ConfidenceNetwork`](crate::confidence::ConfidenceNetwork) of three inputs; `epsilon`
    /// is that of x' = (1−ε)·x + ε.
    ///
    /// # Errors
    /// `Input` when a tensor is missing or of another shape: the model is of another architecture.
    pub fn new(weights: &[NamedTensor], epsilon: f32) -> Result<Self> {
        Self::folded(weights, epsilon, true)
    }

    /// The same network without its last sigmoid: its maps are log-odds.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_log_odds(weights: &[NamedTensor], epsilon: f32) -> Result<Self> {
        Self::folded(weights, epsilon, false)
    }

    fn folded(weights: &[NamedTensor], epsilon: f32, sigmoid: bool) -> Result<Self> {
        let outputs = weights.iter().find(|tensor| tensor.name == "head.bias").map_or(1, |t| t.values.len());
        let mut layers = vec![fold(weights, "stem", 3)?];
        for index in 0..DILATIONS.len() {
            layers.push(fold(weights, &format!("blocks.{index}.first"), WIDTH)?);
            layers.push(fold(weights, &format!("blocks.{index}.second"), WIDTH)?);
        }
        let head_weight = &named(weights, "head.weight", &[outputs, WIDTH, 1, 1])?.values;
        let head_bias = &named(weights, "head.bias", &[outputs])?.values;
        let tower = Tower { inputs: 3, outputs, dilations: DILATIONS.to_vec(), sigmoid };
        Ok(Self { tower: FoldedTower::new(tower, &layers, head_weight, head_bias), epsilon })
    }

    /// Output channels K.
    pub fn channels(&self) -> usize {
        self.tower.tower().outputs
    }

    /// The map of each output channel: `rgb` is interleaved, `[height, width, 3]`; gives `[K, height, width]`, confidence
    /// from 0 to 1 or log-odds.
    pub fn maps(&self, rgb: &[u8], size: Size) -> Vec<f32> {
        if size.width_px.max(size.height_px) <= TILE_PX {
            let shape = Planes { images: 1, channels: 3, size };
            return self.maps_of_planes(&planar(rgb, size, 0, 0, size, self.epsilon), shape);
        }
        let mut maps = vec![0.0; self.channels() * size.area_px()];
        // Tiles of about one size, so that no halo is added around a sliver.
        let even = |length: usize| length.div_ceil(length.div_ceil(TILE_PX));
        let tile = Size::new(even(size.width_px), even(size.height_px));
        for top in (0..size.height_px).step_by(tile.height_px) {
            for left in (0..size.width_px).step_by(tile.width_px) {
                self.fill_tile(rgb, size, [left, top], tile, &mut maps);
            }
        }
        maps
    }

    /// The map of each output channel, `[images, K, height, width]`, for `[images, 3, height, width]` in 0 to 1
    /// after the ε transform, in one piece.
    pub fn maps_of_planes(&self, planes: &[f32], shape: Planes) -> Vec<f32> {
        self.tower.apply(planes, shape)
    }

    fn fill_tile(&self, rgb: &[u8], size: Size, [left, top]: [usize; 2], inner: Size, filled: &mut [f32]) {
        let (x, width) = with_halo(left, inner.width_px, size.width_px);
        let (y, height) = with_halo(top, inner.height_px, size.height_px);
        let tile = Size::new(width, height);
        let shape = Planes { images: 1, channels: 3, size: tile };
        let maps = self.maps_of_planes(&planar(rgb, size, x, y, tile, self.epsilon), shape);
        let inner =
            Size::new(inner.width_px.min(size.width_px - left), inner.height_px.min(size.height_px - top));
        for channel in 0..self.channels() {
            for row in 0..inner.height_px {
                let from = channel * tile.area_px() + tile.index(left - x, top - y + row);
                let to = channel * size.area_px() + size.index(left, top + row);
                filled[to..to + inner.width_px].copy_from_slice(&maps[from..from + inner.width_px]);
            }
        }
    }
}

/// A layer's weight, and its normalisation as γ/σ and β − mean·γ/σ.
fn fold<'a>(weights: &'a [NamedTensor], path: &str, inputs: usize) -> Result<(&'a [f32], [Affine; WIDTH])> {
    let get = |name: &str, shape: &[usize]| named(weights, &format!("{path}.{name}"), shape);
    let weight = &get("weight", &[WIDTH, inputs, 3, 3])?.values;
    let (gamma, beta) = (&get("gamma", &[WIDTH])?.values, &get("beta", &[WIDTH])?.values);
    let mean = &get("running_mean", &[WIDTH])?.values;
    let variance = &get("running_variance", &[WIDTH])?.values;
    let affine = |c: usize| {
        let moments = Moments { mean: mean[c], variance: variance[c] };
        Affine::normalising(moments, gamma[c], beta[c], EPSILON)
    };
    Ok((weight, std::array::from_fn(affine)))
}

/// Where a tile of `inner` that begins at `start` begins with its halo, and how long it is with both halos, in `length`.
fn with_halo(start: usize, inner: usize, length: usize) -> (usize, usize) {
    let first = start.saturating_sub(REACH_PX);
    let last = (start + inner + REACH_PX).min(length);
    (first, last - first)
}

/// A window of interleaved RGB as planes of (1−ε)·x + ε.
pub(crate) fn planar(
    rgb: &[u8],
    size: Size,
    left: usize,
    top: usize,
    window: Size,
    epsilon: f32,
) -> Vec<f32> {
    let table: [f32; 256] = std::array::from_fn(|v| (1.0 - epsilon) * (v as f32 / 255.0) + epsilon);
    let mut planes = vec![0.0; 3 * window.area_px()];
    let rows = planes.par_chunks_exact_mut(window.width_px.max(1)).with_min_len(64).enumerate();
    rows.for_each(|(index, row)| {
        let (channel, y) = (index / window.height_px, index % window.height_px);
        let start = 3 * size.index(left, top + y) + channel;
        for (value, source) in row.iter_mut().zip(rgb[start..].iter().step_by(3)) {
            *value = table[usize::from(*source)];
        }
    });
    planes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confidence::ConfidenceNetwork;
    use crate::initialise::Initialiser;

    #[test]
    fn tiles_give_what_the_whole_gives() {
        let network = ConfidenceNetwork::new(3, 2, &mut Initialiser::new(3));
        let folded = FoldedNetwork::new(&crate::weights::collect(&network), 0.05).unwrap();
        for (size, tolerance) in [(Size::new(TILE_PX + 130, 190), 0.0), (Size::new(190, TILE_PX + 130), 1e-5)]
        {
            let rgb: Vec<u8> = (0..3 * size.area_px()).map(|i| (i * 7919 % 251) as u8).collect();
            let shape = Planes { images: 1, channels: 3, size };
            let whole = folded.maps_of_planes(&planar(&rgb, size, 0, 0, size, 0.05), shape);
            let tiled = folded.maps(&rgb, size);
            let furthest = whole.iter().zip(&tiled).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(furthest <= tolerance, "{size}: {furthest}");
        }
    }
}
