//! The 3×3 dilated convolution of four rows of a strand at a time, for inference.
//!
//! Down the strand it is Winograd's F(4, 3): six rows of the input are combined into six others, each of which is
//! convolved along the row only, and the six results are combined into four rows of the output. That is half the
//! multiplications of the plain sum. Along the row the taps stay as they are: any dilation is a shift.
//!
//! In training the combined rows do not fit the first-level cache beside everything else that happens there, and what
//! is saved is lost again (measured: forward the same, backward 10 % slower).

#![allow(clippy::needless_range_loop)] // Loops over registers: see `passes`.

use super::WIDTH;
use super::passes::{Extent, From};
use super::rows::{LINE, Lines, stride_of};
use super::taps::{TAPS, Taps, lines_of};
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::{Array8, Vector};
use crate::network::winograd_line::{POINTS, input_line, output_line, weight_line};

/// Rows that are convolved at a time.
pub(super) const GROUP: usize = 4;
/// Rows that they read.
pub(super) const ROWS_READ: usize = GROUP + 2;

/// Transformed weights, `[6 points, input, kx, 8 outputs]`, from `[8 outputs, inputs, 3, 3]`.
pub(super) fn packed(weight: &[f32], inputs: usize) -> Vec<f32> {
    let mut values = vec![0.0; POINTS * inputs * 3 * WIDTH];
    for input in 0..inputs {
        for kx in 0..3 {
            // SAFETY: the portable path needs no instruction set; each store is within the values.
            unsafe {
                let column = |ky: usize| -> [f32; WIDTH] {
                    std::array::from_fn(|output| weight[(output * inputs + input) * TAPS + ky * 3 + kx])
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

/// Some rows of a strand in turn, `[slots, channels, stride]`, without room for the taps.
pub(super) struct Window {
    values: Lines,
    stride: usize,
    channels: usize,
    slots: usize,
}

impl Window {
    pub(super) fn new(slots: usize, channels: usize, stride: usize) -> Self {
        Self { values: Lines::zeros(slots * channels * stride), stride, channels, slots }
    }

    /// Row `index` of a channel, `[stride]`.
    #[inline(always)]
    pub(super) fn row(&mut self, index: isize, channel: usize) -> *mut f32 {
        let slot = index.rem_euclid(self.slots as isize) as usize;
        // SAFETY: a row of the ring.
        unsafe { self.values.start_mut().add((slot * self.channels + channel) * self.stride) }
    }

    /// Makes row `index` of a channel zero.
    #[inline(always)]
    pub(super) fn clear(&mut self, index: isize, channel: usize) {
        let (start, floats) = (self.row(index, channel), self.stride);
        // SAFETY: one row of the ring.
        unsafe { start.write_bytes(0, floats) };
    }
}

/// Combined rows `[6 points, channels, stride]`, with zeros between the channels for the taps that reach out.
pub(super) struct Combined {
    values: Lines,
    stride: usize,
    pad: usize,
    channels: usize,
}

impl Combined {
    /// Room for rows of `span` floats and taps that reach `dilation` to each side.
    pub(super) fn new(channels: usize, span: usize, dilation: usize) -> Self {
        let pad = dilation.next_multiple_of(LINE);
        let stride = stride_of(span + pad);
        Self { values: Lines::zeros(POINTS * channels * stride + 2 * pad), stride, pad, channels }
    }

    /// The rows of all points.
    #[inline(always)]
    pub(super) fn points(&self) -> [From; POINTS] {
        // SAFETY: `pad` floats before the first row and after the last belong to the room too.
        let start = unsafe { self.values.start().add(self.pad) };
        let (step, stride) = (self.channels * self.stride, self.stride);
        std::array::from_fn(|point| From { start: unsafe { start.add(point * step) }, stride })
    }

    /// Where a channel of each point is written.
    #[inline(always)]
    pub(super) fn channel(&mut self, channel: usize) -> [*mut f32; POINTS] {
        // SAFETY: as above.
        let start = unsafe { self.values.start_mut().add(self.pad + channel * self.stride) };
        let step = self.channels * self.stride;
        std::array::from_fn(|point| unsafe { start.add(point * step) })
    }
}

/// The six rows of a channel from row `first` on.
#[inline(always)]
pub(super) fn window(ring: &mut Window, first: isize, channel: usize) -> [*const f32; ROWS_READ] {
    let mut rows = [std::ptr::null(); ROWS_READ];
    for (index, row) in rows.iter_mut().enumerate() {
        *row = ring.row(first + index as isize, channel).cast_const();
    }
    rows
}

/// What happens around the convolution of a group; see [`super::taps::Company`].
pub(super) trait Company {
    /// Asks memory for a little of what comes next; called once for each point and input of a block.
    fn fetch(&mut self);

    /// Takes values of an output channel in all four rows, from pixel `x` on. Beyond the width they are arbitrary.
    ///
    /// # Safety
    /// The instruction set of `V` must be there.
    unsafe fn take<V: Arithmetic>(&mut self, output: usize, x: usize, rows: [V; GROUP]);
}

/// Combines the six rows of a channel's window for the convolution.
#[inline(always)]
pub(super) unsafe fn combine<V: Arithmetic>(
    window: [*const f32; ROWS_READ],
    to: [*mut f32; POINTS],
    span: usize,
) {
    unsafe {
        for x in (0..span).step_by(V::LANES) {
            let mut rows = [V::zero(); ROWS_READ];
            for row in 0..ROWS_READ {
                rows[row] = V::load(window[row].add(x));
            }
            let combined = input_line(rows);
            for point in 0..POINTS {
                combined[point].store(to[point].add(x));
            }
        }
    }
}

/// Floats of the scratch of [`convolve_group`].
pub(super) const PRODUCTS: usize = POINTS * WIDTH * 3 * LINE;

/// The convolution of the combined rows, four rows `[8, stride]`, given away in vectors.
///
/// `products` is scratch of [`PRODUCTS`] floats.
#[inline(always)]
pub(super) unsafe fn convolve_group<V: Arithmetic, C: Company, const OUTPUTS: usize, const VECTORS: usize>(
    combined: [From; POINTS],
    weight: *const f32,
    taps: Taps,
    extent: &Extent,
    products: *mut f32,
    company: &mut C,
) {
    let wide = lines_of::<V, VECTORS>() * LINE;
    unsafe {
        let mut x = 0;
        while x + wide <= extent.span {
            for first in (0..WIDTH).step_by(OUTPUTS) {
                let weight = weight.add(first);
                multiply::<V, C, OUTPUTS, VECTORS>(combined, weight, taps, products, x, company);
                give_away::<V, C, OUTPUTS>(products, first, (x, wide), company);
            }
            x += wide;
        }
        while x < extent.span {
            for first in (0..WIDTH).step_by(OUTPUTS) {
                let weight = weight.add(first);
                match LINE / V::LANES {
                    1 => multiply::<V, C, OUTPUTS, 1>(combined, weight, taps, products, x, company),
                    2 => multiply::<V, C, OUTPUTS, 2>(combined, weight, taps, products, x, company),
                    _ => multiply::<V, C, OUTPUTS, 4>(combined, weight, taps, products, x, company),
                }
                give_away::<V, C, OUTPUTS>(products, first, (x, LINE), company);
            }
            x += LINE;
        }
    }
}

/// The products of all points, `[point, output, wide]`: for each point, `OUTPUTS × VECTORS` accumulators stay in
/// registers over all inputs and taps.
#[inline(always)]
unsafe fn multiply<V: Arithmetic, C: Company, const OUTPUTS: usize, const VECTORS: usize>(
    combined: [From; POINTS],
    weight: *const f32,
    taps: Taps,
    products: *mut f32,
    x: usize,
    company: &mut C,
) {
    let wide = lines_of::<V, VECTORS>() * LINE;
    unsafe {
        for part in (0..wide).step_by(VECTORS * V::LANES) {
            let mut weight = weight;
            for point in 0..POINTS {
                let mut sums = [[V::zero(); VECTORS]; OUTPUTS];
                let mut row = combined[point].at(0, x + part).sub(taps.dilation);
                for _ in 0..taps.inputs {
                    company.fetch();
                    let mut from = row;
                    for _ in 0..3 {
                        sums = V::plus_outer_product(sums, weight, from);
                        weight = weight.add(WIDTH);
                        from = from.add(taps.dilation);
                    }
                    row = row.add(combined[point].stride);
                }
                let to = products.add(point * OUTPUTS * wide + part);
                for o in 0..OUTPUTS {
                    for v in 0..VECTORS {
                        sums[o][v].store(to.add(o * wide + v * V::LANES));
                    }
                }
            }
        }
    }
}

/// Combines the products of all points into four rows, from pixel `x` on `wide` pixels.
#[inline(always)]
unsafe fn give_away<V: Arithmetic, C: Company, const OUTPUTS: usize>(
    products: *const f32,
    first: usize,
    (x, wide): (usize, usize),
    company: &mut C,
) {
    unsafe {
        for o in 0..OUTPUTS {
            for at in (0..wide).step_by(V::LANES) {
                let mut values = [V::zero(); POINTS];
                for point in 0..POINTS {
                    values[point] = V::load(products.add((point * OUTPUTS + o) * wide + at));
                }
                company.take(first + o, x + at, output_line(values));
            }
        }
    }
}
