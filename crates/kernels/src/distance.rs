//! Exact Euclidean distance transform, after Meijster, Roerdink & Hesselink (2000) and Felzenszwalb &
//! Huttenlocher (2012): distances along columns first, then along each row the lower envelope of one parabola
//! a column.
//!
//! All arithmetic is in integers until the last square root, so that the distances are exact. Columns are
//! handled in strips that threads share out; a strip keeps its rows together, so that both passes read memory
//! in order.

use crate::Size;
use rayon::prelude::*;
use std::ops::Range;

/// Columns a strip of the first pass holds: one cache line of `u32` four times over.
const STRIP_PX: usize = 64;

/// Distance to a background pixel that is not there.
const NO_BACKGROUND: u32 = u32::MAX;

/// Distance of each pixel's centre to the nearest centre of a background (`false`) pixel, in pixels; 0 on
/// background. As `scipy.ndimage.distance_transform_edt`.
///
/// If there is no background at all, the pixels just outside the picture count as background.
///
/// # Panics
/// If `mask` does not have `size.area_px()` elements.
pub fn distance_to_background_px(mask: &[bool], size: Size) -> Vec<f32> {
    assert_eq!(mask.len(), size.area_px(), "the mask does not fill {size} pixels");
    if mask.iter().all(|&inside| inside) {
        return distance_to_border_px(size);
    }
    let strips = column_distances(mask, size);
    let mut distances_px = vec![0.0; mask.len()];
    let rows = distances_px.par_chunks_mut(size.width_px).enumerate();
    rows.for_each_init(Envelope::default, |envelope, (y, out)| {
        let column = |x: usize| strips[(x / STRIP_PX * size.height_px + y) * STRIP_PX + x % STRIP_PX];
        for run in runs_off_background(size.width_px, column) {
            envelope.build(run.len(), |x| column(run.start + x));
            envelope.write_distances(&mut out[run]);
        }
    });
    distances_px
}

/// Runs of a row's pixels that are not background, each with the background pixel before and after it: behind these nothing is
/// nearer. Elsewhere the distance is 0.
fn runs_off_background(width_px: usize, column: impl Fn(usize) -> u32) -> impl Iterator<Item = Range<usize>> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let start = (next..width_px).find(|x| column(*x) > 0)?;
        let end = (start..width_px).find(|x| column(*x) == 0).unwrap_or(width_px);
        next = end;
        Some(start.saturating_sub(1)..(end + 1).min(width_px))
    })
}

fn distance_to_border_px(size: Size) -> Vec<f32> {
    let to_side = |at: usize, length: usize| (at + 1).min(length - at);
    let row = |y: usize| {
        (0..size.width_px).map(move |x| to_side(x, size.width_px).min(to_side(y, size.height_px)) as f32)
    };
    (0..size.height_px).flat_map(row).collect()
}

/// Distance of each pixel to the nearest background pixel of its column, in strips of [`STRIP_PX`] columns:
/// pixel (x, y) is at row `y` of strip `x / STRIP_PX`, each strip row-major.
fn column_distances(mask: &[bool], size: Size) -> Vec<u32> {
    let strip_count = size.width_px.div_ceil(STRIP_PX);
    let mut strips = vec![NO_BACKGROUND; strip_count * size.height_px * STRIP_PX];
    strips.par_chunks_mut(size.height_px * STRIP_PX).enumerate().for_each(|(strip, rows)| {
        let first = strip * STRIP_PX;
        let last = (first + STRIP_PX).min(size.width_px);
        let mut nearest = [NO_BACKGROUND; STRIP_PX];
        for (y, row) in rows.chunks_exact_mut(STRIP_PX).enumerate() {
            let mask = &mask[size.index(first, y)..size.index(last, y)];
            step_away(&mut nearest, row, |x| mask.get(x).is_none_or(|&inside| inside));
        }
        nearest = [NO_BACKGROUND; STRIP_PX];
        for row in rows.chunks_exact_mut(STRIP_PX).rev() {
            let background: [bool; STRIP_PX] = std::array::from_fn(|x| row[x] == 0);
            step_away(&mut nearest, row, |x| !background[x]);
        }
    });
    strips
}

/// One row further from the nearest background pixels, or at them; keeps the smaller distance in `row`.
fn step_away(nearest: &mut [u32; STRIP_PX], row: &mut [u32], inside: impl Fn(usize) -> bool) {
    for (x, (nearest, out)) in nearest.iter_mut().zip(row).enumerate() {
        *nearest = if inside(x) { nearest.saturating_add(1) } else { 0 };
        *out = (*out).min(*nearest);
    }
}

/// A parabola of the envelope: the squared distance to the background pixel nearest in column `x`.
#[derive(Clone, Copy)]
struct Parabola {
    x: i64,
    squared: i64,
    /// First column in which no earlier parabola is lower.
    from: i64,
}

impl Parabola {
    fn at(self, x: i64) -> i64 {
        (x - self.x) * (x - self.x) + self.squared
    }
}

/// The parabolas that are lowest somewhere along a row, from left to right.
#[derive(Default)]
struct Envelope {
    parabolas: Vec<Parabola>,
}

impl Envelope {
    fn build(&mut self, width_px: usize, column: impl Fn(usize) -> u32) {
        self.parabolas.clear();
        for x in 0..width_px {
            let distance = column(x);
            if distance != NO_BACKGROUND {
                self.push(x as i64, i64::from(distance) * i64::from(distance), width_px as i64);
            }
        }
    }

    /// Adds a parabola right of all others and drops those that it covers.
    fn push(&mut self, x: i64, squared: i64, width_px: i64) {
        let mut from = 0;
        while let Some(&last) = self.parabolas.last() {
            // The new parabola is strictly lower right of this column.
            let crossing = x * x - last.x * last.x + squared - last.squared;
            from = crossing.div_euclid(2 * (x - last.x)) + 1;
            if from > last.from {
                break;
            }
            self.parabolas.pop();
            from = 0;
        }
        if from < width_px {
            self.parabolas.push(Parabola { x, squared, from });
        }
    }

    fn write_distances(&self, out: &mut [f32]) {
        let ends = self.parabolas.iter().skip(1).map(|next| next.from).chain([out.len() as i64]);
        for (parabola, end) in self.parabolas.iter().zip(ends) {
            for x in parabola.from..end {
                out[x as usize] = (parabola.at(x) as f64).sqrt() as f32;
            }
        }
    }
}
