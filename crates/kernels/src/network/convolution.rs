//! Convolutions of few channels with zero padding that keeps the size: kernel 1×1 or 3×3, any dilation.
//!
//! Row by row: the rows that an output row reads are copied into a buffer with their zero padding (its cost is one
//! load and one store for 8 × 3 multiply-adds), then `OUTPUTS × VECTORS` accumulators stay in registers over all
//! inputs and taps. The input gradient is the same convolution with the kernel turned round; the weight gradient
//! keeps `OUTPUTS × 3` accumulators for one input channel and kernel row.
//!
//! Considered and skipped: a padded copy of the whole tensor (another pass through memory), Winograd (its transforms
//! cost more than they save at 8 channels).

// Loops over registers are plain loops, here and in `normalisation`: a closure is compiled without the instruction set
// of the function that it ends up in, and its arithmetic becomes calls.
#![allow(clippy::needless_range_loop)]

use super::Planes;
use super::vector::{Path, Vector, run_on};
use rayon::prelude::*;

/// Rows that one task of the weight gradient sums over. Fixed, so that the order of additions never depends on the
/// number of threads.
const ROWS_A_TASK: usize = 32;
/// Slack after a padded row, so that a block of vectors may read past the last pixel: 2 vectors of 16.
const SLACK: usize = 32;

/// A convolution's shape: `weight` is `[outputs, inputs, kernel, kernel]`, the padding `dilation * (kernel - 1) / 2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Side of the square kernel: 1 or 3.
    pub kernel: usize,
    /// Distance between the taps, in pixels.
    pub dilation: usize,
}

impl Convolution {
    /// Number of weights.
    pub fn weights(self) -> usize {
        self.outputs * self.inputs * self.kernel * self.kernel
    }

    fn padding(self) -> usize {
        self.dilation * (self.kernel - 1) / 2
    }

    /// Rows that one output row reads: one for each input channel and kernel row.
    fn rows_read(self) -> usize {
        self.inputs * self.kernel
    }

    fn check(self, input: &[f32], shape: Planes, weight: &[f32]) {
        assert!(matches!(self.kernel, 1 | 3), "kernels are 1×1 or 3×3");
        assert_eq!(shape.channels, self.inputs, "the input has the convolution's channels");
        assert_eq!(input.len(), shape.len(), "the input has its shape's length");
        assert_eq!(weight.len(), self.weights(), "the weight has its shape's length");
    }
}

/// What happens to an output value before it is stored.
#[derive(Clone, Copy, Debug)]
pub enum Epilogue<'a> {
    /// Nothing.
    None,
    /// One bias for each output channel is added.
    Bias(&'a [f32]),
    /// Bias, then ELU (α = 1): x for x > 0, else eˣ − 1. This is batch norm in inference, folded into the weights.
    BiasElu(&'a [f32]),
}

/// The convolution of `input` (`[images, inputs, height, width]`); gives `[images, outputs, height, width]`.
///
/// # Panics
/// When lengths and shapes disagree.
pub fn convolve(
    input: &[f32],
    shape: Planes,
    weight: &[f32],
    layer: Convolution,
    epilogue: Epilogue<'_>,
) -> Vec<f32> {
    convolve_on(Path::best(), input, shape, weight, layer, epilogue)
}

/// [`convolve`] on a given path.
pub fn convolve_on(
    path: Path,
    input: &[f32],
    shape: Planes,
    weight: &[f32],
    layer: Convolution,
    epilogue: Epilogue<'_>,
) -> Vec<f32> {
    layer.check(input, shape, weight);
    let output_shape = shape.with_channels(layer.outputs);
    let mut output = vec![0.0; output_shape.len()];
    if output.is_empty() || layer.inputs == 0 {
        return output;
    }
    let packed = PackedWeight::new(weight, layer);
    let destination = RowWriter { start: output.as_mut_ptr(), shape: output_shape };
    let rows = shape.images * shape.size.height_px;
    (0..rows).into_par_iter().for_each_init(
        || PaddedRows::new(layer, shape.size.width_px),
        |buffer, row| {
            let (image, y) = (row / shape.size.height_px, row % shape.size.height_px);
            buffer.fill(input, shape, image, y);
            forward_row(path, buffer, &packed, epilogue, &destination, image, y);
        },
    );
    output
}

/// The gradient of [`convolve`] towards its input, from `gradient` towards its output
/// (`[images, outputs, height, width]`); gives `[images, inputs, height, width]`.
///
/// # Panics
/// When lengths and shapes disagree.
pub fn input_gradient(gradient: &[f32], shape: Planes, weight: &[f32], layer: Convolution) -> Vec<f32> {
    assert_eq!(weight.len(), layer.weights(), "the weight has its shape's length");
    let turned = turn_round(weight, layer);
    let back = Convolution { inputs: layer.outputs, outputs: layer.inputs, ..layer };
    convolve(gradient, shape, &turned, back, Epilogue::None)
}

/// `[outputs, inputs, ky, kx]` to `[inputs, outputs, -ky, -kx]`.
fn turn_round(weight: &[f32], layer: Convolution) -> Vec<f32> {
    let taps = layer.kernel * layer.kernel;
    let mut turned = vec![0.0; weight.len()];
    for (index, &value) in weight.iter().enumerate() {
        let (output, input, tap) = (index / (layer.inputs * taps), index / taps % layer.inputs, index % taps);
        turned[(input * layer.outputs + output) * taps + taps - 1 - tap] = value;
    }
    turned
}

/// The gradient of [`convolve`] towards its weight: `input` is `[images, inputs, height, width]`, `gradient`
/// `[images, outputs, height, width]`; gives `[outputs, inputs, kernel, kernel]`.
///
/// # Panics
/// When lengths and shapes disagree.
pub fn weight_gradient(input: &[f32], gradient: &[f32], shape: Planes, layer: Convolution) -> Vec<f32> {
    weight_gradient_on(Path::best(), input, gradient, shape, layer)
}

/// [`weight_gradient`] on a given path.
pub fn weight_gradient_on(
    path: Path,
    input: &[f32],
    gradient: &[f32],
    shape: Planes,
    layer: Convolution,
) -> Vec<f32> {
    layer.check(input, shape, &vec![0.0; layer.weights()]);
    let gradient_shape = shape.with_channels(layer.outputs);
    assert_eq!(gradient.len(), gradient_shape.len(), "the gradient has its shape's length");
    let bands = shape.size.height_px.div_ceil(ROWS_A_TASK);
    let partial_sums: Vec<Vec<f32>> = (0..shape.images * bands)
        .into_par_iter()
        .map_init(
            || (PaddedRows::new(layer, shape.size.width_px), GradientRows::new(layer, shape.size.width_px)),
            |(rows, gradients), task| {
                let (image, first_y) = (task / bands, task % bands * ROWS_A_TASK);
                let mut sums = LaneSums::new(layer);
                for y in first_y..(first_y + ROWS_A_TASK).min(shape.size.height_px) {
                    rows.fill(input, shape, image, y);
                    gradients.fill(gradient, gradient_shape, image, y);
                    weight_gradient_row(path, rows, gradients, &mut sums);
                }
                sums.into_weight_gradient(path)
            },
        )
        .collect();
    add_in_order(&partial_sums, layer.weights())
}

/// Sums in double precision, task by task: the same bytes for any number of threads.
fn add_in_order(partial_sums: &[Vec<f32>], length: usize) -> Vec<f32> {
    (0..length).map(|i| partial_sums.iter().map(|sums| f64::from(sums[i])).sum::<f64>() as f32).collect()
}

/// The rows that one output row reads, each with its zero padding: `[inputs × kernel rows, stride]`.
struct PaddedRows {
    values: Vec<f32>,
    stride: usize,
    width: usize,
    layer: Convolution,
}

impl PaddedRows {
    fn new(layer: Convolution, width: usize) -> Self {
        let stride = width + 2 * layer.padding() + SLACK;
        Self { values: vec![0.0; layer.rows_read() * stride], stride, width, layer }
    }

    fn fill(&mut self, input: &[f32], shape: Planes, image: usize, y: usize) {
        let padding = self.layer.padding();
        for (index, padded) in self.values.chunks_exact_mut(self.stride).enumerate() {
            let (channel, tap_y) = (index / self.layer.kernel, index % self.layer.kernel);
            let inner = &mut padded[padding..padding + self.width];
            match (y + tap_y * self.layer.dilation).checked_sub(padding) {
                Some(source_y) if source_y < shape.size.height_px => {
                    let start = shape.row_start(image, channel, source_y);
                    inner.copy_from_slice(&input[start..start + self.width]);
                }
                _ => inner.fill(0.0),
            }
        }
    }
}

/// The gradient's rows of one image row: `[outputs rounded up to 8, stride]`, zero beyond the width.
struct GradientRows {
    values: Vec<f32>,
    stride: usize,
    width: usize,
    outputs: usize,
}

impl GradientRows {
    fn new(layer: Convolution, width: usize) -> Self {
        let stride = width + SLACK;
        let values = vec![0.0; layer.outputs.next_multiple_of(8) * stride];
        Self { values, stride, width, outputs: layer.outputs }
    }

    fn fill(&mut self, gradient: &[f32], shape: Planes, image: usize, y: usize) {
        for channel in 0..self.outputs {
            let start = shape.row_start(image, channel, y);
            self.values[channel * self.stride..][..self.width]
                .copy_from_slice(&gradient[start..start + self.width]);
        }
    }
}

/// Weights as `[block of 8 outputs, input, ky, kx, output in block]`, zero for outputs that do not exist.
struct PackedWeight {
    values: Vec<f32>,
    layer: Convolution,
}

impl PackedWeight {
    fn new(weight: &[f32], layer: Convolution) -> Self {
        let taps = layer.inputs * layer.kernel * layer.kernel;
        let mut values = vec![0.0; layer.outputs.next_multiple_of(8) * taps];
        for (index, &value) in weight.iter().enumerate() {
            let (output, tap) = (index / taps, index % taps);
            values[(output / 8 * taps + tap) * 8 + output % 8] = value;
        }
        Self { values, layer }
    }
}

/// Writes rows of the output; tasks write disjoint rows.
struct RowWriter {
    start: *mut f32,
    shape: Planes,
}

// SAFETY: each task writes only the rows of its own (image, y), and the tensor outlives the parallel loop.
unsafe impl Sync for RowWriter {}

run_on!(fn forward_row = forward_row_kernel(
    rows: &PaddedRows,
    weight: &PackedWeight,
    epilogue: Epilogue<'_>,
    destination: &RowWriter,
    image: usize,
    y: usize,
));

/// # Safety
/// The instruction set of `V` must be there, and no other task may write row `y` of `image`.
#[inline(always)]
unsafe fn forward_row_kernel<V: Vector, const OUTPUTS: usize, const VECTORS: usize>(
    rows: &PaddedRows,
    weight: &PackedWeight,
    epilogue: Epilogue<'_>,
    destination: &RowWriter,
    image: usize,
    y: usize,
) {
    let layer = weight.layer;
    let block_px = V::LANES * VECTORS;
    for first_output in (0..layer.outputs).step_by(OUTPUTS) {
        for x in (0..rows.width).step_by(block_px) {
            unsafe {
                let sums = block_sums::<V, OUTPUTS, VECTORS>(rows, weight, first_output, x);
                for (o, sum) in sums.iter().enumerate().take(layer.outputs - first_output) {
                    let output = first_output + o;
                    let sum = finish::<V, VECTORS>(*sum, epilogue, output);
                    let row = destination.start.add(destination.shape.row_start(image, output, y) + x);
                    store_block::<V, VECTORS>(sum, row, rows.width - x);
                }
            }
        }
    }
}

/// `OUTPUTS` outputs at `VECTORS` vectors of pixels from column `x` on.
#[inline(always)]
unsafe fn block_sums<V: Vector, const OUTPUTS: usize, const VECTORS: usize>(
    rows: &PaddedRows,
    weight: &PackedWeight,
    first_output: usize,
    x: usize,
) -> [[V; VECTORS]; OUTPUTS] {
    let layer = weight.layer;
    let taps = layer.inputs * layer.kernel * layer.kernel;
    unsafe {
        let mut sums = [[V::zero(); VECTORS]; OUTPUTS];
        let mut w = weight.values.as_ptr().add(first_output / 8 * taps * 8 + first_output % 8);
        for row in 0..layer.rows_read() {
            let base = rows.values.as_ptr().add(row * rows.stride + x);
            for tap_x in 0..layer.kernel {
                let from = base.add(tap_x * layer.dilation);
                let mut pixels = [V::zero(); VECTORS];
                for v in 0..VECTORS {
                    pixels[v] = V::load(from.add(v * V::LANES));
                }
                for o in 0..OUTPUTS {
                    let factor = V::splat(*w.add(o));
                    for v in 0..VECTORS {
                        sums[o][v] = sums[o][v].plus_product(factor, pixels[v]);
                    }
                }
                w = w.add(8);
            }
        }
        sums
    }
}

#[inline(always)]
unsafe fn finish<V: Vector, const VECTORS: usize>(
    mut block: [V; VECTORS],
    epilogue: Epilogue<'_>,
    output: usize,
) -> [V; VECTORS] {
    unsafe {
        let (bias, bends) = match epilogue {
            Epilogue::None => return block,
            Epilogue::Bias(bias) => (bias[output], false),
            Epilogue::BiasElu(bias) => (bias[output], true),
        };
        for v in 0..VECTORS {
            let z = block[v].plus_product(V::splat(1.0), V::splat(bias));
            block[v] = if bends { elu(z) } else { z };
        }
        block
    }
}

/// ELU with α = 1.
#[inline(always)]
pub(in crate::network) unsafe fn elu<V: Vector>(x: V) -> V {
    unsafe {
        let negative = V::splat(-1.0).plus_product(x.exp_of_negative(), V::splat(1.0));
        x.where_positive(x, negative)
    }
}

/// Stores as many of the block's pixels as `room` has.
#[inline(always)]
unsafe fn store_block<V: Vector, const VECTORS: usize>(block: [V; VECTORS], to: *mut f32, room: usize) {
    unsafe {
        if room >= V::LANES * VECTORS {
            for (v, vector) in block.into_iter().enumerate() {
                vector.store(to.add(v * V::LANES));
            }
            return;
        }
        let mut whole = [0.0f32; SLACK];
        for (v, vector) in block.into_iter().enumerate() {
            vector.store(whole.as_mut_ptr().add(v * V::LANES));
        }
        std::ptr::copy_nonoverlapping(whole.as_ptr(), to, room);
    }
}

/// Lane sums of the weight gradient: `[output, input × kernel row, kernel column, 16 lanes]`.
struct LaneSums {
    values: Vec<f32>,
    layer: Convolution,
}

impl LaneSums {
    fn new(layer: Convolution) -> Self {
        let outputs = layer.outputs.next_multiple_of(8);
        Self { values: vec![0.0; outputs * layer.rows_read() * layer.kernel * 16], layer }
    }

    #[inline(always)]
    fn start(&self, output: usize, row: usize) -> usize {
        (output * self.layer.rows_read() + row) * self.layer.kernel * 16
    }

    fn into_weight_gradient(self, path: Path) -> Vec<f32> {
        let mut sums = vec![0.0; self.layer.weights()];
        sum_lanes(path, &self, &mut sums);
        sums
    }
}

run_on!(fn sum_lanes = sum_lanes_kernel(lanes: &LaneSums, sums: &mut [f32]));

#[inline(always)]
unsafe fn sum_lanes_kernel<V: Vector, const OUTPUTS: usize, const VECTORS: usize>(
    lanes: &LaneSums,
    sums: &mut [f32],
) {
    for (sum, lanes) in sums.iter_mut().zip(lanes.values.chunks_exact(16)) {
        *sum = unsafe { V::load(lanes.as_ptr()).sum() };
    }
}

run_on!(fn weight_gradient_row = weight_gradient_row_kernel(
    rows: &PaddedRows,
    gradients: &GradientRows,
    sums: &mut LaneSums,
));

/// # Safety
/// The instruction set of `V` must be there.
#[inline(always)]
unsafe fn weight_gradient_row_kernel<V: Vector, const OUTPUTS: usize, const VECTORS: usize>(
    rows: &PaddedRows,
    gradients: &GradientRows,
    sums: &mut LaneSums,
) {
    for first_output in (0..rows.layer.outputs).step_by(OUTPUTS) {
        for row in 0..rows.layer.rows_read() {
            unsafe {
                match rows.layer.kernel {
                    1 => weight_gradient_taps::<V, OUTPUTS, 1>(rows, gradients, sums, first_output, row),
                    _ => weight_gradient_taps::<V, OUTPUTS, 3>(rows, gradients, sums, first_output, row),
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn weight_gradient_taps<V: Vector, const OUTPUTS: usize, const TAPS: usize>(
    rows: &PaddedRows,
    gradients: &GradientRows,
    sums: &mut LaneSums,
    first_output: usize,
    row: usize,
) {
    unsafe {
        let mut starts = [0; OUTPUTS];
        let mut acc = [[V::zero(); TAPS]; OUTPUTS];
        for o in 0..OUTPUTS {
            starts[o] = sums.start(first_output + o, row);
            for tap in 0..TAPS {
                acc[o][tap] = V::load(sums.values.as_ptr().add(starts[o] + tap * 16));
            }
        }
        let pixels = rows.values.as_ptr().add(row * rows.stride);
        let gradient = gradients.values.as_ptr().add(first_output * gradients.stride);
        for x in (0..rows.width).step_by(V::LANES) {
            let mut shifted = [V::zero(); TAPS];
            for tap in 0..TAPS {
                shifted[tap] = V::load(pixels.add(x + tap * rows.layer.dilation));
            }
            for o in 0..OUTPUTS {
                let gradient = V::load(gradient.add(o * gradients.stride + x));
                for tap in 0..TAPS {
                    acc[o][tap] = acc[o][tap].plus_product(gradient, shifted[tap]);
                }
            }
        }
        for o in 0..OUTPUTS {
            for tap in 0..TAPS {
                acc[o][tap].store(sums.values.as_mut_ptr().add(starts[o] + tap * 16));
            }
        }
    }
}
