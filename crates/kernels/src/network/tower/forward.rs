//! One convolution of the tower in training: its input is made from the layers below while it is read, its output's
//! moments are summed while it is written.

use super::passes::{self, Extent, LaneSums, To};
use super::rows::{Lines, Ring, Rows, SharedRows, Strand};
use super::taps::{self, Meanwhile, Taps};
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
    /// `[input, ky, kx, 8]`.
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
    ring: Ring,
    /// Two rows of z, `[8, stride]` each: one is made while the other is kept.
    made: [Lines; 2],
}

impl Scratch {
    fn new(taps: Taps, extent: &Extent) -> Self {
        let row = || Lines::uninitialised(WIDTH * extent.stride);
        Self { ring: Ring::new(4, taps.inputs, extent.stride, taps.dilation), made: [row(), row()] }
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
    let (extent, rows) = (&layer.extent, strand.rows as isize);
    let Scratch { ring, made } = scratch;
    let made = [0, 1].map(|which: usize| To { start: made[which].start_mut(), stride: extent.stride });
    unsafe {
        for index in -1..=1 {
            Read::new(layer, strand, index, ring).row::<V>();
        }
        for index in 0..rows {
            let mut meanwhile = Step {
                read: Read::new(layer, strand, index + 2, ring),
                keep: (index > 0).then(|| Keep::new(strand, index - 1, made[(index as usize + 1) % 2], z)),
                extent,
                sums: &mut *sums,
            };
            let from = ring.around(index);
            let weight = layer.weight.as_ptr();
            let to = made[index as usize % 2];
            taps::convolve_row::<V, _, OUTPUTS, VECTORS>(
                from,
                weight,
                layer.taps,
                to,
                extent,
                &mut meanwhile,
            );
        }
        let last = Keep::new(strand, rows - 1, made[(rows as usize + 1) % 2], z);
        for channel in 0..WIDTH {
            last.channel::<V>(channel, extent, sums);
        }
    }
}

/// What a strand does while a row is convolved: the row after the next is read, the row before goes to memory.
struct Step<'a> {
    read: Read<'a>,
    keep: Option<Keep>,
    extent: &'a Extent,
    sums: &'a mut LaneSums,
}

impl Meanwhile for Step<'_> {
    #[inline(always)]
    unsafe fn channel<V: Arithmetic>(&mut self, channel: usize) {
        unsafe {
            self.read.channel::<V>(channel);
            if let Some(keep) = &self.keep {
                keep.channel::<V>(channel, self.extent, self.sums);
            }
        }
    }
}

/// A row on its way into the ring.
struct Read<'a> {
    layer: &'a Convolution<'a>,
    image: usize,
    /// None outside the picture, where the row is zero already.
    y: Option<usize>,
    to: To,
    /// Where the row is written down, if it is one of the strand's own.
    keep: Option<*mut f32>,
}

impl<'a> Read<'a> {
    #[inline(always)]
    fn new(layer: &'a Convolution<'a>, strand: Strand, index: isize, ring: &mut Ring) -> Self {
        let y = strand.y(index, layer.height).filter(|_| index <= strand.rows as isize);
        if y.is_none() {
            ring.clear(index);
        }
        let own = index >= 0 && index < strand.rows as isize;
        let keep = match (layer.input.keep, y) {
            (Some(keep), Some(y)) if own => Some(keep.row(strand.image, y)),
            _ => None,
        };
        Self { layer, image: strand.image, y, to: To { start: ring.row(index), stride: ring.stride }, keep }
    }

    #[inline(always)]
    unsafe fn row<V: Arithmetic>(&self) {
        for channel in 0..self.layer.taps.inputs {
            unsafe { self.channel::<V>(channel) };
        }
    }

    #[inline(always)]
    unsafe fn channel<V: Arithmetic>(&self, channel: usize) {
        let Some(y) = self.y else { return };
        if channel >= self.layer.taps.inputs {
            return;
        }
        let extent = &self.layer.extent;
        unsafe {
            let to = self.to.at(channel, 0);
            self.layer.input.source.read::<V>(self.image, y, channel, to, extent);
            if let Some(keep) = self.keep {
                passes::copy::<V>(to, keep.add(channel * extent.stride), extent);
            }
        }
    }
}

/// A row of z on its way to memory.
struct Keep {
    from: To,
    to: *mut f32,
}

impl Keep {
    #[inline(always)]
    fn new(strand: Strand, index: isize, from: To, z: SharedRows) -> Self {
        let y = strand.first_y + index as usize * strand.dilation;
        Self { from, to: z.row(strand.image, y) }
    }

    #[inline(always)]
    unsafe fn channel<V: Arithmetic>(&self, channel: usize, extent: &Extent, sums: &mut LaneSums) {
        unsafe {
            let to = self.to.add(channel * extent.stride);
            passes::keep_and_sum::<V>(self.from.at(channel, 0), to, extent, &mut sums[channel]);
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
