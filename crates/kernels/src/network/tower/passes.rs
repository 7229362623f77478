//! What happens to a row of one channel, in vectors: the loops that every stage of the tower is made of.
//!
//! A pass goes over whole cache lines, and so whole vectors; the values beyond the width are zero.

// Loops over registers are plain loops: a closure is compiled without the instruction set of the function that it
// ends up in, and its arithmetic becomes calls.
#![allow(clippy::needless_range_loop)]

use super::WIDTH;
use super::rows::{LINE, stride_of};
use crate::network::normalisation::Affine;
use crate::network::vector::arithmetic::Arithmetic;

/// Sums of a strand for each channel, lane by lane: Σa and Σb of a pass.
pub(super) type LaneSums = [[[f32; LINE]; 2]; WIDTH];

/// A row and the distance between its channels.
#[derive(Clone, Copy)]
pub(super) struct From {
    pub(super) start: *const f32,
    pub(super) stride: usize,
}

/// A row to write and the distance between its channels.
#[derive(Clone, Copy)]
pub(super) struct To {
    pub(super) start: *mut f32,
    pub(super) stride: usize,
}

impl From {
    #[inline(always)]
    pub(super) unsafe fn at(self, channel: usize, x: usize) -> *const f32 {
        unsafe { self.start.add(channel * self.stride + x) }
    }
}

impl To {
    #[inline(always)]
    pub(super) unsafe fn at(self, channel: usize, x: usize) -> *mut f32 {
        unsafe { self.start.add(channel * self.stride + x) }
    }

    #[inline(always)]
    pub(super) fn read(self) -> From {
        From { start: self.start, stride: self.stride }
    }
}

/// The sizes that a pass over a row needs.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub(super) width: usize,
    /// The width in whole lines: what a pass goes over.
    pub(super) span: usize,
    /// From a channel of a row to the next.
    pub(super) stride: usize,
    /// For the last line: 1 within the width, 0 beyond.
    within: [f32; LINE],
}

impl Extent {
    pub(super) fn new(width: usize) -> Self {
        let span = width.next_multiple_of(LINE);
        let inside = |lane| span - LINE + lane < width;
        let within = std::array::from_fn(|lane| if width > 0 && inside(lane) { 1.0 } else { 0.0 });
        Self { width, span, stride: stride_of(width), within }
    }

    /// Pixels in lines that lie within the width.
    #[inline(always)]
    pub(super) fn whole(&self) -> usize {
        self.width / LINE * LINE
    }

    /// The value at pixel `x` of a row, zero beyond the width.
    #[inline(always)]
    pub(super) unsafe fn within<V: Arithmetic>(&self, x: usize, value: V) -> V {
        let last = self.span - LINE;
        if x < last || self.width == self.span {
            return value;
        }
        // SAFETY: `x` is a vector of the last line, which `within` describes.
        unsafe { V::load(self.within.as_ptr().add(x - last)).where_positive(value, V::zero()) }
    }
}

/// Zeros from the width to the end of the last line.
#[inline(always)]
pub(super) unsafe fn clear_tail<V: Arithmetic>(row: *mut f32, extent: &Extent) {
    unsafe {
        if extent.width < extent.span {
            let last = row.add(extent.span - LINE);
            for lane in (0..LINE).step_by(V::LANES) {
                let within = V::load(extent.within.as_ptr().add(lane));
                within.where_positive(V::load(last.add(lane)), V::zero()).store(last.add(lane));
            }
        }
    }
}

/// Two running sums, each in two registers in turn: one would wait for itself.
struct Pair<V> {
    first: [V; 2],
    second: [V; 2],
}

impl<V: Arithmetic> Pair<V> {
    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Self { first: [V::zero(); 2], second: [V::zero(); 2] } }
    }

    /// Adds a to the first and a·b to the second sum.
    #[inline(always)]
    unsafe fn add(&mut self, turn: usize, a: V, b: V) {
        unsafe {
            self.first[turn] = self.first[turn].add(a);
            self.second[turn] = self.second[turn].plus_product(a, b);
        }
    }

    /// Adds the sums to the lanes.
    #[inline(always)]
    unsafe fn add_to(self, [first, second]: &mut [[f32; LINE]; 2]) {
        unsafe {
            for (registers, lanes) in [(self.first, first), (self.second, second)] {
                let sum = registers[0].add(registers[1]);
                V::load(lanes.as_ptr()).add(sum).store(lanes.as_mut_ptr());
            }
        }
    }
}

/// Runs the body for each vector of a row, two at a time; `turn` is 0 or 1, a constant.
macro_rules! in_turns {
    ($V:ident, $stride:expr, |$turn:ident, $x:ident| $body:expr) => {{
        let mut at = 0;
        while at + 2 * $V::LANES <= $stride {
            {
                let ($turn, $x) = (0, at);
                $body;
            }
            {
                let ($turn, $x) = (1, at + $V::LANES);
                $body;
            }
            at += 2 * $V::LANES;
        }
        if at < $stride {
            let ($turn, $x) = (0, at);
            $body;
        }
    }};
}

/// Sums Σa and Σa·b of a row of each channel, which go to the strand's at the end of the row: many short sums round less
/// than a long one.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct RowSums(LaneSums);

impl RowSums {
    /// Adds values of a channel: a to the first sum, a·b to the second.
    #[inline(always)]
    pub(super) unsafe fn add<V: Arithmetic, const VECTORS: usize>(
        &mut self,
        channel: usize,
        a: [V; VECTORS],
        b: [V; VECTORS],
    ) {
        let [first, second] = &mut self.0[channel];
        unsafe {
            let (mut sum, mut products) = (V::load(first.as_ptr()), V::load(second.as_ptr()));
            for v in 0..VECTORS {
                sum = sum.add(a[v]);
                products = products.plus_product(a[v], b[v]);
            }
            sum.store(first.as_mut_ptr());
            products.store(second.as_mut_ptr());
        }
    }

    /// Adds all sums to the strand's, and begins anew.
    #[inline(always)]
    pub(super) unsafe fn end_row<V: Arithmetic>(&mut self, strand: &mut LaneSums) {
        for (row, strand) in self.0.iter_mut().flatten().zip(strand.iter_mut().flatten()) {
            unsafe {
                V::load(strand.as_ptr()).add(V::load(row.as_ptr())).store(strand.as_mut_ptr());
                V::zero().store(row.as_mut_ptr());
            }
        }
    }
}

/// to = base + ELU(scale·z + shift).
#[inline(always)]
pub(super) unsafe fn bend_and_add<V: Arithmetic>(
    base: *const f32,
    z: *const f32,
    affine: Affine,
    to: *mut f32,
    extent: &Extent,
) {
    unsafe {
        let (scale, shift) = (V::splat(affine.scale), V::splat(affine.shift));
        for x in (0..extent.span).step_by(V::LANES) {
            let bent = shift.plus_product(V::load(z.add(x)), scale).elu();
            V::load(base.add(x)).add(bent).store(to.add(x));
        }
        clear_tail::<V>(to, extent);
    }
}

/// total = g; Σ of total·ELU′(scale·z + shift) and Σ of that times z: what the layer below needs.
#[inline(always)]
pub(super) unsafe fn send_and_sum<V: Arithmetic>(
    g: *mut f32,
    total: *mut f32,
    z: *const f32,
    affine: Affine,
    extent: &Extent,
    sums: &mut [[f32; LINE]; 2],
) {
    unsafe {
        clear_tail::<V>(g, extent);
        let (scale, shift) = (V::splat(affine.scale), V::splat(affine.shift));
        let mut pair = Pair::<V>::zero();
        in_turns!(V, extent.span, |turn, x| {
            let sent = V::load(g.add(x));
            sent.store(total.add(x));
            let z = V::load(z.add(x));
            let g = sent.mul(shift.plus_product(z, scale).elu_slope());
            pair.add(turn, g, z);
        });
        pair.add_to(sums);
    }
}
