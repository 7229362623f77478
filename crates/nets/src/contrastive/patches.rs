//! Patches on a grid, and the two numbers that samplers look at.

use rayon::prelude::*;

/// A patch of a batch: its picture, and the pixel of its upper left corner within the crop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Index of the picture in the batch.
    pub image: usize,
    /// Top row within the crop, in pixels.
    pub top_px: usize,
    /// Left column within the crop, in pixels.
    pub left_px: usize,
}

/// The grid of patches over a crop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Side of a patch, in pixels.
    pub patch_px: usize,
    /// Distance between patches, in pixels.
    pub stride_px: usize,
    /// Height of the crop, in pixels.
    pub height_px: usize,
    /// Width of the crop, in pixels.
    pub width_px: usize,
}

impl Grid {
    /// Rows of patches.
    pub fn rows(self) -> usize {
        (self.height_px.saturating_sub(self.patch_px)) / self.stride_px + 1
    }

    /// Columns of patches.
    pub fn columns(self) -> usize {
        (self.width_px.saturating_sub(self.patch_px)) / self.stride_px + 1
    }

    /// Number of patches.
    pub fn patches(self) -> usize {
        self.rows() * self.columns()
    }

    /// The patch of `index` (row by row), or none for the sentinel that follows the last patch, and for the patches
    /// that the published code drops: those whose top row is not below height − patch (the last row of a grid that
    /// fits exactly), whatever their column.
    pub fn patch(self, image: usize, index: usize) -> Option<Patch> {
        let (row, column) = (index / self.columns(), index % self.columns());
        let patch = Patch { image, top_px: row * self.stride_px, left_px: column * self.stride_px };
        (index < self.patches() && patch.top_px + self.patch_px < self.height_px).then_some(patch)
    }
}

/// Mean confidence and mean entropy of each patch, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchStatistics {
    /// Mean confidence, 0 to 1.
    pub mean: Vec<f32>,
    /// Mean binary entropy in bits, 0 to 1.
    pub entropy: Vec<f32>,
}

/// Binary entropy of a confidence in bits, each logarithm clamped at −100.
pub fn entropy_bits(p: f32) -> f32 {
    let log2 = |v: f32| v.log2().max(-100.0);
    let term = |v: f32| if v > 0.0 { v * log2(v) } else { 0.0 };
    -(term(p) + term(1.0 - p))
}

/// The statistics of each plane of `confidence` (`[planes, height, width]`).
pub fn statistics(confidence: &[f32], grid: Grid) -> Vec<PatchStatistics> {
    let area = grid.height_px * grid.width_px;
    confidence
        .par_chunks(area.max(1))
        .map(|plane| {
            let entropy: Vec<f32> = plane.iter().map(|&p| entropy_bits(p)).collect();
            PatchStatistics { mean: patch_means(plane, grid), entropy: patch_means(&entropy, grid) }
        })
        .collect()
}

/// The mean of each patch, by a table of sums.
fn patch_means(plane: &[f32], grid: Grid) -> Vec<f32> {
    let sums = summed_area_table(plane, grid);
    let stride = grid.width_px + 1;
    let area = (grid.patch_px * grid.patch_px) as f64;
    (0..grid.patches())
        .map(|index| {
            let top = index / grid.columns() * grid.stride_px;
            let left = index % grid.columns() * grid.stride_px;
            let (bottom, right) = (top + grid.patch_px, left + grid.patch_px);
            let corner = |y: usize, x: usize| sums[y * stride + x];
            let sum = corner(bottom, right) - corner(top, right) - corner(bottom, left) + corner(top, left);
            (sum / area) as f32
        })
        .collect()
}

fn summed_area_table(plane: &[f32], grid: Grid) -> Vec<f64> {
    let stride = grid.width_px + 1;
    let mut sums = vec![0.0; stride * (grid.height_px + 1)];
    for (y, row) in plane.chunks_exact(grid.width_px).enumerate() {
        let mut row_sum = 0.0;
        for (x, &value) in row.iter().enumerate() {
            row_sum += f64::from(value);
            sums[(y + 1) * stride + x + 1] = sums[y * stride + x + 1] + row_sum;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { patch_px: 3, stride_px: 2, height_px: 7, width_px: 8 };

    #[test]
    fn means_equal_the_sum_over_the_patch() {
        let plane: Vec<f32> = (0..56).map(|i| (i as f32 * 0.37).sin().abs()).collect();
        let found = &statistics(&plane, GRID)[0];
        assert_eq!(found.mean.len(), 3 * 3);
        for (index, (mean, entropy)) in found.mean.iter().zip(&found.entropy).enumerate() {
            let at = |i: usize| plane[(index / 3 * 2 + i / 3) * 8 + index % 3 * 2 + i % 3];
            let average = |f: &dyn Fn(f32) -> f32| (0..9).map(|i| f(at(i))).sum::<f32>() / 9.0;
            assert!((mean - average(&|p| p)).abs() < 1e-6);
            assert!((entropy - average(&entropy_bits)).abs() < 1e-6);
        }
    }

    #[test]
    fn the_last_row_of_an_exact_grid_and_the_sentinel_are_dropped() {
        assert_eq!(GRID.patch(5, 4), Some(Patch { image: 5, top_px: 2, left_px: 2 }));
        assert_eq!(GRID.patch(0, 6), None);
        assert_eq!(GRID.patch(0, 9), None);
    }

    #[test]
    fn certainty_has_no_entropy() {
        assert_eq!([0.0, 0.5, 1.0].map(entropy_bits), [0.0, 1.0, 0.0]);
    }
}
