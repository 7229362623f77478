//! The backward pass of one convolution of the tower with the normalisation above it: the gradient of its output is
//! made while it is read, the gradients of its input and of its weights come from the same rows, and what the
//! normalisation below needs is summed on the way out.

#![allow(clippy::needless_range_loop)] // Loops over registers: see `passes`.

use super::beside::Beside;
use super::groups::{self, Combined, Company, FourRows, GROUP, POINTS, Places, Shared, Tile};
use super::made::{self, WindowChannel};
use super::passes::{Extent, LaneSums, RowSums};
use super::rows::{Lines, Rows, SharedRows, Strand};
use super::taps::{TAPS, Taps};
use super::weight_gradient;
use super::{Source, WIDTH};
use crate::network::normalisation::{Affine, GradientTerms};
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::{Path, fence, run_on};
use rayon::prelude::*;

/// The gradient that comes in.
#[derive(Clone, Copy)]
pub(super) enum Incoming<'a> {
    /// Towards the value after ELU.
    OfBent { g: &'a Rows, affine: &'a [Affine; WIDTH] },
    /// Towards the value before ELU, after normalisation.
    OfNormalised { g: &'a Rows },
}

/// Where the gradient towards the input goes.
#[derive(Clone, Copy)]
pub(super) enum Outgoing<'a> {
    /// Nowhere: nothing is trained below.
    Nowhere,
    /// Through the ELU that made the input from `z`: towards the normalised value.
    ThroughBend { z: &'a Rows, to: SharedRows },
    /// Added to what comes down past the block; the layer below is z with ELU.
    Joined { total: SharedRows, z: &'a Rows, affine: &'a [Affine; WIDTH] },
}

/// A convolution's backward pass.
pub(super) struct Convolution<'a> {
    pub(super) incoming: Incoming<'a>,
    /// The convolution's output.
    pub(super) z: &'a Rows,
    pub(super) terms: &'a [GradientTerms; WIDTH],
    pub(super) input: Source<'a>,
    pub(super) outgoing: Outgoing<'a>,
    /// Turned round, transformed: `[6 points, output, kx, 8 inputs]`.
    pub(super) weight: &'a [f32],
    pub(super) taps: Taps,
    pub(super) images: usize,
    pub(super) height: usize,
    pub(super) extent: Extent,
}

/// What a convolution's backward pass sums up.
pub(super) struct Sums {
    /// `[8, inputs, 3, 3]`.
    pub(super) weight: Vec<f32>,
    /// For the layer below: Σ of the gradient towards its normalised value, and Σ of that times z.
    pub(super) below: [[f64; 2]; WIDTH],
}

impl Convolution<'_> {
    pub(super) fn run(&self, path: Path) -> Sums {
        let strands = Strand::all(self.images, self.height, self.taps.dilation);
        let tasks: Vec<(Vec<f64>, LaneSums)> = strands
            .into_par_iter()
            .map_init(
                || Scratch::new(self.taps, &self.extent),
                |scratch, strand| {
                    let mut below = LaneSums::default();
                    scratch.weight.clear();
                    backward_strand(path, self, strand, scratch, &mut below);
                    // SAFETY: all sums were made zero, and added to.
                    let sums = unsafe { scratch.weight.written() };
                    (weight_gradient::unpacked(sums, self.taps.inputs, path.lanes()), below)
                },
            )
            .collect();
        let weight = (0..self.taps.inputs * WIDTH * TAPS)
            .map(|i| tasks.iter().map(|(weight, _)| weight[i]).sum::<f64>() as f32)
            .collect();
        let below: Vec<LaneSums> = tasks.into_iter().map(|(_, below)| below).collect();
        Sums { weight, below: super::channel_sums(&below) }
    }
}

struct Scratch {
    /// The last two rows of dz of a window of six, which the next one shares.
    shared: Shared,
    /// Combined rows of dz.
    gradients: Combined,
    /// Combined rows of the input, as the weights see it.
    input: Combined,
    /// The second and third of a group's rows of the input; the others are among the combined ones.
    between: Shared,
    products: Lines,
    /// Lane sums of the weights' gradient.
    weight: Lines,
}

impl Scratch {
    fn new(taps: Taps, extent: &Extent) -> Self {
        let input = Combined::new(taps.inputs, extent.span, taps.dilation);
        Self {
            shared: Shared::new(WIDTH, extent.stride),
            gradients: Combined::new(WIDTH, extent.span, taps.dilation),
            between: Shared::new(taps.inputs, input.stride()),
            input,
            products: Lines::uninitialised(groups::PRODUCTS),
            weight: Lines::zeros(weight_gradient::sums_len(taps.inputs)),
        }
    }

    /// A group's rows of the input, as they were before they were combined: the first and the last are those at 0 and ∞.
    #[inline(always)]
    fn input_rows(&mut self) -> FourRows {
        let points = self.input.points();
        let [second, third] = self.between.channel(0).map(<*mut f32>::cast_const);
        [points[0].start, second, third, points[POINTS - 1].start]
    }
}

run_on!(fn backward_strand = backward_strand_kernel(
    layer: &Convolution<'_>,
    strand: Strand,
    scratch: &mut Scratch,
    below: &mut LaneSums,
); 3 wide);

/// # Safety
/// The instruction set of `V` must be there; no other task may write the strand's rows.
#[inline(always)]
unsafe fn backward_strand_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    layer: &Convolution<'_>,
    strand: Strand,
    scratch: &mut Scratch,
    below: &mut LaneSums,
) {
    let (extent, taps) = (&layer.extent, layer.taps);
    let mut row_sums = RowSums::default();
    // A window is the row before a group, its four rows, and the row behind: the last four are new.
    let new = |first: isize| Places::new(strand, first + 1, layer.height);
    unsafe {
        for channel in 0..WIDTH {
            read_gradient::<V, true>(layer, new(-(GROUP as isize)), channel, scratch);
        }
        for first in (0..strand.rows).step_by(GROUP) {
            let own = Places::new(strand, first as isize, layer.height);
            for channel in 0..WIDTH {
                read_gradient::<V, false>(layer, new(first as isize), channel, scratch);
            }
            for channel in 0..taps.inputs {
                read_input::<V>(layer, own, channel, scratch);
            }
            if !matches!(layer.outgoing, Outgoing::Nowhere) {
                let mut exit = Exit {
                    layer,
                    own,
                    bent: scratch.input_rows(),
                    bent_stride: scratch.input.stride(),
                    z: layer.below(own),
                    to: layer.to(own),
                    sums: &mut row_sums,
                };
                groups::convolve_group::<V, _, OUTPUTS, VECTORS>(
                    scratch.gradients.points(),
                    layer.weight.as_ptr(),
                    Taps { inputs: WIDTH, ..taps },
                    extent,
                    scratch.products.start_mut(),
                    &mut exit,
                );
                row_sums.end_row::<V>(below);
            }
            weight_gradient::correlate::<V, OUTPUTS>(
                scratch.input.points(),
                scratch.gradients.points(),
                taps,
                scratch.weight.start_mut(),
                extent.span,
            );
        }
    }
    fence();
}

/// Makes the new rows of a channel of dz; `BEGIN`: only the last two, for the first window.
#[inline(always)]
unsafe fn read_gradient<V: Arithmetic, const BEGIN: bool>(
    layer: &Convolution<'_>,
    places: Places,
    channel: usize,
    scratch: &mut Scratch,
) {
    let (extent, terms, z) = (&layer.extent, &layer.terms[channel], places.of(layer.z, channel));
    let (shared, to_next) =
        (scratch.shared.channel(channel), places.strand.distance_to_next(channel, extent.stride));
    let window = WindowChannel { shared, inside: places.inside, keep: [None; GROUP], to_next };
    let to = scratch.gradients.channel(channel);
    unsafe {
        match layer.incoming {
            Incoming::OfBent { g, affine } => {
                let g = places.of(g, channel);
                let make = made::GradientOfBent { g, z, affine: affine[channel], terms };
                window.make::<V, _, BEGIN>(make, to, extent);
            }
            Incoming::OfNormalised { g } => {
                let make = made::GradientOfNormalised { g: places.of(g, channel), z, terms };
                window.make::<V, _, BEGIN>(make, to, extent);
            }
        }
    }
}

/// Makes a group's rows of a channel of the input.
#[inline(always)]
unsafe fn read_input<V: Arithmetic>(
    layer: &Convolution<'_>,
    places: Places,
    channel: usize,
    scratch: &mut Scratch,
) {
    let (to, between) = (scratch.input.channel(channel), scratch.between.channel(channel));
    let (own, extent) = (places.own, &layer.extent);
    let to_next = places.strand.distance_to_next(channel, extent.stride);
    unsafe {
        match layer.input {
            Source::Picture { values, shape } => {
                let row = |y: usize| values.as_ptr().add(shape.row_start(places.strand.image, channel, y));
                let make = made::Picture { rows: places.y.map(row), width: extent.width };
                made::combine_own::<V, _>(make, own, to, between, to_next, extent);
            }
            Source::Plain(rows) => {
                let make = made::Plain { rows: places.of(rows, channel) };
                made::combine_own::<V, _>(make, own, to, between, to_next, extent);
            }
            Source::Bent { z, affine } => {
                let make = made::Bent { z: places.of(z, channel), affine: affine[channel] };
                made::combine_own::<V, _>(make, own, to, between, to_next, extent);
            }
            Source::Joined { .. } => unreachable!("what is joined was written down"),
        }
    }
}

impl Convolution<'_> {
    /// What the input was made of.
    #[inline(always)]
    fn below(&self, places: Places) -> FourRows {
        match self.outgoing {
            Outgoing::Nowhere => places.of(self.z, 0),
            Outgoing::ThroughBend { z, .. } | Outgoing::Joined { z, .. } => places.of(z, 0),
        }
    }

    /// Where the gradient of the input goes.
    #[inline(always)]
    fn to(&self, places: Places) -> [*mut f32; GROUP] {
        match self.outgoing {
            Outgoing::Nowhere => [std::ptr::null_mut(); GROUP],
            Outgoing::ThroughBend { to, .. } => places.to(to, 0),
            Outgoing::Joined { total, .. } => places.to(total, 0),
        }
    }
}

/// Where a group of rows of the gradient towards the input goes.
struct Exit<'a> {
    layer: &'a Convolution<'a>,
    own: Places,
    /// The input, where it was bent.
    bent: FourRows,
    bent_stride: usize,
    /// What the input was made of.
    z: FourRows,
    to: [*mut f32; GROUP],
    sums: &'a mut RowSums,
}

impl Company for Exit<'_> {
    #[inline(always)]
    fn fetch(&mut self, tile: Tile, turn: usize) {
        if let Outgoing::Joined { .. } = self.layer.outgoing {
            let total = self.to.map(<*mut f32>::cast_const);
            Beside::new([self.z, total], self.layer.extent.stride).fetch(tile, turn);
        }
    }

    #[inline(always)]
    fn whole(&self) -> bool {
        self.own.own == [true; GROUP]
    }

    /// Sends the gradient of a channel on, from pixel `x` on; sums what reaches the normalised value below, and that
    /// times z.
    #[inline(always)]
    unsafe fn take<V: Arithmetic, const WHOLE: bool>(&mut self, channel: usize, x: usize, mut g: [V; GROUP]) {
        let (extent, own) = (&self.layer.extent, self.own.own);
        let at = channel * extent.stride + x;
        let mut z = [unsafe { V::zero() }; GROUP];
        unsafe {
            for r in 0..GROUP {
                if !WHOLE {
                    g[r] = if own[r] { extent.within(x, g[r]) } else { V::zero() };
                }
                z[r] = V::load(self.z[r].add(at));
            }
            match self.layer.outgoing {
                Outgoing::Nowhere => return,
                // ELU′ from the bent value y: 1 for y > 0, else y + 1.
                Outgoing::ThroughBend { .. } => {
                    let one = V::splat(1.0);
                    for r in 0..GROUP {
                        let bent = V::load(self.bent[r].add(channel * self.bent_stride + x));
                        g[r] = g[r].mul(bent.where_positive(one, bent.add(one)));
                        if WHOLE || own[r] {
                            g[r].store_past_caches(self.to[r].add(at));
                        }
                    }
                }
                Outgoing::Joined { affine, .. } => {
                    let (scale, shift) = (V::splat(affine[channel].scale), V::splat(affine[channel].shift));
                    let mut bent = [V::zero(); GROUP];
                    for r in 0..GROUP {
                        bent[r] = shift.plus_product(z[r], scale);
                    }
                    let slopes = V::elu_slopes(bent);
                    for r in 0..GROUP {
                        if WHOLE || own[r] {
                            let total = self.to[r].add(at);
                            let joined = g[r].add(V::load(total));
                            joined.store(total);
                            g[r] = joined.mul(slopes[r]);
                        }
                    }
                }
            }
            self.sums.add(channel, g, z);
        }
    }
}
