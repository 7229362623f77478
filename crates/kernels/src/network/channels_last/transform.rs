//! The transforms of Winograd's F(4×4, 3×3), with channels as lanes.
//!
//! The points of `winograd_line` keep the errors at 1.3·10⁻⁶ of the largest output (the usual ones: 4.9·10⁻⁶, measured
//! with 64 channels).
//!
//! Values in the transformed domain are `[36, rows, lanes]`: a row is a tile or an input channel.

use super::Maps;
use super::product::{Finish, finish, load, store};
use crate::Size;
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::run_on;
use crate::network::winograd_line::{gradient_line, input_line, output_line};
use std::ops::Range;

/// Values of a transformed tile.
pub(super) const POINTS: usize = 36;

/// The tiles of 4×4 that cover a map, in the order image, row, column.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    images: usize,
    down: usize,
    across: usize,
}

impl Grid {
    pub(super) fn new(images: usize, covered: Size) -> Self {
        Self { images, down: covered.height_px.div_ceil(4), across: covered.width_px.div_ceil(4) }
    }

    pub(super) fn len(self) -> usize {
        self.images * self.down * self.across
    }

    /// Image, and row and column of the first pixel.
    #[inline(always)]
    fn place(self, tile: usize) -> (usize, usize, usize) {
        let (image, rest) = (tile / (self.down * self.across), tile % (self.down * self.across));
        (image, rest / self.across * 4, rest % self.across * 4)
    }
}

/// Values in the transformed domain: `[36, rows, lanes]` with room between them.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Distance between rows.
    pub(super) row: usize,
    /// Distance between points.
    pub(super) point: usize,
}

impl Layout {
    /// `rows` of at least `lanes` floats. Neither distance is a multiple of a large power of two: such rows would
    /// share a few sets of the cache.
    pub(super) fn new(rows: usize, lanes: usize) -> Self {
        let row = lanes.next_multiple_of(16);
        let row = if row.is_multiple_of(128) { row + 16 } else { row };
        Self { row, point: rows * row + 16 }
    }

    pub(super) fn len(self) -> usize {
        POINTS * self.point
    }
}

/// A tensor that tiles are read from.
pub(super) struct Source<'a> {
    pub(super) values: &'a [f32],
    pub(super) maps: Maps,
    pub(super) grid: Grid,
    /// Rows and columns of zeros before the first tile.
    pub(super) padding: usize,
    /// At least as many zeros as there are channels.
    pub(super) zeros: &'a [f32],
}

impl Source<'_> {
    /// Where the pixels of a tile lie: `[SIDE, SIDE]`, the zeros for those outside.
    #[inline(always)]
    fn pixels<const COUNT: usize>(&self, tile: usize, side: usize) -> [*const f32; COUNT] {
        let (image, y, x) = self.grid.place(tile);
        let Size { width_px, height_px } = self.maps.size;
        let mut pixels = [self.zeros.as_ptr(); COUNT];
        for i in 0..side {
            let y = (y + i).wrapping_sub(self.padding);
            for j in 0..side {
                let x = (x + j).wrapping_sub(self.padding);
                if y < height_px && x < width_px {
                    let at = ((image * height_px + y) * width_px + x) * self.maps.channels;
                    pixels[i * side + j] = self.values[at..].as_ptr();
                }
            }
        }
        pixels
    }
}

run_on!(pub(super) fn transform_input = transform_input_kernel(
    source: &Source<'_>,
    tiles: Range<usize>,
    channels: Range<usize>,
    layout: Layout,
    to: *mut f32,
));

/// # Safety
/// The instruction set of `V` must be there; `to` has room for the layout, whose rows are at least the range of
/// channels rounded up to 16, and no other task writes these tiles' rows.
#[inline(always)]
unsafe fn transform_input_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    source: &Source<'_>,
    tiles: Range<usize>,
    channels: Range<usize>,
    layout: Layout,
    to: *mut f32,
) {
    for (row, tile) in tiles.enumerate() {
        let pixels: [*const f32; 36] = source.pixels(tile, 6);
        for first in channels.clone().step_by(V::LANES) {
            unsafe {
                let mut values = [[V::zero(); 6]; 6];
                for j in 0..6 {
                    let mut column = [V::zero(); 6];
                    for i in 0..6 {
                        column[i] = load(pixels[i * 6 + j].add(first), channels.end - first);
                    }
                    let column = input_line(column);
                    for i in 0..6 {
                        values[i][j] = column[i];
                    }
                }
                let to = to.add(row * layout.row + first - channels.start);
                for i in 0..6 {
                    let line = input_line(values[i]);
                    for j in 0..6 {
                        line[j].store(to.add((i * 6 + j) * layout.point));
                    }
                }
            }
        }
    }
}

run_on!(pub(super) fn transform_gradient = transform_gradient_kernel(
    source: &Source<'_>,
    tiles: Range<usize>,
    channels: Range<usize>,
    layout: Layout,
    to: *mut f32,
));

/// The adjoint of `transform_output`: tiles of 4×4 to 6×6, for some of the channels.
///
/// # Safety
/// As for `transform_input_kernel`.
#[inline(always)]
unsafe fn transform_gradient_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    source: &Source<'_>,
    tiles: Range<usize>,
    channels: Range<usize>,
    layout: Layout,
    to: *mut f32,
) {
    for (row, tile) in tiles.enumerate() {
        let pixels: [*const f32; 16] = source.pixels(tile, 4);
        for first in channels.clone().step_by(V::LANES) {
            unsafe {
                let mut values = [[V::zero(); 4]; 6];
                for j in 0..4 {
                    let mut column = [V::zero(); 4];
                    for i in 0..4 {
                        column[i] = load(pixels[i * 4 + j].add(first), channels.end - first);
                    }
                    let column = gradient_line(column);
                    for i in 0..6 {
                        values[i][j] = column[i];
                    }
                }
                let to = to.add(row * layout.row + first - channels.start);
                for i in 0..6 {
                    let line = gradient_line(values[i]);
                    for j in 0..6 {
                        line[j].store(to.add((i * 6 + j) * layout.point));
                    }
                }
            }
        }
    }
}

/// Where the tiles of one panel of output channels go.
pub(super) struct Target<'a> {
    /// The panel's first channel of the output's first pixel.
    pub(super) output: *mut f32,
    pub(super) maps: Maps,
    pub(super) grid: Grid,
    /// Channels of the panel that exist.
    pub(super) columns: usize,
    pub(super) finish: Finish<'a>,
    /// Room for the sums of what is stored and of its squares, `[2, panel]`.
    pub(super) sums: Option<*mut f32>,
}

run_on!(pub(super) fn transform_output = transform_output_kernel(
    from: *const f32,
    layout: Layout,
    tiles: Range<usize>,
    target: &Target<'_>,
));

/// # Safety
/// The instruction set of `V` must be there; `from` holds the layout, and no other task may write these tiles' pixels
/// of the panel, or the sums.
#[inline(always)]
unsafe fn transform_output_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    from: *const f32,
    layout: Layout,
    tiles: Range<usize>,
    target: &Target<'_>,
) {
    let Size { width_px, height_px } = target.maps.size;
    let mut sums = [[unsafe { V::zero() }; VECTORS]; 2];
    for (row, tile) in tiles.enumerate() {
        let (image, y, x) = target.grid.place(tile);
        let start = (image * height_px + y) * width_px + x;
        for v in 0..VECTORS {
            let first = v * V::LANES;
            if first >= target.columns {
                break;
            }
            unsafe {
                let (mut sum, mut squares) = (V::zero(), V::zero());
                let from = from.add(row * layout.row + first);
                let mut values = [[V::zero(); 6]; 4];
                for j in 0..6 {
                    let mut column = [V::zero(); 6];
                    for i in 0..6 {
                        column[i] = V::load(from.add((i * 6 + j) * layout.point));
                    }
                    let column = output_line(column);
                    for i in 0..4 {
                        values[i][j] = column[i];
                    }
                }
                let columns = target.columns - first;
                for i in 0..4 {
                    let line = output_line(values[i]);
                    for j in 0..4 {
                        if y + i < height_px && x + j < width_px {
                            let at = (start + i * width_px + j) * target.maps.channels;
                            let value = finish(line[j], target.finish, first, at, columns);
                            sum = sum.add(value);
                            squares = squares.plus_product(value, value);
                            store(value, target.output.add(at + first), columns);
                        }
                    }
                }
                sums[0][v] = sums[0][v].add(sum);
                sums[1][v] = sums[1][v].add(squares);
            }
        }
    }
    if let Some(to) = target.sums {
        for i in 0..2 {
            for v in 0..VECTORS {
                // SAFETY: there is room for two panels.
                unsafe { sums[i][v].store(to.add((i * VECTORS + v) * V::LANES)) };
            }
        }
    }
}
