//! Shrinking pictures, for thumbnails.

use crate::Size;
use rayon::prelude::*;

/// Shrinks an interleaved RGB picture to `to` pixels: each is the mean, rounded to nearest, of the area that
/// it covers, and source pixels that it covers in part count in part.
///
/// The arithmetic is in integers and exact. `to` may be larger than `size`, which gives hard pixel edges;
/// from an empty picture black pixels are made.
///
/// # Panics
/// If `rgb` does not have `3 * size.area_px()` elements.
pub fn downsample_area(rgb: &[u8], size: Size, to: Size) -> Vec<u8> {
    assert_eq!(rgb.len(), 3 * size.area_px(), "the picture does not fill {size} RGB pixels");
    let mut shrunk = vec![0; 3 * to.area_px()];
    if rgb.is_empty() || shrunk.is_empty() {
        return shrunk;
    }
    let columns: Vec<Vec<Cover>> = (0..to.width_px).map(|x| covers(x, size.width_px, to.width_px)).collect();
    shrunk.par_chunks_mut(3 * to.width_px).enumerate().for_each_init(Vec::new, |sums, (y, out)| {
        add_rows(rgb, 3 * size.width_px, &covers(y, size.height_px, to.height_px), sums);
        for (out, columns) in out.as_chunks_mut::<3>().0.iter_mut().zip(&columns) {
            *out = mean_of(sums, columns, size.area_px() as u64);
        }
    });
    shrunk
}

/// A source pixel on one axis, and how much of it is covered, in units in which a whole target pixel is
/// `source_px`.
struct Cover {
    at: usize,
    weight: u64,
}

/// What target pixel `target` of `target_px` covers of `source_px` source pixels. In units of one source
/// pixel over `target_px`, it reaches from `target * source_px` to `(target + 1) * source_px`.
fn covers(target: usize, source_px: usize, target_px: usize) -> Vec<Cover> {
    let (start, end) = (target * source_px, (target + 1) * source_px);
    let cover = |at: usize| {
        let weight = end.min((at + 1) * target_px) - start.max(at * target_px);
        Cover { at, weight: weight as u64 }
    };
    (start / target_px..end.div_ceil(target_px)).map(cover).collect()
}

/// Weighted sums of whole rows, colour values side by side as in the source.
fn add_rows(rgb: &[u8], row_bytes: usize, rows: &[Cover], sums: &mut Vec<u64>) {
    sums.clear();
    sums.resize(row_bytes, 0);
    for row in rows {
        let values = &rgb[row.at * row_bytes..(row.at + 1) * row_bytes];
        sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += row.weight * u64::from(value));
    }
}

fn mean_of(sums: &[u64], columns: &[Cover], total_weight: u64) -> [u8; 3] {
    [0, 1, 2].map(|colour| {
        let sum: u64 = columns.iter().map(|column| column.weight * sums[3 * column.at + colour]).sum();
        ((sum + total_weight / 2) / total_weight) as u8
    })
}
