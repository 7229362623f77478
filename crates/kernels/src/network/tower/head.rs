//! The last sum of the tower, mapped to the outputs, with a sigmoid if it is asked for; forward and backward.

use super::WIDTH;
use super::passes::{self, Extent, From, LaneSums, To};
use super::rows::{LINE, Lines, Rows, SharedRows};
use crate::memory::Unwritten;
use crate::network::Planes;
use crate::network::normalisation::Affine;
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::{Path, run_on};
use rayon::prelude::*;

/// Rows that one task works on; fixed, because sums are added task by task.
const ROWS_A_TASK: usize = 16;

/// The linear map and what it reads.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) base: &'a Rows,
    pub(super) z: &'a Rows,
    pub(super) affine: &'a [Affine; WIDTH],
    /// `[outputs, 8]`.
    pub(super) weight: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) sigmoid: bool,
    pub(super) extent: Extent,
}

impl Head<'_> {
    /// A row of what the map is applied to, all channels.
    #[inline(always)]
    unsafe fn read_row<V: Arithmetic>(&self, image: usize, y: usize, to: To) {
        unsafe {
            for channel in 0..WIDTH {
                let row = |rows: &Rows| rows.row(image, y).add(channel * rows.stride);
                let (base, z, to) = (row(self.base), row(self.z), to.at(channel, 0));
                passes::bend_and_add::<V>(base, z, self.affine[channel], to, &self.extent);
            }
        }
    }
}

/// Where the output is written, `[images, outputs, height, width]`.
#[derive(Clone, Copy)]
struct Output {
    start: *mut f32,
    shape: Planes,
}

// SAFETY: each task writes rows of its own, and the function that made it waits for the loop's end.
unsafe impl Send for Output {}
unsafe impl Sync for Output {}

/// A run of rows of one image.
#[derive(Clone, Copy)]
struct Rung {
    image: usize,
    first_y: usize,
    end_y: usize,
}

fn rungs(shape: Planes) -> Vec<Rung> {
    let height = shape.size.height_px;
    let of_image = |image| {
        (0..height).step_by(ROWS_A_TASK).map(move |first_y| Rung {
            image,
            first_y,
            end_y: (first_y + ROWS_A_TASK).min(height),
        })
    };
    (0..shape.images).flat_map(of_image).collect()
}

/// The outputs, `shape` `[images, outputs, height, width]`.
pub(super) fn forward(path: Path, head: Head<'_>, shape: Planes) -> Vec<f32> {
    let mut values = Unwritten::new(shape.len());
    let output = Output { start: values.start_mut(), shape };
    rungs(shape).into_par_iter().for_each_init(
        || Lines::uninitialised(WIDTH * head.extent.stride),
        |row, rung| forward_rung(path, head, rung, row, output),
    );
    // SAFETY: the rungs are all rows of all images, and each writes all outputs of its rows.
    unsafe { values.written() }
}

run_on!(fn forward_rung = forward_rung_kernel(head: Head<'_>, rung: Rung, row: &mut Lines, output: Output));

#[inline(always)]
unsafe fn forward_rung_kernel<V: Arithmetic, const O: usize, const N: usize>(
    head: Head<'_>,
    rung: Rung,
    row: &mut Lines,
    output: Output,
) {
    let extent = &head.extent;
    let row = To { start: row.start_mut(), stride: extent.stride };
    for y in rung.first_y..rung.end_y {
        unsafe {
            head.read_row::<V>(rung.image, y, row);
            for (k, weight) in head.weight.chunks_exact(WIDTH).enumerate() {
                let to = output.start.add(output.shape.row_start(rung.image, k, y));
                map_row::<V>(row.read(), weight, head.bias[k], head.sigmoid, to, extent);
            }
        }
    }
}

/// to = bias + Σ weight · row, then the sigmoid.
#[inline(always)]
pub(super) unsafe fn map_row<V: Arithmetic>(
    row: From,
    weight: &[f32],
    bias: f32,
    sigmoid: bool,
    to: *mut f32,
    extent: &Extent,
) {
    unsafe {
        for x in (0..extent.width).step_by(V::LANES) {
            let mut sum = V::splat(bias);
            for (c, &weight) in weight.iter().enumerate() {
                sum = sum.plus_product(V::splat(weight), V::load(row.at(c, x)));
            }
            let value = if sigmoid { sum.sigmoid() } else { sum };
            if x + V::LANES <= extent.width {
                value.store(to.add(x));
            } else {
                let mut rest = [0.0f32; LINE];
                value.store(rest.as_mut_ptr());
                to.add(x).copy_from_nonoverlapping(rest.as_ptr(), extent.width - x);
            }
        }
    }
}

/// What the backward pass of the head gives besides the gradient of its input.
pub(super) struct HeadGradients {
    /// `[outputs, 8]`.
    pub(super) weight: Vec<f32>,
    /// `[outputs]`.
    pub(super) bias: Vec<f32>,
    /// For the layer below: Σ of the gradient towards its normalised value, and Σ of that times z.
    pub(super) below: [[f64; 2]; WIDTH],
}

/// The gradient that comes in, and the outputs for the sigmoid's slope; both `[images, outputs, height, width]`.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'a> {
    pub(super) gradient: &'a [f32],
    pub(super) output: &'a [f32],
    pub(super) shape: Planes,
}

/// Writes the gradient towards the head's input into `total`.
pub(super) fn backward(
    path: Path,
    head: Head<'_>,
    incoming: Incoming<'_>,
    total: SharedRows,
) -> HeadGradients {
    let outputs = incoming.shape.channels;
    let tasks: Vec<Task> = rungs(incoming.shape)
        .into_par_iter()
        .map_init(
            || Scratch::new(outputs, &head.extent),
            |scratch, rung| {
                let mut task = Task::new(outputs);
                backward_rung(path, head, incoming, rung, scratch, total, &mut task);
                task
            },
        )
        .collect();
    let sum = |index: usize| {
        let lanes = tasks.iter().flat_map(|task| &task.lanes[index * LINE..][..LINE]);
        lanes.map(|&lane| f64::from(lane)).sum::<f64>() as f32
    };
    let below: Vec<LaneSums> = tasks.iter().map(|task| task.below).collect();
    HeadGradients {
        weight: (0..outputs * WIDTH).map(sum).collect(),
        bias: (outputs * WIDTH..outputs * (WIDTH + 1)).map(sum).collect(),
        below: super::channel_sums(&below),
    }
}

struct Scratch {
    /// The head's input, `[8, stride]`.
    row: Lines,
    /// The gradient towards it, `[8, stride]`.
    gradient: Lines,
    /// The gradient towards the values before the sigmoid, `[outputs, stride]`.
    logits: Lines,
}

impl Scratch {
    fn new(outputs: usize, extent: &Extent) -> Self {
        let row = || Lines::zeros(WIDTH * extent.stride);
        Self { row: row(), gradient: row(), logits: Lines::zeros(outputs * extent.stride) }
    }
}

struct Task {
    /// `[outputs × 8 weights, then outputs biases, 16 lanes]`.
    lanes: Vec<f32>,
    below: LaneSums,
}

impl Task {
    fn new(outputs: usize) -> Self {
        Self { lanes: vec![0.0; outputs * (WIDTH + 1) * LINE], below: LaneSums::default() }
    }
}

run_on!(fn backward_rung = backward_rung_kernel(
    head: Head<'_>,
    incoming: Incoming<'_>,
    rung: Rung,
    scratch: &mut Scratch,
    total: SharedRows,
    task: &mut Task,
));

#[inline(always)]
unsafe fn backward_rung_kernel<V: Arithmetic, const O: usize, const N: usize>(
    head: Head<'_>,
    incoming: Incoming<'_>,
    rung: Rung,
    scratch: &mut Scratch,
    total: SharedRows,
    task: &mut Task,
) {
    let extent = &head.extent;
    let to = |lines: &mut Lines| To { start: lines.start_mut(), stride: extent.stride };
    let (row, gradient, logits) = (to(&mut scratch.row), to(&mut scratch.gradient), to(&mut scratch.logits));
    for y in rung.first_y..rung.end_y {
        unsafe {
            head.read_row::<V>(rung.image, y, row);
            for k in 0..incoming.shape.channels {
                let start = incoming.shape.row_start(rung.image, k, y);
                let incoming_row = &incoming.gradient[start..start + extent.width];
                let output = &incoming.output[start..start + extent.width];
                logits_gradient::<V>(incoming_row, output, head.sigmoid, logits.at(k, 0));
            }
            input_gradient::<V>(logits.read(), head.weight, gradient, extent);
            parameter_sums::<V>(logits.read(), row.read(), &mut task.lanes, incoming.shape.channels, extent);
            for c in 0..WIDTH {
                let z = head.z.row(rung.image, y).add(c * extent.stride);
                let total = total.row(rung.image, y).add(c * extent.stride);
                let (gradient, sums) = (gradient.at(c, 0), &mut task.below[c]);
                passes::send_and_sum::<V>(gradient, total, z, head.affine[c], extent, sums);
            }
        }
    }
}

/// to = gradient · output · (1 − output), or the gradient itself without a sigmoid.
#[inline(always)]
unsafe fn logits_gradient<V: Arithmetic>(gradient: &[f32], output: &[f32], sigmoid: bool, to: *mut f32) {
    unsafe {
        let (width, one) = (gradient.len(), V::splat(1.0));
        let mut x = 0;
        while sigmoid && x + V::LANES <= width {
            let output = V::load(output.as_ptr().add(x));
            let slope = output.mul(one.sub(output));
            V::load(gradient.as_ptr().add(x)).mul(slope).store(to.add(x));
            x += V::LANES;
        }
        for x in x..width {
            let slope = if sigmoid { output[x] * (1.0 - output[x]) } else { 1.0 };
            *to.add(x) = gradient[x] * slope;
        }
    }
}

/// to = weightᵀ · logits.
#[inline(always)]
unsafe fn input_gradient<V: Arithmetic>(logits: From, weight: &[f32], to: To, extent: &Extent) {
    unsafe {
        for c in 0..WIDTH {
            for x in (0..extent.span).step_by(V::LANES) {
                let mut sum = V::zero();
                for (k, weight) in weight.chunks_exact(WIDTH).enumerate() {
                    sum = sum.plus_product(V::splat(weight[c]), V::load(logits.at(k, x)));
                }
                sum.store(to.at(c, x));
            }
        }
    }
}

/// Adds Σ logits · row and Σ logits to the lanes.
#[inline(always)]
unsafe fn parameter_sums<V: Arithmetic>(
    logits: From,
    row: From,
    lanes: &mut [f32],
    outputs: usize,
    extent: &Extent,
) {
    unsafe {
        for k in 0..outputs {
            for c in 0..=WIDTH {
                // The last "channel" is the constant 1 of the bias.
                let place = if c < WIDTH { k * WIDTH + c } else { outputs * WIDTH + k };
                let lane = lanes.as_mut_ptr().add(place * LINE);
                let mut sum = V::load(lane);
                for x in (0..extent.span).step_by(V::LANES) {
                    let logit = V::load(logits.at(k, x));
                    let factor = if c < WIDTH { V::load(row.at(c, x)) } else { V::splat(1.0) };
                    sum = sum.plus_product(logit, factor);
                }
                sum.store(lane);
            }
        }
    }
}
