//! Gaussian smoothing, separable: one pass along rows, one along columns.
//!
//! Both passes work on blocks of neighbouring columns that stay in registers while the kernel's taps go by,
//! which compilers turn into vector instructions; rows are shared out among threads. Sums are in `f32`, each
//! pixel's in the same order whatever the number of threads.

use crate::Size;
use rayon::prelude::*;

/// Columns computed together: 32 sums of `f32` fit the sixteen registers of plain x86-64 with room for the
/// taps.
const BLOCK_PX: usize = 32;

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
    assert_eq!(values.len(), size.area_px(), "values do not fill {size} pixels");
    if values.is_empty() || sigma_px.is_nan() || sigma_px <= 0.0 {
        return values.to_vec();
    }
    let along_rows = blur_rows(values, size.width_px, &kernel_half(sigma_px, size.width_px));
    blur_columns(&along_rows, size, &kernel_half(sigma_px, size.height_px))
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

fn blur_rows(values: &[f32], width_px: usize, half: &[f32]) -> Vec<f32> {
    let radius_px = half.len() - 1;
    let columns = reflected(width_px, radius_px);
    let mut blurred = vec![0.0; values.len()];
    let rows = blurred.par_chunks_mut(width_px).zip(values.par_chunks(width_px));
    rows.for_each_init(Vec::new, |padded: &mut Vec<f32>, (out, row)| {
        padded.clear();
        padded.extend(columns.iter().map(|&x| row[x]));
        for (block, out) in out.chunks_mut(BLOCK_PX).enumerate() {
            let centre = block * BLOCK_PX + radius_px;
            weigh(out, half, |tap| (&padded[centre - tap..], &padded[centre + tap..]));
        }
    });
    blurred
}

fn blur_columns(values: &[f32], size: Size, half: &[f32]) -> Vec<f32> {
    let radius_px = half.len() - 1;
    let rows = reflected(size.height_px, radius_px);
    let mut blurred = vec![0.0; values.len()];
    blurred.par_chunks_mut(size.width_px).enumerate().for_each(|(y, out)| {
        for (block, out) in out.chunks_mut(BLOCK_PX).enumerate() {
            let block_of = |row: usize| &values[size.index(block * BLOCK_PX, row)..];
            let centre = y + radius_px;
            weigh(out, half, |tap| (block_of(rows[centre - tap]), block_of(rows[centre + tap])));
        }
    });
    blurred
}

/// Weighted sums for up to [`BLOCK_PX`] neighbouring pixels; `pair(tap)` gives the sources on both sides of
/// the centre.
#[inline(always)]
fn weigh<'a>(out: &mut [f32], half: &[f32], pair: impl Fn(usize) -> (&'a [f32], &'a [f32])) {
    let mut sums = [0.0; BLOCK_PX];
    for (tap, &weight) in half.iter().enumerate() {
        let (before, after) = pair(tap);
        // The centre is its own other side.
        let weight = if tap == 0 { weight / 2.0 } else { weight };
        match (before.first_chunk(), after.first_chunk()) {
            (Some(before), Some(after)) => add_block(&mut sums, weight, before, after),
            _ => {
                let pairs = before.iter().zip(after);
                sums.iter_mut()
                    .zip(pairs)
                    .for_each(|(sum, (before, after))| *sum += weight * (before + after));
            }
        }
    }
    out.copy_from_slice(&sums[..out.len()]);
}

#[inline(always)]
fn add_block(sums: &mut [f32; BLOCK_PX], weight: f32, before: &[f32; BLOCK_PX], after: &[f32; BLOCK_PX]) {
    for x in 0..BLOCK_PX {
        sums[x] += weight * (before[x] + after[x]);
    }
}
