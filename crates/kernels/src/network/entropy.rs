//! How undecided a confidence is.

use super::lanes::{Lanes, for_lanes};
use super::vector::arithmetic::Arithmetic;
use super::vector::{Path, run_on};

/// The smallest normal number: what logarithms are taken of at least.
const SMALLEST: f32 = f32::MIN_POSITIVE;
/// The least logarithm, in bits, as in the paper's framework.
const LEAST_BITS: f32 = -100.0;

/// The binary entropy −p·log₂ p − (1 − p)·log₂(1 − p) of each confidence p in 0..=1, in bits, each logarithm clamped at
/// −100; to 1e-6 bits.
///
/// # Panics
/// When lengths disagree.
pub fn binary_entropy_bits(confidence: &[f32], entropy: &mut [f32]) {
    binary_entropy_bits_on(Path::best(), confidence, entropy);
}

/// [`binary_entropy_bits`] on a given path.
pub fn binary_entropy_bits_on(path: Path, confidence: &[f32], entropy: &mut [f32]) {
    assert_eq!(confidence.len(), entropy.len(), "one length");
    entropy_slice(path, confidence, entropy);
}

run_on!(fn entropy_slice = entropy_kernel(confidence: &[f32], entropy: &mut [f32]));

/// # Safety
/// The instruction set of `V` must be there, and the slices one length.
#[inline(always)]
unsafe fn entropy_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    confidence: &[f32],
    entropy: &mut [f32],
) {
    unsafe {
        for_lanes!(V, confidence.len(), |at, lanes| {
            let p: V = lanes.load(confidence.as_ptr().add(at));
            let rest = V::splat(1.0).sub(p);
            let sum = p.mul(bits(p)).plus_product(rest, bits(rest));
            lanes.store(V::zero().sub(sum), entropy.as_mut_ptr().add(at));
        });
    }
}

/// log₂, at least [`LEAST_BITS`].
#[inline(always)]
unsafe fn bits<V: Arithmetic>(p: V) -> V {
    unsafe {
        let logarithm = p.max(V::splat(SMALLEST)).ln();
        logarithm.mul(V::splat(std::f32::consts::LOG2_E)).max(V::splat(LEAST_BITS))
    }
}
