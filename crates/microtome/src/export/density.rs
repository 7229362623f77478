//! How many nuclei lie in a square millimetre, as colours over a grey slide.
//!
//! Nuclei are counted in a grid of squares and the counts smoothed, glass left out of account: at the edge of the tissue
//! the density is that of the tissue. Colours run from dark violet over orange to pale yellow, evenly in lightness, so that
//! they are read the same in print and by people without red or green vision. Their upper end, the 99th percentile, is
//! written in the report.

use std::path::Path;

use microtome_kernels::Size;
use microtome_kernels::gaussian::gaussian_blur;
use microtome_kernels::resample::downsample_area;
use microtome_slide::{MicronsPerPixel, TissueMask};
use microtome_vault::Result;

use super::png::{Samples, write_png};
use crate::nuclei::measure::Nucleus;

/// Side of a square of the grid, in µm.
const SQUARE_UM: f64 = 32.0;
/// The same in pixels of level 0, where no resolution is known.
const SQUARE_PX: f64 = 128.0;
/// Most squares along the longer side.
const MOST_SQUARES: f64 = 4096.0;
/// Standard deviation of the smoothing, in squares.
const SMOOTHING: f32 = 2.0;
/// Longer side of the picture, in pixels.
const LONGEST_PX: usize = 1600;
/// Share of the colour in the picture; the rest is the grey slide.
const COLOUR_SHARE: f32 = 0.7;
/// Share of the tissue's squares below the highest colour.
const HIGH_SHARE: f64 = 0.99;

/// Colours from none to the highest density (red, green, blue).
const COLOURS: [[f32; 3]; 6] = [
    [8.0, 5.0, 35.0],
    [75.0, 18.0, 110.0],
    [150.0, 40.0, 105.0],
    [215.0, 75.0, 60.0],
    [248.0, 148.0, 25.0],
    [250.0, 250.0, 160.0],
];

/// Counts of nuclei over a slide.
pub struct Density {
    grid: Size,
    counts: Vec<f32>,
    square_px: f64,
    size: Size,
}

impl Density {
    /// No nuclei yet, on a slide of extent `size` and resolution `mpp`.
    pub fn new(size: Size, mpp: Option<MicronsPerPixel>) -> Self {
        let longest = size.width_px.max(size.height_px) as f64;
        let wanted = mpp.map_or(SQUARE_PX, |mpp| SQUARE_UM / mpp.microns());
        let square_px = wanted.max(longest / MOST_SQUARES).max(1.0);
        let squares = |length: usize| ((length as f64 / square_px).ceil() as usize).max(1);
        let grid = Size::new(squares(size.width_px), squares(size.height_px));
        Self { grid, counts: vec![0.0; grid.area_px()], square_px, size }
    }

    /// Counts a nucleus, in pixels of level 0.
    pub fn add(&mut self, nucleus: &Nucleus) {
        let square = |centre: f64| ((centre + 0.5) / self.square_px) as usize;
        let (x, y) = (square(nucleus.region.centroid_x_px), square(nucleus.region.centroid_y_px));
        if x < self.grid.width_px && y < self.grid.height_px {
            self.counts[self.grid.index(x, y)] += 1.0;
        }
    }

    /// Nuclei a square, smoothed over the tissue; none where there is no tissue.
    fn smoothed(&self, tissue: &TissueMask) -> Vec<Option<f32>> {
        // The last squares may reach beyond the slide.
        let centre = |square: usize, length: usize| {
            let start = square as f64 * self.square_px;
            (start + (start + self.square_px).min(length as f64)) / 2.0
        };
        let holds = |at: usize| {
            let x = centre(at % self.grid.width_px, self.size.width_px);
            let y = centre(at / self.grid.width_px, self.size.height_px);
            tissue.holds(x, y) || self.counts[at] > 0.0
        };
        let weights: Vec<f32> = (0..self.counts.len()).map(|at| f32::from(u8::from(holds(at)))).collect();
        let counts = gaussian_blur(&self.counts, self.grid, SMOOTHING);
        let around = gaussian_blur(&weights, self.grid, SMOOTHING);
        let each = counts.into_iter().zip(around).zip(weights);
        each.map(|((count, around), weight)| (weight > 0.0).then(|| count / around.max(1e-6))).collect()
    }

    /// Writes the picture: `rgb` is the slide in small, of extent `size`.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn write(&self, path: &Path, rgb: &[u8], size: Size, tissue: &TissueMask) -> Result<()> {
        let density = self.smoothed(tissue);
        let mut known: Vec<f32> = density.iter().flatten().copied().collect();
        known.sort_unstable_by(f32::total_cmp);
        let high = known.get((known.len().saturating_sub(1) as f64 * HIGH_SHARE) as usize).copied();
        let high = high.unwrap_or(0.0).max(1e-6);
        let longest = size.width_px.max(size.height_px);
        let scaled = |length: usize| (length * LONGEST_PX.min(longest) / longest.max(1)).max(1);
        let small = Size::new(scaled(size.width_px), scaled(size.height_px));
        let mut picture = downsample_area(rgb, size, small);
        for (at, pixel) in picture.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let square = |position: usize, of: usize, squares: usize| position * squares / of;
            let x = square(at % small.width_px, small.width_px, self.grid.width_px);
            let y = square(at / small.width_px, small.height_px, self.grid.height_px);
            let grey = pixel.iter().map(|value| f32::from(*value)).sum::<f32>() / 3.0;
            *pixel = match density[self.grid.index(x, y)] {
                None => [grey as u8; 3],
                Some(density) => colour(density / high)
                    .map(|colour| (COLOUR_SHARE * colour + (1.0 - COLOUR_SHARE) * grey).round() as u8),
            };
        }
        write_png(path, small, Samples::Rgb8(&picture))
    }
}

/// The colour of a share of the highest density.
fn colour(share: f32) -> [f32; 3] {
    let place = share.clamp(0.0, 1.0) * (COLOURS.len() - 1) as f32;
    let low = (place as usize).min(COLOURS.len() - 2);
    let part = place - low as f32;
    [0, 1, 2].map(|c| COLOURS[low][c] * (1.0 - part) + COLOURS[low + 1][c] * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_get_lighter_and_ends_are_kept() {
        let lightness = |share: f32| colour(share).into_iter().sum::<f32>();
        assert!((1..=20).all(|i| lightness(i as f32 / 20.0) > lightness((i - 1) as f32 / 20.0)));
        assert_eq!((colour(-1.0), colour(9.0)), (COLOURS[0], COLOURS[5]));
    }
}
