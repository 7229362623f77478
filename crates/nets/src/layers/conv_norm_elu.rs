//! Convolution without bias, batch norm, ELU.

use super::running::move_towards;
use crate::initialise::Initialiser;
use crate::operations::tower::EPSILON;
use burn::module::{Module, Param, RunningState};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, activation};

/// ELU(batch norm(convolution 3×3 with dilation, zero padding that keeps the size, no bias)).
#[derive(Module, Debug)]
pub struct ConvNormElu {
    /// `[outputs, inputs, 3, 3]`.
    pub(crate) weight: Param<Tensor<4>>,
    /// `[outputs]`.
    pub(crate) gamma: Param<Tensor<1>>,
    /// `[outputs]`.
    pub(crate) beta: Param<Tensor<1>>,
    /// `[outputs]`.
    pub(crate) running_mean: RunningState<Tensor<1>>,
    /// `[outputs]`, unbiased.
    pub(crate) running_variance: RunningState<Tensor<1>>,
    pub(crate) dilation: usize,
}

impl ConvNormElu {
    /// A layer from `inputs` to `outputs` channels.
    pub fn new(inputs: usize, outputs: usize, dilation: usize, initialiser: &mut Initialiser) -> Self {
        Self {
            weight: initialiser.uniform([outputs, inputs, 3, 3], inputs * 9),
            gamma: initialiser.constant(outputs, 1.0),
            beta: initialiser.constant(outputs, 0.0),
            running_mean: initialiser.running(outputs, 0.0),
            running_variance: initialiser.running(outputs, 1.0),
            dilation,
        }
    }

    /// The layer in training, in Burn's own operations: batch statistics normalise, and the running statistics move
    /// towards them.
    ///
    /// # Shapes
    /// - input `[images, inputs, height, width]`, output `[images, outputs, height, width]`
    pub(crate) fn forward_training(&self, x: Tensor<4>) -> Tensor<4> {
        let [images, _, height, width] = x.dims();
        let (output, mean, variance) = self.composed(x);
        self.remember(mean, variance, images * height * width);
        output
    }

    /// Moves the running statistics towards a batch's mean and biased variance of `count` values.
    pub(crate) fn remember(&self, mean: Tensor<1>, variance: Tensor<1>, count: usize) {
        let count = count as f64;
        move_towards(&self.running_mean, mean, 1.0);
        move_towards(&self.running_variance, variance, count / (count - 1.0).max(1.0));
    }

    /// Output, mean and biased variance.
    fn composed(&self, x: Tensor<4>) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
        let padding = [self.dilation; 2];
        let options = ConvOptions::new([1, 1], padding, [self.dilation; 2], 1);
        let z = conv2d(x, self.weight.val(), None, options);
        let channels = z.dims()[1];
        let per_channel = |t: Tensor<1>| t.reshape([1, channels, 1, 1]);
        let mean = z.clone().mean_dim(0).mean_dim(2).mean_dim(3);
        let centred = z - mean.clone();
        let variance = centred.clone().square().mean_dim(0).mean_dim(2).mean_dim(3);
        let normal = centred / (variance.clone() + EPSILON).sqrt();
        let bent = normal * per_channel(self.gamma.val()) + per_channel(self.beta.val());
        (activation::elu(bent, 1.0), mean.reshape([channels]), variance.reshape([channels]))
    }
}
