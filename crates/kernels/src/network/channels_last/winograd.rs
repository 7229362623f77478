//! Winograd's F(4×4, 3×3): tiles of the input and weights are transformed, multiplied point by point, and
//! transformed back.
//!
//! Two orders of work, by what is larger. With many tiles, all weights are transformed once and a task takes a block
//! of tiles from input to output; with few, all tiles are transformed once and a task takes a panel of outputs,
//! whose transformed weights (4 times the weight) then never leave the second cache.

use super::direct::finish_of;
use super::pack::{Matrix, Panel};
use super::product::{Finish, RowsProduct, multiply_rows};
use super::scratch::{Shared, with_scratch};
use super::sums::BlockSums;
use super::transform::{Grid, Layout, POINTS, Source, Target, transform_input, transform_output};
use super::transform_weight::transform_weight;
use super::{ChannelSums, Convolution, Epilogue, Maps};
use crate::network::vector::Path;
use rayon::prelude::*;
use std::ops::Range;

/// Tiles of a task, when a task takes a block of tiles.
const TILES: usize = 64;
/// Rows of a weight up to which the points of a block of tiles stay in the second cache.
const FEW_ROWS: usize = 192;
/// From so many tiles on, a task takes a block of tiles; also how many are transformed at a time when it does not.
pub(super) const MANY_TILES: usize = 256;
/// Rows of a weight that are transformed and multiplied at a time, when a task takes a panel: their points are
/// 0.6 MB and stay in the second cache.
const ROWS: usize = 128;
/// Tiles that are transformed by a task of their own.
const TILES_A_TRANSFORM: usize = 8;

#[allow(clippy::too_many_arguments)] // The tensors of a convolution, and what happens at the end.
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
    let by_tiles = grid.len() >= MANY_TILES && matrix.rows <= FEW_ROWS;
    let blocks = grid.len().div_ceil(if by_tiles { TILES } else { MANY_TILES });
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
    fn transform_weight(&self, rows: Range<usize>, panel: Panel, points: &mut [f32]) {
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
                    transform_input(
                        self.path,
                        &self.source,
                        tiles.clone(),
                        0..rows,
                        layout,
                        points.as_mut_ptr(),
                    );
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
        for (block, first) in (0..tiles).step_by(MANY_TILES).enumerate() {
            let tiles = first..(first + MANY_TILES).min(tiles);
            let (layout, sums) =
                (Layout::new(tiles.len(), self.matrix.rows), Layout::new(tiles.len(), width));
            let places = TilePlaces::new(tiles.len(), layout, sums);
            with_scratch(layout.len(), |points| {
                transform_all(tiles.clone(), points, |tiles, row, to| {
                    // SAFETY: the layout has a row for each tile.
                    let to = unsafe { to.at(row * layout.row) };
                    transform_input(self.path, &self.source, tiles, 0..self.matrix.rows, layout, to);
                });
                let points = &*points;
                (0..self.panels()).into_par_iter().for_each(|index| {
                    let panel = Panel { index, width };
                    with_scratch(sums.len() + POINTS * ROWS * width, |scratch| {
                        let (values, weight) = scratch.split_at_mut(sums.len());
                        self.multiply_panel(points, layout, panel, weight, &places, sums, values);
                        self.finish(values, sums, tiles.clone(), panel, block);
                    });
                });
            });
        }
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
                self.multiply_point(
                    points,
                    weight,
                    rows.len(),
                    places,
                    first > 0,
                    &mut values[point * sums.point..],
                );
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
        multiply_rows(
            self.path,
            &RowsProduct {
                base: points.as_ptr(),
                rows: &places.from,
                runs: &[0],
                run: rows,
                weight: weight.as_ptr(),
                output: sums.as_mut_ptr(),
                to: &places.to,
                columns: self.path.panel(),
                accumulate,
                finish: Finish::NOTHING,
            },
        );
    }

    fn finish(&self, values: &[f32], sums: Layout, tiles: Range<usize>, panel: Panel, block: usize) {
        transform_output(
            self.path,
            values.as_ptr(),
            sums,
            tiles,
            &Target {
                // SAFETY: the panel's first channel exists in every pixel.
                output: unsafe { self.output.at(panel.first()) },
                maps: self.target,
                grid: self.source.grid,
                columns: panel.columns(self.target.channels),
                finish: finish_of(self.epilogue, panel),
                // SAFETY: a block's panel is finished once.
                sums: self.sums.map(|sums| unsafe { sums.of(block, panel.index) }.as_mut_ptr()),
            },
        );
    }
}

/// Where the rows of some tiles begin.
pub(super) struct TilePlaces {
    pub(super) from: Vec<usize>,
    pub(super) to: Vec<usize>,
}

impl TilePlaces {
    pub(super) fn new(count: usize, from: Layout, to: Layout) -> Self {
        let places = |layout: Layout| (0..count).map(|tile| tile * layout.row).collect();
        Self { from: places(from), to: places(to) }
    }
}

/// Calls `transform` with blocks that cover some tiles, and the row of each block's first tile; each call writes its own
/// tiles' rows.
pub(super) fn transform_all(
    tiles: Range<usize>,
    points: &mut [f32],
    transform: impl Fn(Range<usize>, usize, Shared) + Sync,
) {
    let points = Shared::new(points);
    (0..tiles.len().div_ceil(TILES_A_TRANSFORM)).into_par_iter().for_each(|block| {
        let row = block * TILES_A_TRANSFORM;
        let first = tiles.start + row;
        transform(first..(first + TILES_A_TRANSFORM).min(tiles.end), row, points);
    });
}
