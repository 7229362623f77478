//! One convolution of the tower in training: its input is made from the layers below while it is read, its output's
//! moments are summed while it is written.

use super::passes::{self, Extent, LaneSums, To};
use super::rows::{Combined, Lines, Ring, Rows, SharedRows, Strand};
use super::taps::{self, GROUP, Meanwhile, Taps, WINDOW};
use super::{Source, WIDTH};
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::{Path, run_on};
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
    /// `[6 points, input, kx, 8]`.
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
    /// Rows of the input: a window of six.
    input: Ring,
    combined: Combined,
    /// Two groups of rows of z, `[4, 8, stride]` each: one is made while the other is kept.
    made: [Lines; 2],
    products: Lines,
}

impl Scratch {
    fn new(taps: Taps, extent: &Extent) -> Self {
        let group = || Lines::uninitialised(GROUP * WIDTH * extent.stride);
        Self {
            input: Ring::new(WINDOW, taps.inputs, extent.stride),
            combined: Combined::new(taps.inputs, extent.stride, taps.dilation),
            made: [group(), group()],
            products: Lines::uninitialised(taps::PRODUCTS),
        }
    }
}

run_on!(fn forward_strand = forward_strand_kernel(
    layer: &Convolution<'_>,
    strand: Strand,
    scratch: &mut Scratch,
    z: SharedRows,
    sums: &mut LaneSums,
));

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
    let Scratch { input, combined, made, products } = scratch;
    let made = [0, 1].map(|which: usize| Made::new(&mut made[which], extent));
    unsafe {
        for index in -1..=GROUP as isize {
            for channel in 0..layer.taps.inputs {
                read::<V>(layer, strand, index, channel, input);
            }
        }
        for first in (0..strand.rows).step_by(GROUP) {
            for channel in 0..layer.taps.inputs {
                let window = window(input, first as isize - 1, channel);
                taps::combine::<V>(window, combined.channel(channel), extent.stride);
            }
            let which = first / GROUP % 2;
            let mut step = Step {
                layer,
                strand,
                next: (first + GROUP) as isize,
                input: &mut *input,
                done: first.checked_sub(GROUP).map(|before| Done { first: before, made: made[1 - which] }),
                z,
                sums: &mut *sums,
            };
            taps::convolve_group::<V, _, OUTPUTS, VECTORS>(
                combined.points(),
                layer.weight.as_ptr(),
                layer.taps,
                made[which].rows(),
                extent,
                products.start_mut(),
                &mut step,
            );
        }
        let last = (strand.rows - 1) / GROUP;
        let done = Done { first: last * GROUP, made: made[last % 2] };
        for channel in 0..WIDTH {
            done.keep::<V>(layer, strand, channel, z, sums);
        }
    }
}

/// What a strand does while a group is convolved: the input of the next is read, the group before goes to memory.
struct Step<'a> {
    layer: &'a Convolution<'a>,
    strand: Strand,
    next: isize,
    input: &'a mut Ring,
    done: Option<Done>,
    z: SharedRows,
    sums: &'a mut LaneSums,
}

impl Meanwhile for Step<'_> {
    #[inline(always)]
    unsafe fn channel<V: Arithmetic>(&mut self, channel: usize) {
        unsafe {
            if let Some(done) = &self.done {
                done.keep::<V>(self.layer, self.strand, channel, self.z, self.sums);
            }
            if channel < self.layer.taps.inputs && self.next < self.strand.rows as isize {
                for index in self.next + 1..=self.next + GROUP as isize {
                    read::<V>(self.layer, self.strand, index, channel, self.input);
                }
            }
        }
    }
}

/// Brings a channel's row `index` of the strand into the ring, and keeps it if it is one of the strand's own.
#[inline(always)]
unsafe fn read<V: Arithmetic>(
    layer: &Convolution<'_>,
    strand: Strand,
    index: isize,
    channel: usize,
    ring: &mut Ring,
) {
    let extent = &layer.extent;
    let y = strand.y(index, layer.height).filter(|_| index <= strand.rows as isize);
    let Some(y) = y else { return ring.clear(index, channel) };
    let to = ring.row(index, channel);
    unsafe {
        layer.input.source.read::<V>(strand.image, y, channel, to, extent);
        if let Some(keep) = layer.input.keep
            && index >= 0
            && index < strand.rows as isize
        {
            passes::copy::<V>(to, keep.row(strand.image, y).add(channel * extent.stride), extent);
        }
    }
}

/// The six rows of a channel from row `first` on.
#[inline(always)]
pub(super) fn window(ring: &mut Ring, first: isize, channel: usize) -> [*const f32; WINDOW] {
    let mut rows = [std::ptr::null(); WINDOW];
    for (index, row) in rows.iter_mut().enumerate() {
        *row = ring.row(first + index as isize, channel).cast_const();
    }
    rows
}

/// A group of rows that a convolution makes, `[4, 8, stride]`.
#[derive(Clone, Copy)]
pub(super) struct Made {
    start: *mut f32,
    stride: usize,
}

impl Made {
    pub(super) fn new(lines: &mut Lines, extent: &Extent) -> Self {
        Self { start: lines.start_mut(), stride: extent.stride }
    }

    #[inline(always)]
    pub(super) fn row(self, index: usize) -> To {
        // SAFETY: one of the four rows.
        To { start: unsafe { self.start.add(index * WIDTH * self.stride) }, stride: self.stride }
    }

    #[inline(always)]
    pub(super) fn rows(self) -> [To; GROUP] {
        [self.row(0), self.row(1), self.row(2), self.row(3)]
    }
}

/// A group of rows of z that is made, from row `first` of the strand on.
struct Done {
    first: usize,
    made: Made,
}

impl Done {
    #[inline(always)]
    unsafe fn keep<V: Arithmetic>(
        &self,
        layer: &Convolution<'_>,
        strand: Strand,
        channel: usize,
        z: SharedRows,
        sums: &mut LaneSums,
    ) {
        let extent = &layer.extent;
        for index in self.first..strand.rows.min(self.first + GROUP) {
            let y = strand.first_y + index * strand.dilation;
            unsafe {
                let from = self.made.row(index - self.first).at(channel, 0);
                let to = z.row(strand.image, y).add(channel * extent.stride);
                passes::keep_and_sum::<V>(from, to, extent, &mut sums[channel]);
            }
        }
    }
}

impl Source<'_> {
    /// Makes one row of a channel of a convolution's input.
    #[inline(always)]
    pub(super) unsafe fn read<V: Arithmetic>(
        self,
        image: usize,
        y: usize,
        channel: usize,
        to: *mut f32,
        extent: &Extent,
    ) {
        unsafe {
            let row = |rows: &Rows| rows.row(image, y).add(channel * extent.stride);
            match self {
                Source::Picture { values, shape } => {
                    let from = values.as_ptr().add(shape.row_start(image, channel, y));
                    to.copy_from_nonoverlapping(from, extent.width);
                }
                Source::Plain(rows) => passes::copy::<V>(row(rows), to, extent),
                Source::Bent { z, affine } => passes::bend::<V>(row(z), affine[channel], to, extent),
                Source::Joined { base, z, affine } => {
                    passes::bend_and_add::<V>(row(base), row(z), affine[channel], to, extent);
                }
            }
        }
    }

    /// Makes one row of all eight channels.
    #[inline(always)]
    pub(super) unsafe fn read_row<V: Arithmetic>(self, image: usize, y: usize, to: To, extent: &Extent) {
        for channel in 0..WIDTH {
            unsafe { self.read::<V>(image, y, channel, to.at(channel, 0), extent) };
        }
    }
}
