//! One convolution of the tower in training: its input is made from the layers below while it is read, its output's
//! moments are summed while it is written.

#![allow(clippy::needless_range_loop)] // Loops over registers: see `passes`.

use super::ahead::Ahead;
use super::passes::{self, Extent, LaneSums, RowSums, To};
use super::rows::{Ring, Rows, SharedRows, Strand};
use super::taps::{self, Company, Taps};
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
                || Ring::new(4, self.taps.inputs, self.extent.span, self.taps.dilation),
                |ring, strand| {
                    let mut sums = LaneSums::default();
                    forward_strand(path, self, strand, ring, z, &mut sums);
                    sums
                },
            )
            .collect();
        super::channel_sums(&sums)
    }

    /// Asks for the rows that row `index` of the strand is made of.
    #[inline(always)]
    fn ahead(&self, strand: Strand, index: isize, ring: &mut Ring) -> Ahead<2> {
        let near = ring.row(0).cast_const();
        let y = strand.y(index, self.height).filter(|_| index <= strand.rows as isize);
        let row = |rows: &Rows| y.map_or(near, |y| rows.row(strand.image, y));
        let read = match self.input.source {
            Source::Picture { .. } => [near, near],
            Source::Plain(rows) => [row(rows), near],
            Source::Bent { z, .. } => [row(z), near],
            Source::Joined { base, z, .. } => [row(base), row(z)],
        };
        Ahead::new(read, None, &self.extent)
    }
}

run_on!(fn forward_strand = forward_strand_kernel(
    layer: &Convolution<'_>,
    strand: Strand,
    ring: &mut Ring,
    z: SharedRows,
    sums: &mut LaneSums,
); 3 wide);

/// # Safety
/// The instruction set of `V` must be there; no other task may write the strand's rows.
#[inline(always)]
unsafe fn forward_strand_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    layer: &Convolution<'_>,
    strand: Strand,
    ring: &mut Ring,
    z: SharedRows,
    sums: &mut LaneSums,
) {
    let extent = &layer.extent;
    let mut row_sums = RowSums::default();
    unsafe {
        for index in -1..=1 {
            Read::new(layer, strand, index, ring).row::<V>();
        }
        for index in 0..strand.rows as isize {
            let y = strand.first_y + index as usize * strand.dilation;
            let mut step = Step {
                read: Read::new(layer, strand, index + 2, ring),
                ahead: layer.ahead(strand, index + 3, ring),
                z: z.row(strand.image, y),
                extent,
                sums: &mut row_sums,
            };
            let weight = layer.weight.as_ptr();
            taps::convolve_row::<V, _, OUTPUTS, VECTORS>(
                ring.around(index),
                weight,
                layer.taps,
                extent,
                &mut step,
            );
            row_sums.end_row::<V>(sums);
        }
    }
    fence();
}

/// What a strand does while a row is convolved: the row after the next is read, and z goes to memory with its sums.
struct Step<'a> {
    read: Read<'a>,
    ahead: Ahead<2>,
    z: *mut f32,
    extent: &'a Extent,
    sums: &'a mut RowSums,
}

impl Company for Step<'_> {
    #[inline(always)]
    unsafe fn channel<V: Arithmetic>(&mut self, channel: usize) {
        unsafe { self.read.channel::<V>(channel) };
    }

    #[inline(always)]
    fn fetch(&mut self) {
        self.ahead.fetch();
    }

    #[inline(always)]
    unsafe fn take<V: Arithmetic, const VECTORS: usize>(
        &mut self,
        output: usize,
        x: usize,
        mut z: [V; VECTORS],
    ) {
        unsafe {
            for v in 0..VECTORS {
                let x = x + v * V::LANES;
                z[v] = self.extent.within(x, z[v]);
                z[v].store_past_caches(self.z.add(output * self.extent.stride + x));
            }
            self.sums.add(output, z, z);
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
                passes::keep::<V>(to, keep.add(channel * extent.stride), extent);
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
