//! Winograd's F(4×4, 3×3): tiles of the input and weights are transformed, multiplied point by point, and
//! transformed back.
//!
//! Two orders of work, by what is larger. With many tiles, all weights are transformed once and a task takes a block
//! of tiles from input to output; with few, all tiles are transformed once and a task takes a panel of outputs,
//! whose transformed weights (4 times the weight) then never leave the second cache.

use super::direct::{add_parts, finish_of};
use super::pack::{Matrix, Panel, unpack};
use super::product::{ColumnsProduct, Finish, RowsProduct, multiply_columns, multiply_rows};
use super::scratch::{Shared, with_scratch};
use super::transform::{
    Grid, Layout, POINTS, Source, Target, transform_gradient, transform_input, transform_output, transform_weight,
    transform_weight_sums,
};
use super::sums::BlockSums;
use super::{ChannelSums, Convolution, Epilogue, Maps};
use crate::network::vector::Path;
use rayon::prelude::*;

/// Tiles of a task, when a task takes a block of tiles.
const TILES: usize = 64;
/// From so many tiles on, a task takes a block of tiles.
const MANY_TILES: usize = 256;
/// Rows of a weight that are transformed and multiplied at a time, when a task takes a panel: their points are
/// 0.6 MB and stay in the second cache.
const ROWS: usize = 128;
/// Tiles that are transformed by a task of their own.
const TILES_A_TRANSFORM: usize = 8;
/// Inputs of a task of the weight gradient with few tiles.
const INPUTS: usize = 64;
/// Fixed numbers of partial sums of the weight gradient with many tiles, so that the order of additions never depends
/// on the number of threads.
const PARTS: usize = 8;
/// Tiles whose products are added to the weight gradient's sums at a time.
const TILES_A_SUM: usize = 32;

pub(super) fn convolve(
    path: Path,
    input: &[f32],
    shape: Maps,
    weight: &[f32],
    layer: Convolution,
    epilogue: Epilogue<'_>,
    output: &mut [f32],
    sums: Option<&mut [ChannelSums]>,
) {
    let target = layer.output(shape);
    apply(path, input, shape, layer.padding, Matrix::forward(weight, layer), target, epilogue, output, sums);
}

/// With an epilogue this is a transposed convolution.
pub(super) fn input_gradient(
    path: Path,
    gradient: &[f32],
    shape: Maps,
    weight: &[f32],
    layer: Convolution,
    epilogue: Epilogue<'_>,
    input_gradient: &mut [f32],
) {
    let source = layer.output(shape);
    let matrix = Matrix::backward(weight, layer);
    apply(path, gradient, source, 2 - layer.padding, matrix, shape, epilogue, input_gradient, None);
}

#[allow(clippy::too_many_arguments)] // Two tensors with their extents, a weight, and what happens at the end.
fn apply(
    path: Path,
    source: &[f32],
    maps: Maps,
    padding: usize,
    matrix: Matrix<'_>,
    target: Maps,
    epilogue: Epilogue<'_>,
    output: &mut [f32],
    sums: Option<&mut [ChannelSums]>,
) {
    let grid = Grid::new(target.images, target.size);
    if grid.len() == 0 {
        return BlockSums::collect(sums, 0, path.panel(), |_| ());
    }
    let zeros = vec![0.0; maps.channels];
    let source = Source { values: source, maps, grid, padding, zeros: &zeros };
    let output = Shared::new(output);
    let by_tiles = grid.len() >= MANY_TILES;
    let blocks = if by_tiles { grid.len().div_ceil(TILES) } else { 1 };
    BlockSums::collect(sums, blocks, path.panel(), |sums| {
        let work = Work { path, source, matrix, target, epilogue, output, sums };
        if by_tiles { work.by_tiles() } else { work.by_panels() }
    });
}

/// One convolution.
struct Work<'a> {
    path: Path,
    source: Source<'a>,
    matrix: Matrix<'a>,
    target: Maps,
    epilogue: Epilogue<'a>,
    output: Shared,
    sums: Option<BlockSums>,
}

impl Work<'_> {
    fn panels(&self) -> usize {
        self.target.channels.div_ceil(self.path.panel())
    }

    /// Points of some rows of a panel of weights: `[36, rows, panel]`.
    fn transform_weight(&self, rows: std::ops::Range<usize>, panel: Panel, points: &mut [f32]) {
        transform_weight(self.path, &self.matrix, rows, panel, points);
    }

    fn by_tiles(&self) {
        let (width, rows) = (self.path.panel(), self.matrix.rows);
        let panel_points = POINTS * rows * width;
        with_scratch(self.panels() * panel_points, |weight| {
            if panel_points > 0 {
                weight.par_chunks_mut(panel_points).enumerate().for_each(|(index, points)| {
                    self.transform_weight(0..rows, Panel { index, width }, points);
                });
            }
            let tiles = self.source.grid.len();
            (0..tiles.div_ceil(TILES)).into_par_iter().for_each(|block| {
                let tiles = block * TILES..((block + 1) * TILES).min(tiles);
                let (layout, sums) = (Layout::new(TILES, rows), Layout::new(TILES, width));
                let places = TilePlaces::new(tiles.len(), layout, sums);
                with_scratch(layout.len(), |points| {
                    transform_input(self.path, &self.source, tiles.clone(), 0..rows, layout, points.as_mut_ptr());
                    for index in 0..self.panels() {
                        let weight = &weight[index * panel_points..][..panel_points];
                        with_scratch(sums.len(), |values| {
                            for point in 0..POINTS {
                                let points = &points[point * layout.point..];
                                let weight = &weight[point * rows * width..];
                                let sums = &mut values[point * sums.point..];
                                self.multiply_point(points, weight, rows, &places, false, sums);
                            }
                            self.finish(values, sums, tiles.clone(), Panel { index, width }, block);
                        });
                    }
                });
            });
        });
    }

    fn by_panels(&self) {
        let (width, tiles) = (self.path.panel(), self.source.grid.len());
        let layout = Layout::new(tiles, self.matrix.rows);
        with_scratch(layout.len(), |points| {
            transform_all(tiles, points, |tiles, to| {
                transform_input(self.path, &self.source, tiles.clone(), 0..self.matrix.rows, layout, unsafe {
                    // SAFETY: the layout has a row for each tile.
                    to.at(tiles.start * layout.row)
                });
            });
            let points = &*points;
            let sums = Layout::new(tiles, width);
            let places = TilePlaces::new(tiles, layout, sums);
            (0..self.panels()).into_par_iter().for_each(|index| {
                let panel = Panel { index, width };
                with_scratch(sums.len() + POINTS * ROWS * width, |scratch| {
                    let (values, weight) = scratch.split_at_mut(sums.len());
                    self.multiply_panel(points, layout, panel, weight, &places, sums, values);
                    self.finish(values, sums, 0..tiles, panel, 0);
                });
            });
        });
    }

    /// All tiles with all rows of a panel, whose weights are transformed on the way.
    #[allow(clippy::too_many_arguments)] // Three matrices with their layouts.
    fn multiply_panel(
        &self,
        points: &[f32],
        layout: Layout,
        panel: Panel,
        weight: &mut [f32],
        places: &TilePlaces,
        sums: Layout,
        values: &mut [f32],
    ) {
        if self.matrix.rows == 0 {
            values.fill(0.0);
        }
        for first in (0..self.matrix.rows).step_by(ROWS) {
            let rows = first..(first + ROWS).min(self.matrix.rows);
            self.transform_weight(rows.clone(), panel, weight);
            for point in 0..POINTS {
                let points = &points[point * layout.point + first..];
                let weight = &weight[point * rows.len() * panel.width..];
                self.multiply_point(points, weight, rows.len(), places, first > 0, &mut values[point * sums.point..]);
            }
        }
    }

    /// One point of some tiles with some rows of a panel.
    fn multiply_point(
        &self,
        points: &[f32],
        weight: &[f32],
        rows: usize,
        places: &TilePlaces,
        accumulate: bool,
        sums: &mut [f32],
    ) {
        multiply_rows(self.path, &RowsProduct {
            base: points.as_ptr(),
            rows: &places.from[..places.count],
            runs: &[0],
            run: rows,
            weight: weight.as_ptr(),
            output: sums.as_mut_ptr(),
            to: &places.to[..places.count],
            columns: self.path.panel(),
            accumulate,
            finish: Finish::NOTHING,
        });
    }

    fn finish(&self, values: &[f32], sums: Layout, tiles: std::ops::Range<usize>, panel: Panel, block: usize) {
        transform_output(self.path, values.as_ptr(), sums, tiles, &Target {
            // SAFETY: the panel's first channel exists in every pixel.
            output: unsafe { self.output.at(panel.first()) },
            maps: self.target,
            grid: self.source.grid,
            columns: panel.columns(self.target.channels),
            finish: finish_of(self.epilogue, panel),
            // SAFETY: a block's panel is finished once.
            sums: self.sums.map(|sums| unsafe { sums.of(block, panel.index) }.as_mut_ptr()),
        });
    }
}

/// Where the rows of some tiles begin.
struct TilePlaces {
    from: [usize; MANY_TILES],
    to: [usize; MANY_TILES],
    count: usize,
}

impl TilePlaces {
    fn new(count: usize, from: Layout, to: Layout) -> Self {
        let mut places = Self { from: [0; MANY_TILES], to: [0; MANY_TILES], count };
        for tile in 0..count {
            (places.from[tile], places.to[tile]) = (tile * from.row, tile * to.row);
        }
        places
    }
}

/// Calls `transform` with blocks that cover all tiles; each writes its own tiles' rows.
fn transform_all(tiles: usize, points: &mut [f32], transform: impl Fn(std::ops::Range<usize>, Shared) + Sync) {
    let points = Shared::new(points);
    (0..tiles.div_ceil(TILES_A_TRANSFORM)).into_par_iter().for_each(|block| {
        let first = block * TILES_A_TRANSFORM;
        transform(first..(first + TILES_A_TRANSFORM).min(tiles), points);
    });
}

pub(super) fn weight_gradient(
    path: Path,
    input: &[f32],
    gradient: &[f32],
    shape: Maps,
    layer: Convolution,
    weight_gradient: &mut [f32],
) {
    let target = layer.output(shape);
    let grid = Grid::new(target.images, target.size);
    if grid.len() == 0 {
        return weight_gradient.fill(0.0);
    }
    let zeros = vec![0.0; layer.inputs.max(layer.outputs)];
    let work = WeightWork {
        path,
        layer,
        input: Source { values: input, maps: shape, grid, padding: layer.padding, zeros: &zeros },
        gradient: Source { values: gradient, maps: target, grid, padding: 0, zeros: &zeros },
    };
    let to = Shared::new(weight_gradient);
    if grid.len() >= MANY_TILES { work.by_tiles(to) } else { work.by_panels(to) }
}

/// One weight gradient.
struct WeightWork<'a> {
    path: Path,
    layer: Convolution,
    input: Source<'a>,
    gradient: Source<'a>,
}

impl WeightWork<'_> {
    fn panels(&self) -> usize {
        self.layer.outputs.div_ceil(self.path.panel())
    }

    /// A task takes a panel of outputs and some inputs over all tiles. Tiles are transformed once, into blocks
    /// that such a task reads from end to end: `[blocks of inputs, 36, tiles, INPUTS]` and
    /// `[panels, 36, tiles, panel]`.
    fn by_panels(&self, to: Shared) {
        let (width, tiles) = (self.path.panel(), self.input.grid.len());
        let (left, right) = (Layout::new(tiles, INPUTS), Layout::new(tiles, width));
        let blocks = self.layer.inputs.div_ceil(INPUTS);
        with_scratch(blocks * left.len() + self.panels() * right.len(), |points| {
            let (inputs, gradients) = points.split_at_mut(blocks * left.len());
            transform_all(tiles, inputs, |tiles, to| {
                for block in 0..blocks {
                    // SAFETY: each block has a layout, and that a row for each tile.
                    let to = unsafe { to.at(block * left.len() + tiles.start * left.row) };
                    transform_input(self.path, &self.input, tiles.clone(), self.inputs_of(block), left, to);
                }
            });
            transform_all(tiles, gradients, |tiles, to| {
                for index in 0..self.panels() {
                    // SAFETY: each panel has a layout, and that a row for each tile.
                    let to = unsafe { to.at(index * right.len() + tiles.start * right.row) };
                    let outputs = index * width..((index + 1) * width).min(self.layer.outputs);
                    transform_gradient(self.path, &self.gradient, tiles.clone(), outputs, right, to);
                }
            });
            let (inputs, gradients) = (&*inputs, &*gradients);
            (0..self.panels() * blocks).into_par_iter().for_each(|task| {
                let (index, block) = (task / blocks, task % blocks);
                let (inputs, gradients) = (&inputs[block * left.len()..], &gradients[index * right.len()..]);
                let range = self.inputs_of(block);
                with_scratch(POINTS * INPUTS * width, |sums| {
                    self.add(inputs, left, gradients, right, tiles, range.len(), width, false, sums);
                    self.write(sums, range, Panel { index, width }, to);
                });
            });
        });
    }

    fn inputs_of(&self, block: usize) -> std::ops::Range<usize> {
        block * INPUTS..((block + 1) * INPUTS).min(self.layer.inputs)
    }

    /// A task takes some tiles over all inputs, for a panel of outputs; the partial sums are added.
    fn by_tiles(&self, to: Shared) {
        let (width, tiles) = (self.path.panel(), self.input.grid.len());
        let panel_sums = POINTS * self.layer.inputs * width;
        let panels = self.panels();
        with_scratch(PARTS * panels * panel_sums, |sums| {
            let shared = Shared::new(sums);
            (0..PARTS).into_par_iter().for_each(|part| {
                let tiles = tiles * part / PARTS..tiles * (part + 1) / PARTS;
                self.sum_part(tiles, part, shared);
            });
            (0..panels).into_par_iter().for_each(|index| {
                // SAFETY: each task has the sums of its own panel.
                let sums = unsafe { shared.slice(index * PARTS * panel_sums, PARTS * panel_sums) };
                add_parts(sums, panel_sums);
                self.write(&sums[..panel_sums], 0..self.layer.inputs, Panel { index, width }, to);
            });
        });
    }

    /// Sums over some tiles, into part `part` of each panel: `[panels, PARTS, 36, inputs, panel]`.
    fn sum_part(&self, tiles: std::ops::Range<usize>, part: usize, shared: Shared) {
        let panel_sums = POINTS * self.layer.inputs * self.path.panel();
        let left = Layout::new(TILES_A_SUM, self.layer.inputs);
        let right = Layout::new(TILES_A_SUM, self.layer.outputs);
        with_scratch(left.len() + right.len(), |points| {
            let (inputs, gradients) = points.split_at_mut(left.len());
            for first in tiles.clone().step_by(TILES_A_SUM) {
                let block = first..(first + TILES_A_SUM).min(tiles.end);
                transform_input(self.path, &self.input, block.clone(), 0..self.layer.inputs, left, inputs.as_mut_ptr());
                let outputs = 0..self.layer.outputs;
                transform_gradient(self.path, &self.gradient, block.clone(), outputs, right, gradients.as_mut_ptr());
                for index in 0..self.panels() {
                    let panel = Panel { index, width: self.path.panel() };
                    // SAFETY: each task has sums of its own.
                    let sums = unsafe { shared.slice((index * PARTS + part) * panel_sums, panel_sums) };
                    let again = first > tiles.start;
                    let gradients = &gradients[panel.first()..];
                    let lanes = panel.columns(self.layer.outputs);
                    self.add(inputs, left, gradients, right, block.len(), self.layer.inputs, lanes, again, sums);
                }
            }
        });
    }

    /// The 36 products of some inputs with a panel of gradients, summed over tiles: `[36, inputs, panel]`.
    #[allow(clippy::too_many_arguments)] // Three matrices with their layouts.
    fn add(
        &self,
        inputs: &[f32],
        left: Layout,
        gradients: &[f32],
        right: Layout,
        tiles: usize,
        columns: usize,
        lanes: usize,
        accumulate: bool,
        sums: &mut [f32],
    ) {
        let width = self.path.panel();
        let places = TilePlaces::new(tiles, left, right);
        for point in 0..POINTS {
            multiply_columns(self.path, &ColumnsProduct {
                left: inputs[point * left.point..].as_ptr(),
                left_at: &places.from[..tiles],
                right: gradients[point * right.point..].as_ptr(),
                right_at: &places.to[..tiles],
                columns,
                lanes,
                output: sums[point * columns * width..][..columns * width].as_mut_ptr(),
                accumulate,
            });
        }
    }

    fn write(&self, sums: &[f32], inputs: std::ops::Range<usize>, panel: Panel, to: Shared) {
        let count = inputs.len();
        with_scratch(9 * count * panel.width, |taps| {
            transform_weight_sums(self.path, sums, count, taps);
            // SAFETY: each task has a panel and inputs of its own.
            unsafe { unpack(taps, self.layer, inputs, panel, to) };
        });
    }
}
