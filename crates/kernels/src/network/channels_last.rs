//! Convolutions of many channels, forward and back, for networks such as ResNet-18 and LinkNet.
//!
//! Tensors are NHWC slices: image, row, column, channel. A pixel's channels lie side by side, so one product of
//! matrices serves every kernel, stride and dilation (`direct`), and a 3×3 convolution of stride 1 becomes 36
//! products a quarter of the size (`winograd`). Weights are `[outputs, inputs, ky, kx]`, as in PyTorch.

// Loops over registers are plain loops: a closure is compiled without the instruction set of the function that it
// ends up in, and its arithmetic becomes calls.
#![allow(clippy::needless_range_loop)]

mod direct;
mod frame;
pub(crate) mod gathered;
pub mod normalisation;
mod pack;
pub mod pooling;
mod product;
mod scratch;
mod sums;
mod transform;
mod transform_weight;
pub mod transposed;
mod winograd;
mod winograd_weight;

use super::normalisation::Moments;
use super::vector::Path;
use crate::Size;

/// Extent of an NHWC tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maps {
    /// Number of images (N).
    pub images: usize,
    /// Extent of one map (H×W).
    pub size: Size,
    /// Number of channels a pixel (C).
    pub channels: usize,
}

impl Maps {
    /// Number of values in the tensor.
    pub fn len(self) -> usize {
        self.images * self.size.area_px() * self.channels
    }

    /// Whether the tensor holds no value.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Values in one row of pixels.
    fn row(self) -> usize {
        self.size.width_px * self.channels
    }

    /// Image and row number of a row counted over all images.
    fn image_and_row(self, row: usize) -> (usize, usize) {
        (row / self.size.height_px, row % self.size.height_px)
    }

    /// Where row `y` of an image begins.
    fn row_start(self, image: usize, y: usize) -> usize {
        (image * self.size.height_px + y) * self.row()
    }
}

/// A convolution's shape: `weight` is `[outputs, inputs, kernel, kernel]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Side of the square kernel, in taps; at least 1.
    pub kernel: usize,
    /// Distance between the places where the kernel is applied, in pixels; at least 1.
    pub stride: usize,
    /// Rows and columns of zeros around the input, in pixels.
    pub padding: usize,
    /// Distance between the taps, in pixels; at least 1.
    pub dilation: usize,
}

impl Convolution {
    /// A convolution without stride, padding or dilation.
    pub const fn new(inputs: usize, outputs: usize, kernel: usize) -> Self {
        Self { inputs, outputs, kernel, stride: 1, padding: 0, dilation: 1 }
    }

    /// The extent of the output for an input of the given extent; 0 where the kernel does not fit.
    pub fn output_size(self, input: Size) -> Size {
        let reach = self.dilation * (self.kernel - 1) + 1;
        let places = |length: usize| match (length + 2 * self.padding).checked_sub(reach) {
            Some(room) => room / self.stride + 1,
            None => 0,
        };
        Size::new(places(input.width_px), places(input.height_px))
    }

    /// The output tensor's extent for the given input.
    pub fn output(self, input: Maps) -> Maps {
        Maps { size: self.output_size(input.size), channels: self.outputs, ..input }
    }

    /// Number of weights.
    pub fn weights(self) -> usize {
        self.outputs * self.inputs * self.kernel * self.kernel
    }

    fn check(self, shape: Maps) {
        assert!(
            self.kernel > 0 && self.stride > 0 && self.dilation > 0,
            "kernel, stride and dilation are positive"
        );
        assert_eq!(shape.channels, self.inputs, "the input has the convolution's channels");
    }
}

/// What bends an output value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing: x.
    None,
    /// max(x, 0).
    Relu,
    /// x for x > 0, else eˣ − 1.
    Elu,
}

/// What happens to an output value before it is stored: bias, then residual, then activation. This is batch norm in
/// inference, folded into weight and bias, with a residual network's sum.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// One value for each output channel, added to it.
    pub bias: Option<&'a [f32]>,
    /// A tensor of the output's extent, added to it.
    pub residual: Option<&'a [f32]>,
    /// What bends the sum.
    pub activation: Activation,
}

impl<'a> Epilogue<'a> {
    /// The bare convolution.
    pub const NONE: Self = Self { bias: None, residual: None, activation: Activation::None };

    /// A bias for each output channel, then an activation.
    pub const fn bias(bias: &'a [f32], activation: Activation) -> Self {
        Self { bias: Some(bias), residual: None, activation }
    }

    fn check(self, output: Maps) {
        assert!(
            self.bias.is_none_or(|bias| bias.len() == output.channels),
            "one bias for each output channel"
        );
        assert!(
            self.residual.is_none_or(|residual| residual.len() == output.len()),
            "the residual is an output"
        );
    }
}

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// As the sum of its products.
    Direct,
    /// F(4×4, 3×3) of Winograd: a quarter of the products, and rounding errors of about 2·10⁻⁶ of the largest output
    /// (a direct sum's: 5·10⁻⁷). Only for 3×3 kernels with stride and dilation 1 and a padding of at most 2.
    Winograd,
}

impl Algorithm {
    /// The faster one for the layer.
    pub fn best(layer: Convolution) -> Self {
        // With fewer channels the transforms cost more than the products that they save.
        let wide = layer.inputs >= 8 && layer.outputs >= 8;
        if wide && Self::Winograd.handles(layer) { Self::Winograd } else { Self::Direct }
    }

    /// Whether the algorithm computes this layer.
    pub fn handles(self, layer: Convolution) -> bool {
        let small = layer.kernel == 3 && layer.stride == 1 && layer.dilation == 1 && layer.padding <= 2;
        self == Self::Direct || small
    }
}

/// The convolution of `input` (`[images, height, width, inputs]`, extent `shape`) into `output`
/// (`[images, output height, output width, outputs]`).
///
/// # Panics
/// When lengths and shapes disagree.
pub fn convolve(
    input: &[f32],
    shape: Maps,
    weight: &[f32],
    layer: Convolution,
    epilogue: Epilogue<'_>,
    output: &mut [f32],
) {
    convolve_on(Path::best(), Algorithm::best(layer), input, shape, weight, layer, epilogue, output);
}

/// [`convolve`] on a given path with a given algorithm.
///
/// # Panics
/// Also when the algorithm does not handle the layer.
#[allow(clippy::too_many_arguments)] // The tensors of `convolve` and two choices.
pub fn convolve_on(
    path: Path,
    algorithm: Algorithm,
    input: &[f32],
    shape: Maps,
    weight: &[f32],
    layer: Convolution,
    epilogue: Epilogue<'_>,
    output: &mut [f32],
) {
    layer.check(shape);
    epilogue.check(layer.output(shape));
    check_lengths(algorithm, input, output, weight, shape, layer);
    match algorithm {
        Algorithm::Direct => direct::convolve(path, input, shape, weight, layer, epilogue, output, None),
        Algorithm::Winograd => winograd::convolve(path, input, shape, weight, layer, epilogue, output, None),
    }
}

/// Sums over all pixels of all images of one output channel: what batch norm's mean and variance are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ChannelSums {
    /// Σz.
    pub values: f64,
    /// Σz².
    pub squares: f64,
}

impl ChannelSums {
    /// Mean and biased variance of `count` values.
    pub fn moments(self, count: usize) -> Moments {
        Moments::from_sums([self.values, self.squares], count)
    }
}

/// [`convolve`] without epilogue, with the sums of each output channel: single precision within fixed blocks of at
/// most 4,096 pixels, double precision over the blocks.
///
/// # Panics
/// When lengths and shapes disagree.
pub fn convolve_with_sums(
    input: &[f32],
    shape: Maps,
    weight: &[f32],
    layer: Convolution,
    output: &mut [f32],
    sums: &mut [ChannelSums],
) {
    convolve_with_sums_on(Path::best(), Algorithm::best(layer), input, shape, weight, layer, output, sums);
}

/// [`convolve_with_sums`] on a given path with a given algorithm.
///
/// # Panics
/// Also when the algorithm does not handle the layer.
#[allow(clippy::too_many_arguments)] // The tensors of `convolve_with_sums` and two choices.
pub fn convolve_with_sums_on(
    path: Path,
    algorithm: Algorithm,
    input: &[f32],
    shape: Maps,
    weight: &[f32],
    layer: Convolution,
    output: &mut [f32],
    sums: &mut [ChannelSums],
) {
    layer.check(shape);
    check_lengths(algorithm, input, output, weight, shape, layer);
    assert_eq!(sums.len(), layer.outputs, "sums for each output channel");
    let (none, sums) = (Epilogue::NONE, Some(sums));
    match algorithm {
        Algorithm::Direct => direct::convolve(path, input, shape, weight, layer, none, output, sums),
        Algorithm::Winograd => winograd::convolve(path, input, shape, weight, layer, none, output, sums),
    }
}

/// The gradient of [`convolve`] (without epilogue) towards its input (extent `shape`), from `gradient` towards its
/// output, into `input_gradient`.
///
/// # Panics
/// When lengths and shapes disagree.
pub fn input_gradient(
    gradient: &[f32],
    shape: Maps,
    weight: &[f32],
    layer: Convolution,
    input_gradient: &mut [f32],
) {
    input_gradient_on(Path::best(), Algorithm::best(layer), gradient, shape, weight, layer, input_gradient);
}

/// [`input_gradient`] on a given path with a given algorithm.
///
/// # Panics
/// Also when the algorithm does not handle the layer.
pub fn input_gradient_on(
    path: Path,
    algorithm: Algorithm,
    gradient: &[f32],
    shape: Maps,
    weight: &[f32],
    layer: Convolution,
    input_gradient: &mut [f32],
) {
    layer.check(shape);
    check_lengths(algorithm, input_gradient, gradient, weight, shape, layer);
    let none = Epilogue::NONE;
    match algorithm {
        Algorithm::Direct => {
            direct::input_gradient(path, gradient, shape, weight, layer, none, input_gradient)
        }
        Algorithm::Winograd => {
            winograd::input_gradient(path, gradient, shape, weight, layer, none, input_gradient)
        }
    }
}

/// The gradient of [`convolve`] (without epilogue) towards its weight, from `input` (extent `shape`) and `gradient`
/// towards its output, into `weight_gradient` (`[outputs, inputs, kernel, kernel]`).
///
/// # Panics
/// When lengths and shapes disagree.
pub fn weight_gradient(
    input: &[f32],
    gradient: &[f32],
    shape: Maps,
    layer: Convolution,
    weight_gradient: &mut [f32],
) {
    weight_gradient_on(Path::best(), Algorithm::best(layer), input, gradient, shape, layer, weight_gradient);
}

/// [`weight_gradient`] on a given path with a given algorithm.
///
/// # Panics
/// Also when the algorithm does not handle the layer.
pub fn weight_gradient_on(
    path: Path,
    algorithm: Algorithm,
    input: &[f32],
    gradient: &[f32],
    shape: Maps,
    layer: Convolution,
    weight_gradient: &mut [f32],
) {
    layer.check(shape);
    check_lengths(algorithm, input, gradient, weight_gradient, shape, layer);
    match algorithm {
        Algorithm::Direct => direct::weight_gradient(path, input, gradient, shape, layer, weight_gradient),
        Algorithm::Winograd => {
            winograd_weight::weight_gradient(path, input, gradient, shape, layer, weight_gradient)
        }
    }
}

fn check_lengths(
    algorithm: Algorithm,
    input: &[f32],
    output: &[f32],
    weight: &[f32],
    shape: Maps,
    layer: Convolution,
) {
    assert!(algorithm.handles(layer), "the algorithm handles the layer");
    assert_eq!(input.len(), shape.len(), "the input has its shape's length");
    assert_eq!(output.len(), layer.output(shape).len(), "the output has its shape's length");
    assert_eq!(weight.len(), layer.weights(), "the weight has its shape's length");
}
