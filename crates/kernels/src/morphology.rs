//! Morphology of masks with disks, and the removal of holes and crumbs.
//!
//! A disk of radius r holds the offsets with dx² + dy² ≤ r², as `skimage.morphology.disk`. What lies outside
//! the picture neither erodes nor dilates. A dilation by a small disk adds up the mask moved to each of its offsets; by a
//! large one it takes two steps, which cost the same for every radius: how far is the nearest pixel of the
//! mask in this column, and how far does it reach along the row from there.

use crate::Size;
use crate::components::{ComponentRuns, Connectivity};
use rayon::prelude::*;
use std::ops::Range;

/// Fewest rows of a band, the share of one thread: each band also looks at `radius_px` rows above and below
/// it.
const BAND_ROWS: usize = 64;

/// Disks up to this radius are applied offset by offset, many pixels at a time.
const SMALL_RADIUS_PX: usize = 5;

/// Mask pixels all of whose disk lies in the mask.
///
/// # Panics
/// If `mask` does not have `size.area_px()` elements; so do all functions of this module.
pub fn erode_disk(mask: &[bool], size: Size, radius_px: usize) -> Vec<bool> {
    complement(&dilate_disk(&complement(mask), size, radius_px))
}

/// Pixels with a mask pixel in their disk.
///
/// # Panics
/// As [`erode_disk`].
pub fn dilate_disk(mask: &[bool], size: Size, radius_px: usize) -> Vec<bool> {
    assert_eq!(mask.len(), size.area_px(), "the mask does not fill {size} pixels");
    // A disk of this radius covers the picture from every pixel.
    let radius_px = radius_px.min(size.width_px + size.height_px);
    let half_widths = half_widths_px(radius_px);
    let band_rows = BAND_ROWS.max(4 * radius_px);
    let mut dilated = vec![false; mask.len()];
    dilated.par_chunks_mut((band_rows * size.width_px).max(1)).enumerate().for_each(|(band, out)| {
        let dilate = if radius_px <= SMALL_RADIUS_PX { dilate_band_directly } else { dilate_band };
        dilate(mask, size, &half_widths, band * band_rows, out);
    });
    dilated
}

/// Erosion, then dilation: removes what is narrower than the disk.
///
/// # Panics
/// As [`erode_disk`].
pub fn open_disk(mask: &[bool], size: Size, radius_px: usize) -> Vec<bool> {
    dilate_disk(&erode_disk(mask, size, radius_px), size, radius_px)
}

/// Dilation, then erosion: fills what is narrower than the disk.
///
/// # Panics
/// As [`erode_disk`].
pub fn close_disk(mask: &[bool], size: Size, radius_px: usize) -> Vec<bool> {
    erode_disk(&dilate_disk(mask, size, radius_px), size, radius_px)
}

/// Adds all holes to the mask: 4-connected background that does not reach the picture's border.
///
/// # Panics
/// As [`erode_disk`]; if there are more pixels than 32 bits count.
pub fn fill_holes(mask: &[bool], size: Size) -> Vec<bool> {
    fill_small_holes(mask, size, usize::MAX)
}

/// Adds holes of at most `max_area_px` pixels to the mask. Background at the picture's border is no hole,
/// however small: it may go on outside.
///
/// # Panics
/// As [`erode_disk`]; if there are more pixels than 32 bits count.
pub fn fill_small_holes(mask: &[bool], size: Size, max_area_px: usize) -> Vec<bool> {
    assert_eq!(mask.len(), size.area_px(), "the mask does not fill {size} pixels");
    let background = ComponentRuns::of(mask, false, size, Connectivity::Four);
    let mut is_hole: Vec<bool> = background.areas_px.iter().map(|area_px| *area_px <= max_area_px).collect();
    let last_row = mask.len().saturating_sub(size.width_px);
    for (run, component) in background.iter() {
        let Range { start, end } = run.range();
        let at_a_side = start.is_multiple_of(size.width_px) || end.is_multiple_of(size.width_px);
        if at_a_side || start < size.width_px || end > last_row {
            is_hole[component] = false;
        }
    }
    let mut filled = mask.to_vec();
    for (run, _) in background.iter().filter(|(_, component)| is_hole[*component]) {
        filled[run.range()].fill(true);
    }
    filled
}

/// Takes 8-connected objects of fewer than `min_area_px` pixels out of the mask.
///
/// # Panics
/// As [`erode_disk`]; if there are more pixels than 32 bits count.
pub fn remove_small(mask: &[bool], size: Size, min_area_px: usize) -> Vec<bool> {
    assert_eq!(mask.len(), size.area_px(), "the mask does not fill {size} pixels");
    let objects = ComponentRuns::of(mask, true, size, Connectivity::Eight);
    let mut kept = mask.to_vec();
    for (run, _) in objects.iter().filter(|(_, object)| objects.areas_px[*object] < min_area_px) {
        kept[run.range()].fill(false);
    }
    kept
}

fn complement(mask: &[bool]) -> Vec<bool> {
    mask.iter().map(|&inside| !inside).collect()
}

/// For each row of a disk from its centre, how far it extends to either side.
fn half_widths_px(radius_px: usize) -> Vec<usize> {
    let half_width = |dy: usize| (radius_px * radius_px - dy * dy).isqrt();
    (0..=radius_px).map(half_width).collect()
}

/// Dilates the rows of `out`, which begin at row `first_row` of the picture.
fn dilate_band(mask: &[bool], size: Size, half_widths_px: &[usize], first_row: usize, out: &mut [bool]) {
    let (width_px, reach) = (size.width_px, half_widths_px.len() - 1);
    let rows = out.len() / width_px;
    let above = first_row.saturating_sub(reach);
    let below = (first_row + rows + reach).min(size.height_px);
    let mut distances = vec![u32::MAX; out.len()];
    let mut nearest = vec![u32::MAX; width_px];
    for y in above..first_row + rows {
        step_away(&mut nearest, row_of(mask, width_px, y));
        keep_smaller(&nearest, &mut distances, y.checked_sub(first_row));
    }
    nearest.fill(u32::MAX);
    for y in (first_row..below).rev() {
        step_away(&mut nearest, row_of(mask, width_px, y));
        keep_smaller(&nearest, &mut distances, Some(y - first_row));
    }
    for (out, distances) in out.chunks_mut(width_px).zip(distances.chunks(width_px)) {
        spread_row(distances, half_widths_px, out);
    }
}

/// [`dilate_band`], by moving whole rows to each offset of the disk.
fn dilate_band_directly(
    mask: &[bool],
    size: Size,
    half_widths_px: &[usize],
    first_row: usize,
    out: &mut [bool],
) {
    let reach = half_widths_px.len() - 1;
    for (y, out) in (first_row..).zip(out.chunks_exact_mut(size.width_px)) {
        for near in y.saturating_sub(reach)..(y + reach + 1).min(size.height_px) {
            let row = row_of(mask, size.width_px, near);
            add(out, row);
            for shift in 1..=half_widths_px[near.abs_diff(y)].min(size.width_px) {
                add(&mut out[shift..], row);
                add(out, &row[shift..]);
            }
        }
    }
}

/// Adds the pixels of a row to those of another, from the first on.
fn add(to: &mut [bool], row: &[bool]) {
    to.iter_mut().zip(row).for_each(|(to, pixel)| *to |= *pixel);
}

fn row_of(mask: &[bool], width_px: usize, y: usize) -> &[bool] {
    &mask[y * width_px..(y + 1) * width_px]
}

fn step_away(nearest: &mut [u32], mask_row: &[bool]) {
    for (nearest, &inside) in nearest.iter_mut().zip(mask_row) {
        *nearest = if inside { 0 } else { nearest.saturating_add(1) };
    }
}

/// Rows beyond the band (`row` absent or too large) only serve to find what is near, and are not kept.
fn keep_smaller(nearest: &[u32], distances: &mut [u32], row: Option<usize>) {
    let kept = row.and_then(|row| distances.chunks_mut(nearest.len()).nth(row));
    for (distance, &nearest) in kept.into_iter().flatten().zip(nearest) {
        *distance = nearest.min(*distance);
    }
}

/// Each column within reach of the mask covers a run of the row: a sweep from either side, with the furthest
/// end so far.
fn spread_row(distances: &[u32], half_widths_px: &[usize], out: &mut [bool]) {
    let half_width = |distance: u32| half_widths_px.get(distance as usize);
    let mut end = 0;
    for (x, (out, &distance)) in out.iter_mut().zip(distances).enumerate() {
        end = half_width(distance).map_or(end, |half_width| end.max(x + half_width + 1));
        *out = x < end;
    }
    let mut start = usize::MAX;
    for (x, (out, &distance)) in out.iter_mut().zip(distances).enumerate().rev() {
        start = half_width(distance).map_or(start, |half_width| start.min(x.saturating_sub(*half_width)));
        *out |= x >= start;
    }
}
