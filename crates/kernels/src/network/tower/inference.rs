//! The tower with fixed normalisation: a whole residual block in one pass over memory.
//!
//! Without batch moments to wait for, the second convolution of a block follows the first row by row: both work
//! on the same strand, each with a ring of three rows.

use super::groups::{self, Combined, GROUP, Made, Window, window};
use super::passes::{self, Extent};
use super::rows::{Lines, Rows, SharedRows, Strand};
use super::taps::{Idle, Meanwhile, TAPS, Taps};
use super::{Source, Tower, WIDTH, extent, head};
use crate::memory::Unwritten;
use crate::network::Planes;
use crate::network::normalisation::Affine;
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::{Path, run_on};
use rayon::prelude::*;
use std::ops::Range;

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
    /// `[6 points, input, kx, 8]`.
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
            assert_eq!(weight.len(), inputs * WIDTH * TAPS, "the weight of layer {index} has its shape");
            FoldedLayer { weight: groups::packed(weight, inputs), affine: *affine }
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
    /// Rows of x: a window of six for the first convolution, and what the second still needs for the sum.
    input: Window,
    /// Rows after the first convolution: a window of six for the second.
    middle: Window,
    combined: Combined,
    combined_middle: Combined,
    /// What the first convolution makes.
    first: Lines,
    /// What the second convolution makes.
    second: Lines,
    products: Lines,
}

/// Rows of x that are kept: from the group whose sum goes out to the end of the next window.
const INPUT_ROWS: usize = 4 * GROUP;

impl Scratch {
    fn new(taps: Taps, extent: &Extent) -> Self {
        let group = || Lines::uninitialised(GROUP * WIDTH * extent.stride);
        Self {
            input: Window::new(INPUT_ROWS, taps.inputs, extent.stride),
            middle: Window::new(2 * GROUP, WIDTH, extent.stride),
            combined: Combined::new(taps.inputs, extent.stride, taps.dilation),
            combined_middle: Combined::new(WIDTH, extent.stride, taps.dilation),
            first: group(),
            second: group(),
            products: Lines::uninitialised(groups::PRODUCTS),
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
    let made = Made::new(&mut scratch.first, extent);
    unsafe {
        for first in (0..strand.rows).step_by(GROUP) {
            for channel in 0..stem.taps.inputs {
                for index in first as isize - 1..=(first + GROUP) as isize {
                    read::<V>(stem.source, strand, index, channel, stem.height, extent, &mut scratch.input);
                }
                let window = window(&mut scratch.input, first as isize - 1, channel);
                groups::combine::<V>(window, scratch.combined.channel(channel), extent.stride);
            }
            groups::convolve_group::<V, _, OUTPUTS, VECTORS>(
                scratch.combined.points(),
                stem.layer.weight.as_ptr(),
                stem.taps,
                made.rows(),
                extent,
                scratch.products.start_mut(),
                &mut Idle,
            );
            for index in first..strand.rows.min(first + GROUP) {
                let to = stem.to.row(strand.image, strand.first_y + index * strand.dilation);
                for c in 0..WIDTH {
                    let (row, affine) = (made.row(index - first).at(c, 0), stem.layer.affine[c]);
                    passes::bend::<V>(row, affine, to.add(c * extent.stride), extent);
                }
            }
        }
    }
}

run_on!(fn block_strand = block_strand_kernel(block: &Block<'_>, strand: Strand, scratch: &mut Scratch));

/// Group `n` of the middle is its rows `4n - 1` to `4n + 2`, so that group `n - 1` of what goes out, rows `4n - 4` to
/// `4n - 1`, can follow as soon as it is made.
///
/// # Safety
/// As for the stem.
#[inline(always)]
unsafe fn block_strand_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    block: &Block<'_>,
    strand: Strand,
    scratch: &mut Scratch,
) {
    let (extent, taps) = (&block.extent, block.taps);
    let Scratch { input, middle, combined, combined_middle, first, second, products } = scratch;
    let (first, second) = (Made::new(first, extent), Made::new(second, extent));
    let groups = strand.rows.div_ceil(GROUP);
    unsafe {
        for channel in 0..WIDTH {
            read_x::<V>(block, strand, -2..GROUP as isize, channel, input);
        }
        for group in 0..=groups {
            let begin = (group * GROUP) as isize - 1;
            for channel in 0..WIDTH {
                let window = window(input, begin - 1, channel);
                groups::combine::<V>(window, combined.channel(channel), extent.stride);
            }
            let finish = group.checked_sub(2).map(|done| Finish { block, strand, group: done, row: second });
            let mut step = Step { block, strand, next: begin + 5, input: &mut *input, finish };
            groups::convolve_group::<V, _, OUTPUTS, VECTORS>(
                combined.points(),
                block.first.weight.as_ptr(),
                taps,
                first.rows(),
                extent,
                products.start_mut(),
                &mut step,
            );
            if let Some(finish) = &step.finish {
                finish.head::<V>();
            }
            bend_middle::<V>(block, strand, begin, first, middle);
            if group == 0 {
                continue;
            }
            for channel in 0..WIDTH {
                let window = window(middle, begin - GROUP as isize, channel);
                groups::combine::<V>(window, combined_middle.channel(channel), extent.stride);
            }
            groups::convolve_group::<V, _, OUTPUTS, VECTORS>(
                combined_middle.points(),
                block.second.weight.as_ptr(),
                taps,
                second.rows(),
                extent,
                products.start_mut(),
                &mut Idle,
            );
        }
        let last = Finish { block, strand, group: groups - 1, row: second };
        for channel in 0..WIDTH {
            last.channel::<V>(channel, input);
        }
        last.head::<V>();
    }
}

/// What happens while the first convolution works: x is read, and the group before goes out.
struct Step<'a> {
    block: &'a Block<'a>,
    strand: Strand,
    next: isize,
    input: &'a mut Window,
    finish: Option<Finish<'a>>,
}

impl Meanwhile for Step<'_> {
    #[inline(always)]
    unsafe fn channel<V: Arithmetic>(&mut self, channel: usize) {
        unsafe {
            if let Some(finish) = &self.finish {
                finish.channel::<V>(channel, self.input);
            }
            let rows = self.next..self.next + GROUP as isize;
            read_x::<V>(self.block, self.strand, rows, channel, self.input);
        }
    }
}

/// Brings a channel's rows of x into the ring.
#[inline(always)]
unsafe fn read_x<V: Arithmetic>(
    block: &Block<'_>,
    strand: Strand,
    rows: Range<isize>,
    channel: usize,
    ring: &mut Window,
) {
    for index in rows {
        let source = Source::Plain(block.x);
        unsafe { read::<V>(source, strand, index, channel, block.height, &block.extent, ring) };
    }
}

/// Brings a channel's row `index` of the strand into the ring.
#[inline(always)]
unsafe fn read<V: Arithmetic>(
    source: Source<'_>,
    strand: Strand,
    index: isize,
    channel: usize,
    height: usize,
    extent: &Extent,
    ring: &mut Window,
) {
    // The second convolution reads one row beyond the strand, the first one row beyond that.
    match strand.y(index, height).filter(|_| index <= strand.rows as isize + 1) {
        None => ring.clear(index, channel),
        Some(y) => unsafe {
            source.read::<V>(strand.image, y, channel, ring.row(index, channel), extent);
        },
    }
}

/// Bends a group of what the first convolution made, from row `begin` on; zero outside the picture.
#[inline(always)]
unsafe fn bend_middle<V: Arithmetic>(
    block: &Block<'_>,
    strand: Strand,
    begin: isize,
    made: Made,
    middle: &mut Window,
) {
    for row in 0..GROUP {
        let index = begin + row as isize;
        let inside = strand.y(index, block.height).is_some();
        for c in 0..WIDTH {
            if inside {
                let (from, to) = (made.row(row), middle.row(index, c));
                unsafe { passes::bend::<V>(from.at(c, 0), block.first.affine[c], to, &block.extent) };
            } else {
                middle.clear(index, c);
            }
        }
    }
}

/// A group of a block's sum on its way out.
struct Finish<'a> {
    block: &'a Block<'a>,
    strand: Strand,
    group: usize,
    row: Made,
}

impl Finish<'_> {
    /// The group's rows, and where they lie in the picture.
    #[inline(always)]
    fn rows(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (strand, first) = (self.strand, self.group * GROUP);
        (first..strand.rows.min(first + GROUP))
            .map(move |index| (index, strand.first_y + index * strand.dilation))
    }

    #[inline(always)]
    unsafe fn channel<V: Arithmetic>(&self, c: usize, input: &mut Window) {
        let extent = &self.block.extent;
        for (index, y) in self.rows() {
            unsafe {
                let row = self.row.row(index % GROUP).at(c, 0);
                let to = match self.block.exit {
                    Exit::Rows(rows) => rows.row(self.strand.image, y).add(c * extent.stride),
                    Exit::Head(_) => row,
                };
                let base = input.row(index as isize, c);
                passes::bend_and_add::<V>(base, row, self.block.second.affine[c], to, extent);
            }
        }
    }

    /// Maps the sum to the outputs, after the last block.
    #[inline(always)]
    unsafe fn head<V: Arithmetic>(&self) {
        let Exit::Head(output) = self.block.exit else { return };
        let FoldedTower { head_weight, head_bias, tower, .. } = self.block.tower;
        for (index, y) in self.rows() {
            let row = self.row.row(index % GROUP).read();
            for (k, weight) in head_weight.chunks_exact(WIDTH).enumerate() {
                unsafe {
                    let to = output.start.add(output.shape.row_start(self.strand.image, k, y));
                    head::map_row::<V>(row, weight, head_bias[k], tower.sigmoid, to, &self.block.extent);
                }
            }
        }
    }
}
