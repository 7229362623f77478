//! Convolution, batch norm, and what follows in a residual network, on channels-last tensors.

#[cfg(test)]
mod tests;

use super::running::{count, move_towards};
use crate::device::has_our_kernels;
use crate::initialise::Initialiser;
use crate::operations::convolution::{ConvolutionOps, EPSILON};
use burn::backend::Dispatch;
use burn::module::{Module, Param, RunningState};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, activation};
use microtome_kernels::network::channels_last::Convolution;

/// A convolution's weight, under the name that torchvision gives it.
#[derive(Module, Debug)]
pub struct Weight {
    /// `[outputs, inputs, kernel, kernel]`.
    pub(crate) weight: Param<Tensor<4>>,
}

/// Batch norm's parameters, under the names that torchvision gives them.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// γ, `[channels]`.
    pub(crate) weight: Param<Tensor<1>>,
    /// β, `[channels]`.
    pub(crate) bias: Param<Tensor<1>>,
    /// `[channels]`.
    pub(crate) running_mean: RunningState<Tensor<1>>,
    /// `[channels]`, unbiased.
    pub(crate) running_var: RunningState<Tensor<1>>,
}

impl Weight {
    /// Weights as torchvision draws them: normal, of deviation √(2 / (outputs · kernel²)).
    pub fn new(layer: Convolution, initialiser: &mut Initialiser) -> Self {
        let Convolution { inputs, outputs, kernel, .. } = layer;
        let deviation = (2.0 / (outputs * kernel * kernel) as f32).sqrt();
        Self { weight: initialiser.normal([outputs, inputs, kernel, kernel], deviation) }
    }
}

impl BatchNorm {
    /// γ = 1, β = 0.
    pub fn new(channels: usize, initialiser: &mut Initialiser) -> Self {
        Self {
            weight: initialiser.constant(channels, 1.0),
            bias: initialiser.constant(channels, 0.0),
            running_mean: initialiser.running(channels, 0.0),
            running_var: initialiser.running(channels, 1.0),
        }
    }

    /// Moves the running statistics towards a batch's, `[2, channels]`, of `count` values a channel.
    fn remember(&self, statistics: Tensor<2>, count: usize) {
        let row = |index: usize| statistics.clone().narrow(0, index, 1).squeeze_dim::<1>(0);
        move_towards(&self.running_mean, row(0), 1.0);
        move_towards(&self.running_var, row(1), count as f64 / (count as f64 - 1.0).max(1.0));
    }
}

/// What follows a batch norm.
#[allow(clippy::large_enum_variant)] // It lives for one call.
pub(crate) enum Then {
    Nothing,
    Relu,
    /// A sum with `[images, height, width, channels]`, then ReLU.
    JoinAndRelu(Tensor<4>),
}

/// Convolution and batch norm in training mode, and what follows.
///
/// # Shapes
/// - x `[images, height, width, inputs]`, output `[images, output height, output width, outputs]`
pub(crate) fn conv_norm_training(
    x: Tensor<4>,
    weight: &Weight,
    norm: &BatchNorm,
    layer: Convolution,
    then: Then,
) -> Tensor<4> {
    let (output, statistics) = match has_our_kernels(&x.device()) {
        true => fused(x, weight, norm, layer, then),
        false => composed(x, weight, norm, layer, then),
    };
    norm.remember(statistics, count(&output));
    output
}

fn fused(
    x: Tensor<4>,
    weight: &Weight,
    norm: &BatchNorm,
    layer: Convolution,
    then: Then,
) -> (Tensor<4>, Tensor<2>) {
    let (x, weight) = (x.into_dispatch(), weight.weight.val().into_dispatch());
    let (gamma, beta) = (norm.weight.val().into_dispatch(), norm.bias.val().into_dispatch());
    let (output, statistics) = match then {
        Then::Nothing => Dispatch::conv_norm(x, weight, gamma, beta, layer, false),
        Then::Relu => Dispatch::conv_norm(x, weight, gamma, beta, layer, true),
        Then::JoinAndRelu(residual) => {
            Dispatch::conv_norm_join(x, weight, gamma, beta, residual.into_dispatch(), layer)
        }
    };
    (Tensor::from_dispatch(output), Tensor::from_dispatch(statistics))
}

/// The same in Burn's own operations, for devices that our kernels do not serve.
pub(crate) fn composed(
    x: Tensor<4>,
    weight: &Weight,
    norm: &BatchNorm,
    layer: Convolution,
    then: Then,
) -> (Tensor<4>, Tensor<2>) {
    let options = ConvOptions::new([layer.stride; 2], [layer.padding; 2], [layer.dilation; 2], 1);
    let z = conv2d(x.permute([0, 3, 1, 2]), weight.weight.val(), None, options).permute([0, 2, 3, 1]);
    let per_channel = |t: Tensor<1>| t.reshape([1, 1, 1, layer.outputs]);
    let mean = z.clone().mean_dim(0).mean_dim(1).mean_dim(2);
    let centred = z - mean.clone();
    let variance = centred.clone().square().mean_dim(0).mean_dim(1).mean_dim(2);
    let normal = centred / (variance.clone() + EPSILON).sqrt();
    let y = normal * per_channel(norm.weight.val()) + per_channel(norm.bias.val());
    let output = match then {
        Then::Nothing => y,
        Then::Relu => activation::relu(y),
        Then::JoinAndRelu(residual) => activation::relu(y + residual),
    };
    let row = |t: Tensor<4>| t.detach().reshape([1, layer.outputs]);
    (output, Tensor::cat(vec![row(mean), row(variance)], 0))
}
