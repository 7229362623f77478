//! Softmax cross entropy over a pixel's channels. Classes are few (2 to about 10), so a register holds one class of
//! many pixels: pixels are turned round into a small buffer and back, which spares sums across lanes.

use crate::network::lanes::BLOCK;
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::{Path, run_on};
use rayon::prelude::*;

/// The label of a pixel that counts for nothing.
pub const UNLABELLED: u8 = 255;

/// How many pixels have a label: the divisor of a mean.
pub fn labelled(labels: &[u8]) -> usize {
    labels.iter().filter(|label| **label != UNLABELLED).count()
}

/// scale · Σ over labelled pixels of ln Σ eˣ − x[label], with the gradient scale · (softmax − one at the label), which
/// is zero where there is no label.
///
/// # Shapes
/// - `logits`, `gradient`: `[pixels, classes]`; `labels`: `[pixels]`, below `classes` or [`UNLABELLED`]
///
/// # Panics
/// When lengths disagree, without classes, or at a label that is no class.
pub fn softmax_cross_entropy(
    logits: &[f32],
    labels: &[u8],
    classes: usize,
    scale: f32,
    gradient: &mut [f32],
) -> f64 {
    softmax_cross_entropy_on(Path::best(), logits, labels, classes, scale, gradient)
}

/// [`softmax_cross_entropy`] on a given path.
pub fn softmax_cross_entropy_on(
    path: Path,
    logits: &[f32],
    labels: &[u8],
    classes: usize,
    scale: f32,
    gradient: &mut [f32],
) -> f64 {
    assert!(classes > 0, "at least one class");
    assert!(logits.len() == labels.len() * classes && gradient.len() == logits.len(), "one length");
    assert!(
        labels.iter().all(|label| usize::from(*label) < classes || *label == UNLABELLED),
        "labels are classes"
    );
    let pixels = (BLOCK / classes / 16).max(1) * 16;
    let blocks = gradient
        .par_chunks_mut(pixels * classes)
        .zip(logits.par_chunks(pixels * classes))
        .zip(labels.par_chunks(pixels))
        .map_init(
            || vec![0.0; classes * 16],
            |turned, ((gradient, logits), labels)| {
                let mut sum = 0.0;
                softmax_block(path, logits, labels, classes, scale, gradient, turned, &mut sum);
                f64::from(sum)
            },
        );
    blocks.collect::<Vec<f64>>().iter().sum()
}

run_on!(fn softmax_block = softmax_kernel(
    logits: &[f32], labels: &[u8], classes: usize, scale: f32, gradient: &mut [f32], turned: &mut [f32],
    sum: &mut f32,
));

/// `turned` is `[classes, 16]`.
///
/// # Safety
/// The instruction set of `V` must be there; `turned` holds `classes · 16` floats.
#[inline(always)]
unsafe fn softmax_kernel<V: Arithmetic, const O: usize, const N: usize>(
    logits: &[f32],
    labels: &[u8],
    classes: usize,
    scale: f32,
    gradient: &mut [f32],
    turned: &mut [f32],
    sum: &mut f32,
) {
    let mut total = unsafe { V::zero() };
    for start in (0..labels.len()).step_by(V::LANES) {
        let labels = &labels[start..labels.len().min(start + V::LANES)];
        let pixels = start * classes..(start + labels.len()) * classes;
        // Lanes past the end keep the pixels that were there, without a label.
        let (mut here, mut counted) = ([0.0f32; 16], [0.0f32; 16]);
        turn(&logits[pixels.clone()], classes, turned);
        for (lane, label) in labels.iter().enumerate() {
            if *label != UNLABELLED {
                (here[lane], counted[lane]) = (turned[usize::from(*label) * 16 + lane], scale);
            }
        }
        unsafe {
            let counted = V::load(counted.as_ptr());
            let value = softmax_of_turned(turned, classes, counted).sub(V::load(here.as_ptr()));
            total = total.plus_product(value, counted);
        }
        for (lane, label) in labels.iter().enumerate() {
            if *label != UNLABELLED {
                turned[usize::from(*label) * 16 + lane] -= scale;
            }
        }
        turn_back(turned, classes, &mut gradient[pixels]);
    }
    *sum = unsafe { total.sum() };
}

/// `[pixels, classes]` to `[classes, 16]`.
#[inline(always)]
fn turn(pixels: &[f32], classes: usize, turned: &mut [f32]) {
    for (lane, pixel) in pixels.chunks_exact(classes).enumerate() {
        for (value, place) in pixel.iter().zip(turned[lane..].iter_mut().step_by(16)) {
            *place = *value;
        }
    }
}

/// `[classes, 16]` to `[pixels, classes]`.
#[inline(always)]
fn turn_back(turned: &[f32], classes: usize, pixels: &mut [f32]) {
    for (lane, pixel) in pixels.chunks_exact_mut(classes).enumerate() {
        for (value, place) in pixel.iter_mut().zip(turned[lane..].iter().step_by(16)) {
            *value = *place;
        }
    }
}

/// Makes logits their softmax times `counted`; gives ln Σ eˣ.
///
/// # Safety
/// The instruction set of `V` must be there; `turned` holds `classes · 16` floats, and there is a class.
#[inline(always)]
unsafe fn softmax_of_turned<V: Arithmetic>(turned: &mut [f32], classes: usize, counted: V) -> V {
    unsafe {
        let mut greatest = V::load(turned.as_ptr());
        for class in 1..classes {
            greatest = greatest.max(V::load(turned.as_ptr().add(class * 16)));
        }
        let mut sum = V::zero();
        for class in 0..classes {
            let place = turned.as_mut_ptr().add(class * 16);
            let e = V::load(place).sub(greatest).exp_of_negative();
            sum = sum.add(e);
            e.store(place);
        }
        let factor = counted.div(sum);
        for class in 0..classes {
            let place = turned.as_mut_ptr().add(class * 16);
            V::load(place).mul(factor).store(place);
        }
        sum.ln().add(greatest)
    }
}
