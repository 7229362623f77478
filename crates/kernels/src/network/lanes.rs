//! Loops over long slices in vectors: whole registers, then a last part; numbers of channels that repeat along the
//! slice; the fixed cut into blocks that threads share.

use super::vector::arithmetic::Arithmetic;
use rayon::prelude::*;

/// Floats that one task takes: 128 KB of each slice, enough that a task costs more than its hand-over, and small
/// enough that two or three slices stay in a core's own cache. Fixed, so that no sum depends on the number of threads.
pub(super) const BLOCK: usize = 32 * 1024;

/// Which lanes of a register a step touches.
pub(super) trait Lanes: Copy {
    /// # Safety
    /// The lanes' floats must be readable from `from` on; lanes that are not touched come out as zero.
    unsafe fn load<V: Arithmetic>(self, from: *const f32) -> V;
    /// # Safety
    /// The lanes' floats must be writable from `to` on.
    unsafe fn store<V: Arithmetic>(self, value: V, to: *mut f32);
    /// The value in these lanes, zero in the others.
    ///
    /// # Safety
    /// The instruction set must be there.
    unsafe fn splat<V: Arithmetic>(self, value: f32) -> V;
    /// # Safety
    /// As [`Lanes::load`], in bytes.
    unsafe fn load_bytes<V: Arithmetic>(self, from: *const u8) -> V;
    /// # Safety
    /// As [`Lanes::store`], in bytes.
    unsafe fn store_bytes<V: Arithmetic>(self, value: V, to: *mut u8);
}

/// Every lane.
#[derive(Clone, Copy)]
pub(super) struct All;

/// The first lanes, at the end of a slice.
#[derive(Clone, Copy)]
pub(super) struct First(pub(super) usize);

impl Lanes for All {
    #[inline(always)]
    unsafe fn load<V: Arithmetic>(self, from: *const f32) -> V {
        unsafe { V::load(from) }
    }
    #[inline(always)]
    unsafe fn store<V: Arithmetic>(self, value: V, to: *mut f32) {
        unsafe { value.store(to) }
    }
    #[inline(always)]
    unsafe fn splat<V: Arithmetic>(self, value: f32) -> V {
        unsafe { V::splat(value) }
    }
    #[inline(always)]
    unsafe fn load_bytes<V: Arithmetic>(self, from: *const u8) -> V {
        unsafe { V::load_bytes(from) }
    }
    #[inline(always)]
    unsafe fn store_bytes<V: Arithmetic>(self, value: V, to: *mut u8) {
        unsafe { value.store_bytes(to) }
    }
}

impl Lanes for First {
    #[inline(always)]
    unsafe fn load<V: Arithmetic>(self, from: *const f32) -> V {
        unsafe { V::load_first(from, self.0) }
    }
    #[inline(always)]
    unsafe fn store<V: Arithmetic>(self, value: V, to: *mut f32) {
        unsafe { value.store_first(to, self.0) }
    }
    #[inline(always)]
    unsafe fn splat<V: Arithmetic>(self, value: f32) -> V {
        unsafe { V::load_first([value; 16].as_ptr(), self.0) }
    }
    #[inline(always)]
    unsafe fn load_bytes<V: Arithmetic>(self, from: *const u8) -> V {
        unsafe { V::load_first_bytes(from, self.0) }
    }
    #[inline(always)]
    unsafe fn store_bytes<V: Arithmetic>(self, value: V, to: *mut u8) {
        unsafe { value.store_first_bytes(to, self.0) }
    }
}

/// Runs the body with `at` and `lanes` for each register of `length` floats.
macro_rules! for_lanes {
    ($V:ident, $length:expr, |$at:ident, $lanes:ident| $body:expr) => {{
        let length: usize = $length;
        let whole = length / $V::LANES * $V::LANES;
        for $at in (0..whole).step_by($V::LANES) {
            let $lanes = $crate::network::lanes::All;
            $body;
        }
        if whole < length {
            let ($at, $lanes) = (whole, $crate::network::lanes::First(length - whole));
            $body;
        }
    }};
}
pub(super) use for_lanes;

/// As [`for_lanes`], with the `column` of `at` in a pattern of `period` floats (a multiple of any register) that
/// repeats along the slice.
macro_rules! for_periodic_lanes {
    ($V:ident, $length:expr, $period:expr, |$at:ident, $column:ident, $lanes:ident| $body:expr) => {{
        let period: usize = $period;
        let mut $column = 0;
        $crate::network::lanes::for_lanes!($V, $length, |$at, $lanes| {
            $body;
            $column += $V::LANES;
            if $column == period {
                $column = 0;
            }
        });
        let _ = $column;
    }};
}
pub(super) use for_periodic_lanes;

/// Sums two numbers for each place of a pattern over a slice. The body adds to the registers `$first` and `$second`;
/// four periods go by between their loads and stores, which would cost more than the additions (a core took moments of
/// what was in its own cache at 26 GB/s with one period, at 37 with four).
macro_rules! sum_periodic_lanes {
    ($V:ident, $length:expr, $sums:expr, |$at:ident, $column:ident, $lanes:ident, $first:ident, $second:ident|
     $body:expr) => {{
        let (first_sums, second_sums): (&mut [f32], &mut [f32]) = $sums;
        let (length, period): (usize, usize) = ($length, first_sums.len());
        let grouped = length / (4 * period) * (4 * period);
        for start in (0..grouped).step_by(4 * period) {
            for $column in (0..period).step_by($V::LANES) {
                let first_place = first_sums.as_mut_ptr().add($column);
                let second_place = second_sums.as_mut_ptr().add($column);
                let (mut $first, mut $second) = ($V::load(first_place), $V::load(second_place));
                for row in 0..4 {
                    let ($at, $lanes) = (start + row * period + $column, $crate::network::lanes::All);
                    $body;
                }
                $first.store(first_place);
                $second.store(second_place);
            }
        }
        $crate::network::lanes::for_periodic_lanes!($V, length - grouped, period, |rest, $column, $lanes| {
            let $at = grouped + rest;
            let first_place = first_sums.as_mut_ptr().add($column);
            let second_place = second_sums.as_mut_ptr().add($column);
            let (mut $first, mut $second) = ($V::load(first_place), $V::load(second_place));
            $body;
            $first.store(first_place);
            $second.store(second_place);
        });
    }};
}
pub(super) use sum_periodic_lanes;

/// Numbers of channels written out until they repeat in whole registers, so that an odd number of channels runs as
/// fast as 64.
#[derive(Clone, Copy, Debug)]
pub(super) struct Period {
    channels: usize,
    /// Floats until the pattern repeats: whole pixels, and a multiple of 16.
    pub(super) length: usize,
}

impl Period {
    /// At least this long, so that a sum kept in memory for each place of the pattern is written back before the
    /// pattern comes round: eight registers.
    const LEAST: usize = 128;

    /// # Panics
    /// Without channels.
    pub(super) fn new(channels: usize) -> Self {
        assert!(channels > 0, "at least one channel");
        let mut step = channels;
        while !step.is_multiple_of(16) {
            step *= 2;
        }
        Self { channels, length: step * Self::LEAST.div_ceil(step) }
    }

    /// A block's length: near [`BLOCK`], whole periods.
    pub(super) fn block(self) -> usize {
        (BLOCK / self.length).max(1) * self.length
    }

    /// `of(channel)` for each place of the pattern.
    pub(super) fn spread(self, of: impl Fn(usize) -> f32) -> Vec<f32> {
        (0..self.length).map(|place| of(place % self.channels)).collect()
    }

    /// Adds a pattern's places to their channels' totals, in order.
    pub(super) fn fold_into(self, places: &[f32], totals: &mut [f64]) {
        for pixel in places.chunks_exact(self.channels) {
            for (total, place) in totals.iter_mut().zip(pixel) {
                *total += f64::from(*place);
            }
        }
    }

    /// The number of pixels in a slice of `[pixels, channels]`.
    ///
    /// # Panics
    /// When the last pixel is not whole.
    pub(super) fn pixels(self, values: &[f32]) -> usize {
        assert_eq!(values.len() % self.channels, 0, "whole pixels");
        values.len() / self.channels
    }

    /// Two totals a channel from `of(block, first sums, second sums)`, which adds to sums at each place of the
    /// pattern: single precision within a block, double precision over the blocks, in order.
    pub(super) fn total<B: Send>(
        self,
        blocks: impl IndexedParallelIterator<Item = B>,
        of: impl Fn(B, &mut [f32], &mut [f32]) + Sync + Send,
    ) -> Vec<[f64; 2]> {
        let channels = self.channels;
        let of_block = |places: &mut Vec<f32>, block: B| {
            places.fill(0.0);
            let (first, second) = places.split_at_mut(self.length);
            of(block, first, second);
            let mut totals = vec![0.0; 2 * channels];
            self.fold_into(first, &mut totals[..channels]);
            self.fold_into(second, &mut totals[channels..]);
            totals
        };
        let partial: Vec<Vec<f64>> = blocks.map_init(|| vec![0.0; 2 * self.length], of_block).collect();
        let sum = |place: usize| partial.iter().map(|totals| totals[place]).sum::<f64>();
        (0..channels).map(|c| [sum(c), sum(channels + c)]).collect()
    }
}
