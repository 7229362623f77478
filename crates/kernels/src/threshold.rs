//! Otsu's threshold: the cut of a histogram that leaves two classes as far apart as they can be.

use rayon::prelude::*;

const BINS: usize = 256;
const BLOCK: usize = 1 << 16;

/// Otsu's threshold (IEEE Transactions on Systems, Man, and Cybernetics, 1979) over 256 bins between the
/// lowest and the highest value: the centre of a bin; values above it are foreground. As
/// `skimage.filters.threshold_otsu`.
///
/// Values that are not finite are left out. None if what remains is empty or constant.
pub fn otsu(values: &[f32]) -> Option<f32> {
    let (low, high) = finite_range(values)?;
    let width = (high - low) / BINS as f64;
    let counts = histogram(values, low, high);
    let centres: [f64; BINS] = std::array::from_fn(|bin| low + (bin as f64 + 0.5) * width);
    let separation = between_class_variance(&counts, &centres);
    let mut best = 0;
    for cut in 1..BINS - 1 {
        if separation[cut] > separation[best] {
            best = cut;
        }
    }
    Some(centres[best] as f32)
}

fn finite_range(values: &[f32]) -> Option<(f64, f64)> {
    let ends = |block: &[f32]| {
        let finite = || block.iter().copied().filter(|value| value.is_finite());
        (finite().fold(f32::INFINITY, f32::min), finite().fold(f32::NEG_INFINITY, f32::max))
    };
    let wider = |a: (f32, f32), b: (f32, f32)| (a.0.min(b.0), a.1.max(b.1));
    let (low, high) = values.par_chunks(BLOCK).map(ends).reduce(|| (f32::INFINITY, f32::NEG_INFINITY), wider);
    (low < high).then(|| (f64::from(low), f64::from(high)))
}

fn histogram(values: &[f32], low: f64, high: f64) -> [f64; BINS] {
    let count = |block: &[f32]| {
        let mut counts = [0u64; BINS];
        for &value in block.iter().filter(|value| value.is_finite()) {
            let bin = (f64::from(value) - low) / (high - low) * BINS as f64;
            counts[(bin as usize).min(BINS - 1)] += 1;
        }
        counts
    };
    let blocks: Vec<_> = values.par_chunks(BLOCK).map(count).collect();
    std::array::from_fn(|bin| blocks.iter().map(|block| block[bin]).sum::<u64>() as f64)
}

/// For a cut after each bin: the classes' weights times the squared distance of their means. The last cut has
/// no upper class, and 0.
fn between_class_variance(counts: &[f64; BINS], centres: &[f64; BINS]) -> [f64; BINS] {
    let upper = upper_classes(counts, centres);
    let mut variance = [0.0; BINS];
    let (mut weight, mut moment) = (0.0, 0.0);
    for cut in 0..BINS - 1 {
        weight += counts[cut];
        moment += counts[cut] * centres[cut];
        let (weight_above, moment_above) = upper[cut + 1];
        variance[cut] = weight * weight_above * (moment / weight - moment_above / weight_above).powi(2);
    }
    variance
}

/// Weight and first moment of all bins from each bin on. The outermost bins hold the lowest and the highest
/// value, so that no weight is 0.
fn upper_classes(counts: &[f64; BINS], centres: &[f64; BINS]) -> [(f64, f64); BINS] {
    let mut classes = [(0.0, 0.0); BINS];
    let (mut weight, mut moment) = (0.0, 0.0);
    for bin in (0..BINS).rev() {
        weight += counts[bin];
        moment += counts[bin] * centres[bin];
        classes[bin] = (weight, moment);
    }
    classes
}
/// How well `threshold` parts `values` into two: the share of their variance that lies between the two sides (η of
/// Otsu 1979), 0 to 1. Not-a-numbers are left out; without variance it is 0.
pub fn separability(values: &[f32], threshold: f32) -> f64 {
    let [(low, low_sum), (high, high_sum)] = sides(values, threshold);
    if low == 0.0 || high == 0.0 {
        return 0.0;
    }
    let mean = (low_sum + high_sum) / (low + high);
    let squares: f64 = sums_of_blocks(values, |value| (value - mean).powi(2)).iter().sum();
    let between = low * (low_sum / low - mean).powi(2) + high * (high_sum / high - mean).powi(2);
    if squares > 0.0 { between / squares } else { 0.0 }
}

/// Number and sum of the finite values that are not above a threshold, and of those that are.
pub fn sides(values: &[f32], threshold: f32) -> [(f64, f64); 2] {
    let sums_of_block = |block: &[f32]| {
        let (mut counts, mut sums) = ([0u64; 2], [0.0; 2]);
        for value in block.iter().filter(|value| value.is_finite()) {
            let (is_above, value) = (*value > threshold, f64::from(*value));
            counts[0] += u64::from(!is_above);
            counts[1] += u64::from(is_above);
            // Both, without a branch: which side a pixel is on cannot be foreseen.
            sums[0] += if is_above { 0.0 } else { value };
            sums[1] += if is_above { value } else { 0.0 };
        }
        (counts, sums)
    };
    let blocks: Vec<_> = values.par_chunks(BLOCK).map(sums_of_block).collect();
    [0, 1].map(|side| {
        let count: u64 = blocks.iter().map(|(counts, _)| counts[side]).sum();
        (count as f64, blocks.iter().map(|(_, sums)| sums[side]).sum())
    })
}

/// The sum over the finite values of each block of fixed length: added up in order, they do not depend on threads.
fn sums_of_blocks(values: &[f32], of: impl Fn(f64) -> f64 + Sync) -> Vec<f64> {
    let sum = |block: &[f32]| {
        let finite = block.iter().filter(|value| value.is_finite());
        finite.map(|value| of(f64::from(*value))).sum::<f64>()
    };
    values.par_chunks(BLOCK).map(sum).collect()
}
