//! The tower with fixed normalisation: a whole residual block in one pass over memory.
//!
//! Without batch moments to wait for, the second convolution of a block follows the first row by row: both work
//! on the same strand, each with a ring of three rows.

use super::passes::{self, Extent, From, To};
use super::rows::{Lines, Ring, Rows, SharedRows, Strand};
use super::taps::{self, Idle, Meanwhile, Taps};
use super::{Source, Tower, WIDTH, extent, head};
use crate::memory::Unwritten;
use crate::network::Planes;
use crate::network::normalisation::Affine;
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::{Path, run_on};
use rayon::prelude::*;

/// A tower with its normalisation as an affine map.
#[derive(Clone, Debug)]
pub struct FoldedTower {
    tower: Tower,
    layers: Vec<FoldedLayer>,
    head_weight: Vec<f32>,
    head_bias: Vec<f32>,
}

#[derive(Clone, Debug)]
struct FoldedLayer {
    /// `[input, ky, kx, 8]`.
    weight: Vec<f32>,
    affine: [Affine; WIDTH],
}

impl FoldedTower {
    /// A tower whose layers are each a weight `[8, inputs, 3, 3]` and the normalisation of its eight channels; the
    /// head has a weight `[outputs, 8]` and a bias `[outputs]`.
    ///
    /// # Panics
    /// When a layer or a weight is missing.
    pub fn new(
        tower: Tower,
        layers: &[(&[f32], [Affine; WIDTH])],
        head_weight: &[f32],
        head_bias: &[f32],
    ) -> Self {
        tower.check_dilations();
        assert_eq!(layers.len(), tower.layers(), "there are parameters for each layer");
        assert_eq!(head_weight.len(), tower.outputs * WIDTH, "the head has its shape");
        assert_eq!(head_bias.len(), tower.outputs, "the head has a bias an output");
        let fold = |(index, (weight, affine)): (usize, &(&[f32], [Affine; WIDTH]))| {
            let inputs = tower.inputs_of(index);
            assert_eq!(weight.len(), inputs * WIDTH * taps::TAPS, "the weight of layer {index} has its shape");
            FoldedLayer { weight: taps::packed(weight, inputs), affine: *affine }
        };
        let layers = layers.iter().enumerate().map(fold).collect();
        Self { layers, head_weight: head_weight.to_vec(), head_bias: head_bias.to_vec(), tower }
    }

    /// The tower's shape.
    pub fn tower(&self) -> &Tower {
        &self.tower
    }

    /// The outputs `[images, outputs, height, width]` for a picture `[images, inputs, height, width]`.
    ///
    /// # Panics
    /// When lengths and shapes disagree.
    pub fn apply(&self, picture: &[f32], shape: Planes) -> Vec<f32> {
        self.apply_on(Path::best(), picture, shape)
    }

    /// [`Self::apply`] on a given path.
    pub fn apply_on(&self, path: Path, picture: &[f32], shape: Planes) -> Vec<f32> {
        assert_eq!(shape.channels, self.tower.inputs, "the picture has the tower's inputs");
        assert_eq!(picture.len(), shape.len(), "the picture has its shape's length");
        let output_shape = shape.with_channels(self.tower.outputs);
        let mut output = Unwritten::new(output_shape.len());
        let destination = Destination { start: output.start_mut(), shape: output_shape };
        let rows = || Rows::uninitialised(shape.images, shape.size);
        let (mut x, mut next) = (rows(), rows());
        self.stem(path, picture, shape, x.shared());
        let last = self.tower.dilations.len() - 1;
        for index in 0..=last {
            let exit = if index < last { Exit::Rows(next.shared()) } else { Exit::Head(destination) };
            self.block(path, index, &x, shape, exit);
            std::mem::swap(&mut x, &mut next);
        }
        // SAFETY: the last block's strands are all rows of all images, and each writes all outputs of its rows.
        unsafe { output.written() }
    }

    fn stem(&self, path: Path, picture: &[f32], shape: Planes, to: SharedRows) {
        let stem = Stem {
            source: Source::Picture { values: picture, shape },
            layer: &self.layers[0],
            taps: self.tower.taps(0),
            height: shape.size.height_px,
            extent: extent(shape.size),
            to,
        };
        Strand::all(shape.images, shape.size.height_px, 1).into_par_iter().for_each_init(
            || Scratch::new(stem.taps, &stem.extent),
            |scratch, strand| stem_strand(path, &stem, strand, scratch),
        );
    }

    fn block(&self, path: Path, index: usize, x: &Rows, shape: Planes, exit: Exit) {
        let taps = self.tower.taps(1 + 2 * index);
        let block = Block {
            x,
            first: &self.layers[1 + 2 * index],
            second: &self.layers[2 + 2 * index],
            taps,
            height: shape.size.height_px,
            extent: extent(shape.size),
            exit,
            tower: self,
        };
        Strand::all(shape.images, shape.size.height_px, taps.dilation).into_par_iter().for_each_init(
            || Scratch::new(taps, &block.extent),
            |scratch, strand| block_strand(path, &block, strand, scratch),
        );
    }
}

/// Where the outputs are written.
#[derive(Clone, Copy)]
struct Destination {
    start: *mut f32,
    shape: Planes,
}

// SAFETY: each task writes rows of its own, and `apply_on` waits for the loop's end before it gives the output away.
unsafe impl Send for Destination {}
unsafe impl Sync for Destination {}

/// Where a block's sum goes.
#[derive(Clone, Copy)]
enum Exit {
    Rows(SharedRows),
    Head(Destination),
}

struct Stem<'a> {
    source: Source<'a>,
    layer: &'a FoldedLayer,
    taps: Taps,
    height: usize,
    extent: Extent,
    to: SharedRows,
}

struct Block<'a> {
    x: &'a Rows,
    first: &'a FoldedLayer,
    second: &'a FoldedLayer,
    taps: Taps,
    height: usize,
    extent: Extent,
    exit: Exit,
    tower: &'a FoldedTower,
}

struct Scratch {
    /// Rows of x.
    input: Ring,
    /// Rows after the first convolution.
    middle: Ring,
    /// What the first convolution makes, `[8, stride]`.
    first: Lines,
    /// What the second convolution makes, `[8, stride]`.
    second: Lines,
}

impl Scratch {
    fn new(taps: Taps, extent: &Extent) -> Self {
        let row = || Lines::uninitialised(WIDTH * extent.stride);
        Self {
            input: Ring::new(5, taps.inputs, extent.stride, taps.dilation),
            middle: Ring::new(3, WIDTH, extent.stride, taps.dilation),
            first: row(),
            second: row(),
        }
    }
}

run_on!(fn stem_strand = stem_strand_kernel(stem: &Stem<'_>, strand: Strand, scratch: &mut Scratch));

/// # Safety
/// The instruction set of `V` must be there; no other task may write the strand's rows.
#[inline(always)]
unsafe fn stem_strand_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    stem: &Stem<'_>,
    strand: Strand,
    scratch: &mut Scratch,
) {
    let extent = &stem.extent;
    let made = To { start: scratch.first.start_mut(), stride: extent.stride };
    unsafe {
        for index in -1..=strand.rows as isize {
            let read = Read::new(stem.source, stem.taps.inputs, strand, index, stem.height, extent);
            read.row::<V>(&mut scratch.input);
            let done = index - 1;
            if done >= 0 {
                let (from, weight) = (scratch.input.around(done), stem.layer.weight.as_ptr());
                taps::convolve_row::<V, _, OUTPUTS, VECTORS>(from, weight, stem.taps, made, extent, &mut Idle);
                let to = stem.to.row(strand.image, strand.first_y + done as usize * strand.dilation);
                for c in 0..WIDTH {
                    let affine = stem.layer.affine[c];
                    passes::bend::<V>(made.at(c, 0), affine, to.add(c * extent.stride), extent);
                }
            }
        }
    }
}

run_on!(fn block_strand = block_strand_kernel(block: &Block<'_>, strand: Strand, scratch: &mut Scratch));

/// # Safety
/// As for the stem.
#[inline(always)]
unsafe fn block_strand_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    block: &Block<'_>,
    strand: Strand,
    scratch: &mut Scratch,
) {
    let (extent, taps, rows) = (&block.extent, block.taps, strand.rows as isize);
    let Scratch { input, middle, first, second } = scratch;
    let to = |lines: &mut Lines| To { start: lines.start_mut(), stride: extent.stride };
    let (first, second) = (to(first), to(second));
    let read = |index| Read::new(Source::Plain(block.x), WIDTH, strand, index, block.height, extent);
    unsafe {
        for index in -2..=0 {
            read(index).row::<V>(input);
        }
        // The middle is made one row ahead of what goes out, and x is read two rows ahead of the middle.
        for index in -1..=rows {
            let next = read(index + 2);
            let mut meanwhile = Step {
                to: next.place(input),
                read: next,
                finish: (index >= 2).then(|| Finish::new(block, strand, index - 2, input, second)),
            };
            if strand.y(index, block.height).is_some() {
                let (from, weight) = (input.around(index), block.first.weight.as_ptr());
                taps::convolve_row::<V, _, OUTPUTS, VECTORS>(from, weight, taps, first, extent, &mut meanwhile);
                let row = To { start: middle.row(index), stride: middle.stride };
                for c in 0..WIDTH {
                    passes::bend::<V>(first.at(c, 0), block.first.affine[c], row.at(c, 0), extent);
                }
            } else {
                middle.clear(index);
                for c in 0..WIDTH {
                    meanwhile.channel::<V>(c);
                }
            }
            if let Some(finish) = &meanwhile.finish {
                finish.head::<V>();
            }
            if index >= 1 {
                let (from, weight) = (middle.around(index - 1), block.second.weight.as_ptr());
                taps::convolve_row::<V, _, OUTPUTS, VECTORS>(from, weight, taps, second, extent, &mut Idle);
            }
        }
        let last = Finish::new(block, strand, rows - 1, input, second);
        for c in 0..WIDTH {
            last.channel::<V>(c);
        }
        last.head::<V>();
    }
}

/// What happens while the first convolution works: x is read, and the row before goes out.
struct Step<'a> {
    read: Read<'a>,
    to: To,
    finish: Option<Finish<'a>>,
}

impl Meanwhile for Step<'_> {
    #[inline(always)]
    unsafe fn channel<V: Arithmetic>(&mut self, channel: usize) {
        unsafe {
            self.read.channel::<V>(channel, self.to);
            if let Some(finish) = &self.finish {
                finish.channel::<V>(channel);
            }
        }
    }
}

/// A row on its way into a ring.
struct Read<'a> {
    source: Source<'a>,
    channels: usize,
    image: usize,
    index: isize,
    y: Option<usize>,
    extent: &'a Extent,
}

impl<'a> Read<'a> {
    #[inline(always)]
    fn new(
        source: Source<'a>,
        channels: usize,
        strand: Strand,
        index: isize,
        height: usize,
        extent: &'a Extent,
    ) -> Self {
        Self { source, channels, image: strand.image, index, y: strand.y(index, height), extent }
    }

    /// Its place in the ring, cleared where the picture has no such row.
    #[inline(always)]
    fn place(&self, ring: &mut Ring) -> To {
        if self.y.is_none() {
            ring.clear(self.index);
        }
        To { start: ring.row(self.index), stride: ring.stride }
    }

    #[inline(always)]
    unsafe fn row<V: Arithmetic>(&self, ring: &mut Ring) {
        let to = self.place(ring);
        for channel in 0..self.channels {
            unsafe { self.channel::<V>(channel, to) };
        }
    }

    #[inline(always)]
    unsafe fn channel<V: Arithmetic>(&self, channel: usize, to: To) {
        if let Some(y) = self.y {
            unsafe { self.source.read::<V>(self.image, y, channel, to.at(channel, 0), self.extent) };
        }
    }
}

/// A row of a block's sum on its way out.
struct Finish<'a> {
    block: &'a Block<'a>,
    image: usize,
    y: usize,
    base: From,
    row: To,
}

impl<'a> Finish<'a> {
    #[inline(always)]
    fn new(block: &'a Block<'a>, strand: Strand, index: isize, input: &mut Ring, row: To) -> Self {
        let y = strand.first_y + index as usize * strand.dilation;
        let base = From { start: input.row(index), stride: input.stride };
        Self { block, image: strand.image, y, base, row }
    }

    #[inline(always)]
    unsafe fn channel<V: Arithmetic>(&self, c: usize) {
        let extent = &self.block.extent;
        unsafe {
            let row = self.row.at(c, 0);
            let to = match self.block.exit {
                Exit::Rows(rows) => rows.row(self.image, self.y).add(c * extent.stride),
                Exit::Head(_) => row,
            };
            passes::bend_and_add::<V>(self.base.at(c, 0), row, self.block.second.affine[c], to, extent);
        }
    }

    /// Maps the sum to the outputs, after the last block.
    #[inline(always)]
    unsafe fn head<V: Arithmetic>(&self) {
        let Exit::Head(output) = self.block.exit else { return };
        let FoldedTower { head_weight, head_bias, tower, .. } = self.block.tower;
        for (k, weight) in head_weight.chunks_exact(WIDTH).enumerate() {
            unsafe {
                let to = output.start.add(output.shape.row_start(self.image, k, self.y));
                let row = self.row.read();
                head::map_row::<V>(row, weight, head_bias[k], tower.sigmoid, to, &self.block.extent);
            }
        }
    }
}
