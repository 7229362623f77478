//! Exact Euclidean distance transform, after Meijster, Roerdink & Hesselink (2000) and Felzenszwalb &
//! Huttenlocher (2012): distances along columns first, then along each row the lower envelope of one parabola
//! a column.
//!
//! All arithmetic is in whole numbers until the last square root, so that the distances are exact. Both passes work in the
//! place of the result: `f32` counts rows exactly up to 2²⁴, and a run's parabolas are known before it is overwritten.

mod near;

use crate::Size;
use crate::columns::{strip_px, strips};
use crate::runs::end_of_run;
use near::Near;
use rayon::prelude::*;
use std::ops::Range;

/// Columns of a strip of the first pass, at most.
const STRIP_PX: usize = 1024;

/// Rows up to which `f32` counts every one.
const MOST_ROWS: usize = 1 << 24;

/// Distance to a background pixel that is not there.
const NO_BACKGROUND: f32 = f32::INFINITY;

/// Distance of each pixel's centre to the nearest centre of a background (`false`) pixel, in pixels; 0 on
/// background. As `scipy.ndimage.distance_transform_edt`.
///
/// If there is no background at all, the pixels just outside the picture count as background.
///
/// # Panics
/// If `mask` does not have `size.area_px()` elements, or more rows than `f32` counts (2²⁴).
pub fn distance_to_background_px(mask: &[bool], size: Size) -> Vec<f32> {
    assert_eq!(mask.len(), size.area_px(), "the mask does not fill {size} pixels");
    assert!(size.height_px <= MOST_ROWS, "{size} pixels are too many rows");
    if mask.iter().all(|&inside| inside) {
        return distance_to_border_px(size);
    }
    let mut distances_px = vec![0.0; mask.len()];
    column_distances(mask, size, &mut distances_px);
    let rows = distances_px.par_chunks_mut(size.width_px);
    rows.for_each_init(Default::default, |(near, envelope): &mut (Near, Envelope), row| {
        let mut next = 0;
        while let Some(run) = run_off_background(row, next) {
            next = run.end;
            let run = &mut row[run];
            if !near.write_distances(run) {
                envelope.build(run);
                envelope.write_distances(run);
            }
        }
    });
    distances_px
}

/// The next run of a row's pixels, from `next` on, that are not background, with the background pixel before and after it: behind
/// these nothing is nearer. Elsewhere the distance is 0.
fn run_off_background(row: &[f32], next: usize) -> Option<Range<usize>> {
    let start = if *row.get(next)? > 0.0 { next } else { end_of_run(row, next) };
    if start == row.len() {
        return None;
    }
    let end =
        row[start..].iter().position(|column| *column == 0.0).map_or(row.len(), |length| start + length);
    Some(start.saturating_sub(1)..(end + 1).min(row.len()))
}

fn distance_to_border_px(size: Size) -> Vec<f32> {
    let to_side = |at: usize, length: usize| (at + 1).min(length - at);
    let row = |y: usize| {
        (0..size.width_px).map(move |x| to_side(x, size.width_px).min(to_side(y, size.height_px)) as f32)
    };
    (0..size.height_px).flat_map(row).collect()
}

/// Distance of each pixel to the nearest background pixel of its column.
fn column_distances(mask: &[bool], size: Size, distances_px: &mut [f32]) {
    let strip_px = strip_px(size.width_px, STRIP_PX);
    let strips = strips(distances_px, size.width_px, strip_px);
    strips.into_par_iter().enumerate().for_each(|(index, mut strip)| {
        let width_px = strip[0].len();
        let mut nearest = vec![NO_BACKGROUND; width_px];
        for (y, row) in strip.iter_mut().enumerate() {
            let inside = &mask[size.index(index * strip_px, y)..][..width_px];
            for ((out, nearest), inside) in row.iter_mut().zip(&mut nearest).zip(inside) {
                *nearest = if *inside { *nearest + 1.0 } else { 0.0 };
                *out = *nearest;
            }
        }
        nearest.fill(NO_BACKGROUND);
        for row in strip.iter_mut().rev() {
            for (out, nearest) in row.iter_mut().zip(&mut nearest) {
                // Background is at 0 already.
                *nearest = (*nearest + 1.0).min(*out);
                *out = *nearest;
            }
        }
    });
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

/// The root, as the nearest `f32`. Where `f32` counts every whole number its own root is that, in half the time.
fn root(squared: i64) -> f32 {
    if squared < 1 << 24 { (squared as i32 as f32).sqrt() } else { (squared as f64).sqrt() as f32 }
}

/// The parabolas that are lowest somewhere along a row, from left to right.
#[derive(Default)]
struct Envelope {
    parabolas: Vec<Parabola>,
}

impl Envelope {
    /// The envelope of a run of a row, of which the distances along columns are given.
    fn build(&mut self, columns: &[f32]) {
        self.parabolas.clear();
        for (x, &column) in columns.iter().enumerate().filter(|(_, column)| **column != NO_BACKGROUND) {
            let distance = column as i64;
            self.push(x as i64, distance * distance, columns.len() as i64);
        }
    }

    /// Adds a parabola right of all others and drops those that it covers.
    fn push(&mut self, x: i64, squared: i64, width_px: i64) {
        let mut from = 0;
        while let Some(&last) = self.parabolas.last() {
            // The new parabola is strictly lower right of this column.
            let crossing = x * x - last.x * last.x + squared - last.squared;
            // Neighbours as a rule: a shift instead of a division.
            from = 1 + if x - last.x == 1 { crossing >> 1 } else { crossing.div_euclid(2 * (x - last.x)) };
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
                out[x as usize] = root(parabola.at(x));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_of_all_small_squares_are_the_nearest_numbers() {
        for squared in (0..1 << 24).chain((1 << 24) - 2..(1 << 24) + 9).chain([(1 << 46) + 7]) {
            assert_eq!(root(squared), (squared as f64).sqrt() as f32, "of {squared}");
        }
    }
}
