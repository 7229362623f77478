//! The backward pass of one convolution of the tower with the normalisation above it: the gradient of its output is
//! made while it is read, the gradients of its input and of its weights come from the same rows, and what the
//! normalisation below needs is summed on the way out.

use super::passes::{self, Extent, From, LaneSums, To};
use super::rows::{Lines, Ring, Rows, SharedRows, Strand};
use super::taps::{self, Meanwhile, Taps};
use super::{Source, WIDTH};
use crate::network::normalisation::{Affine, GradientTerms};
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::{Path, run_on};
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
                    scratch.weight.fill(0.0);
                    backward_strand(path, self, strand, scratch, &mut below);
                    (taps::unpacked_gradient(&scratch.weight, self.taps.inputs), below)
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
    /// Two rows of the gradient towards the input, `[8, stride]` each: one is made while the other is sent on.
    made: [Lines; 2],
    weight: Vec<f32>,
}

impl Scratch {
    fn new(taps: Taps, extent: &Extent) -> Self {
        let row = || Lines::uninitialised(WIDTH * extent.stride);
        Self {
            gradients: Ring::new(4, WIDTH, extent.stride, taps.dilation),
            input: Ring::new(3, taps.inputs, extent.stride, taps.dilation),
            made: [row(), row()],
            weight: vec![0.0; taps::lane_sums_len(taps.inputs)],
        }
    }
}

run_on!(fn backward_strand = backward_strand_kernel(
    layer: &Convolution<'_>,
    strand: Strand,
    scratch: &mut Scratch,
    below: &mut LaneSums,
));

/// # Safety
/// The instruction set of `V` must be there; no other task may write the strand's rows.
#[inline(always)]
unsafe fn backward_strand_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    layer: &Convolution<'_>,
    strand: Strand,
    scratch: &mut Scratch,
    below: &mut LaneSums,
) {
    let (extent, rows) = (&layer.extent, strand.rows as isize);
    let Scratch { gradients, input, made, weight } = scratch;
    let made = [0, 1].map(|which: usize| To { start: made[which].start_mut(), stride: extent.stride });
    let turned = Taps { inputs: WIDTH, ..layer.taps };
    unsafe {
        for index in -1..=1 {
            Gradient::new(layer, strand, index, gradients).row::<V>();
        }
        Input::new(layer, strand, 0, input).row::<V>();
        for index in 0..rows {
            let around = gradients.around(index);
            let mut meanwhile = Step {
                gradient: Gradient::new(layer, strand, index + 2, gradients),
                input: Input::new(layer, strand, index + 1, input),
                send: (index > 0)
                    .then(|| Send::new(layer, strand, index - 1, made[(index as usize + 1) % 2], input)),
                below: &mut *below,
            };
            if matches!(layer.outgoing, Outgoing::Nowhere) {
                for channel in 0..WIDTH {
                    meanwhile.channel::<V>(channel);
                }
            } else {
                let (weight, to) = (layer.weight.as_ptr(), made[index as usize % 2]);
                taps::convolve_row::<V, _, OUTPUTS, VECTORS>(
                    around,
                    weight,
                    turned,
                    to,
                    extent,
                    &mut meanwhile,
                );
            }
            let row = From { start: input.row(index), stride: input.stride };
            taps::weight_gradient_row::<V, OUTPUTS>(row, around, layer.taps, weight.as_mut_ptr(), extent);
        }
        let last = Send::new(layer, strand, rows - 1, made[(rows as usize + 1) % 2], input);
        for channel in 0..WIDTH {
            last.channel::<V>(channel, below);
        }
    }
}

/// What a strand does while a row is convolved: the row of dz after the next and the next row of the input are made,
/// the row before is sent on.
struct Step<'a> {
    gradient: Gradient<'a>,
    input: Input<'a>,
    send: Option<Send<'a>>,
    below: &'a mut LaneSums,
}

impl Meanwhile for Step<'_> {
    #[inline(always)]
    unsafe fn channel<V: Arithmetic>(&mut self, channel: usize) {
        unsafe {
            self.gradient.channel::<V>(channel);
            self.input.channel::<V>(channel);
            if let Some(send) = &self.send {
                send.channel::<V>(channel, self.below);
            }
        }
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

/// A row of the gradient towards the input, handed on.
struct Send<'a> {
    layer: &'a Convolution<'a>,
    image: usize,
    y: usize,
    gradient: To,
    input: From,
}

impl<'a> Send<'a> {
    #[inline(always)]
    fn new(layer: &'a Convolution<'a>, strand: Strand, index: isize, gradient: To, input: &mut Ring) -> Self {
        let y = strand.first_y + index as usize * strand.dilation;
        let input = From { start: input.row(index), stride: input.stride };
        Self { layer, image: strand.image, y, gradient, input }
    }

    #[inline(always)]
    unsafe fn channel<V: Arithmetic>(&self, channel: usize, below: &mut LaneSums) {
        let (extent, sums) = (&self.layer.extent, &mut below[channel]);
        unsafe {
            let from = |rows: &Rows| rows.row(self.image, self.y).add(channel * extent.stride);
            let to = |rows: SharedRows| rows.row(self.image, self.y).add(channel * extent.stride);
            let gradient = self.gradient.at(channel, 0);
            match self.layer.outgoing {
                Outgoing::Nowhere => {}
                Outgoing::ThroughBend { z, to: rows } => {
                    let input = self.input.at(channel, 0);
                    passes::through_bend::<V>(gradient, input, from(z), to(rows), extent, sums);
                }
                Outgoing::Joined { total, z, affine } => {
                    let total = to(total);
                    passes::join_and_sum::<V>(gradient, total, total, from(z), affine[channel], extent, sums);
                }
            }
        }
    }
}
