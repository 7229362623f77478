//! Losses and their gradients in one pass, and the sigmoid.
//!
//! Each function gives the loss in double precision and writes the gradient towards its first argument. `scale`
//! multiplies both: 1 / number of values for a mean. A block is summed in single precision lane by lane, the blocks
//! in double precision in order.

use super::lanes::{BLOCK, Lanes, Period, for_lanes, for_periodic_lanes, sum_periodic_lanes};
use super::vector::arithmetic::Arithmetic;
use super::vector::{Path, run_on};
use rayon::prelude::*;

mod softmax;

pub use softmax::{UNLABELLED, labelled, softmax_cross_entropy, softmax_cross_entropy_on};

/// scale · Σ weight · (−t·ln σ(x) − (1 − t)·ln(1 − σ(x))) for logits x and targets t in 0..=1, computed as
/// max(x, 0) − x·t + ln(1 + e^−|x|), which no logit overflows. The gradient is scale · weight · (σ(x) − t).
///
/// # Panics
/// When lengths disagree.
pub fn binary_cross_entropy(
    logits: &[f32],
    targets: &[f32],
    weights: Option<&[f32]>,
    scale: f32,
    gradient: &mut [f32],
) -> f64 {
    binary_cross_entropy_on(Path::best(), logits, targets, weights, scale, gradient)
}

/// [`binary_cross_entropy`] on a given path.
pub fn binary_cross_entropy_on(
    path: Path,
    logits: &[f32],
    targets: &[f32],
    weights: Option<&[f32]>,
    scale: f32,
    gradient: &mut [f32],
) -> f64 {
    assert!(logits.len() == gradient.len() && targets.len() == gradient.len(), "one length");
    assert!(weights.is_none_or(|weights| weights.len() == logits.len()), "one weight a value");
    sum_of_blocks(gradient, |start, gradient, sum| {
        let range = start..start + gradient.len();
        let weights = weights.map(|weights| &weights[range.clone()]);
        cross_entropy_block(path, &logits[range.clone()], &targets[range], weights, scale, gradient, sum);
    })
}

/// scale · Σ (value − target)², with the gradient 2 · scale · (value − target).
///
/// # Panics
/// When lengths disagree.
pub fn squared_error(values: &[f32], targets: &[f32], scale: f32, gradient: &mut [f32]) -> f64 {
    squared_error_on(Path::best(), values, targets, scale, gradient)
}

/// [`squared_error`] on a given path.
pub fn squared_error_on(
    path: Path,
    values: &[f32],
    targets: &[f32],
    scale: f32,
    gradient: &mut [f32],
) -> f64 {
    assert!(values.len() == gradient.len() && targets.len() == gradient.len(), "one length");
    sum_of_blocks(gradient, |start, gradient, sum| {
        let range = start..start + gradient.len();
        squared_error_block(path, &values[range.clone()], &targets[range], scale, gradient, sum);
    })
}

/// `of(start, block of the gradient, its sum)` for each block; the sum of the sums, in order.
fn sum_of_blocks(gradient: &mut [f32], of: impl Fn(usize, &mut [f32], &mut f32) + Sync) -> f64 {
    let blocks = gradient.par_chunks_mut(BLOCK).enumerate().map(|(i, gradient)| {
        let mut sum = 0.0;
        of(i * BLOCK, gradient, &mut sum);
        f64::from(sum)
    });
    blocks.collect::<Vec<f64>>().iter().sum()
}

/// Soft Dice: scale · Σ over channels of 1 − (2·Σpt + smoothing) / (Σp + Σt + smoothing), sums over all pixels.
///
/// # Shapes
/// - `probabilities`, `targets`, `gradient`: `[pixels, channels]`
///
/// # Panics
/// When lengths disagree, or without channels.
pub fn soft_dice(
    probabilities: &[f32],
    targets: &[f32],
    channels: usize,
    smoothing: f32,
    scale: f32,
    gradient: &mut [f32],
) -> f64 {
    soft_dice_on(Path::best(), probabilities, targets, channels, smoothing, scale, gradient)
}

/// [`soft_dice`] on a given path.
pub fn soft_dice_on(
    path: Path,
    probabilities: &[f32],
    targets: &[f32],
    channels: usize,
    smoothing: f32,
    scale: f32,
    gradient: &mut [f32],
) -> f64 {
    assert!(probabilities.len() == gradient.len() && targets.len() == gradient.len(), "one length");
    let period = Period::new(channels);
    period.pixels(probabilities);
    let block = period.block();
    let blocks = probabilities.par_chunks(block).zip(targets.par_chunks(block));
    let sums = period.total(blocks, |(p, t), both, either| overlap_block(path, p, t, both, either));
    let terms: Vec<DiceTerms> =
        sums.iter().map(|sums| DiceTerms::new(*sums, f64::from(smoothing), f64::from(scale))).collect();
    let of_target = period.spread(|c| terms[c].of_target as f32);
    let constant = period.spread(|c| terms[c].constant as f32);
    gradient.par_chunks_mut(block).zip(targets.par_chunks(block)).for_each(|(gradient, targets)| {
        affine_block(path, targets, &of_target, &constant, gradient);
    });
    terms.iter().map(|terms| terms.loss).sum()
}

/// A channel's loss, and its gradient of_target·t + constant.
struct DiceTerms {
    loss: f64,
    of_target: f64,
    constant: f64,
}

impl DiceTerms {
    /// From Σpt and Σ(p + t). Where nothing is there to overlap and nothing smooths, loss and gradient are zero.
    fn new([both, either]: [f64; 2], smoothing: f64, scale: f64) -> Self {
        let (overlap, whole) = (2.0 * both + smoothing, either + smoothing);
        if whole == 0.0 {
            return Self { loss: 0.0, of_target: 0.0, constant: 0.0 };
        }
        Self {
            loss: scale * (1.0 - overlap / whole),
            of_target: -2.0 * scale / whole,
            constant: scale * overlap / whole / whole,
        }
    }
}

/// y = 1 / (1 + e⁻ˣ), to 4 units in the last place; at least about 1e-38.
///
/// # Panics
/// When lengths disagree.
pub fn sigmoid(x: &[f32], y: &mut [f32]) {
    sigmoid_on(Path::best(), x, y);
}

/// [`sigmoid`] on a given path.
pub fn sigmoid_on(path: Path, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "one length");
    y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| {
        sigmoid_block(path, x.as_ptr(), y.as_mut_ptr(), y.len());
    });
}

/// [`sigmoid`] with y in the place of x.
pub fn sigmoid_in_place(x: &mut [f32]) {
    x.par_chunks_mut(BLOCK).for_each(|x| {
        let place = x.as_mut_ptr();
        sigmoid_block(Path::best(), place, place, x.len());
    });
}

/// Makes the gradient towards y = σ(x) that towards x: gradient · y · (1 − y), in place.
///
/// # Panics
/// When lengths disagree.
pub fn sigmoid_gradient(y: &[f32], gradient: &mut [f32]) {
    sigmoid_gradient_on(Path::best(), y, gradient);
}

/// [`sigmoid_gradient`] on a given path.
pub fn sigmoid_gradient_on(path: Path, y: &[f32], gradient: &mut [f32]) {
    assert_eq!(y.len(), gradient.len(), "one length");
    gradient.par_chunks_mut(BLOCK).zip(y.par_chunks(BLOCK)).for_each(|(gradient, y)| {
        sigmoid_gradient_block(path, y, gradient);
    });
}

run_on!(fn cross_entropy_block = cross_entropy_kernel(
    logits: &[f32], targets: &[f32], weights: Option<&[f32]>, scale: f32, gradient: &mut [f32], sum: &mut f32,
));
run_on!(fn squared_error_block = squared_error_kernel(
    values: &[f32], targets: &[f32], scale: f32, gradient: &mut [f32], sum: &mut f32,
));
run_on!(fn overlap_block = overlap_kernel(p: &[f32], t: &[f32], both: &mut [f32], either: &mut [f32]));
run_on!(fn affine_block = affine_kernel(t: &[f32], factor: &[f32], constant: &[f32], out: &mut [f32]));
run_on!(fn sigmoid_block = sigmoid_kernel(x: *const f32, y: *mut f32, length: usize));
run_on!(fn sigmoid_gradient_block = sigmoid_gradient_kernel(y: &[f32], gradient: &mut [f32]));

/// # Safety
/// The instruction set of `V` must be there; the slices are of one length.
#[inline(always)]
unsafe fn cross_entropy_kernel<V: Arithmetic, const O: usize, const N: usize>(
    logits: &[f32],
    targets: &[f32],
    weights: Option<&[f32]>,
    scale: f32,
    gradient: &mut [f32],
    sum: &mut f32,
) {
    unsafe {
        let (zero, one, factor) = (V::zero(), V::splat(1.0), V::splat(scale));
        let mut total = zero;
        for_lanes!(V, gradient.len(), |at, lanes| {
            let (x, t): (V, V) = (lanes.load(logits.as_ptr().add(at)), lanes.load(targets.as_ptr().add(at)));
            // Lanes past the end have weight zero.
            let weight: V = match weights {
                Some(weights) => lanes.load::<V>(weights.as_ptr().add(at)).mul(factor),
                None => lanes.splat(scale),
            };
            let e = x.minus_absolute().exp_of_negative();
            let value = zero.max(x).sub(x.mul(t)).add(e.ln_one_plus());
            total = total.plus_product(value, weight);
            let probability = x.where_positive(one, e).div(one.add(e));
            lanes.store(probability.sub(t).mul(weight), gradient.as_mut_ptr().add(at))
        });
        *sum = total.sum();
    }
}

/// # Safety
/// The instruction set of `V` must be there; the slices are of one length.
#[inline(always)]
unsafe fn squared_error_kernel<V: Arithmetic, const O: usize, const N: usize>(
    values: &[f32],
    targets: &[f32],
    scale: f32,
    gradient: &mut [f32],
    sum: &mut f32,
) {
    unsafe {
        let (mut total, twice) = (V::zero(), V::splat(2.0 * scale));
        for_lanes!(V, gradient.len(), |at, lanes| {
            let value: V = lanes.load(values.as_ptr().add(at));
            let difference = value.sub(lanes.load(targets.as_ptr().add(at)));
            total = total.plus_product(difference, difference);
            lanes.store(difference.mul(twice), gradient.as_mut_ptr().add(at))
        });
        *sum = total.sum() * scale;
    }
}

/// Σpt and Σ(p + t), place by place.
///
/// # Safety
/// The instruction set of `V` must be there; p and t are of one length, the sums one period long, a multiple of 16.
#[inline(always)]
unsafe fn overlap_kernel<V: Arithmetic, const O: usize, const N: usize>(
    p: &[f32],
    t: &[f32],
    both: &mut [f32],
    either: &mut [f32],
) {
    unsafe {
        sum_periodic_lanes!(V, p.len(), (both, either), |at, column, lanes, both, either| {
            let (p, t): (V, V) = (lanes.load(p.as_ptr().add(at)), lanes.load(t.as_ptr().add(at)));
            both = both.plus_product(p, t);
            either = either.add(p.add(t));
        });
    }
}

/// out = factor·t + constant, place by place.
///
/// # Safety
/// The instruction set of `V` must be there; t and out are of one length, the others one period long, a multiple of 16.
#[inline(always)]
unsafe fn affine_kernel<V: Arithmetic, const O: usize, const N: usize>(
    t: &[f32],
    factor: &[f32],
    constant: &[f32],
    out: &mut [f32],
) {
    for_periodic_lanes!(V, out.len(), factor.len(), |at, column, lanes| unsafe {
        let factor = V::load(factor.as_ptr().add(column));
        let constant = V::load(constant.as_ptr().add(column));
        lanes.store(constant.plus_product(factor, lanes.load(t.as_ptr().add(at))), out.as_mut_ptr().add(at))
    });
}

/// # Safety
/// The instruction set of `V` must be there; the pointers are good for `length` floats and may be one place.
#[inline(always)]
unsafe fn sigmoid_kernel<V: Arithmetic, const O: usize, const N: usize>(
    x: *const f32,
    y: *mut f32,
    length: usize,
) {
    for_lanes!(V, length, |at, lanes| unsafe {
        lanes.store(lanes.load::<V>(x.add(at)).sigmoid(), y.add(at))
    });
}

/// # Safety
/// The instruction set of `V` must be there; the slices are of one length.
#[inline(always)]
unsafe fn sigmoid_gradient_kernel<V: Arithmetic, const O: usize, const N: usize>(
    y: &[f32],
    gradient: &mut [f32],
) {
    unsafe {
        let one = V::splat(1.0);
        for_lanes!(V, gradient.len(), |at, lanes| {
            let y: V = lanes.load(y.as_ptr().add(at));
            let place = gradient.as_mut_ptr().add(at);
            lanes.store(lanes.load::<V>(place).mul(y.mul(one.sub(y))), place)
        });
    }
}
