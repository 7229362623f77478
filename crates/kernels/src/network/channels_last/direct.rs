//! Convolutions as sums of products, in place: no matrix of patches is made.
//!
//! Pixels come in blocks whose inputs stay in the second cache; one panel of weights after the other is streamed
//! against a block.

use super::frame::{self, Frame, Gathering};
use super::pack::{Matrix, Panel, unpack};
use super::product::{
    ColumnsProduct, Finish, RowsProduct, copy_columns, multiply_columns, multiply_rows, sum_rows,
};
use super::scratch::{Shared, with_scratch};
use super::sums::BlockSums;
use super::{ChannelSums, Convolution, Epilogue, Maps};
use crate::network::vector::Path;
use rayon::prelude::*;
use std::ops::Range;

/// Output pixels of a task: 8 groups of the widest kernel's 14 rows.
const PIXELS: usize = 112;
/// Panels of output channels of a task.
const PANELS: usize = 4;
/// Pixels that are summed over before the next sums take their turn: their channels stay in the first cache.
const STEPS: usize = 128;
/// Tasks that a weight gradient has at least, where its pixels suffice. Fixed, so that the order of additions never
/// depends on the number of threads.
const WEIGHT_TASKS: usize = 12;
/// Floats from which on a stretch of taps is a task of its own.
const LONG_RUN: usize = 64;
/// Fewest pixels that a partial sum of the weight gradient is made for.
const PIXELS_A_PART: usize = 2048;

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
    let (frame, gathering) = frame::forward(layer, shape);
    let target = layer.output(shape);
    let blocks = (target.images * target.size.area_px()).div_ceil(PIXELS);
    framed(input, frame, |input| {
        let matrix = Matrix::forward(weight, layer);
        BlockSums::collect(sums, blocks, path.panel(), |sums| {
            gather(path, input, frame, &gathering, matrix, target, epilogue, output, sums);
        });
    });
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
    let (frame, phases) = frame::backward(layer, shape);
    framed(gradient, frame, |gradient| {
        for gathering in &phases {
            let matrix = Matrix::backward(weight, layer);
            gather(path, gradient, frame, gathering, matrix, shape, epilogue, input_gradient, None);
        }
    });
}

/// Calls `work` with the source in its frame.
fn framed(source: &[f32], frame: Frame, work: impl FnOnce(&[f32])) {
    if frame.is_source() {
        return work(source);
    }
    with_scratch(frame.len(), |values| {
        frame.fill(source, values);
        work(values);
    });
}

/// Multiplies what is gathered with the weights, for all pixels and panels.
#[allow(clippy::too_many_arguments)] // Two tensors with their places, a weight, and what happens at the end.
fn gather(
    path: Path,
    source: &[f32],
    frame: Frame,
    gathering: &Gathering,
    matrix: Matrix<'_>,
    target: Maps,
    epilogue: Epilogue<'_>,
    output: &mut [f32],
    sums: Option<BlockSums>,
) {
    let width = path.panel();
    let panels = target.channels.div_ceil(width);
    let panel_weights = gathering.taps.len() * matrix.rows * width;
    let (area, pixels) = (gathering.from.len(), target.images * gathering.from.len());
    let groups = panels.div_ceil(PANELS);
    let output = Shared::new(output);
    with_scratch(panels * panel_weights, |packed| {
        matrix.pack_all(path, &gathering.taps, packed);
        let packed = &*packed;
        (0..pixels.div_ceil(PIXELS) * groups).into_par_iter().for_each(|task| {
            let (block, group) = (task / groups, task % groups);
            let mut places = Places::default();
            places.fill(block * PIXELS..((block + 1) * PIXELS).min(pixels), area, gathering, frame, target);
            for index in group * PANELS..((group + 1) * PANELS).min(panels) {
                let panel = Panel { index, width };
                // SAFETY: the panel's first channel exists in every pixel of the output.
                let output = unsafe { output.at(panel.first()) };
                let columns = panel.columns(target.channels);
                multiply_rows(
                    path,
                    &RowsProduct {
                        base: source.as_ptr(),
                        rows: &places.from[..places.count],
                        runs: &gathering.runs,
                        run: gathering.run,
                        weight: packed[index * panel_weights..].as_ptr(),
                        output,
                        to: &places.to[..places.count],
                        columns,
                        accumulate: false,
                        finish: finish_of(epilogue, panel),
                    },
                );
                if let Some(sums) = sums {
                    // SAFETY: no other task has this block's panel.
                    let sums = unsafe { sums.of(block, index) };
                    sum_rows(path, output, &places.to[..places.count], columns, sums);
                }
            }
        });
    });
}

/// The part of an epilogue that concerns one panel.
pub(super) fn finish_of<'a>(epilogue: Epilogue<'a>, panel: Panel) -> Finish<'a> {
    Finish {
        bias: epilogue.bias.map(|bias| &bias[panel.first()..]),
        residual: epilogue.residual.map(|residual| residual[panel.first()..].as_ptr()),
        activation: epilogue.activation,
    }
}

/// Where the pixels of a block lie in the source and in the output.
struct Places {
    from: [usize; PIXELS],
    to: [usize; PIXELS],
    count: usize,
}

impl Default for Places {
    fn default() -> Self {
        Self { from: [0; PIXELS], to: [0; PIXELS], count: 0 }
    }
}

impl Places {
    fn fill(&mut self, pixels: Range<usize>, area: usize, gathering: &Gathering, frame: Frame, target: Maps) {
        self.count = pixels.len();
        let target_image = target.size.area_px() * target.channels;
        let (mut image, mut at) = (pixels.start / area, pixels.start % area);
        for i in 0..self.count {
            self.from[i] = image * frame.image() + gathering.from[at];
            self.to[i] = image * target_image + gathering.to[at];
            at += 1;
            if at == area {
                (image, at) = (image + 1, 0);
            }
        }
    }
}

pub(super) fn weight_gradient(
    path: Path,
    input: &[f32],
    gradient: &[f32],
    shape: Maps,
    layer: Convolution,
    weight_gradient: &mut [f32],
) {
    let (frame, gathering) = frame::forward(layer, shape);
    let target = layer.output(shape);
    framed(input, frame, |input| {
        WeightWork { path, input, gradient, frame, gathering, target, layer }.run(weight_gradient);
    });
}

/// One weight gradient.
struct WeightWork<'a> {
    path: Path,
    input: &'a [f32],
    gradient: &'a [f32],
    frame: Frame,
    gathering: Gathering,
    target: Maps,
    layer: Convolution,
}

impl WeightWork<'_> {
    /// A task takes some panels of outputs, some stretches of taps and a part of the pixels.
    fn run(&self, weight_gradient: &mut [f32]) {
        let (width, panels) = (self.path.panel(), self.layer.outputs.div_ceil(self.path.panel()));
        let pixels = self.target.images * self.target.size.area_px();
        let (groups, runs) = (panels.div_ceil(PANELS), self.gathering.runs.len());
        // Short stretches share a task: packing the gradient for one alone would cost as much as its products.
        let together = if self.gathering.run < LONG_RUN { runs.max(1) } else { 1 };
        let chunks = runs.div_ceil(together);
        let parts = WEIGHT_TASKS.div_ceil((groups * chunks).max(1)).min(pixels / PIXELS_A_PART).max(1);
        let panel_sums = runs * self.gathering.run * width;
        with_scratch(panels * parts * panel_sums, |sums| {
            let shared = Shared::new(sums);
            (0..groups * chunks * parts).into_par_iter().for_each(|task| {
                let (group, chunk, part) = (task / parts / chunks, task / parts % chunks, task % parts);
                let chunk = chunk * together..((chunk + 1) * together).min(runs);
                let range = pixels * part / parts..pixels * (part + 1) / parts;
                let panels = group * PANELS..((group + 1) * PANELS).min(panels);
                self.sum_part(range, chunk, panels, |panel, run| {
                    let start = (panel * parts + part) * panel_sums + run * self.gathering.run * width;
                    // SAFETY: each task has stretches of a part's sums of its own in each of its panels.
                    unsafe { shared.slice(start, self.gathering.run * width) }
                });
            });
            let to = Shared::new(weight_gradient);
            (0..panels).into_par_iter().for_each(|index| {
                // SAFETY: each task has the sums of its own panel, and writes the weights of its own outputs.
                unsafe {
                    let sums = shared.slice(index * parts * panel_sums, parts * panel_sums);
                    add_parts(sums, panel_sums);
                    unpack(&sums[..panel_sums], self.layer, 0..self.layer.inputs, Panel { index, width }, to);
                }
            });
        });
    }

    /// The sums over some pixels, for some stretches of taps and some panels of outputs. Both factors are packed: their
    /// rows lie far apart, often at a power of two, where few of them fit the first cache.
    fn sum_part<'a>(
        &self,
        pixels: Range<usize>,
        runs: Range<usize>,
        panels: Range<usize>,
        sums: impl Fn(usize, usize) -> &'a mut [f32],
    ) {
        if pixels.is_empty() {
            return panels.for_each(|panel| runs.clone().for_each(|run| sums(panel, run).fill(0.0)));
        }
        let width = self.path.panel();
        let (mut places, mut left_at, mut right_at) = ([0; STEPS], [0; STEPS], [0; STEPS]);
        for step in 0..STEPS {
            (left_at[step], right_at[step]) = (step * 16, step * width);
        }
        with_scratch(STEPS * (16 + PANELS * width), |packed| {
            let (left, right) = packed.split_at_mut(STEPS * 16);
            for first in pixels.clone().step_by(STEPS) {
                let count = (pixels.end - first).min(STEPS);
                self.place(first, &mut places[..count]);
                for (panel, right) in panels.clone().zip(right.chunks_exact_mut(STEPS * width)) {
                    self.pack_gradient(first, Panel { index: panel, width }, &mut right[..count * width]);
                }
                let groups = || groups_of(self.gathering.run, self.path.rows());
                for (run, columns) in runs.clone().flat_map(|run| groups().map(move |columns| (run, columns)))
                {
                    let from = self.input[self.gathering.runs[run] + columns.start..].as_ptr();
                    copy_columns(self.path, from, &places[..count], columns.len(), left);
                    for (panel, right) in panels.clone().zip(right.chunks_exact(STEPS * width)) {
                        multiply_columns(
                            self.path,
                            &ColumnsProduct {
                                left: left.as_ptr(),
                                left_at: &left_at[..count],
                                right: right.as_ptr(),
                                right_at: &right_at[..count],
                                columns: columns.len(),
                                lanes: width,
                                output: sums(panel, run)[columns.start * width..columns.end * width]
                                    .as_mut_ptr(),
                                accumulate: first > pixels.start,
                            },
                        );
                    }
                }
            }
        });
    }

    /// Where the first taps of pixels from `first` on lie in the input.
    fn place(&self, first: usize, places: &mut [usize]) {
        let area = self.gathering.from.len();
        for (i, place) in places.iter_mut().enumerate() {
            let pixel = first + i;
            *place = pixel / area * self.frame.image() + self.gathering.from[pixel % area];
        }
    }

    /// The gradient of pixels from `first` on in one panel: `[pixels, panel]`, zero in outputs that do not exist.
    fn pack_gradient(&self, first: usize, panel: Panel, packed: &mut [f32]) {
        let lanes = panel.columns(self.layer.outputs);
        for (step, packed) in packed.chunks_exact_mut(panel.width).enumerate() {
            let start = (first + step) * self.layer.outputs + panel.first();
            packed[..lanes].copy_from_slice(&self.gradient[start..start + lanes]);
            packed[lanes..].fill(0.0);
        }
    }
}

/// Ranges of nearly the same length, at most `most`, that cover `0..length`.
fn groups_of(length: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let groups = length.div_ceil(most);
    (0..groups).map(move |group| length * group / groups..length * (group + 1) / groups)
}

/// Adds all parts to the first, in their order.
pub(super) fn add_parts(sums: &mut [f32], length: usize) {
    let (first, others) = sums.split_at_mut(length);
    if length > 0 {
        for other in others.chunks_exact(length) {
            for (sum, value) in first.iter_mut().zip(other) {
                *sum += value;
            }
        }
    }
}
