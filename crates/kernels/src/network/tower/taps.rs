//! The 3×3 dilated convolution of four rows of a strand, and the gradient of its weights.
//!
//! Down the strand it is Winograd's F(4, 3): six rows of the input are combined into six others, each of which is
//! convolved along the row only, and the six results are combined into four rows of the output. That is half the
//! multiplications of the plain sum. Along the row the taps stay as they are: any dilation is a shift.
//!
//! Considered and skipped: F(2, 3) (two thirds of the multiplications), transforms in both directions (pixels that are
//! a dilation apart in a row do not share a vector).

#![allow(clippy::needless_range_loop)] // Loops over registers: see `passes`.

use super::WIDTH;
use super::passes::{Extent, From, To};
use super::rows::LINE;
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::{Array8, Vector};
use crate::network::winograd_line::{
    POINTS, gradient_line, input_line, output_line, weight_line, weight_sums_line,
};

/// Taps of a kernel.
pub(super) const TAPS: usize = 9;
/// Rows that are convolved at a time.
pub(super) const GROUP: usize = 4;
/// Rows that they read.
pub(super) const WINDOW: usize = GROUP + 2;

/// Transformed weights, `[6 points, input, kx, 8 outputs]`, from `[8 outputs, inputs, 3, 3]`.
pub(super) fn packed(weight: &[f32], inputs: usize) -> Vec<f32> {
    transformed(inputs, |output, input, tap| weight[(output * inputs + input) * TAPS + tap])
}

/// The weights of the gradient towards the input: inputs and outputs change places, the kernel is turned round.
pub(super) fn packed_for_gradient(weight: &[f32]) -> Vec<f32> {
    transformed(WIDTH, |input, output, tap| weight[(output * WIDTH + input) * TAPS + TAPS - 1 - tap])
}

fn transformed(inputs: usize, weight: impl Fn(usize, usize, usize) -> f32) -> Vec<f32> {
    let mut values = vec![0.0; POINTS * inputs * 3 * WIDTH];
    for input in 0..inputs {
        for kx in 0..3 {
            // SAFETY: the portable path needs no instruction set; each store is within the values.
            unsafe {
                let column = |ky: usize| -> [f32; WIDTH] {
                    std::array::from_fn(|output| weight(output, input, ky * 3 + kx))
                };
                let column = [0, 1, 2].map(|ky| Array8::load(column(ky).as_ptr()));
                for (point, value) in weight_line(column).into_iter().enumerate() {
                    value.store(values[((point * inputs + input) * 3 + kx) * WIDTH..].as_mut_ptr());
                }
            }
        }
    }
    values
}

/// A convolution of rows: how many inputs, how far apart the taps.
#[derive(Clone, Copy)]
pub(super) struct Taps {
    pub(super) inputs: usize,
    pub(super) dilation: usize,
}

/// Work on other rows that is done between the blocks of a convolution, channel by channel: reading from memory goes on
/// while the arithmetic is busy, in pieces that the processor's own looking ahead can follow.
pub(super) trait Meanwhile {
    /// # Safety
    /// The instruction set of `V` must be there.
    unsafe fn channel<V: Arithmetic>(&mut self, channel: usize);
}

/// Combines the six rows of a channel's window for the convolution.
#[inline(always)]
pub(super) unsafe fn combine<V: Arithmetic>(window: [*const f32; WINDOW], to: [*mut f32; POINTS], stride: usize) {
    unsafe {
        for x in (0..stride).step_by(V::LANES) {
            let mut rows = [V::zero(); WINDOW];
            for row in 0..WINDOW {
                rows[row] = V::load(window[row].add(x));
            }
            let combined = input_line(rows);
            for point in 0..POINTS {
                combined[point].store(to[point].add(x));
            }
        }
    }
}

/// Combines four rows of a channel's gradient for the gradient of the weights.
#[inline(always)]
pub(super) unsafe fn combine_gradient<V: Arithmetic>(
    group: [*const f32; GROUP],
    to: [*mut f32; POINTS],
    stride: usize,
) {
    unsafe {
        for x in (0..stride).step_by(V::LANES) {
            let mut rows = [V::zero(); GROUP];
            for row in 0..GROUP {
                rows[row] = V::load(group[row].add(x));
            }
            let combined = gradient_line(rows);
            for point in 0..POINTS {
                combined[point].store(to[point].add(x));
            }
        }
    }
}

/// Floats of the scratch of [`convolve_group`].
pub(super) const PRODUCTS: usize = POINTS * WIDTH * 2 * LINE;

/// Writes four rows `[8, stride]` from the combined rows. Their tails beyond the width are not cleared.
///
/// `products` is scratch of [`PRODUCTS`] floats.
#[inline(always)]
pub(super) unsafe fn convolve_group<V: Arithmetic, M: Meanwhile, const OUTPUTS: usize, const VECTORS: usize>(
    combined: [From; POINTS],
    weight: *const f32,
    taps: Taps,
    to: [To; GROUP],
    extent: &Extent,
    products: *mut f32,
    meanwhile: &mut M,
) {
    let blocks = WIDTH / OUTPUTS * (extent.stride / (VECTORS * V::LANES));
    let (mut block, mut channel) = (0, 0);
    unsafe {
        let mut x = 0;
        while x + VECTORS * V::LANES <= extent.stride {
            for first in (0..WIDTH).step_by(OUTPUTS) {
                while channel * blocks < block * WIDTH {
                    meanwhile.channel::<V>(channel);
                    channel += 1;
                }
                block += 1;
                convolve_block::<V, OUTPUTS, VECTORS>(combined, weight.add(first), taps, products, x);
                finish_block::<V, OUTPUTS, VECTORS>(products, to, first, x);
            }
            x += VECTORS * V::LANES;
        }
        while x < extent.stride {
            for first in (0..WIDTH).step_by(OUTPUTS) {
                convolve_block::<V, OUTPUTS, 1>(combined, weight.add(first), taps, products, x);
                finish_block::<V, OUTPUTS, 1>(products, to, first, x);
            }
            x += V::LANES;
        }
        while channel < WIDTH {
            meanwhile.channel::<V>(channel);
            channel += 1;
        }
    }
}

/// For each point, `OUTPUTS × VECTORS` accumulators stay in registers over all inputs and taps.
#[inline(always)]
unsafe fn convolve_block<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    combined: [From; POINTS],
    mut weight: *const f32,
    taps: Taps,
    products: *mut f32,
    x: usize,
) {
    unsafe {
        for point in 0..POINTS {
            let mut sums = [[V::zero(); VECTORS]; OUTPUTS];
            let mut row = combined[point].at(0, x).sub(taps.dilation);
            for _ in 0..taps.inputs {
                let mut from = row;
                for _ in 0..3 {
                    let mut pixels = [V::zero(); VECTORS];
                    for v in 0..VECTORS {
                        pixels[v] = V::load(from.add(v * V::LANES));
                    }
                    for o in 0..OUTPUTS {
                        let factor = V::splat(*weight.add(o));
                        for v in 0..VECTORS {
                            sums[o][v] = sums[o][v].plus_product(factor, pixels[v]);
                        }
                    }
                    weight = weight.add(WIDTH);
                    from = from.add(taps.dilation);
                }
                row = row.add(combined[point].stride);
            }
            let to = products.add(point * OUTPUTS * VECTORS * V::LANES);
            for o in 0..OUTPUTS {
                for v in 0..VECTORS {
                    sums[o][v].store(to.add((o * VECTORS + v) * V::LANES));
                }
            }
        }
    }
}

/// Combines the products of all points into four rows.
#[inline(always)]
unsafe fn finish_block<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    products: *const f32,
    to: [To; GROUP],
    first: usize,
    x: usize,
) {
    unsafe {
        for o in 0..OUTPUTS {
            for v in 0..VECTORS {
                let mut values = [V::zero(); POINTS];
                for point in 0..POINTS {
                    values[point] = V::load(products.add(((point * OUTPUTS + o) * VECTORS + v) * V::LANES));
                }
                let rows = output_line(values);
                for row in 0..GROUP {
                    rows[row].store(to[row].at(first + o, x + v * V::LANES));
                }
            }
        }
    }
}

/// Sums of the weights' gradient before their transform, `[6 points, input, 8 outputs, kx]`.
pub(super) fn sums_len(inputs: usize) -> usize {
    POINTS * inputs * WIDTH * 3
}

/// Adds a group's share to the sums, lane by lane, `[sums, 16 lanes]`: `input` and `gradients` are combined rows.
#[inline(always)]
pub(super) unsafe fn weight_gradient_group<V: Arithmetic, const OUTPUTS: usize>(
    input: [From; POINTS],
    gradients: [From; POINTS],
    taps: Taps,
    sums: *mut f32,
    extent: &Extent,
) {
    unsafe {
        for point in 0..POINTS {
            for channel in 0..taps.inputs {
                for first in (0..WIDTH).step_by(OUTPUTS) {
                    let place = ((point * taps.inputs + channel) * WIDTH + first) * 3 * LINE;
                    let gradient = gradients[point];
                    let gradient = From { start: gradient.at(first, 0), stride: gradient.stride };
                    let pixels = input[point].at(channel, 0).sub(taps.dilation);
                    correlate::<V, OUTPUTS>(pixels, taps.dilation, gradient, sums.add(place), extent.stride);
                }
            }
        }
    }
}

/// `OUTPUTS × 3` accumulators, one for each output and kernel column.
#[inline(always)]
unsafe fn correlate<V: Arithmetic, const OUTPUTS: usize>(
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
                acc[o][kx] = V::load(sums.add((o * 3 + kx) * LINE));
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
                acc[o][kx].store(sums.add((o * 3 + kx) * LINE));
            }
        }
    }
}

/// The sums of all strands, added in their order in double precision.
pub(super) fn added(strands: &[Vec<f32>], inputs: usize) -> Vec<f64> {
    let mut sums = vec![0.0; sums_len(inputs)];
    for lanes in strands {
        for (sum, lanes) in sums.iter_mut().zip(lanes.chunks_exact(LINE)) {
            *sum += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
        }
    }
    sums
}

/// The gradient as `[8 outputs, inputs, 3, 3]`, from the sums.
pub(super) fn unpacked_gradient(sums: &[f64], inputs: usize) -> Vec<f32> {
    let mut gradient = vec![0.0; inputs * TAPS * WIDTH];
    for input in 0..inputs {
        for kx in 0..3 {
            let of_point = |point: usize| -> [f32; WIDTH] {
                let at = |output| sums[((point * inputs + input) * WIDTH + output) * 3 + kx] as f32;
                std::array::from_fn(at)
            };
            let points: [[f32; WIDTH]; POINTS] = std::array::from_fn(of_point);
            // SAFETY: the portable path needs no instruction set; each array holds eight floats.
            unsafe {
                let points = points.map(|values| Array8::load(values.as_ptr()));
                for (ky, row) in weight_sums_line(points).into_iter().enumerate() {
                    let mut values = [0.0; WIDTH];
                    row.store(values.as_mut_ptr());
                    for (output, value) in values.into_iter().enumerate() {
                        gradient[(output * inputs + input) * TAPS + ky * 3 + kx] = value;
                    }
                }
            }
        }
    }
    gradient
}
