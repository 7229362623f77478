//! Gaussian smoothing, separable: one pass along rows, one along columns.
//!
//! Both passes are weighted sums of lines: of neighbouring rows, or of one row moved by whole pixels. Sums stay in
//! registers while the taps go by; rows are shared out among threads, then strips of columns, whose rows stay in the
//! second-level cache. Both work in place: a strip keeps the few rows above that were overwritten and are looked at again.
//! Sums are in `f32`, each pixel's in the same order whatever the number of threads, and
//! wherever it lies: a window of a picture gives the picture's values, but for the kernel's reach from its borders.

#![allow(unsafe_code)] // Vector registers are read and written through pointers; the kernel argues its bounds.

use crate::Size;
use crate::columns::{strip_px, strips};
use crate::network::vector::{Path, Vector, run_on};
use rayon::prelude::*;

/// Columns of a strip, at most: with the widest kernels in use (400 taps) its rows take half of a second-level cache.
const STRIP_PX: usize = 256;
/// Registers of sums that are computed together.
const TOGETHER: usize = 4;

/// The kernel ends at this many standard deviations, as in `scipy.ndimage.gaussian_filter`.
const TRUNCATE_SIGMAS: f64 = 4.0;

/// Smooths with a Gaussian of standard deviation `sigma_px`, the picture reflected at its borders (`d c b a |
/// a b c d`).
///
/// Equal to `scipy.ndimage.gaussian_filter(values, sigma_px, mode="reflect", truncate=4)` up to rounding. A
/// sigma that is not positive leaves the values as they are; one above twice the picture's extent is cut down
/// to that along each axis, where the result is the mean already. NaN spreads over the kernel's reach.
///
/// # Panics
/// If `values` does not have `size.area_px()` elements.
pub fn gaussian_blur(values: &[f32], size: Size, sigma_px: f32) -> Vec<f32> {
    gaussian_blur_of(values.to_vec(), size, sigma_px)
}

/// [`gaussian_blur`] of values that nobody needs any more, in their place.
///
/// # Panics
/// As [`gaussian_blur`].
pub fn gaussian_blur_of(mut values: Vec<f32>, size: Size, sigma_px: f32) -> Vec<f32> {
    assert_eq!(values.len(), size.area_px(), "values do not fill {size} pixels");
    if values.is_empty() || sigma_px.is_nan() || sigma_px <= 0.0 {
        return values;
    }
    blur_rows(&mut values, size.width_px, &kernel_half(sigma_px, size.width_px));
    blur_columns(&mut values, size, &kernel_half(sigma_px, size.height_px));
    values
}

/// How far around a pixel a Gaussian looks, in pixels.
pub fn reach_px(sigma_px: f32) -> usize {
    (TRUNCATE_SIGMAS * f64::from(sigma_px.max(0.0)) + 0.5) as usize
}

/// A Gaussian from this standard deviation on is computed on cells of several pixels, in pixels.
const WIDE_PX: f32 = 12.0;
/// Standard deviation that is left for the cells, at least, in cells.
const WIDE_CELLS: f32 = 6.0;

/// A smaller picture, in cells across and down, is not divided into cells.
const FEWEST_CELLS: usize = 8;

/// How many pixels the cells of [`gaussian_blur_wide`] are wide: a window of a picture gives the picture's values if its
/// corner is a multiple of this.
pub fn cell_px(sigma_px: f32) -> usize {
    match sigma_px.is_finite() && sigma_px >= WIDE_PX {
        true => 1 << ((sigma_px / WIDE_CELLS).log2() as u32).min(5),
        false => 1,
    }
}

/// [`gaussian_blur`], to a thousandth of the values' range, for a time that does not grow with sigma: see [`WideBlur`].
///
/// # Panics
/// As [`gaussian_blur`].
pub fn gaussian_blur_wide(values: &[f32], size: Size, sigma_px: f32) -> Vec<f32> {
    let blur = WideBlur::of(values, size, sigma_px);
    if let Kind::Whole(values) = blur.kind {
        return values;
    }
    let mut blurred = vec![0.0; size.area_px()];
    blurred
        .par_chunks_mut(size.width_px)
        .enumerate()
        .with_min_len(16)
        .for_each_init(Vec::new, |line, (y, out)| blur.row(y, line, out));
    blurred
}

/// A wide Gaussian of a picture, computed on means of square cells, and interpolated between their centres where it is asked
/// for. Cells and interpolation smooth too, by a quarter of the cell's square in variance, which is taken off.
#[derive(Clone, Debug)]
pub struct WideBlur {
    size: Size,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Pixel by pixel, `[height_px][width_px]`, where the Gaussian is narrow or the picture small.
    Whole(Vec<f32>),
    /// On cells.
    Cells {
        /// `[cells down][cells across]`, smoothed.
        cells: Vec<f32>,
        /// Number of cells across and down.
        extent: Size,
        /// How wide they are.
        cell_px: usize,
        /// For each column of the picture the cell whose centre lies before it, the one after it, and how near it is to that.
        columns: Vec<(usize, usize, f32)>,
    },
}

impl WideBlur {
    /// The Gaussian of standard deviation `sigma_px` of a picture.
    ///
    /// # Panics
    /// As [`gaussian_blur`].
    pub fn of(values: &[f32], size: Size, sigma_px: f32) -> Self {
        let cell_px = cell_px(sigma_px);
        // A cell that the border cuts counts as a whole one, which shows where there are few.
        let is_small = size.width_px.min(size.height_px) < FEWEST_CELLS * cell_px;
        if cell_px == 1 || is_small {
            return Self { size, kind: Kind::Whole(gaussian_blur(values, size, sigma_px)) };
        }
        assert_eq!(values.len(), size.area_px(), "values do not fill {size} pixels");
        let extent = Size::new(size.width_px.div_ceil(cell_px), size.height_px.div_ceil(cell_px));
        let means = means_of_cells(values, size, extent, cell_px);
        let sigma_cells = ((sigma_px / cell_px as f32).powi(2) - 0.25).sqrt();
        let cells = gaussian_blur_of(means, extent, sigma_cells);
        let columns = (0..size.width_px).map(|x| between(x, cell_px, extent.width_px)).collect();
        Self { size, kind: Kind::Cells { cells, extent, cell_px, columns } }
    }

    /// Row `y`, of the whole width; `line` is room that is used again.
    ///
    /// # Panics
    /// If the row is not there, or `out` is not as wide as the picture.
    pub fn row(&self, y: usize, line: &mut Vec<f32>, out: &mut [f32]) {
        assert!(y < self.size.height_px && out.len() == self.size.width_px, "a row of the picture");
        match &self.kind {
            Kind::Whole(values) => out.copy_from_slice(&values[self.size.index(0, y)..][..out.len()]),
            Kind::Cells { cells, extent, cell_px, columns } => {
                let (above, below, part) = between(y, *cell_px, extent.height_px);
                let row = |row: usize| &cells[row * extent.width_px..][..extent.width_px];
                line.clear();
                line.extend(
                    row(above).iter().zip(row(below)).map(|(above, below)| above + part * (below - above)),
                );
                for (out, (left, right, part)) in out.iter_mut().zip(columns) {
                    *out = line[*left] + part * (line[*right] - line[*left]);
                }
            }
        }
    }
}

/// The mean of each cell; those at the right and lower border may have fewer pixels.
fn means_of_cells(values: &[f32], size: Size, cells: Size, cell_px: usize) -> Vec<f32> {
    let mut means = vec![0.0; cells.area_px()];
    let bands = means.par_chunks_mut(cells.width_px).zip(values.par_chunks(cell_px * size.width_px));
    bands.for_each(|(means, band)| {
        for row in band.chunks_exact(size.width_px) {
            for (mean, cell) in means.iter_mut().zip(row.chunks(cell_px)) {
                *mean += cell.iter().sum::<f32>();
            }
        }
        let rows = band.len() / size.width_px;
        for (x, mean) in means.iter_mut().enumerate() {
            *mean /= (rows * cell_px.min(size.width_px - x * cell_px)) as f32;
        }
    });
    means
}

/// The cell whose centre lies before a pixel, the one after it, and how near the pixel is to that; beyond the outermost centres
/// values stay as they are there.
fn between(at: usize, cell_px: usize, count: usize) -> (usize, usize, f32) {
    let place = ((at as f32 + 0.5) / cell_px as f32 - 0.5).clamp(0.0, (count - 1) as f32);
    let first = (place as usize).min(count - 1);
    (first, (first + 1).min(count - 1), place - first as f32)
}

/// The kernel from its centre outwards, normalised so that the centre and twice the rest add up to 1.
fn kernel_half(sigma_px: f32, extent_px: usize) -> Vec<f32> {
    let sigma_px = f64::from(sigma_px).min(2.0 * extent_px as f64);
    let radius_px = (TRUNCATE_SIGMAS * sigma_px + 0.5) as usize;
    let weight = |distance_px: usize| (-0.5 * (distance_px as f64 / sigma_px).powi(2)).exp();
    let half: Vec<f64> = (0..=radius_px).map(weight).collect();
    let sum = 2.0 * half.iter().sum::<f64>() - half[0];
    half.into_iter().map(|weight| (weight / sum) as f32).collect()
}

/// Where the indices `-radius..length + radius` fall when a line is reflected at its ends, edge elements
/// twice.
fn reflected(length: usize, radius: usize) -> Vec<usize> {
    let fold = |index: isize| {
        let folded = index.rem_euclid(2 * length as isize) as usize;
        folded.min(2 * length - 1 - folded)
    };
    (0..length + 2 * radius).map(|index| fold(index as isize - radius as isize)).collect()
}

fn blur_rows(values: &mut [f32], width_px: usize, half: &[f32]) {
    let radius_px = half.len() - 1;
    let columns = reflected(width_px, radius_px);
    let rows = values.par_chunks_mut(width_px).with_min_len(8);
    rows.for_each_init(Vec::new, |padded: &mut Vec<f32>, row| {
        padded.clear();
        padded.extend(columns.iter().map(|&x| row[x]));
        let moved: Vec<&[f32]> = (0..half.len() + radius_px).map(|shift| &padded[shift..]).collect();
        weigh(&moved, half, row);
    });
}

fn blur_columns(values: &mut [f32], size: Size, half: &[f32]) {
    let rows = reflected(size.height_px, half.len() - 1);
    let strips = strips(values, size.width_px, strip_px(size.width_px, STRIP_PX));
    strips.into_par_iter().for_each(|strip| blur_strip(strip, &rows, half));
}

/// Smooths the rows of a strip down its columns; `rows` says which row each tap of each row falls on.
fn blur_strip(mut strip: Vec<&mut [f32]>, rows: &[usize], half: &[f32]) {
    let (height_px, width_px) = (strip.len(), strip[0].len());
    let taps = 2 * half.len() - 1;
    // A row is looked at again until the kernel has passed it, or always where the kernel is higher than the picture.
    let kept_rows = half.len().min(height_px);
    let mut kept = vec![0.0; kept_rows * width_px];
    for y in 0..height_px {
        let (done, below) = strip.split_at_mut(y + 1);
        let out = &mut *done[y];
        kept[y % kept_rows * width_px..][..width_px].copy_from_slice(out);
        let line = |row: &usize| match row.checked_sub(y + 1) {
            Some(below_px) => &*below[below_px],
            None => &kept[row % kept_rows * width_px..][..width_px],
        };
        weigh(&rows[y..][..taps].iter().map(line).collect::<Vec<&[f32]>>(), half, out);
    }
}

/// The sum of `lines`, weighted from the middle one outwards.
fn weigh(lines: &[&[f32]], half: &[f32], out: &mut [f32]) {
    assert_eq!(lines.len(), 2 * half.len() - 1, "a line for each tap");
    assert!(lines.iter().all(|line| line.len() >= out.len()), "lines are as long as the result");
    weigh_on(Path::best(), lines, half, out);
}

run_on!(fn weigh_on = weigh_kernel(lines: &[&[f32]], half: &[f32], out: &mut [f32]));

/// # Safety
/// The instruction set of `V` must be there; there are `2 * half.len() - 1` lines, each at least as long as `out`.
#[inline(always)]
unsafe fn weigh_kernel<V: Vector, const OUTPUTS: usize, const VECTORS: usize>(
    lines: &[&[f32]],
    half: &[f32],
    out: &mut [f32],
) {
    let middle = half.len() - 1;
    let block = TOGETHER * V::LANES;
    let whole = out.len() / block * block;
    // SAFETY: loads and stores end within `out.len()` floats of each line and of `out`.
    unsafe {
        for at in (0..whole).step_by(block) {
            let mut sums = [V::zero(); TOGETHER];
            for (tap, &weight) in half.iter().enumerate() {
                let weight = V::splat(weight);
                let (before, after) =
                    (lines[middle - tap].as_ptr().add(at), lines[middle + tap].as_ptr().add(at));
                for (i, sum) in sums.iter_mut().enumerate() {
                    let value = V::load(before.add(i * V::LANES));
                    // The middle line is its own other side, and counts once.
                    let both = if tap == 0 { value } else { value.add(V::load(after.add(i * V::LANES))) };
                    *sum = sum.plus_product(weight, both);
                }
            }
            for (i, sum) in sums.into_iter().enumerate() {
                sum.store(out.as_mut_ptr().add(at + i * V::LANES));
            }
        }
        for at in (whole..out.len()).step_by(V::LANES) {
            let count = V::LANES.min(out.len() - at);
            let mut sum = V::zero();
            for (tap, &weight) in half.iter().enumerate() {
                let line = |line: &[f32]| V::load_first(line.as_ptr().add(at), count);
                let value = line(lines[middle - tap]);
                let both = if tap == 0 { value } else { value.add(line(lines[middle + tap])) };
                sum = sum.plus_product(V::splat(weight), both);
            }
            sum.store_first(out.as_mut_ptr().add(at), count);
        }
    }
}
