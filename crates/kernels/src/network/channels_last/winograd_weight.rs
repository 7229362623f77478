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

/// Inputs of a task of the weight gradient with few tiles.
const INPUTS: usize = 64;
/// Fixed numbers of partial sums of the weight gradient with many tiles, so that the order of additions never depends
/// on the number of threads.
const PARTS: usize = 8;
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

    fn inputs_of(&self, block: usize) -> Range<usize> {
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
    fn sum_part(&self, tiles: Range<usize>, part: usize, shared: Shared) {
        let panel_sums = POINTS * self.layer.inputs * self.path.panel();
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
                    // SAFETY: each task has sums of its own.
                    let sums = unsafe { shared.slice((index * PARTS + part) * panel_sums, panel_sums) };
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
                        sums,
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
            multiply_columns(
                self.path,
                &ColumnsProduct {
                    left: inputs[point * left.point..].as_ptr(),
                    left_at: &places.from[..tiles],
                    right: gradients[point * right.point..].as_ptr(),
                    right_at: &places.to[..tiles],
                    columns,
                    lanes,
                    output: sums[point * columns * width..][..columns * width].as_mut_ptr(),
                    accumulate,
                },
            );
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
