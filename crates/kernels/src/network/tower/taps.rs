//! The shape of the 3×3 dilated convolution, and its weights turned round for the gradient of its input.

use super::WIDTH;

/// Taps of a kernel.
pub(super) const TAPS: usize = 9;

/// A convolution of rows: how many inputs, how far apart the taps.
#[derive(Clone, Copy)]
pub(super) struct Taps {
    pub(super) inputs: usize,
    pub(super) dilation: usize,
}

/// The weights of the gradient towards the input, from `[8 outputs, 8 inputs, 3, 3]`: inputs and outputs change places, the
/// kernel is turned round.
pub(super) fn turned(weight: &[f32]) -> Vec<f32> {
    let mut values = vec![0.0; weight.len()];
    for (index, &value) in weight.iter().enumerate() {
        let (output, input, tap) = (index / (WIDTH * TAPS), index / TAPS % WIDTH, index % TAPS);
        values[(input * WIDTH + output) * TAPS + TAPS - 1 - tap] = value;
    }
    values
}
