//! Patches on a grid, and the two numbers that samplers look at.

use microtome_kernels::network::entropy::binary_entropy_bits;
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

/// The statistics of each plane of `confidence` (`[planes, height, width]`).
pub fn statistics(confidence: &[f32], grid: Grid) -> Vec<PatchStatistics> {
    let area = grid.height_px * grid.width_px;
    confidence
        .par_chunks(area.max(1))
        .map_init(
            || vec![0.0; area],
            |entropy, plane| {
                binary_entropy_bits(plane, entropy);
                PatchStatistics { mean: patch_means(plane, grid), entropy: patch_means(entropy, grid) }
            },
        )
        .collect()
}

/// The mean of each patch: columns are summed once for each row of patches.
fn patch_means(plane: &[f32], grid: Grid) -> Vec<f32> {
    let area = (grid.patch_px * grid.patch_px) as f64;
    let mut means = Vec::with_capacity(grid.patches());
    let mut columns = vec![0.0; grid.width_px];
    for row in 0..grid.rows() {
        columns.fill(0.0);
        let top = row * grid.stride_px;
        let pixels = &plane[top * grid.width_px..(top + grid.patch_px) * grid.width_px];
        for line in pixels.chunks_exact(grid.width_px) {
            columns.iter_mut().zip(line).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        for column in 0..grid.columns() {
            let left = column * grid.stride_px;
            let sum: f64 = columns[left..left + grid.patch_px].iter().sum();
            means.push((sum / area) as f32);
        }
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { patch_px: 3, stride_px: 2, height_px: 7, width_px: 8 };

    #[test]
    fn means_equal_the_sum_over_the_patch() {
        let plane: Vec<f32> = (0..56).map(|i| (i as f32 * 0.37 + 0.1).sin().abs()).collect();
        let found = &statistics(&plane, GRID)[0];
        assert_eq!(found.mean.len(), 3 * 3);
        for (index, (mean, entropy)) in found.mean.iter().zip(&found.entropy).enumerate() {
            let at = |i: usize| plane[(index / 3 * 2 + i / 3) * 8 + index % 3 * 2 + i % 3];
            let average = |f: &dyn Fn(f32) -> f32| (0..9).map(|i| f(at(i))).sum::<f32>() / 9.0;
            assert!((mean - average(&|p| p)).abs() < 1e-6);
            let entropy_bits = |p: f32| -(p * p.log2() + (1.0 - p) * (1.0 - p).log2());
            assert!((entropy - average(&entropy_bits)).abs() < 1e-6);
        }
    }

    #[test]
    fn the_last_row_of_an_exact_grid_and_the_sentinel_are_dropped() {
        assert_eq!(GRID.patch(5, 4), Some(Patch { image: 5, top_px: 2, left_px: 2 }));
        assert_eq!(GRID.patch(0, 6), None);
        assert_eq!(GRID.patch(0, 9), None);
    }
}
