//! The weight gradient of Winograd's F(4×4, 3×3): the adjoint of the forward transforms around 36 products of inputs
//! and gradients, summed over tiles.

use super::direct::add_parts;
use super::pack::{Panel, unpack};
use super::product::{ColumnsProduct, multiply_columns};
use super::scratch::{Shared, with_scratch};
use super::transform::{Grid, Layout, POINTS, Source, transform_gradient, transform_input};
use super::transform_weight::transform_weight_sums;
use super::winograd::{MANY_TILES, TilePlaces, transform_all};
use super::{Convolution, Maps};
use crate::network::vector::Path;
use rayon::prelude::*;
use std::ops::Range;

/// Tiles that one product sums over: a panel of their gradients fits the first cache beside the inputs.
const TILES_A_PRODUCT: usize = 128;
/// Inputs of a task of the weight gradient with few tiles.
const INPUTS: usize = 64;
/// Tiles that are transformed at a time, when a task takes a panel.
const TILES_A_CHUNK: usize = 512;
/// Pairs of channels up to which partial sums for blocks of tiles are worth their memory.
const FEW_WEIGHTS: usize = 128 * 128;
/// Most partial sums of the weight gradient with many tiles.
const PARTS: usize = 8;
/// Fewest tiles that a partial sum is made for.
const TILES_A_PART: usize = 128;
/// Tiles whose products are added to the weight gradient's sums at a time.
const TILES_A_SUM: usize = 32;

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
    let few_sums = layer.inputs * layer.outputs <= FEW_WEIGHTS;
    if grid.len() >= MANY_TILES && few_sums { work.by_tiles(to) } else { work.by_panels(to) }
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

    /// A task takes a panel of outputs and some inputs. With more tiles than are transformed at a time, its sums wait
    /// for the next ones.
    fn by_panels(&self, to: Shared) {
        let (width, tiles) = (self.path.panel(), self.input.grid.len());
        let blocks = self.layer.inputs.div_ceil(INPUTS);
        let tasks = self.panels() * blocks;
        let task_sums = POINTS * INPUTS * width;
        let waiting = if tiles > TILES_A_CHUNK { tasks * task_sums } else { 0 };
        with_scratch(waiting, |sums| {
            let shared = Shared::new(sums);
            for first in (0..tiles).step_by(TILES_A_CHUNK) {
                let chunk = first..(first + TILES_A_CHUNK).min(tiles);
                self.sum_chunk(chunk.clone(), |inputs, left, gradients, right, block, index| {
                    let range = self.inputs_of(block);
                    let count = range.len();
                    let finish = |sums: &mut [f32]| {
                        self.add(inputs, left, gradients, right, chunk.len(), count, width, first > 0, sums);
                        if chunk.end == tiles {
                            self.write(sums, range, Panel { index, width }, to);
                        }
                    };
                    if waiting > 0 {
                        // SAFETY: each panel and block of inputs has sums of its own.
                        finish(unsafe { shared.slice((index * blocks + block) * task_sums, task_sums) });
                    } else {
                        with_scratch(task_sums, finish);
                    }
                });
            }
        });
    }

    /// Transforms some tiles into blocks that a task reads from end to end, `[blocks of inputs, 36, tiles, INPUTS]` and
    /// `[panels, 36, tiles, panel]`, and calls `task` with each pair: inputs, gradients, block and panel.
    fn sum_chunk(
        &self,
        chunk: Range<usize>,
        task: impl Fn(&[f32], Layout, &[f32], Layout, usize, usize) + Sync,
    ) {
        let (width, tiles) = (self.path.panel(), chunk.len());
        let (left, right) = (Layout::new(tiles, INPUTS), Layout::new(tiles, width));
        let blocks = self.layer.inputs.div_ceil(INPUTS);
        with_scratch(blocks * left.len() + self.panels() * right.len(), |points| {
            let (inputs, gradients) = points.split_at_mut(blocks * left.len());
            transform_all(chunk.clone(), inputs, |tiles, row, to| {
                for block in 0..blocks {
                    // SAFETY: each block has a layout, and that a row for each tile.
                    let to = unsafe { to.at(block * left.len() + row * left.row) };
                    transform_input(self.path, &self.input, tiles.clone(), self.inputs_of(block), left, to);
                }
            });
            transform_all(chunk, gradients, |tiles, row, to| {
                for index in 0..self.panels() {
                    // SAFETY: each panel has a layout, and that a row for each tile.
                    let to = unsafe { to.at(index * right.len() + row * right.row) };
                    let outputs = index * width..((index + 1) * width).min(self.layer.outputs);
                    transform_gradient(self.path, &self.gradient, tiles.clone(), outputs, right, to);
                }
            });
            let (inputs, gradients) = (&*inputs, &*gradients);
            (0..self.panels() * blocks).into_par_iter().for_each(|index| {
                let (panel, block) = (index / blocks, index % blocks);
                let (inputs, gradients) = (&inputs[block * left.len()..], &gradients[panel * right.len()..]);
                task(inputs, left, gradients, right, block, panel);
            });
        });
    }

    fn inputs_of(&self, block: usize) -> Range<usize> {
        block * INPUTS..((block + 1) * INPUTS).min(self.layer.inputs)
    }

    /// A task takes some tiles over all inputs, for a panel of outputs; the partial sums are added.
    fn by_tiles(&self, to: Shared) {
        let (width, tiles) = (self.path.panel(), self.input.grid.len());
        let panel_sums = POINTS * self.layer.inputs * width;
        let panels = self.panels();
        let parts = (tiles / TILES_A_PART).clamp(1, PARTS);
        with_scratch(parts * panels * panel_sums, |sums| {
            let shared = Shared::new(sums);
            (0..parts).into_par_iter().for_each(|part| {
                self.sum_part(tiles * part / parts..tiles * (part + 1) / parts, |panel| {
                    // SAFETY: each task has sums of its own.
                    unsafe { shared.slice((panel * parts + part) * panel_sums, panel_sums) }
                });
            });
            (0..panels).into_par_iter().for_each(|index| {
                // SAFETY: each task has the sums of its own panel.
                let sums = unsafe { shared.slice(index * parts * panel_sums, parts * panel_sums) };
                add_parts(sums, panel_sums);
                self.write(&sums[..panel_sums], 0..self.layer.inputs, Panel { index, width }, to);
            });
        });
    }

    /// Sums over some tiles for each panel: `[36, inputs, panel]`.
    fn sum_part<'a>(&self, tiles: Range<usize>, sums: impl Fn(usize) -> &'a mut [f32]) {
        let left = Layout::new(TILES_A_SUM, self.layer.inputs);
        let right = Layout::new(TILES_A_SUM, self.layer.outputs);
        with_scratch(left.len() + right.len(), |points| {
            let (inputs, gradients) = points.split_at_mut(left.len());
            for first in tiles.clone().step_by(TILES_A_SUM) {
                let block = first..(first + TILES_A_SUM).min(tiles.end);
                transform_input(
                    self.path,
                    &self.input,
                    block.clone(),
                    0..self.layer.inputs,
                    left,
                    inputs.as_mut_ptr(),
                );
                let outputs = 0..self.layer.outputs;
                transform_gradient(
                    self.path,
                    &self.gradient,
                    block.clone(),
                    outputs,
                    right,
                    gradients.as_mut_ptr(),
                );
                for index in 0..self.panels() {
                    let panel = Panel { index, width: self.path.panel() };
                    let again = first > tiles.start;
                    let gradients = &gradients[panel.first()..];
                    let lanes = panel.columns(self.layer.outputs);
                    self.add(
                        inputs,
                        left,
                        gradients,
                        right,
                        block.len(),
                        self.layer.inputs,
                        lanes,
                        again,
                        sums(index),
                    );
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
            let sums = &mut sums[point * columns * width..][..columns * width];
            for first in (0..tiles).step_by(TILES_A_PRODUCT) {
                let range = first..(first + TILES_A_PRODUCT).min(tiles);
                multiply_columns(
                    self.path,
                    &ColumnsProduct {
                        left: inputs[point * left.point..].as_ptr(),
                        left_at: &places.from[range.clone()],
                        right: gradients[point * right.point..].as_ptr(),
                        right_at: &places.to[range],
                        columns,
                        lanes,
                        output: sums.as_mut_ptr(),
                        accumulate: accumulate || first > 0,
                    },
                );
            }
        }
    }

    fn write(&self, sums: &[f32], inputs: Range<usize>, panel: Panel, to: Shared) {
        let count = inputs.len();
        with_scratch(9 * count * panel.width, |taps| {
            transform_weight_sums(self.path, sums, count, taps);
            // SAFETY: each task has a panel and inputs of its own.
            unsafe { unpack(taps, self.layer, inputs, panel, to) };
        });
    }
}
