//! The 3×3 dilated convolution of four rows of a strand at a time.
//!
//! Down the strand it is Winograd's F(4, 3): six rows of the input are combined into six others, each of which is
//! convolved along the row only, and the six results are combined into four rows of the output. That is half the
//! multiplications of the plain sum. Along the row the taps stay as they are: any dilation is a shift.

#![allow(clippy::needless_range_loop)] // Loops over registers: see `passes`.

use super::WIDTH;
use super::passes::{Extent, From};
use super::rows::{LINE, Lines, Rows, SharedRows, Strand, stride_of};
use super::taps::{TAPS, Taps};
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::{Array8, Vector, fetch};
pub(super) use crate::network::winograd_line::POINTS;
use crate::network::winograd_line::{input_line, output_line, weight_line};

/// Rows that are convolved at a time.
pub(super) const GROUP: usize = 4;
/// Rows that they read.
pub(super) const ROWS_READ: usize = GROUP + 2;

/// One channel of four rows; where there is no such row, of any that can be read.
pub(super) type FourRows = [*const f32; GROUP];

/// Four rows of a strand, one behind the other.
#[derive(Clone, Copy)]
pub(super) struct Places {
    pub(super) strand: Strand,
    /// Rows of the picture; where the strand needs none, one that can be read.
    pub(super) y: [usize; GROUP],
    /// Which rows there are, of the strand's own and those next to them.
    pub(super) inside: [bool; GROUP],
    /// Which rows are the strand's own.
    pub(super) own: [bool; GROUP],
}

impl Places {
    /// The rows from `first` on.
    #[inline(always)]
    pub(super) fn new(strand: Strand, first: isize, height: usize) -> Self {
        let (y, none) = ([strand.first_y; GROUP], [false; GROUP]);
        let mut places = Self { strand, y, inside: none, own: none };
        for r in 0..GROUP {
            let index = first + r as isize;
            let reach = -1..=strand.rows as isize;
            if let Some(y) = strand.y(index, height).filter(|_| reach.contains(&index)) {
                (places.y[r], places.inside[r]) = (y, true);
                places.own[r] = index >= 0 && index < strand.rows as isize;
            }
        }
        places
    }

    /// Where to read them.
    #[inline(always)]
    pub(super) fn of(&self, rows: &Rows, channel: usize) -> FourRows {
        // SAFETY: a row of all channels is `WIDTH * stride` floats.
        self.y.map(|y| unsafe { rows.row(self.strand.image, y).add(channel * rows.stride) })
    }

    /// Where to write them; only the strand's own may be written.
    #[inline(always)]
    pub(super) fn to(&self, rows: SharedRows, channel: usize) -> [*mut f32; GROUP] {
        // SAFETY: as above.
        self.y.map(|y| unsafe { rows.row(self.strand.image, y).add(channel * rows.stride) })
    }

    /// Where to write the strand's own.
    #[inline(always)]
    pub(super) fn own_to(&self, rows: SharedRows, channel: usize) -> [Option<*mut f32>; GROUP] {
        let to = self.to(rows, channel);
        std::array::from_fn(|r| self.own[r].then_some(to[r]))
    }
}

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

/// The last two rows of a window, which the next one shares: `[2, channels, stride]`.
pub(super) struct Shared {
    values: Lines,
    stride: usize,
    channels: usize,
}

impl Shared {
    pub(super) fn new(channels: usize, stride: usize) -> Self {
        Self { values: Lines::zeros(2 * channels * stride), stride, channels }
    }

    /// Both rows of a channel.
    #[inline(always)]
    pub(super) fn channel(&mut self, channel: usize) -> [*mut f32; 2] {
        let (channels, stride) = (self.channels, self.stride);
        // SAFETY: rows of the two.
        [0, channels].map(|row| unsafe { self.values.start_mut().add((row + channel) * stride) })
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

    /// From a channel to the next.
    #[inline(always)]
    pub(super) fn stride(&self) -> usize {
        self.stride
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

/// Some pixels, whose outputs are multiplied before they are given away.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) x: usize,
    pub(super) wide: usize,
    /// How often something can be asked for in the meantime.
    pub(super) turns: usize,
}

/// What happens around the convolution of a group: what is asked of memory in the meantime, and what becomes of the values while
/// they are in registers.
pub(super) trait Company {
    /// Asks memory for a little of what a tile will meet; called `tile.turns` times while it is multiplied.
    #[inline(always)]
    fn fetch(&mut self, tile: Tile, turn: usize) {
        let _ = (tile, turn);
    }

    /// Whether all four rows count.
    fn whole(&self) -> bool;

    /// Takes values of an output channel in all four rows, from pixel `x` on. Beyond the width they are arbitrary;
    /// `WHOLE`: all rows count, and all pixels lie within the width.
    ///
    /// # Safety
    /// The instruction set of `V` must be there.
    unsafe fn take<V: Arithmetic, const WHOLE: bool>(&mut self, output: usize, x: usize, rows: [V; GROUP]);
}

/// Cache lines of a row that are made at a time where `VECTORS` registers of it are convolved at a time: whole ones,
/// because halves that go past the caches cost memory a whole one each.
const fn lines_of<V: Arithmetic, const VECTORS: usize>() -> usize {
    let floats = VECTORS * V::LANES;
    if floats.is_multiple_of(LINE) { floats / LINE } else { floats * 2 / LINE }
}

/// Combines the six rows of a channel's window for the convolution; `to_next`: how far away lies what is read after it.
#[inline(always)]
pub(super) unsafe fn combine<V: Arithmetic>(
    window: [*const f32; ROWS_READ],
    to: [*mut f32; POINTS],
    span: usize,
    to_next: usize,
) {
    unsafe {
        for x in (0..span).step_by(V::LANES) {
            if x.is_multiple_of(LINE) {
                for row in ROWS_READ - GROUP..ROWS_READ {
                    fetch(window[row].wrapping_add(to_next + x));
                }
            }
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
    let whole = if company.whole() { extent.whole() } else { 0 };
    unsafe {
        let mut x = 0;
        while x + wide <= extent.span {
            multiply::<V, C, OUTPUTS, VECTORS>(combined, weight, taps, products, x, company);
            match x + wide <= whole {
                true => give_away::<V, C, true>(products, (x, wide), company),
                false => give_away::<V, C, false>(products, (x, wide), company),
            }
            x += wide;
        }
        while x < extent.span {
            match LINE / V::LANES {
                1 => multiply::<V, C, OUTPUTS, 1>(combined, weight, taps, products, x, company),
                2 => multiply::<V, C, OUTPUTS, 2>(combined, weight, taps, products, x, company),
                _ => multiply::<V, C, OUTPUTS, 4>(combined, weight, taps, products, x, company),
            }
            give_away::<V, C, false>(products, (x, LINE), company);
            x += LINE;
        }
    }
}

/// The products of all points, `[point, 8 outputs, wide]`: for each point, `OUTPUTS × VECTORS` accumulators stay in
/// registers over all inputs and taps. Point by point, so that a point's pixels are near while all outputs are made of them.
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
    let turns = wide / (VECTORS * V::LANES) * (WIDTH / OUTPUTS) * POINTS * (taps.inputs / 2);
    let tile = Tile { x, wide, turns };
    let mut turn = 0;
    unsafe {
        for point in 0..POINTS {
            let weight = weight.add(point * taps.inputs * 3 * WIDTH);
            for first in (0..WIDTH).step_by(OUTPUTS) {
                for part in (0..wide).step_by(VECTORS * V::LANES) {
                    let mut weight = weight.add(first);
                    let mut sums = [[V::zero(); VECTORS]; OUTPUTS];
                    let mut row = combined[point].at(0, x + part).sub(taps.dilation);
                    let stride = combined[point].stride;
                    for _ in 0..taps.inputs / 2 {
                        company.fetch(tile, turn);
                        turn += 1;
                        sums = plus_input::<V, OUTPUTS, VECTORS>(sums, weight, row, taps.dilation);
                        let (next_weight, next_row) = (weight.add(3 * WIDTH), row.add(stride));
                        sums = plus_input::<V, OUTPUTS, VECTORS>(sums, next_weight, next_row, taps.dilation);
                        (weight, row) = (next_weight.add(3 * WIDTH), next_row.add(stride));
                    }
                    if taps.inputs % 2 == 1 {
                        sums = plus_input::<V, OUTPUTS, VECTORS>(sums, weight, row, taps.dilation);
                    }
                    let to = products.add((point * WIDTH + first) * wide + part);
                    for o in 0..OUTPUTS {
                        for v in 0..VECTORS {
                            sums[o][v].store(to.add(o * wide + v * V::LANES));
                        }
                    }
                }
            }
        }
    }
}

/// Adds the three taps of one input.
#[inline(always)]
unsafe fn plus_input<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    mut sums: [[V; VECTORS]; OUTPUTS],
    weight: *const f32,
    row: *const f32,
    dilation: usize,
) -> [[V; VECTORS]; OUTPUTS] {
    unsafe {
        for tap in 0..3 {
            sums = V::plus_outer_product(sums, weight.add(tap * WIDTH), row.add(tap * dilation));
        }
        sums
    }
}

/// Combines the products of all points into four rows, from pixel `x` on `wide` pixels.
#[inline(always)]
unsafe fn give_away<V: Arithmetic, C: Company, const WHOLE: bool>(
    products: *const f32,
    (x, wide): (usize, usize),
    company: &mut C,
) {
    unsafe {
        for output in 0..WIDTH {
            for at in (0..wide).step_by(V::LANES) {
                let mut values = [V::zero(); POINTS];
                for point in 0..POINTS {
                    values[point] = V::load(products.add((point * WIDTH + output) * wide + at));
                }
                company.take::<V, WHOLE>(output, x + at, output_line(values));
            }
        }
    }
}
