//! The backward pass of one convolution of the tower with the normalisation above it: the gradient of its output is
//! made while it is read, the gradients of its input and of its weights come from the same rows, and what the
//! normalisation below needs is summed on the way out.

use super::forward::{Made, window};
use super::passes::{self, Extent, LaneSums};
use super::rows::{Combined, LINE, Lines, Ring, Rows, SharedRows, Strand};
use super::taps::{self, GROUP, Meanwhile, Taps, WINDOW};
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
    /// Turned round: `[6 points, output, kx, 8 inputs]`.
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
        let tasks: Vec<(Vec<f32>, LaneSums)> = strands
            .into_par_iter()
            .map_init(
                || Scratch::new(self.taps, &self.extent),
                |scratch, strand| {
                    let mut below = LaneSums::default();
                    let mut weight = vec![0.0; taps::sums_len(self.taps.inputs) * LINE];
                    backward_strand(path, self, strand, scratch, &mut weight, &mut below);
                    (weight, below)
                },
            )
            .collect();
        let (weight, below): (Vec<Vec<f32>>, Vec<LaneSums>) = tasks.into_iter().unzip();
        let weight = taps::unpacked_gradient(&taps::added(&weight, self.taps.inputs), self.taps.inputs);
        Sums { weight, below: super::channel_sums(&below) }
    }
}

/// Rows of the input that are kept: a window of six, and the group before, whose gradient is still to be sent on.
const INPUT_ROWS: usize = 13;

struct Scratch {
    /// Rows of dz: a window of six.
    gradients: Ring,
    input: Ring,
    /// Zeros, `[stride]`.
    zeros: Lines,
    /// dz for the gradient of the input, and for that of the weights.
    combined: [Combined; 2],
    combined_input: Combined,
    /// Two groups of rows of the gradient towards the input: one is made while the other is sent on.
    made: [Lines; 2],
    products: Lines,
}

impl Scratch {
    fn new(taps: Taps, extent: &Extent) -> Self {
        let group = || Lines::uninitialised(GROUP * WIDTH * extent.stride);
        let combined = |channels| Combined::new(channels, extent.stride, taps.dilation);
        Self {
            gradients: Ring::new(WINDOW, WIDTH, extent.stride),
            input: Ring::new(INPUT_ROWS, taps.inputs, extent.stride),
            zeros: Lines::zeros(extent.stride),
            combined: [combined(WIDTH), combined(WIDTH)],
            combined_input: combined(taps.inputs),
            made: [group(), group()],
            products: Lines::uninitialised(taps::PRODUCTS),
        }
    }

    /// Combines the rows of the group that begins at row `first`.
    #[inline(always)]
    unsafe fn combine<V: Arithmetic>(&mut self, layer: &Convolution<'_>, strand: Strand, first: usize) {
        let (stride, begin) = (layer.extent.stride, first as isize - 1);
        unsafe {
            for channel in 0..WIDTH {
                let window = window(&mut self.gradients, begin, channel);
                if !matches!(layer.outgoing, Outgoing::Nowhere) {
                    taps::combine::<V>(window, self.combined[0].channel(channel), stride);
                }
                // The row after the strand's last belongs to another strand's sums.
                let mut group = [window[1], window[2], window[3], window[4]];
                for (index, row) in group.iter_mut().enumerate() {
                    if first + index >= strand.rows {
                        *row = self.zeros.start();
                    }
                }
                taps::combine_gradient::<V>(group, self.combined[1].channel(channel), stride);
            }
            for channel in 0..layer.taps.inputs {
                let window = window(&mut self.input, begin, channel);
                taps::combine::<V>(window, self.combined_input.channel(channel), stride);
            }
        }
    }
}

run_on!(fn backward_strand = backward_strand_kernel(
    layer: &Convolution<'_>,
    strand: Strand,
    scratch: &mut Scratch,
    weight: &mut [f32],
    below: &mut LaneSums,
));

/// # Safety
/// The instruction set of `V` must be there; no other task may write the strand's rows.
#[inline(always)]
unsafe fn backward_strand_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    layer: &Convolution<'_>,
    strand: Strand,
    scratch: &mut Scratch,
    weight: &mut [f32],
    below: &mut LaneSums,
) {
    let extent = &layer.extent;
    let made = [0, 1].map(|which: usize| Made::new(&mut scratch.made[which], extent));
    let turned = Taps { inputs: WIDTH, ..layer.taps };
    unsafe {
        for index in -1..=GROUP as isize {
            for channel in 0..WIDTH {
                read::<V>(layer, strand, index, channel, &mut scratch.gradients, &mut scratch.input);
            }
        }
        for first in (0..strand.rows).step_by(GROUP) {
            scratch.combine::<V>(layer, strand, first);
            let which = first / GROUP % 2;
            let mut step = Step {
                layer,
                strand,
                next: (first + GROUP) as isize,
                gradients: &mut scratch.gradients,
                input: &mut scratch.input,
                done: first.checked_sub(GROUP).map(|before| Done { first: before, made: made[1 - which] }),
                below: &mut *below,
            };
            if matches!(layer.outgoing, Outgoing::Nowhere) {
                for channel in 0..WIDTH {
                    step.channel::<V>(channel);
                }
            } else {
                taps::convolve_group::<V, _, OUTPUTS, VECTORS>(
                    scratch.combined[0].points(),
                    layer.weight.as_ptr(),
                    turned,
                    made[which].rows(),
                    extent,
                    scratch.products.start_mut(),
                    &mut step,
                );
            }
            let (input, gradients) = (scratch.combined_input.points(), scratch.combined[1].points());
            taps::weight_gradient_group::<V, OUTPUTS>(input, gradients, layer.taps, weight.as_mut_ptr(), extent);
        }
        let last = (strand.rows - 1) / GROUP;
        let done = Done { first: last * GROUP, made: made[last % 2] };
        for channel in 0..WIDTH {
            done.send::<V>(layer, strand, channel, &mut scratch.input, below);
        }
    }
}

/// What a strand does while a group is convolved: the rows of the next are made, the group before is sent on.
struct Step<'a> {
    layer: &'a Convolution<'a>,
    strand: Strand,
    next: isize,
    gradients: &'a mut Ring,
    input: &'a mut Ring,
    done: Option<Done>,
    below: &'a mut LaneSums,
}

impl Meanwhile for Step<'_> {
    #[inline(always)]
    unsafe fn channel<V: Arithmetic>(&mut self, channel: usize) {
        unsafe {
            if let Some(done) = &self.done {
                done.send::<V>(self.layer, self.strand, channel, self.input, self.below);
            }
            if self.next < self.strand.rows as isize {
                for index in self.next + 1..=self.next + GROUP as isize {
                    read::<V>(self.layer, self.strand, index, channel, self.gradients, self.input);
                }
            }
        }
    }
}

/// Makes a channel's row `index` of dz and of the input.
#[inline(always)]
unsafe fn read<V: Arithmetic>(
    layer: &Convolution<'_>,
    strand: Strand,
    index: isize,
    channel: usize,
    gradients: &mut Ring,
    input: &mut Ring,
) {
    let y = strand.y(index, layer.height).filter(|_| index <= strand.rows as isize);
    let has_input = channel < layer.taps.inputs;
    let Some(y) = y else {
        gradients.clear(index, channel);
        if has_input {
            input.clear(index, channel);
        }
        return;
    };
    let (extent, terms) = (&layer.extent, &layer.terms[channel]);
    unsafe {
        let row = |rows: &Rows| rows.row(strand.image, y).add(channel * extent.stride);
        let (z, to) = (row(layer.z), gradients.row(index, channel));
        match layer.incoming {
            Incoming::OfBent { g, affine } => {
                passes::gradient_of_bent::<V>(row(g), z, affine[channel], terms, to, extent);
            }
            Incoming::OfNormalised { g } => {
                passes::gradient_of_normalised::<V>(row(g), z, terms, to, extent);
            }
        }
        if has_input {
            layer.input.read::<V>(strand.image, y, channel, input.row(index, channel), extent);
        }
    }
}

/// A group of rows of the gradient towards the input that is made, from row `first` of the strand on.
struct Done {
    first: usize,
    made: Made,
}

impl Done {
    /// Hands a channel of the rows on.
    #[inline(always)]
    unsafe fn send<V: Arithmetic>(
        &self,
        layer: &Convolution<'_>,
        strand: Strand,
        channel: usize,
        input: &mut Ring,
        below: &mut LaneSums,
    ) {
        let (extent, sums) = (&layer.extent, &mut below[channel]);
        for index in self.first..strand.rows.min(self.first + GROUP) {
            let y = strand.first_y + index * strand.dilation;
            unsafe {
                let from = |rows: &Rows| rows.row(strand.image, y).add(channel * extent.stride);
                let to = |rows: SharedRows| rows.row(strand.image, y).add(channel * extent.stride);
                let gradient = self.made.row(index - self.first).at(channel, 0);
                match layer.outgoing {
                    Outgoing::Nowhere => {}
                    Outgoing::ThroughBend { z, to: rows } => {
                        let input = input.row(index as isize, channel);
                        passes::through_bend::<V>(gradient, input, from(z), to(rows), extent, sums);
                    }
                    Outgoing::Joined { total, z, affine } => {
                        let (total, affine) = (to(total), affine[channel]);
                        passes::join_and_sum::<V>(gradient, total, total, from(z), affine, extent, sums);
                    }
                }
            }
        }
    }
}
