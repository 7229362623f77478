//! The tower with fixed normalisation: a whole residual block in one pass over memory.
//!
//! Without batch moments to wait for, the second convolution of a block follows the first, four rows at a time, on the
//! same strand. Values are normalised, bent and added up in registers, as they leave a convolution: between the input of
//! a block and its sum only the rows after the first convolution are kept, in the second-level cache.

#![allow(clippy::needless_range_loop)] // Loops over registers: see `passes`.

use super::groups::{self, Combined, Company, GROUP, POINTS, Places, ROWS_READ, Shared};
use super::made::{self, WindowChannel};
use super::passes::{Extent, From};
use super::rows::{Lines, Rows, SharedRows, Strand};
use super::taps::{TAPS, Taps};
use super::{Tower, WIDTH, extent, head};
use crate::memory::Unwritten;
use crate::network::Planes;
use crate::network::normalisation::Affine;
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::{Path, fence, run_on};
use crate::network::winograd_line::input_line;
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
            picture,
            shape,
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
    picture: &'a [f32],
    shape: Planes,
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
    /// The last two rows of the stem's window, which the next one shares.
    shared: Shared,
    /// The last two rows of the middle's window, which the next one shares.
    middle: Shared,
    /// Combined rows of a block's input, or of the stem's.
    combined: Combined,
    /// Combined rows of the middle, what lies between a block's convolutions.
    combined_middle: Combined,
    /// A row of zeros: what lies above and below the picture.
    zeros: Lines,
    /// A group of the last block's sum, `[4, 8, stride]`, on its way through the head.
    sum: Lines,
    products: Lines,
}

impl Scratch {
    fn new(taps: Taps, extent: &Extent) -> Self {
        Self {
            shared: Shared::new(taps.inputs, extent.stride),
            middle: Shared::new(WIDTH, extent.stride),
            combined: Combined::new(taps.inputs, extent.span, taps.dilation),
            combined_middle: Combined::new(WIDTH, extent.span, taps.dilation),
            zeros: Lines::zeros(WIDTH * extent.stride),
            sum: Lines::uninitialised(GROUP * WIDTH * extent.stride),
            products: Lines::uninitialised(groups::PRODUCTS),
        }
    }
}

/// Bends values of a group's rows: ELU of their normalisation, zero beyond the width.
#[inline(always)]
unsafe fn bend<V: Arithmetic, const WHOLE: bool>(
    mut rows: [V; GROUP],
    affine: Affine,
    x: usize,
    extent: &Extent,
) -> [V; GROUP] {
    unsafe {
        let (shift, scale) = (V::splat(affine.shift), V::splat(affine.scale));
        for row in &mut rows {
            *row = shift.plus_product(*row, scale);
        }
        let mut rows = V::elus(rows);
        if !WHOLE {
            for row in &mut rows {
                *row = extent.within(x, *row);
            }
        }
        rows
    }
}

run_on!(fn stem_strand = stem_strand_kernel(stem: &Stem<'_>, strand: Strand, scratch: &mut Scratch); 3 wide);

/// # Safety
/// The instruction set of `V` must be there; no other task may write the strand's rows.
#[inline(always)]
unsafe fn stem_strand_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    stem: &Stem<'_>,
    strand: Strand,
    scratch: &mut Scratch,
) {
    let extent = &stem.extent;
    let window = |first: isize, channel: usize, shared: &mut Shared| {
        let places = Places::new(strand, first + 1, stem.height);
        // SAFETY: rows of the picture.
        let row =
            |y: usize| unsafe { stem.picture.as_ptr().add(stem.shape.row_start(strand.image, channel, y)) };
        let make = made::Picture { rows: places.y.map(row), width: extent.width };
        let shared = shared.channel(channel);
        (make, WindowChannel { shared, inside: places.inside, keep: [None; GROUP], to_next: 0 })
    };
    unsafe {
        for channel in 0..stem.taps.inputs {
            let (make, window) = window(-(GROUP as isize), channel, &mut scratch.shared);
            window.begin::<V, _>(make, extent);
        }
        for first in (0..strand.rows).step_by(GROUP) {
            for channel in 0..stem.taps.inputs {
                let (make, window) = window(first as isize, channel, &mut scratch.shared);
                window.combine::<V, _>(make, scratch.combined.channel(channel), extent);
            }
            let mut exit = StemExit { stem, strand, first };
            groups::convolve_group::<V, _, OUTPUTS, VECTORS>(
                scratch.combined.points(),
                stem.layer.weight.as_ptr(),
                stem.taps,
                extent,
                scratch.products.start_mut(),
                &mut exit,
            );
        }
    }
    fence();
}

/// Takes a group of rows of the stem.
struct StemExit<'a> {
    stem: &'a Stem<'a>,
    strand: Strand,
    first: usize,
}

impl Company for StemExit<'_> {
    #[inline(always)]
    fn whole(&self) -> bool {
        self.strand.rows - self.first >= GROUP
    }

    #[inline(always)]
    unsafe fn take<V: Arithmetic, const WHOLE: bool>(&mut self, c: usize, x: usize, rows: [V; GROUP]) {
        let (stem, strand) = (self.stem, self.strand);
        unsafe {
            let rows = bend::<V, WHOLE>(rows, stem.layer.affine[c], x, &stem.extent);
            for r in 0..if WHOLE { GROUP } else { GROUP.min(strand.rows - self.first) } {
                let to = stem.to.row(strand.image, strand.first_y + (self.first + r) * strand.dilation);
                rows[r].store_past_caches(to.add(c * stem.extent.stride + x));
            }
        }
    }
}

run_on!(fn block_strand = block_strand_kernel(block: &Block<'_>, strand: Strand, scratch: &mut Scratch); 3 wide);

/// Group `n` of the middle is its rows `4n - 3` to `4n`: the last four of the six that group `n - 1` of what goes out, rows
/// `4n - 4` to `4n - 1`, is made of. They are combined as they are made.
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
    let Scratch { middle, combined, combined_middle, zeros, sum, products, .. } = scratch;
    let products = products.start_mut();
    let row_of_x =
        |index: isize| strand.y(index, block.height).map_or(zeros.start(), |y| block.x.row(strand.image, y));
    unsafe {
        for group in 0..=strand.rows.div_ceil(GROUP) {
            let begin = (group * GROUP) as isize - 3;
            let rows: [*const f32; ROWS_READ] = std::array::from_fn(|r| row_of_x(begin - 1 + r as isize));
            for channel in 0..WIDTH {
                let window = rows.map(|row| row.add(channel * extent.stride));
                let to_next = strand.distance_to_next(channel, extent.stride);
                groups::combine::<V>(window, combined.channel(channel), extent.span, to_next);
            }
            let mut first = FirstExit {
                block,
                inside: std::array::from_fn(|r| strand.y(begin + r as isize, block.height).is_some()),
                shared: middle.channel(0),
                to: combined_middle.channel(0),
                stride: combined_middle.stride(),
            };
            groups::convolve_group::<V, _, OUTPUTS, VECTORS>(
                combined.points(),
                block.first.weight.as_ptr(),
                taps,
                extent,
                products,
                &mut first,
            );
            let Some(done) = group.checked_sub(1) else { continue };
            let mut second = SecondExit::new(block, strand, done * GROUP, sum);
            groups::convolve_group::<V, _, OUTPUTS, VECTORS>(
                combined_middle.points(),
                block.second.weight.as_ptr(),
                taps,
                extent,
                products,
                &mut second,
            );
            second.head::<V>();
        }
    }
    fence();
}

/// Takes a group of rows of a block's first convolution, and combines it for the second.
struct FirstExit<'a> {
    block: &'a Block<'a>,
    /// Whether the rows lie in the picture; zero where they do not.
    inside: [bool; GROUP],
    /// The two rows before, channel 0.
    shared: [*mut f32; 2],
    /// Combined rows, channel 0, and how far it is from a channel to the next.
    to: [*mut f32; POINTS],
    stride: usize,
}

impl Company for FirstExit<'_> {
    #[inline(always)]
    fn whole(&self) -> bool {
        self.inside == [true; GROUP]
    }

    #[inline(always)]
    unsafe fn take<V: Arithmetic, const WHOLE: bool>(&mut self, c: usize, x: usize, rows: [V; GROUP]) {
        let (affine, extent) = (self.block.first.affine[c], &self.block.extent);
        unsafe {
            let mut rows = bend::<V, WHOLE>(rows, affine, x, extent);
            for r in 0..GROUP {
                rows[r] = if WHOLE || self.inside[r] { rows[r] } else { V::zero() };
            }
            let [first, second] = self.shared.map(|row| row.add(c * extent.stride + x));
            let combined = input_line([V::load(first), V::load(second), rows[0], rows[1], rows[2], rows[3]]);
            for point in 0..POINTS {
                combined[point].store(self.to[point].add(c * self.stride + x));
            }
            rows[2].store(first);
            rows[3].store(second);
        }
    }
}

/// Takes a group of rows of a block's second convolution.
struct SecondExit<'a> {
    block: &'a Block<'a>,
    strand: Strand,
    /// The group's first row, and how many of its rows belong to the strand.
    first: usize,
    rows: usize,
    base: [*const f32; GROUP],
    to: [*mut f32; GROUP],
}

impl<'a> SecondExit<'a> {
    #[inline(always)]
    fn new(block: &'a Block<'a>, strand: Strand, first: usize, sum: &mut Lines) -> Self {
        let rows = GROUP.min(strand.rows - first);
        let y = |r: usize| strand.first_y + (first + r.min(rows - 1)) * strand.dilation;
        let to = |r: usize| match block.exit {
            Exit::Rows(rows) => rows.row(strand.image, y(r)),
            // SAFETY: one of the group's rows.
            Exit::Head(_) => unsafe { sum.start_mut().add(r * WIDTH * block.extent.stride) },
        };
        let to = [0, 1, 2, 3].map(to);
        let base = std::array::from_fn(|r| block.x.row(strand.image, y(r)));
        Self { block, strand, first, rows, base, to }
    }

    /// Maps the sum to the outputs, after the last block.
    #[inline(always)]
    unsafe fn head<V: Arithmetic>(&self) {
        let Exit::Head(output) = self.block.exit else { return };
        let (FoldedTower { head_weight, head_bias, tower, .. }, extent) =
            (self.block.tower, &self.block.extent);
        for r in 0..self.rows {
            let y = self.strand.first_y + (self.first + r) * self.strand.dilation;
            let row = From { start: self.to[r], stride: extent.stride };
            for (k, weight) in head_weight.chunks_exact(WIDTH).enumerate() {
                unsafe {
                    let to = output.start.add(output.shape.row_start(self.strand.image, k, y));
                    head::map_row::<V>(row, weight, head_bias[k], tower.sigmoid, to, extent);
                }
            }
        }
    }
}

impl Company for SecondExit<'_> {
    #[inline(always)]
    fn whole(&self) -> bool {
        self.rows == GROUP
    }

    #[inline(always)]
    unsafe fn take<V: Arithmetic, const WHOLE: bool>(&mut self, c: usize, x: usize, rows: [V; GROUP]) {
        let (affine, extent) = (self.block.second.affine[c], &self.block.extent);
        let at = c * extent.stride + x;
        unsafe {
            let rows = bend::<V, WHOLE>(rows, affine, x, extent);
            for r in 0..if WHOLE { GROUP } else { self.rows } {
                let sum = V::load(self.base[r].add(at)).add(rows[r]);
                match self.block.exit {
                    Exit::Rows(_) => sum.store_past_caches(self.to[r].add(at)),
                    Exit::Head(_) => sum.store(self.to[r].add(at)),
                }
            }
        }
    }
}
