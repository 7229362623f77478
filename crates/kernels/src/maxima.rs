//! Peaks that stand out: markers for the watershed.
//!
//! A peak counts if it rises by more than `h` above the highest saddle that leads to a higher peak. Such
//! peaks are the regional maxima of `values - h` grown under `values`, a grey-scale reconstruction (Vincent,
//! "Morphological grayscale reconstruction in image analysis", 1993). Of few peaks each is grown by itself, which sees little of
//! the picture; of many, all at once, in his hybrid form: two sweeps settle most pixels, a queue the rest.

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
    let most_steps = STEPS_A_PIXEL * ceiling.values.len();
    match caps(&ceiling, h, most_steps) {
        Some(caps) => numbered(&ceiling, caps, size),
        None => label_components(&grown_maxima(&ceiling, h), size, Connectivity::Eight),
    }
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
                // Adding 0 makes −0 the same as 0.
                .for_each(|(padded, &value)| *padded = not_nan(value) + 0.0);
        }
        Self { width_px, values: padded }
    }

    /// Indices of the picture's pixels, in scan order.
    fn inner(&self) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let (width_px, height_px) = (self.width_px, self.values.len() / self.width_px);
        (1..height_px - 1).flat_map(move |y| y * width_px + 1..(y + 1) * width_px - 1)
    }

    /// A pixel's index in the picture.
    fn index(&self, size: Size, at: usize) -> usize {
        size.index(at % self.width_px - 1, at / self.width_px - 1)
    }

    /// Whether a pixel lies above the bottom, and no neighbour is higher.
    #[inline(always)]
    fn is_peak(&self, at: usize) -> bool {
        let height = self.values[at];
        // Most pixels lie at the bottom or have a higher one beside them.
        height > f32::NEG_INFINITY
            && self.values[at + 1] <= height
            && self.values[at - 1] <= height
            && self.neighbours(at).into_iter().all(|next| self.values[next] <= height)
    }

    /// The four neighbours that a scan meets before a pixel, then the four that it meets later.
    #[inline(always)]
    fn neighbours(&self, at: usize) -> [usize; 8] {
        let width_px = self.width_px;
        let (above, below) = (at - width_px, at + width_px);
        [above - 1, above, above + 1, at - 1, at + 1, below - 1, below, below + 1]
    }
}

/// Steps of all searches of [`caps`] together, for each pixel; the growing takes about as long.
const STEPS_A_PIXEL: usize = 4;

/// The maxima by searching: around each peak, from the highest on, what is connected with it at no less than its height less
/// `h` is grown to one plateau, which is a maximum unless something in it is higher than the peak. Peaks are few, and a
/// search ends where something is higher, so that little of the picture is seen twice; none if the searches take more
/// than `most_steps` steps.
fn caps(frame: &Padded, h: f32, most_steps: usize) -> Option<Vec<Vec<usize>>> {
    let values = &frame.values;
    let mut caps = Vec::new();
    let mut peaks: Vec<usize> = frame.inner().filter(|&at| frame.is_peak(at)).collect();
    peaks.sort_unstable_by(|&one, &next| values[next].total_cmp(&values[one]));
    // Which search has seen a pixel last.
    let mut seen_by = vec![0u32; values.len()];
    let (mut search, mut steps) = (0, 0);
    let (mut cap, mut first_of_height, mut last_height) = (Vec::new(), 1, f32::NAN);
    for peak in peaks {
        let height = values[peak];
        let level = not_nan(height - h);
        // At the bottom everything hangs together, and belongs to something higher or is the whole picture.
        if level == f32::NEG_INFINITY {
            break;
        }
        if height != last_height {
            (first_of_height, last_height) = (search + 1, height);
        }
        // What a peak of this height has seen is of one plateau with it, and answered.
        if seen_by[peak] >= first_of_height {
            continue;
        }
        search += 1;
        seen_by[peak] = search;
        cap.clear();
        cap.push(peak);
        let mut next = 0;
        let is_highest = 'search: {
            while let Some(&at) = cap.get(next) {
                next += 1;
                for near in frame.neighbours(at) {
                    if values[near] > height {
                        break 'search false;
                    }
                    if values[near] >= level && seen_by[near] != search {
                        seen_by[near] = search;
                        cap.push(near);
                    }
                }
            }
            true
        };
        steps += cap.len();
        if steps > most_steps {
            return None;
        }
        if is_highest {
            caps.push(cap.clone());
        }
    }
    Some(caps)
}

/// Numbers caps in the order of their first pixels. A cap that is the whole picture is a maximum of nothing: nothing is lower.
fn numbered(frame: &Padded, mut caps: Vec<Vec<usize>>, size: Size) -> Labels {
    let mut labels = Labels::background(size);
    caps.retain(|cap| cap.len() < size.area_px());
    caps.sort_unstable_by_key(|cap| cap.iter().copied().min());
    for (id, cap) in (1..).zip(&caps) {
        cap.iter().for_each(|at| labels.ids[frame.index(size, *at)] = id);
    }
    labels
}

/// The maxima by growing: takes the same time whatever the values.
fn grown_maxima(ceiling: &Padded, h: f32) -> Vec<bool> {
    // Infinity less infinity is no number; such a pixel starts from the bottom.
    let seed = ceiling.values.iter().map(|&value| not_nan(value - h)).collect();
    regional_maxima(&reconstruct(seed, ceiling), ceiling)
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
fn regional_maxima(grown: &[f32], frame: &Padded) -> Vec<bool> {
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
    if maximal.iter().all(|&is| is) { vec![false; maximal.len()] } else { maximal }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Hills on a plain, in steps of `step` if that is above 0, so that there are plateaus.
    fn hills(size: Size, step: f32, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let ends = [size.width_px as f32, size.height_px as f32, 9.0, 6.0];
        let hills: Vec<[f32; 4]> =
            (0..rng.random_range(1..6)).map(|_| ends.map(|end| rng.random_range(0.0..=end))).collect();
        let height = |at: usize| {
            let (x, y) = ((at % size.width_px) as f32, (at / size.width_px) as f32);
            let above = |[left, top, height, width]: &[f32; 4]| {
                height - ((x - left).powi(2) + (y - top).powi(2)).sqrt() / (0.2 + width)
            };
            let highest = hills.iter().map(above).fold(0.0, f32::max);
            if step > 0.0 { (highest / step).round() * step } else { highest }
        };
        (0..size.area_px()).map(height).collect()
    }

    #[test]
    fn searching_and_growing_find_the_same() {
        let mut rng = ChaCha8Rng::seed_from_u64(12);
        let mut several = 0;
        for _ in 0..300 {
            let size = Size::new(rng.random_range(1..30), rng.random_range(1..30));
            let step = [0.0, 0.0, 0.5][rng.random_range(0..3)];
            let mut values = hills(size, step, &mut rng);
            for _ in 0..rng.random_range(0..4) {
                let strange =
                    [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, -1.0][rng.random_range(0..5)];
                values[rng.random_range(0..size.area_px())] = strange;
            }
            let frame = Padded::around(&values, size);
            for h in [0.0, 0.1, 0.75, 2.0, f32::INFINITY] {
                let searched = numbered(&frame, caps(&frame, h, usize::MAX).unwrap(), size);
                let grown = label_components(&grown_maxima(&frame, h), size, Connectivity::Eight);
                assert_eq!(searched, grown, "{size} {h} {values:?}");
                several += usize::from(grown.highest_id() > 1);
            }
        }
        assert!(several > 300, "{several} of 1500 with more than one peak");
    }

    #[test]
    fn searches_that_take_long_are_given_up() {
        // Peaks on a plain that is higher than all of them less h: each search goes over much of it.
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let size = Size::new(64, 64);
        let mut values = vec![5.0; size.area_px()];
        for _ in 0..300 {
            values[rng.random_range(0..size.area_px())] = rng.random_range(6.0..7.0);
        }
        values[17] = 2.0;
        let frame = Padded::around(&values, size);
        assert!(caps(&frame, 3.0, STEPS_A_PIXEL * frame.values.len()).is_none());
        let searched = numbered(&frame, caps(&frame, 3.0, usize::MAX).unwrap(), size);
        assert_eq!(h_maxima(&values, size, 3.0), searched);
        assert_eq!((searched.highest_id(), searched.ids[17]), (1, 0));
    }
}
