//! The backward pass of one convolution of the tower with the normalisation above it: the gradient of its output is
//! made while it is read, the gradients of its input and of its weights come from the same rows, and what the
//! normalisation below needs is summed on the way out.

#![allow(clippy::needless_range_loop)] // Loops over registers: see `passes`.

use super::ahead::Ahead;
use super::passes::{self, Extent, From, LaneSums, RowSums, To};
use super::rows::{Lines, Ring, Rows, SharedRows, Strand};
use super::taps::{self, Company, Taps};
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
    /// Turned round: `[output, ky, kx, 8 inputs]`.
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
                    (taps::unpacked_gradient(sums, self.taps.inputs), below)
                },
            )
            .collect();
        let weight = (0..self.taps.inputs * WIDTH * taps::TAPS)
            .map(|i| tasks.iter().map(|(weight, _)| weight[i]).sum::<f64>() as f32)
            .collect();
        let below: Vec<LaneSums> = tasks.into_iter().map(|(_, below)| below).collect();
        Sums { weight, below: super::channel_sums(&below) }
    }
}

struct Scratch {
    /// Rows of dz.
    gradients: Ring,
    /// Rows of the input.
    input: Ring,
    /// Lane sums of the weights' gradient.
    weight: Lines,
}

impl Scratch {
    fn new(taps: Taps, extent: &Extent) -> Self {
        Self {
            gradients: Ring::new(4, WIDTH, extent.span, taps.dilation),
            input: Ring::new(2, taps.inputs, extent.span, taps.dilation),
            weight: Lines::zeros(taps::lane_sums_len(taps.inputs)),
        }
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
    let extent = &layer.extent;
    let Scratch { gradients, input, weight } = scratch;
    let turned = Taps { inputs: WIDTH, ..layer.taps };
    let mut row_sums = RowSums::default();
    unsafe {
        for index in -1..=1 {
            Gradient::new(layer, strand, index, gradients).row::<V>();
        }
        Input::new(layer, strand, 0, input).row::<V>();
        for index in 0..strand.rows as isize {
            let around = gradients.around(index);
            let row = From { start: input.row(index), stride: input.stride };
            let mut step = Step {
                gradient: Gradient::new(layer, strand, index + 2, gradients),
                input: Input::new(layer, strand, index + 1, input),
                ahead: layer.ahead(strand, index, row.start),
                exit: Exit::new(layer, strand, index, row),
                sums: &mut row_sums,
            };
            if matches!(layer.outgoing, Outgoing::Nowhere) {
                for channel in 0..WIDTH {
                    step.channel::<V>(channel);
                }
            } else {
                let weight = layer.weight.as_ptr();
                taps::convolve_row::<V, _, OUTPUTS, VECTORS>(around, weight, turned, extent, &mut step);
                row_sums.end_row::<V>(below);
            }
            taps::weight_gradient_row::<V, OUTPUTS>(row, around, layer.taps, weight.start_mut(), extent);
        }
    }
    fence();
}

impl Convolution<'_> {
    /// Asks for the rows that are needed while row `index + 1` is convolved, and for those that row `index` is added
    /// to; `near` is what to ask for where there is no such row.
    #[inline(always)]
    fn ahead(&self, strand: Strand, index: isize, near: *const f32) -> Ahead<4> {
        let inside =
            |index: isize, last: usize| strand.y(index, self.height).filter(|_| index <= last as isize);
        let row = |rows: &Rows, y: Option<usize>| y.map_or(near, |y| rows.row(strand.image, y));
        let (gradient_y, input_y) = (inside(index + 3, strand.rows), inside(index + 2, strand.rows - 1));
        let gradient = match self.incoming {
            Incoming::OfBent { g, .. } | Incoming::OfNormalised { g } => row(g, gradient_y),
        };
        let input = match self.input {
            Source::Plain(rows) => row(rows, input_y),
            Source::Bent { z, .. } => row(z, input_y),
            Source::Picture { .. } | Source::Joined { .. } => near,
        };
        let next_y = inside(index + 1, strand.rows - 1);
        let (below, written) = match self.outgoing {
            Outgoing::Joined { total, z, .. } => {
                (row(z, next_y), next_y.map(|y| total.row(strand.image, y).cast_const()))
            }
            Outgoing::Nowhere | Outgoing::ThroughBend { .. } => (near, None),
        };
        Ahead::new([gradient, row(self.z, gradient_y), input, below], written, &self.extent)
    }
}

/// What a strand does while a row is convolved: the row of dz after the next and the next row of the input are made,
/// the gradient towards the input is sent on.
struct Step<'a> {
    gradient: Gradient<'a>,
    input: Input<'a>,
    ahead: Ahead<4>,
    exit: Exit<'a>,
    sums: &'a mut RowSums,
}

impl Company for Step<'_> {
    #[inline(always)]
    unsafe fn channel<V: Arithmetic>(&mut self, channel: usize) {
        unsafe {
            self.gradient.channel::<V>(channel);
            self.input.channel::<V>(channel);
        }
    }

    #[inline(always)]
    fn fetch(&mut self) {
        self.ahead.fetch();
    }

    #[inline(always)]
    unsafe fn take<V: Arithmetic, const VECTORS: usize>(&mut self, output: usize, x: usize, g: [V; VECTORS]) {
        unsafe { self.exit.take(output, x, g, self.sums) };
    }
}

/// A row of dz on its way into the ring.
struct Gradient<'a> {
    layer: &'a Convolution<'a>,
    image: usize,
    y: Option<usize>,
    to: To,
}

impl<'a> Gradient<'a> {
    #[inline(always)]
    fn new(layer: &'a Convolution<'a>, strand: Strand, index: isize, ring: &mut Ring) -> Self {
        let y = strand.y(index, layer.height).filter(|_| index <= strand.rows as isize);
        if y.is_none() {
            ring.clear(index);
        }
        Self { layer, image: strand.image, y, to: To { start: ring.row(index), stride: ring.stride } }
    }

    #[inline(always)]
    unsafe fn row<V: Arithmetic>(&self) {
        for channel in 0..WIDTH {
            unsafe { self.channel::<V>(channel) };
        }
    }

    #[inline(always)]
    unsafe fn channel<V: Arithmetic>(&self, channel: usize) {
        let Some(y) = self.y else { return };
        let (extent, terms) = (&self.layer.extent, &self.layer.terms[channel]);
        unsafe {
            let row = |rows: &Rows| rows.row(self.image, y).add(channel * extent.stride);
            let (z, to) = (row(self.layer.z), self.to.at(channel, 0));
            match self.layer.incoming {
                Incoming::OfBent { g, affine } => {
                    passes::gradient_of_bent::<V>(row(g), z, affine[channel], terms, to, extent);
                }
                Incoming::OfNormalised { g } => {
                    passes::gradient_of_normalised::<V>(row(g), z, terms, to, extent);
                }
            }
        }
    }
}

/// A row of the input on its way into the ring.
struct Input<'a> {
    layer: &'a Convolution<'a>,
    image: usize,
    y: Option<usize>,
    to: To,
}

impl<'a> Input<'a> {
    #[inline(always)]
    fn new(layer: &'a Convolution<'a>, strand: Strand, index: isize, ring: &mut Ring) -> Self {
        let y = strand.y(index, layer.height).filter(|_| index < strand.rows as isize);
        Self { layer, image: strand.image, y, to: To { start: ring.row(index), stride: ring.stride } }
    }

    #[inline(always)]
    unsafe fn row<V: Arithmetic>(&self) {
        for channel in 0..WIDTH {
            unsafe { self.channel::<V>(channel) };
        }
    }

    #[inline(always)]
    unsafe fn channel<V: Arithmetic>(&self, channel: usize) {
        let Some(y) = self.y else { return };
        if channel < self.layer.taps.inputs {
            let to = unsafe { self.to.at(channel, 0) };
            unsafe { self.layer.input.read::<V>(self.image, y, channel, to, &self.layer.extent) };
        }
    }
}

/// Where a row of the gradient towards the input goes.
enum Exit<'a> {
    Nowhere,
    ThroughBend { bent: From, z: From, to: To, extent: &'a Extent },
    Joined { total: To, z: From, affine: &'a [Affine; WIDTH], extent: &'a Extent },
}

impl<'a> Exit<'a> {
    #[inline(always)]
    fn new(layer: &'a Convolution<'a>, strand: Strand, index: isize, bent: From) -> Self {
        let (extent, y) = (&layer.extent, strand.first_y + index as usize * strand.dilation);
        let from = |rows: &Rows| From { start: rows.row(strand.image, y), stride: extent.stride };
        let to = |rows: SharedRows| To { start: rows.row(strand.image, y), stride: extent.stride };
        match layer.outgoing {
            Outgoing::Nowhere => Self::Nowhere,
            Outgoing::ThroughBend { z, to: rows } => {
                Self::ThroughBend { bent, z: from(z), to: to(rows), extent }
            }
            Outgoing::Joined { total, z, affine } => {
                Self::Joined { total: to(total), z: from(z), affine, extent }
            }
        }
    }

    /// Sends the gradient of a channel on, from pixel `x` on; sums what reaches the normalised value below, and that
    /// times z.
    #[inline(always)]
    unsafe fn take<V: Arithmetic, const VECTORS: usize>(
        &self,
        channel: usize,
        x: usize,
        mut g: [V; VECTORS],
        sums: &mut RowSums,
    ) {
        let mut values = [unsafe { V::zero() }; VECTORS];
        unsafe {
            match self {
                Self::Nowhere => return,
                // ELU′ from the bent value y: 1 for y > 0, else y + 1.
                Self::ThroughBend { bent, z, to, extent } => {
                    for v in 0..VECTORS {
                        let (x, one) = (x + v * V::LANES, V::splat(1.0));
                        let y = V::load(bent.at(channel, x));
                        g[v] = extent.within(x, g[v]).mul(y.where_positive(one, y.add(one)));
                        g[v].store_past_caches(to.at(channel, x));
                        values[v] = V::load(z.at(channel, x));
                    }
                }
                Self::Joined { total, z, affine, extent } => {
                    let Affine { scale, shift } = affine[channel];
                    for v in 0..VECTORS {
                        let x = x + v * V::LANES;
                        let joined = extent.within(x, g[v]).add(V::load(total.at(channel, x)));
                        joined.store(total.at(channel, x));
                        values[v] = V::load(z.at(channel, x));
                        let bent = V::splat(shift).plus_product(values[v], V::splat(scale));
                        g[v] = joined.mul(bent.elu_slope());
                    }
                }
            }
            sums.add(channel, g, values);
        }
    }
}
