//! The gradient of a convolution's weights, of four rows of a strand at a time.
//!
//! Where the convolution by Winograd's F(4, 3) is Aᵀ [(G g) ⊙ (Bᵀ d)] down the strand, Gᵀ [(A y) ⊙ (Bᵀ d)] correlates four
//! rows y with the six rows d around them. With y of the input and d of the gradient, it is the gradient of the weights, and
//! Bᵀ d is what the gradient of the input is convolved from: one combination serves both. It is half the multiplications of
//! the plain sum, point by point, so that the sixteen rows of a point stay in the first-level cache. Gᵀ follows once, at the
//! end.

#![allow(clippy::needless_range_loop)] // Loops over registers: see `passes`.

use super::WIDTH;
use super::groups::POINTS;
use super::passes::From;
use super::rows::LINE;
use super::taps::{TAPS, Taps};
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::winograd_line::weight_sums;

/// Floats of the lane sums `[6 points, input, 8 outputs, kx, lanes]`, for the widest vectors.
pub(super) fn sums_len(inputs: usize) -> usize {
    POINTS * inputs * WIDTH * 3 * LINE
}

/// Adds a group's share to the lane sums: `inputs` are the A y of the input, `gradients` the Bᵀ d of dz.
#[inline(always)]
pub(super) unsafe fn correlate<V: Arithmetic, const OUTPUTS: usize>(
    inputs: [From; POINTS],
    gradients: [From; POINTS],
    taps: Taps,
    sums: *mut f32,
    span: usize,
) {
    unsafe {
        for point in 0..POINTS {
            for channel in 0..taps.inputs {
                let pixels = inputs[point].at(channel, 0).sub(taps.dilation);
                for first in (0..WIDTH).step_by(OUTPUTS) {
                    let place = ((point * taps.inputs + channel) * WIDTH + first) * 3 * V::LANES;
                    let From { stride, .. } = gradients[point];
                    let gradient = From { start: gradients[point].at(first, 0), stride };
                    correlate_row::<V, OUTPUTS>(pixels, taps.dilation, gradient, sums.add(place), span);
                }
            }
        }
    }
}

/// `OUTPUTS × 3` accumulators, one for each output and kernel column.
#[inline(always)]
unsafe fn correlate_row<V: Arithmetic, const OUTPUTS: usize>(
    pixels: *const f32,
    dilation: usize,
    gradient: From,
    sums: *mut f32,
    length: usize,
) {
    unsafe {
        let mut acc = [[V::zero(); 3]; OUTPUTS];
        for o in 0..OUTPUTS {
            for kx in 0..3 {
                acc[o][kx] = V::load(sums.add((o * 3 + kx) * V::LANES));
            }
        }
        for x in (0..length).step_by(V::LANES) {
            let mut shifted = [V::zero(); 3];
            for kx in 0..3 {
                shifted[kx] = V::load(pixels.add(x + kx * dilation));
            }
            for o in 0..OUTPUTS {
                let gradient = V::load(gradient.at(o, x));
                for kx in 0..3 {
                    acc[o][kx] = acc[o][kx].plus_product(gradient, shifted[kx]);
                }
            }
        }
        for o in 0..OUTPUTS {
            for kx in 0..3 {
                acc[o][kx].store(sums.add((o * 3 + kx) * V::LANES));
            }
        }
    }
}

/// The gradient as `[8 outputs, inputs, 3, 3]` in double precision, from the sums of `lanes` lanes.
pub(super) fn unpacked(sums: &[f32], inputs: usize, lanes: usize) -> Vec<f64> {
    let mut values = vec![0.0; inputs * TAPS * WIDTH];
    let sum = |point: usize, place: usize| {
        let lanes = &sums[(point * inputs * WIDTH * 3 + place) * lanes..][..lanes];
        // Four sums beside each other: one would wait for itself.
        let mut four = [0.0; 4];
        for lanes in lanes.chunks_exact(4) {
            four.iter_mut().zip(lanes).for_each(|(sum, &lane)| *sum += f64::from(lane));
        }
        four.iter().sum::<f64>()
    };
    for place in 0..inputs * WIDTH * 3 {
        let (kx, output, input) = (place % 3, place / 3 % WIDTH, place / (3 * WIDTH));
        let column = weight_sums(std::array::from_fn(|point| sum(point, place)));
        // The first of six rows of dz is the one above: the input lies below it, at the kernel's last row.
        for (row, value) in column.into_iter().enumerate() {
            values[(output * inputs + input) * TAPS + (2 - row) * 3 + kx] = value;
        }
    }
    values
}
