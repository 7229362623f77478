//! Transposed convolutions: the input gradient of a convolution, used forward to make maps larger.
//!
//! Each input pixel adds its weighted kernel to the output, `stride` pixels apart. With stride 2 the output's even and
//! odd rows and columns are gathered separately, so nothing is multiplied with inserted zeros.

use super::{Algorithm, Convolution, Epilogue, Maps, direct, weight_gradient_on, winograd};
use crate::Size;
use crate::network::vector::Path;

/// A transposed convolution's shape: `weight` is `[inputs, outputs, kernel, kernel]`, as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transposed {
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Side of the square kernel, in taps; at least 1.
    pub kernel: usize,
    /// Distance between the kernels that neighbouring input pixels add, in output pixels; at least 1.
    pub stride: usize,
    /// Rows and columns that are cut off all around, in output pixels.
    pub padding: usize,
    /// Rows below and columns to the right that the output has more; less than the stride.
    pub output_padding: usize,
}

impl Transposed {
    /// The convolution whose input gradient this is; its weight has the same order.
    fn convolution(self) -> Convolution {
        let Self { kernel, stride, padding, .. } = self;
        Convolution { inputs: self.outputs, outputs: self.inputs, kernel, stride, padding, dilation: 1 }
    }

    /// The extent of the output for an input of the given extent; 0 where the input is empty.
    ///
    /// # Panics
    /// When the padding cuts off more than there is.
    pub fn output_size(self, input: Size) -> Size {
        let places = |length: usize| {
            if length == 0 {
                return 0;
            }
            let reach = (length - 1) * self.stride + self.kernel + self.output_padding;
            reach.checked_sub(2 * self.padding).expect("the padding leaves something of the output")
        };
        Size::new(places(input.width_px), places(input.height_px))
    }

    /// The output tensor's extent for the given input.
    pub fn output(self, input: Maps) -> Maps {
        Maps { size: self.output_size(input.size), channels: self.outputs, ..input }
    }

    /// Number of weights.
    pub fn weights(self) -> usize {
        self.convolution().weights()
    }

    /// The output's extent, after all lengths are checked.
    fn check(self, input: &[f32], output: &[f32], weight: &[f32], shape: Maps) -> Maps {
        assert!(self.kernel > 0 && self.stride > 0, "kernel and stride are positive");
        assert!(self.output_padding < self.stride, "the output padding is less than the stride");
        assert_eq!(shape.channels, self.inputs, "the input has the layer's channels");
        assert_eq!(input.len(), shape.len(), "the input has its shape's length");
        assert_eq!(output.len(), self.output(shape).len(), "the output has its shape's length");
        assert_eq!(weight.len(), self.weights(), "the weight has its shape's length");
        self.output(shape)
    }
}

/// The transposed convolution of `input` (extent `shape`) into `output` (`[images, output height, output width,
/// outputs]`).
///
/// # Panics
/// When lengths and shapes disagree.
pub fn convolve(
    input: &[f32],
    shape: Maps,
    weight: &[f32],
    layer: Transposed,
    epilogue: Epilogue<'_>,
    output: &mut [f32],
) {
    convolve_on(Path::best(), input, shape, weight, layer, epilogue, output);
}

/// [`convolve`] on a given path.
pub fn convolve_on(
    path: Path,
    input: &[f32],
    shape: Maps,
    weight: &[f32],
    layer: Transposed,
    epilogue: Epilogue<'_>,
    output: &mut [f32],
) {
    let target = layer.check(input, output, weight, shape);
    epilogue.check(target);
    if target.is_empty() {
        return;
    }
    let turned = layer.convolution();
    match Algorithm::best(turned) {
        Algorithm::Direct => direct::input_gradient(path, input, target, weight, turned, epilogue, output),
        Algorithm::Winograd => {
            winograd::input_gradient(path, input, target, weight, turned, epilogue, output)
        }
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
    layer: Transposed,
    input_gradient: &mut [f32],
) {
    let target = layer.check(input_gradient, gradient, weight, shape);
    if !shape.is_empty() {
        super::convolve(gradient, target, weight, layer.convolution(), Epilogue::NONE, input_gradient);
    }
}

/// The gradient of [`convolve`] (without epilogue) towards its weight, from `input` (extent `shape`) and `gradient`
/// towards its output, into `weight_gradient` (`[inputs, outputs, kernel, kernel]`).
///
/// # Panics
/// When lengths and shapes disagree.
pub fn weight_gradient(
    input: &[f32],
    gradient: &[f32],
    shape: Maps,
    layer: Transposed,
    weight_gradient: &mut [f32],
) {
    let target = layer.check(input, gradient, weight_gradient, shape);
    if shape.is_empty() {
        return weight_gradient.fill(0.0);
    }
    let turned = layer.convolution();
    let algorithm = Algorithm::best(turned);
    weight_gradient_on(Path::best(), algorithm, gradient, input, target, turned, weight_gradient);
}
