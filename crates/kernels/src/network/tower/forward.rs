//! One convolution of the tower in training: its input is made from the layers below while it is read, its output's
//! moments are summed while it is written.

#![allow(clippy::needless_range_loop)] // Loops over registers: see `passes`.

use super::groups::{self, Combined, Company, GROUP, Places, Shared};
use super::made::{self, WindowChannel};
use super::passes::{Extent, LaneSums, RowSums};
use super::rows::{Lines, SharedRows, Strand};
use super::taps::Taps;
use super::{Source, WIDTH};
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::{Path, fence, run_on};
use rayon::prelude::*;

/// Where the input of a convolution comes from, and whether it is kept.
pub(super) struct Input<'a> {
    pub(super) source: Source<'a>,
    /// Where the input is written down for the backward pass.
    pub(super) keep: Option<SharedRows>,
}

/// A convolution in training.
pub(super) struct Convolution<'a> {
    pub(super) input: Input<'a>,
    /// Transformed: `[6 points, input, kx, 8]`.
    pub(super) weight: &'a [f32],
    pub(super) taps: Taps,
    pub(super) images: usize,
    pub(super) height: usize,
    pub(super) extent: Extent,
}

impl Convolution<'_> {
    /// Writes z and gives Σz and Σz² of each channel.
    pub(super) fn run(&self, path: Path, z: SharedRows) -> [[f64; 2]; WIDTH] {
        let strands = Strand::all(self.images, self.height, self.taps.dilation);
        let sums: Vec<LaneSums> = strands
            .into_par_iter()
            .map_init(
                || Scratch::new(self.taps, &self.extent),
                |scratch, strand| {
                    let mut sums = LaneSums::default();
                    forward_strand(path, self, strand, scratch, z, &mut sums);
                    sums
                },
            )
            .collect();
        super::channel_sums(&sums)
    }
}

struct Scratch {
    /// The last two rows of a window of six, which the next one shares.
    shared: Shared,
    combined: Combined,
    products: Lines,
}

impl Scratch {
    fn new(taps: Taps, extent: &Extent) -> Self {
        Self {
            shared: Shared::new(taps.inputs, extent.stride),
            combined: Combined::new(taps.inputs, extent.span, taps.dilation),
            products: Lines::uninitialised(groups::PRODUCTS),
        }
    }
}

run_on!(fn forward_strand = forward_strand_kernel(
    layer: &Convolution<'_>,
    strand: Strand,
    scratch: &mut Scratch,
    z: SharedRows,
    sums: &mut LaneSums,
); 3 wide);

/// # Safety
/// The instruction set of `V` must be there; no other task may write the strand's rows.
#[inline(always)]
unsafe fn forward_strand_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    layer: &Convolution<'_>,
    strand: Strand,
    scratch: &mut Scratch,
    z: SharedRows,
    sums: &mut LaneSums,
) {
    let extent = &layer.extent;
    let Scratch { shared, combined, products } = scratch;
    let mut row_sums = RowSums::default();
    // A window is the row before a group, its four rows, and the row behind: the last four are new.
    let new = |first: isize| Places::new(strand, first + 1, layer.height);
    unsafe {
        for channel in 0..layer.taps.inputs {
            read::<V, true>(layer, strand, new(-(GROUP as isize)), channel, shared, combined);
        }
        for first in (0..strand.rows).step_by(GROUP) {
            for channel in 0..layer.taps.inputs {
                read::<V, false>(layer, strand, new(first as isize), channel, shared, combined);
            }
            let own = Places::new(strand, first as isize, layer.height);
            let mut exit = Exit { z: own.to(z, 0), own: own.own, extent, sums: &mut row_sums };
            groups::convolve_group::<V, _, OUTPUTS, VECTORS>(
                combined.points(),
                layer.weight.as_ptr(),
                layer.taps,
                extent,
                products.start_mut(),
                &mut exit,
            );
            row_sums.end_row::<V>(sums);
        }
    }
    fence();
}

/// Makes the new rows of a channel; `BEGIN`: only the last two, for the first window.
#[inline(always)]
unsafe fn read<V: Arithmetic, const BEGIN: bool>(
    layer: &Convolution<'_>,
    strand: Strand,
    places: Places,
    channel: usize,
    shared: &mut Shared,
    combined: &mut Combined,
) {
    let extent = &layer.extent;
    let keep = match layer.input.keep {
        Some(keep) => places.own_to(keep, channel),
        None => [None; GROUP],
    };
    let window = WindowChannel {
        shared: shared.channel(channel),
        inside: places.inside,
        keep,
        to_next: strand.distance_to_next(channel, extent.stride),
    };
    let to = combined.channel(channel);
    unsafe {
        match layer.input.source {
            Source::Picture { values, shape } => {
                let row = |y: usize| values.as_ptr().add(shape.row_start(strand.image, channel, y));
                let make = made::Picture { rows: places.y.map(row), width: extent.width };
                window.make::<V, _, BEGIN>(make, to, extent);
            }
            Source::Plain(rows) => {
                let make = made::Plain { rows: places.of(rows, channel) };
                window.make::<V, _, BEGIN>(make, to, extent);
            }
            Source::Bent { z, affine } => {
                let make = made::Bent { z: places.of(z, channel), affine: affine[channel] };
                window.make::<V, _, BEGIN>(make, to, extent);
            }
            Source::Joined { base, z, affine } => {
                let bent = made::Bent { z: places.of(z, channel), affine: affine[channel] };
                let make = made::Joined { base: places.of(base, channel), bent };
                window.make::<V, _, BEGIN>(make, to, extent);
            }
        }
    }
}

/// Where a group of rows of z goes: to memory, and its sums.
struct Exit<'a> {
    z: [*mut f32; GROUP],
    /// Which of the group's rows belong to the strand.
    own: [bool; GROUP],
    extent: &'a Extent,
    sums: &'a mut RowSums,
}

impl Company for Exit<'_> {
    #[inline(always)]
    fn whole(&self) -> bool {
        self.own == [true; GROUP]
    }

    #[inline(always)]
    unsafe fn take<V: Arithmetic, const WHOLE: bool>(&mut self, output: usize, x: usize, mut z: [V; GROUP]) {
        unsafe {
            for r in 0..GROUP {
                if WHOLE || self.own[r] {
                    z[r] = if WHOLE { z[r] } else { self.extent.within(x, z[r]) };
                    z[r].store_past_caches(self.z[r].add(output * self.extent.stride + x));
                } else {
                    z[r] = V::zero();
                }
            }
            self.sums.add(output, z, z);
        }
    }
}
