//! Convolutions as sums of products, in place: no matrix of patches is made.
//!
//! Pixels come in blocks whose inputs stay in the second cache; one panel of weights after the other is streamed
//! against a block.

use super::frame::{self, Frame, Gathering};
use super::pack::{Matrix, Panel, unpack};
use super::product::{ColumnsProduct, Finish, RowsProduct, multiply_columns, multiply_rows, sum_rows};
use super::scratch::{Shared, with_scratch};
use super::sums::BlockSums;
use super::{ChannelSums, Convolution, Epilogue, Maps};
use crate::network::vector::Path;
use rayon::prelude::*;

/// Output pixels of a task: 8 groups of the widest kernel's 14 rows.
const PIXELS: usize = 112;
/// Panels of output channels of a task.
const PANELS: usize = 4;
/// Pixels that are summed over before the next sums take their turn: their channels stay in the first cache.
const STEPS: usize = 256;
/// Tasks that a weight gradient has at least, where its pixels suffice. Fixed, so that the order of additions never
/// depends on the number of threads.
const WEIGHT_TASKS: usize = 16;
/// Fewest pixels that a partial sum of the weight gradient is made for.
const PIXELS_A_PART: usize = 2048;

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
        matrix.pack_all(&gathering.taps, width, packed);
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
                multiply_rows(path, &RowsProduct {
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
                });
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
    fn fill(&mut self, pixels: std::ops::Range<usize>, area: usize, gathering: &Gathering, frame: Frame, target: Maps) {
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
        let width = path.panel();
        let panels = layer.outputs.div_ceil(width);
        let pixels = target.images * target.size.area_px();
        let wanted = WEIGHT_TASKS.div_ceil(panels.max(1));
        let parts = wanted.min(pixels / PIXELS_A_PART).max(1);
        let panel_sums = gathering.taps.len() * layer.inputs * width;
        with_scratch(parts * panels * panel_sums, |sums| {
            let shared = Shared::new(sums);
            (0..panels * parts).into_par_iter().for_each(|task| {
                let (index, part) = (task / parts, task % parts);
                // SAFETY: each task has sums of its own.
                let sums = unsafe { shared.slice(task * panel_sums, panel_sums) };
                let part = pixels * part / parts..pixels * (part + 1) / parts;
                sum_part(path, input, gradient, frame, &gathering, target, part, Panel { index, width }, sums);
            });
            let to = Shared::new(weight_gradient);
            (0..panels).into_par_iter().for_each(|index| {
                // SAFETY: each task has the sums of its own panel, and writes the weights of its own outputs.
                unsafe {
                    let sums = shared.slice(index * parts * panel_sums, parts * panel_sums);
                    add_parts(sums, panel_sums);
                    unpack(&sums[..panel_sums], layer, 0..layer.inputs, Panel { index, width }, to);
                }
            });
        });
    });
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

/// The sums over some pixels for one panel of outputs, into `[taps, inputs, panel]`.
#[allow(clippy::too_many_arguments)] // Two tensors with their places.
fn sum_part(
    path: Path,
    input: &[f32],
    gradient: &[f32],
    frame: Frame,
    gathering: &Gathering,
    target: Maps,
    pixels: std::ops::Range<usize>,
    panel: Panel,
    sums: &mut [f32],
) {
    let area = gathering.from.len();
    if pixels.is_empty() {
        return sums.fill(0.0);
    }
    // Rows of a panel lie far apart in the gradient, often at a power of two, where few of them fit the first cache.
    with_scratch(STEPS * panel.width, |packed| {
    let (mut left_at, mut right_at) = ([0; STEPS], [0; STEPS]);
    for step in 0..STEPS {
        right_at[step] = step * panel.width;
    }
    for first in pixels.clone().step_by(STEPS) {
        let count = (pixels.end - first).min(STEPS);
        for i in 0..count {
            let pixel = first + i;
            left_at[i] = pixel / area * frame.image() + gathering.from[pixel % area];
        }
        let lanes = panel.columns(target.channels);
        for (step, packed) in packed.chunks_exact_mut(panel.width).enumerate().take(count) {
            let start = (first + step) * target.channels + panel.first();
            packed[..lanes].copy_from_slice(&gradient[start..start + lanes]);
            packed[lanes..].fill(0.0);
        }
        for (run, &start) in gathering.runs.iter().enumerate() {
            multiply_columns(path, &ColumnsProduct {
                left: input[start..].as_ptr(),
                left_at: &left_at[..count],
                right: packed.as_ptr(),
                right_at: &right_at[..count],
                columns: gathering.run,
                lanes: panel.width,
                output: sums[run * gathering.run * panel.width..].as_mut_ptr(),
                accumulate: first > pixels.start,
            });
        }
    }
    });
}
