//! Our views of tissue: concentrations of haematoxylin and eosin and the mean density, each measured in the deviations of its
//! own slide, so that strength of staining and scanner are gone before anything is learned; then turned by any angle,
//! scaled, mirrored, and each channel stretched and shifted a little.

use crate::Size;
use crate::stain::{StainMatrix, optical_density};
use rayon::prelude::*;

/// Channels: haematoxylin, eosin, mean optical density.
pub const CHANNELS: usize = 3;
/// Values are cut off at these many deviations: dirt and ink are no darker than that.
const RANGE: [f32; 2] = [-4.0, 6.0];
/// Pixels that a thread converts at a time.
const BLOCK_PX: usize = 1 << 14;

/// Mean and standard deviation of each channel over the tissue of a slide.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StainStatistics {
    /// Of haematoxylin, eosin, mean optical density.
    pub mean: [f32; CHANNELS],
    /// Likewise.
    pub deviation: [f32; CHANNELS],
}

/// Sums from which [`StainStatistics`] are made, a picture after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct StainSums {
    count: f64,
    sums: [f64; CHANNELS],
    squares: [f64; CHANNELS],
}

impl StainSums {
    /// With the pixels of one more picture, interleaved RGB.
    pub fn add(&mut self, rgb: &[u8]) {
        let unmixing = unmixing();
        let blocks: Vec<Self> = rgb
            .par_chunks(3 * BLOCK_PX)
            .map(|block| {
                let mut own = Self::default();
                for pixel in block.as_chunks::<3>().0 {
                    for (channel, value) in densities(pixel, &unmixing).into_iter().enumerate() {
                        own.sums[channel] += f64::from(value);
                        own.squares[channel] += f64::from(value) * f64::from(value);
                    }
                    own.count += 1.0;
                }
                own
            })
            .collect();
        for block in blocks {
            self.count += block.count;
            for channel in 0..CHANNELS {
                self.sums[channel] += block.sums[channel];
                self.squares[channel] += block.squares[channel];
            }
        }
    }

    /// The statistics; of no pixels 0 and 1.
    pub fn statistics(&self) -> StainStatistics {
        let count = self.count.max(1.0);
        let mean = self.sums.map(|sum| sum / count);
        let deviation = std::array::from_fn(|channel| {
            let variance = self.squares[channel] / count - mean[channel] * mean[channel];
            // A picture of one colour has none.
            variance.max(1e-6).sqrt() as f32
        });
        StainStatistics { mean: mean.map(|mean| mean as f32), deviation }
    }
}

/// What takes optical densities to haematoxylin and eosin.
fn unmixing() -> [[f32; 3]; 3] {
    StainMatrix::ruifrok_johnston().inverse().unwrap_or_default()
}

#[inline(always)]
fn densities(pixel: &[u8; 3], unmixing: &[[f32; 3]; 3]) -> [f32; CHANNELS] {
    let [red, green, blue] = pixel.map(optical_density);
    let stain =
        |index: usize| red * unmixing[0][index] + green * unmixing[1][index] + blue * unmixing[2][index];
    [stain(0), stain(1), (red + green + blue) / 3.0]
}

/// Interleaved RGB as channels in deviations from the slide's means, `[pixels][3]`.
pub fn stain_channels(rgb: &[u8], statistics: &StainStatistics) -> Vec<f32> {
    let unmixing = unmixing();
    let mut channels = vec![0.0; rgb.len()];
    channels.par_chunks_mut(3 * BLOCK_PX).zip(rgb.par_chunks(3 * BLOCK_PX)).for_each(|(to, from)| {
        for (to, pixel) in to.as_chunks_mut::<3>().0.iter_mut().zip(from.as_chunks::<3>().0) {
            *to = normalised(pixel, &unmixing, statistics);
        }
    });
    channels
}

#[inline(always)]
fn normalised(pixel: &[u8; 3], unmixing: &[[f32; 3]; 3], statistics: &StainStatistics) -> [f32; CHANNELS] {
    let values = densities(pixel, unmixing);
    std::array::from_fn(|channel| {
        let value = (values[channel] - statistics.mean[channel]) / statistics.deviation[channel];
        value.clamp(RANGE[0], RANGE[1])
    })
}

/// What becomes of a tile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StainView {
    /// What is in the middle of the view, in pixels of the tile from its corner.
    pub centre_px: [f32; 2],
    /// Pixels of the tile that one step right in the view leads, and one step down: a turned, scaled, maybe mirrored
    /// grid.
    pub right_px: [f32; 2],
    /// Likewise.
    pub down_px: [f32; 2],
    /// Each channel times this.
    pub gain: [f32; CHANNELS],
    /// Plus this.
    pub shift: [f32; CHANNELS],
}

/// Memory that views are made in, kept from one to the next.
#[derive(Clone, Debug, Default)]
pub struct StainScratch {
    /// `[pixels][4]`, the last unused: four floats are a register.
    pixels: Vec<[f32; 4]>,
}

/// The view of a tile `[height_px][width_px][3]` as `[side_px][side_px][3]`, bilinear, the tile reflected at its borders.
///
/// # Panics
/// When slices do not fill their extents.
pub fn stain_view(
    rgb: &[u8],
    size: Size,
    statistics: &StainStatistics,
    side_px: usize,
    view: &StainView,
    scratch: &mut StainScratch,
    out: &mut [f32],
) {
    assert_eq!(rgb.len(), 3 * size.area_px(), "the tile does not fill {size} pixels");
    assert_eq!(out.len(), 3 * side_px * side_px, "the view does not fill its side");
    let unmixing = unmixing();
    scratch.pixels.clear();
    scratch.pixels.extend(rgb.as_chunks::<3>().0.iter().map(|pixel| {
        let [a, b, c] = normalised(pixel, &unmixing, statistics);
        [a, b, c, 0.0]
    }));
    let middle = (side_px as f32 - 1.0) / 2.0;
    for (index, to) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let (u, v) = ((index % side_px) as f32 - middle, (index / side_px) as f32 - middle);
        let x = view.centre_px[0] + u * view.right_px[0] + v * view.down_px[0] - 0.5;
        let y = view.centre_px[1] + u * view.right_px[1] + v * view.down_px[1] - 0.5;
        let (left, top) = (x.floor(), y.floor());
        let (across, below) = (x - left, y - top);
        let columns = [left, left + 1.0].map(|at| reflected(at as i64, size.width_px));
        let rows = [top, top + 1.0].map(|at| reflected(at as i64, size.height_px) * size.width_px);
        let [a, b, c, d] =
            [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(row, column)| scratch.pixels[rows[row] + columns[column]]);
        for channel in 0..CHANNELS {
            let upper = a[channel] + across * (b[channel] - a[channel]);
            let lower = c[channel] + across * (d[channel] - c[channel]);
            let value = upper + below * (lower - upper);
            to[channel] = value * view.gain[channel] + view.shift[channel];
        }
    }
}

/// A place of a line, reflected at its ends, edge elements twice.
#[inline(always)]
fn reflected(at: i64, length: usize) -> usize {
    let length = length as i64;
    if (0..length).contains(&at) {
        return at as usize;
    }
    let folded = at.rem_euclid(2 * length);
    (if folded < length { folded } else { 2 * length - 1 - folded }) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(size: Size) -> Vec<u8> {
        (0..3 * size.area_px()).map(|index| (index * 37 % 201 + 30) as u8).collect()
    }

    fn statistics(rgb: &[u8]) -> StainStatistics {
        let mut sums = StainSums::default();
        sums.add(rgb);
        sums.statistics()
    }

    fn plain(size: Size) -> StainView {
        let centre_px = [size.width_px as f32 / 2.0, size.height_px as f32 / 2.0];
        StainView { centre_px, right_px: [1.0, 0.0], down_px: [0.0, 1.0], gain: [1.0; 3], shift: [0.0; 3] }
    }

    fn view(rgb: &[u8], size: Size, side: usize, view: &StainView) -> Vec<f32> {
        let mut out = vec![0.0; 3 * side * side];
        stain_view(rgb, size, &statistics(rgb), side, view, &mut StainScratch::default(), &mut out);
        out
    }

    #[test]
    fn channels_of_a_picture_have_mean_0_and_deviation_1() {
        let size = Size::new(90, 70);
        let rgb = tile(size);
        let channels = stain_channels(&rgb, &statistics(&rgb));
        for channel in 0..CHANNELS {
            let own = || channels.iter().skip(channel).step_by(CHANNELS).map(|value| f64::from(*value));
            let mean = own().sum::<f64>() / size.area_px() as f64;
            let variance = own().map(|value| (value - mean).powi(2)).sum::<f64>() / size.area_px() as f64;
            assert!(mean.abs() < 1e-3 && (variance - 1.0).abs() < 1e-2, "{channel}: {mean}, {variance}");
        }
    }

    #[test]
    fn a_view_that_changes_nothing_is_the_channels_and_a_quarter_turn_turns_them() {
        let size = Size::new(16, 16);
        let rgb = tile(size);
        let channels = stain_channels(&rgb, &statistics(&rgb));
        assert!(view(&rgb, size, 16, &plain(size)) == channels);
        let turned =
            view(&rgb, size, 16, &StainView { right_px: [0.0, 1.0], down_px: [-1.0, 0.0], ..plain(size) });
        for (x, y) in [(0, 0), (3, 5), (15, 2)] {
            let at = |x: usize, y: usize| 3 * (y * 16 + x);
            // A step right in the view leads down in the tile, a step down leads left.
            assert_eq!(turned[at(x, y)..][..3], channels[at(15 - y, x)..][..3]);
        }
        let changed = view(&rgb, size, 16, &StainView { gain: [2.0; 3], shift: [1.0; 3], ..plain(size) });
        assert!(changed.iter().zip(&channels).all(|(a, b)| (a - (2.0 * b + 1.0)).abs() < 1e-6));
    }

    #[test]
    fn beyond_its_borders_a_tile_is_reflected() {
        assert_eq!([-1, -4, 4, 9, -9].map(|at| reflected(at, 4)), [0, 3, 3, 1, 0]);
        let size = Size::new(8, 8);
        let rgb = tile(size);
        let far = view(&rgb, size, 4, &StainView { centre_px: [-200.0, 300.0], ..plain(size) });
        assert!(far.iter().all(|value| value.is_finite()));
        let blank = vec![255; 3 * size.area_px()];
        assert!(view(&blank, size, 4, &plain(size)).iter().all(|value| value.is_finite()));
    }
}
