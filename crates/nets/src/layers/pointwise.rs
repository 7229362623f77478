//! Convolution 1×1 with bias.

use crate::initialise::Initialiser;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

/// A linear map of the channels of each pixel.
#[derive(Module, Debug)]
pub struct Pointwise {
    /// `[outputs, inputs, 1, 1]`.
    pub(crate) weight: Param<Tensor<4>>,
    /// `[outputs]`.
    pub(crate) bias: Param<Tensor<1>>,
}

impl Pointwise {
    /// A map from `inputs` to `outputs` channels.
    pub fn new(inputs: usize, outputs: usize, initialiser: &mut Initialiser) -> Self {
        Self {
            weight: initialiser.uniform([outputs, inputs, 1, 1], inputs),
            bias: initialiser.uniform([outputs], inputs),
        }
    }

    /// # Shapes
    /// - input `[images, inputs, height, width]`, output `[images, outputs, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let outputs = self.bias.dims()[0];
        let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
        let z = conv2d(x, self.weight.val(), None, options);
        z + self.bias.val().reshape([1, outputs, 1, 1])
    }
}
