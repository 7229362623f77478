//! Peaks that stand out: markers for the watershed.
//!
//! A peak counts if it rises by more than `h` above the highest saddle that leads to a higher peak. Such
//! peaks are the regional maxima of `values - h` grown under `values`, a grey-scale reconstruction (Vincent,
//! "Morphological grayscale reconstruction in image analysis", 1993), here in his hybrid form: two sweeps
//! settle most pixels, a queue the rest.

use crate::components::{Connectivity, label_components};
use crate::{Labels, Size};
use std::collections::VecDeque;

/// Labels the regional maxima of the reconstruction of `values - h` under `values`: 8-connected plateaus of
/// which every neighbour is lower, numbered in scan order.
///
/// A picture that is one plateau has no maximum. NaN counts as lower than everything; a negative or NaN `h`
/// as 0.
///
/// # Panics
/// If `values` does not have `size.area_px()` elements.
pub fn h_maxima(values: &[f32], size: Size, h: f32) -> Labels {
    assert_eq!(values.len(), size.area_px(), "values do not fill {size} pixels");
    if values.is_empty() {
        return Labels::background(size);
    }
    let h = h.max(0.0);
    let ceiling = Padded::around(values, size);
    // Infinity less infinity is no number; such a pixel starts from the bottom.
    let seed = ceiling.values.iter().map(|&value| not_nan(value - h)).collect();
    let grown = reconstruct(seed, &ceiling);
    label_components(&regional_maxima(&grown, &ceiling, size), size, Connectivity::Eight)
}

/// Whether [`h_maxima`] surely finds one peak at most, at a fraction of its cost: every other pixel that is as high as
/// all its neighbours has a straight way to a higher one of them which goes down by less than `h`. Where this is false
/// there may be a single peak all the same. For values that are neither negative nor NaN.
///
/// # Panics
/// As [`h_maxima`].
pub fn has_one_peak(values: &[f32], size: Size, h: f32) -> bool {
    assert_eq!(values.len(), size.area_px(), "values do not fill {size} pixels");
    let mut peaks = peaks(values, size);
    peaks.sort_by(|one, next| next.0.total_cmp(&one.0));
    // Of many peaks one is sure to stand out, and looking for ways between all of them would take long.
    if peaks.is_empty() || peaks.len() > MOST_PEAKS {
        return false;
    }
    // Rounding of `values - h` must not decide.
    let deepest = h * (1.0 - 1e-4);
    peaks.iter().enumerate().skip(1).all(|(index, &(height, from))| {
        let mut higher = peaks[..index].iter().filter(|(other, _)| *other > height);
        higher.any(|&(_, to)| height - lowest_between(values, size, from, to) < deepest)
    })
}

/// Peaks that [`has_one_peak`] looks at.
const MOST_PEAKS: usize = 16;

/// Pixels above 0 that no neighbour exceeds: their heights and places. One more than [`MOST_PEAKS`] at most.
fn peaks(values: &[f32], size: Size) -> Vec<(f32, usize)> {
    let mut peaks = Vec::new();
    for y in 0..size.height_px {
        let rows = y.saturating_sub(1)..(y + 2).min(size.height_px);
        for x in 0..size.width_px {
            let (at, columns) = (size.index(x, y), x.saturating_sub(1)..(x + 2).min(size.width_px));
            let height = values[at];
            // Most pixels have a higher one to their right or left.
            let is_flank = values.get(at + 1).is_some_and(|next| *next > height && x + 1 < size.width_px);
            if height <= 0.0 || height.is_nan() || is_flank {
                continue;
            }
            let is_peak = rows.clone().all(|y| {
                let start = size.index(0, y);
                values[start..][columns.clone()].iter().all(|other| *other <= height)
            });
            if is_peak {
                peaks.push((height, at));
                if peaks.len() > MOST_PEAKS {
                    return peaks;
                }
            }
        }
    }
    peaks
}

/// The lowest value on a straight way of neighbouring pixels.
fn lowest_between(values: &[f32], size: Size, from: usize, to: usize) -> f32 {
    let place = |at: usize| [(at % size.width_px) as f32, (at / size.width_px) as f32];
    let ([x, y], [end_x, end_y]) = (place(from), place(to));
    let steps = (end_x - x).abs().max((end_y - y).abs()).max(1.0);
    (0..=steps as usize).fold(f32::INFINITY, |lowest, step| {
        let part = step as f32 / steps;
        let (x, y) = ((x + part * (end_x - x)).round(), (y + part * (end_y - y)).round());
        lowest.min(values[size.index(x as usize, y as usize)])
    })
}

fn not_nan(value: f32) -> f32 {
    if value.is_nan() { f32::NEG_INFINITY } else { value }
}

/// A raster in a frame, one pixel wide, that is lower than everything: neighbours are constant offsets away,
/// and no loop asks where the picture ends.
struct Padded {
    width_px: usize,
    values: Vec<f32>,
}

impl Padded {
    fn around(values: &[f32], size: Size) -> Self {
        let width_px = size.width_px + 2;
        let mut padded = vec![f32::NEG_INFINITY; width_px * (size.height_px + 2)];
        let rows = padded.chunks_exact_mut(width_px).skip(1);
        for (padded, row) in rows.zip(values.chunks_exact(size.width_px)) {
            padded[1..=size.width_px]
                .iter_mut()
                .zip(row)
                .for_each(|(padded, &value)| *padded = not_nan(value));
        }
        Self { width_px, values: padded }
    }

    /// Indices of the picture's pixels, in scan order.
    fn inner(&self) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let (width_px, height_px) = (self.width_px, self.values.len() / self.width_px);
        (1..height_px - 1).flat_map(move |y| y * width_px + 1..(y + 1) * width_px - 1)
    }

    /// The four neighbours that a scan meets before a pixel, then the four that it meets later.
    #[inline(always)]
    fn neighbours(&self, at: usize) -> [usize; 8] {
        let width_px = self.width_px;
        let (above, below) = (at - width_px, at + width_px);
        [above - 1, above, above + 1, at - 1, at + 1, below - 1, below, below + 1]
    }
}

/// Grows `seed` (nowhere above `ceiling`) by 8-neighbourhoods under `ceiling` until nothing changes.
fn reconstruct(mut seed: Vec<f32>, ceiling: &Padded) -> Vec<f32> {
    for at in ceiling.inner() {
        raise(&mut seed, ceiling, at, &ceiling.neighbours(at)[..4]);
    }
    for at in ceiling.inner().rev() {
        raise(&mut seed, ceiling, at, &ceiling.neighbours(at)[4..]);
    }
    let can_rise =
        |seed: &[f32], from: usize, to: usize| seed[to] < seed[from] && seed[to] < ceiling.values[to];
    let pushes_up = |&at: &usize| ceiling.neighbours(at).into_iter().any(|next| can_rise(&seed, at, next));
    let mut queue: VecDeque<usize> = ceiling.inner().filter(pushes_up).collect();
    while let Some(at) = queue.pop_front() {
        for next in ceiling.neighbours(at) {
            if can_rise(&seed, at, next) {
                seed[next] = seed[at].min(ceiling.values[next]);
                queue.push_back(next);
            }
        }
    }
    seed
}

/// Raises one pixel to its highest neighbour among those that the sweep has passed.
#[inline(always)]
fn raise(seed: &mut [f32], ceiling: &Padded, at: usize, passed: &[usize]) {
    let highest = passed
        .iter()
        .fold(seed[at], |highest, &from| if seed[from] > highest { seed[from] } else { highest });
    seed[at] = if highest > ceiling.values[at] { ceiling.values[at] } else { highest };
}

/// Pixels on plateaus without a higher neighbour. From each pixel that has one, the rest of its plateau is
/// ruled out.
fn regional_maxima(grown: &[f32], frame: &Padded, size: Size) -> Vec<bool> {
    let mut maximal = vec![false; grown.len()];
    frame.inner().for_each(|at| maximal[at] = true);
    let mut ruled_out = Vec::new();
    for at in frame.inner() {
        if maximal[at] && frame.neighbours(at).into_iter().any(|next| grown[next] > grown[at]) {
            maximal[at] = false;
            ruled_out.push(at);
        }
        while let Some(at) = ruled_out.pop() {
            for next in frame.neighbours(at).into_iter().filter(|&next| grown[next] == grown[at]) {
                if std::mem::take(&mut maximal[next]) {
                    ruled_out.push(next);
                }
            }
        }
    }
    let maximal: Vec<bool> = frame.inner().map(|at| maximal[at]).collect();
    // Where nothing is lower, the whole picture would be a maximum of nothing.
    if maximal.iter().all(|&is| is) { vec![false; size.area_px()] } else { maximal }
}
