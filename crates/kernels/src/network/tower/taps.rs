//! The 3×3 dilated convolution of one row and the gradient of its weights, from rows in a ring.

#![allow(clippy::needless_range_loop)] // Loops over registers: see `passes`.

use super::WIDTH;
use super::passes::{Extent, From};
use super::rows::{LINE, Line};
use crate::network::vector::arithmetic::Arithmetic;

/// Taps of a kernel.
pub(super) const TAPS: usize = 9;

/// Weights as `[input, ky, kx, 8 outputs]`, from `[8 outputs, inputs, 3, 3]`.
pub(super) fn packed(weight: &[f32], inputs: usize) -> Vec<f32> {
    let mut values = vec![0.0; weight.len()];
    for (index, &value) in weight.iter().enumerate() {
        let (output, tap) = (index / (inputs * TAPS), index % (inputs * TAPS));
        values[tap * WIDTH + output] = value;
    }
    values
}

/// The weights of the gradient towards the input, packed: inputs and outputs change places, the kernel is turned round.
pub(super) fn packed_for_gradient(weight: &[f32]) -> Vec<f32> {
    let mut values = vec![0.0; weight.len()];
    for (index, &value) in weight.iter().enumerate() {
        let (output, input, tap) = (index / (WIDTH * TAPS), index / TAPS % WIDTH, index % TAPS);
        values[(output * TAPS + TAPS - 1 - tap) * WIDTH + input] = value;
    }
    values
}

/// A convolution of rows: how many inputs, how far apart the taps.
#[derive(Clone, Copy)]
pub(super) struct Taps {
    pub(super) inputs: usize,
    pub(super) dilation: usize,
}

/// What happens around the convolution of a row: work on other rows between its blocks, channel by channel, so that
/// memory is read while the arithmetic is busy; and what becomes of its values, while they are in registers.
pub(super) trait Company {
    /// Work for a channel, between two blocks.
    ///
    /// # Safety
    /// The instruction set of `V` must be there.
    unsafe fn channel<V: Arithmetic>(&mut self, channel: usize);

    /// Asks memory for a little of what comes next; called once for each input and row of taps of a block.
    fn fetch(&mut self);

    /// Takes values of an output channel, from pixel `x` on. Beyond the width they are arbitrary.
    ///
    /// # Safety
    /// The instruction set of `V` must be there.
    unsafe fn take<V: Arithmetic, const VECTORS: usize>(
        &mut self,
        output: usize,
        x: usize,
        values: [V; VECTORS],
    );
}

/// The convolution of the rows above, at and below, `[8, stride]`, given away in vectors.
#[inline(always)]
pub(super) unsafe fn convolve_row<V: Arithmetic, C: Company, const OUTPUTS: usize, const VECTORS: usize>(
    rows: [From; 3],
    weight: *const f32,
    taps: Taps,
    extent: &Extent,
    company: &mut C,
) {
    let wide = lines_of::<V, VECTORS>() * LINE;
    let blocks = extent.span / wide;
    let (mut block, mut channel) = (0, 0);
    unsafe {
        let mut x = 0;
        while x + wide <= extent.span {
            while channel * blocks < block * WIDTH {
                company.channel::<V>(channel);
                channel += 1;
            }
            block += 1;
            for first_output in (0..WIDTH).step_by(OUTPUTS) {
                convolve_block::<V, C, OUTPUTS, VECTORS>(rows, weight, taps, first_output, x, company);
            }
            x += wide;
        }
        while x < extent.span {
            for first_output in (0..WIDTH).step_by(OUTPUTS) {
                convolve_line::<V, C, OUTPUTS>(rows, weight, taps, first_output, x, company);
            }
            x += LINE;
        }
        while channel < WIDTH {
            company.channel::<V>(channel);
            channel += 1;
        }
    }
}

/// Cache lines of a row that are made at a time where `VECTORS` registers of it are convolved at a time: whole ones,
/// because halves that go past the caches cost memory a whole one each.
pub(super) const fn lines_of<V: Arithmetic, const VECTORS: usize>() -> usize {
    let floats = VECTORS * V::LANES;
    if floats.is_multiple_of(LINE) { floats / LINE } else { floats * 2 / LINE }
}

/// [`convolve_block`] of one cache line, where a row ends.
#[inline(always)]
unsafe fn convolve_line<V: Arithmetic, C: Company, const OUTPUTS: usize>(
    rows: [From; 3],
    weight: *const f32,
    taps: Taps,
    first_output: usize,
    x: usize,
    company: &mut C,
) {
    unsafe {
        match LINE / V::LANES {
            1 => convolve_block::<V, C, OUTPUTS, 1>(rows, weight, taps, first_output, x, company),
            2 => convolve_block::<V, C, OUTPUTS, 2>(rows, weight, taps, first_output, x, company),
            _ => convolve_block::<V, C, OUTPUTS, 4>(rows, weight, taps, first_output, x, company),
        }
    }
}

/// The most lines that a block makes: eight outputs of three.
const MOST_RESULTS: usize = WIDTH * 3;

/// `OUTPUTS × VECTORS` accumulators stay in registers over all inputs and taps.
#[inline(always)]
unsafe fn convolve_block<V: Arithmetic, C: Company, const OUTPUTS: usize, const VECTORS: usize>(
    rows: [From; 3],
    weight: *const f32,
    taps: Taps,
    first_output: usize,
    x: usize,
    company: &mut C,
) {
    let wide = lines_of::<V, VECTORS>() * LINE;
    unsafe {
        // By way of memory: registers cannot be counted through by a loop that is not unrolled.
        let mut results = std::mem::MaybeUninit::<[Line; MOST_RESULTS]>::uninit();
        let results: *mut f32 = results.as_mut_ptr().cast();
        for part in (0..wide).step_by(VECTORS * V::LANES) {
            let mut weight = weight.add(first_output);
            let mut sums = [[V::zero(); VECTORS]; OUTPUTS];
            for input in 0..taps.inputs {
                for row in rows {
                    company.fetch();
                    let mut from = row.at(input, x + part).sub(taps.dilation);
                    for _ in 0..3 {
                        sums = V::plus_outer_product(sums, weight, from);
                        weight = weight.add(WIDTH);
                        from = from.add(taps.dilation);
                    }
                }
            }
            for o in 0..OUTPUTS {
                for v in 0..VECTORS {
                    sums[o][v].store(results.add(o * wide + part + v * V::LANES));
                }
            }
        }
        for o in 0..OUTPUTS {
            for part in (0..wide).step_by(VECTORS * V::LANES) {
                let mut values = [V::zero(); VECTORS];
                for v in 0..VECTORS {
                    values[v] = V::load(results.add(o * wide + part + v * V::LANES));
                }
                company.take::<V, VECTORS>(first_output + o, x + part, values);
            }
        }
    }
}

/// Lane sums of the weights' gradient, `[input, ky, 8 outputs, kx, 16 lanes]`.
pub(super) fn lane_sums_len(inputs: usize) -> usize {
    inputs * TAPS * WIDTH * LINE
}

/// Adds one row's share to the lane sums: `gradients` are the rows of dz that the input row reaches, from the one
/// above (kernel row 2) to the one below (kernel row 0).
#[inline(always)]
pub(super) unsafe fn weight_gradient_row<V: Arithmetic, const OUTPUTS: usize>(
    input: From,
    gradients: [From; 3],
    taps: Taps,
    sums: *mut f32,
    extent: &Extent,
) {
    unsafe {
        for channel in 0..taps.inputs {
            for ky in 0..3 {
                for first_output in (0..WIDTH).step_by(OUTPUTS) {
                    let place = ((channel * 3 + ky) * WIDTH + first_output) * 3 * LINE;
                    let gradient = gradients[2 - ky];
                    let gradient = From { start: gradient.at(first_output, 0), stride: gradient.stride };
                    let pixels = input.at(channel, 0).sub(taps.dilation);
                    correlate::<V, OUTPUTS>(pixels, taps.dilation, gradient, sums.add(place), extent.span);
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

/// The gradient as `[8 outputs, inputs, 3, 3]` in double precision, from the lane sums.
pub(super) fn unpacked_gradient(lanes: &[f32], inputs: usize) -> Vec<f64> {
    let mut values = vec![0.0; inputs * TAPS * WIDTH];
    for (index, lanes) in lanes.chunks_exact(LINE).enumerate() {
        let (kx, output) = (index % 3, index / 3 % WIDTH);
        let (ky, input) = (index / (3 * WIDTH) % 3, index / (TAPS * WIDTH));
        // Four sums beside each other: one would wait for itself.
        let mut sums = [0.0; 4];
        for lanes in lanes.chunks_exact(4) {
            sums.iter_mut().zip(lanes).for_each(|(sum, &lane)| *sum += f64::from(lane));
        }
        values[(output * inputs + input) * TAPS + ky * 3 + kx] = sums.iter().sum();
    }
    values
}
