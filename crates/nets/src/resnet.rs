//! ResNet-18 (He et al. 2016) in torchvision's layout, with a linear head: the encoder of the tissue method.
//!
//! Inside, tensors are channels-last: `[images, height, width, channels]`.

mod inference;
pub mod names;

pub use inference::FoldedResNet;

use crate::device::has_our_kernels;
use crate::initialise::Initialiser;
use crate::layers::{BatchNorm, Then, Weight, conv_norm_training};
use crate::operations::convolution::ConvolutionOps;
use burn::backend::Dispatch;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::module::{linear, max_pool2d};
use burn::tensor::ops::MaxPoolOptions;
use microtome_kernels::network::channels_last::Convolution;
use microtome_kernels::network::channels_last::pooling::Windows;

/// Channels of the four stages.
pub const STAGES: [usize; 4] = [64, 128, 256, 512];
/// Blocks of each stage.
pub const BLOCKS: usize = 2;
/// The first convolution.
pub(crate) const STEM: Convolution =
    Convolution { inputs: 3, outputs: STAGES[0], kernel: 7, stride: 2, padding: 3, dilation: 1 };
/// The pooling after it.
pub(crate) const POOL: Windows = Windows { kernel_px: 3, stride_px: 2, padding_px: 1 };

/// A convolution 3×3 of a block.
pub(crate) fn inner(inputs: usize, outputs: usize, stride: usize) -> Convolution {
    Convolution { inputs, outputs, kernel: 3, stride, padding: 1, dilation: 1 }
}

/// The convolution 1×1 past a block that changes the extent.
pub(crate) fn past(inputs: usize, outputs: usize, stride: usize) -> Convolution {
    Convolution { inputs, outputs, kernel: 1, stride, padding: 0, dilation: 1 }
}

/// Channels and stride of each block: (inputs, outputs, stride).
pub(crate) fn blocks() -> impl Iterator<Item = (usize, usize, usize)> {
    STAGES.into_iter().enumerate().flat_map(|(stage, outputs)| {
        (0..BLOCKS).map(move |block| match (stage, block) {
            (0, _) => (outputs, outputs, 1),
            (_, 0) => (STAGES[stage - 1], outputs, 2),
            _ => (outputs, outputs, 1),
        })
    })
}

/// ReLU(past(x) + batch norm(conv(ReLU(batch norm(conv(x)))))).
#[derive(Module, Debug)]
pub struct BasicBlock {
    pub(crate) conv1: Weight,
    pub(crate) bn1: BatchNorm,
    pub(crate) conv2: Weight,
    pub(crate) bn2: BatchNorm,
    pub(crate) downsample: Option<Downsample>,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) stride: usize,
}

/// What leads past a block that changes the extent.
#[derive(Module, Debug)]
pub struct Downsample {
    pub(crate) conv: Weight,
    pub(crate) bn: BatchNorm,
}

impl BasicBlock {
    fn new((inputs, outputs, stride): (usize, usize, usize), initialiser: &mut Initialiser) -> Self {
        Self {
            conv1: Weight::new(inner(inputs, outputs, stride), initialiser),
            bn1: BatchNorm::new(outputs, initialiser),
            conv2: Weight::new(inner(outputs, outputs, 1), initialiser),
            bn2: BatchNorm::new(outputs, initialiser),
            downsample: (inputs != outputs).then(|| Downsample {
                conv: Weight::new(past(inputs, outputs, stride), initialiser),
                bn: BatchNorm::new(outputs, initialiser),
            }),
            inputs,
            outputs,
            stride,
        }
    }

    fn forward_training(&self, x: Tensor<4>) -> Tensor<4> {
        let (inputs, outputs, stride) = (self.inputs, self.outputs, self.stride);
        let residual = match &self.downsample {
            None => x.clone(),
            Some(downsample) => {
                let layer = past(inputs, outputs, stride);
                conv_norm_training(x.clone(), &downsample.conv, &downsample.bn, layer, Then::Nothing)
            }
        };
        let y = conv_norm_training(x, &self.conv1, &self.bn1, inner(inputs, outputs, stride), Then::Relu);
        let then = Then::JoinAndRelu(residual);
        conv_norm_training(y, &self.conv2, &self.bn2, inner(outputs, outputs, 1), then)
    }
}

/// The linear map at the end.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[outputs, inputs]`.
    pub(crate) weight: Param<Tensor<2>>,
    /// `[outputs]`.
    pub(crate) bias: Param<Tensor<1>>,
}

/// ResNet-18: 11.2 million parameters before the head.
#[derive(Module, Debug)]
pub struct ResNet {
    pub(crate) conv1: Weight,
    pub(crate) bn1: BatchNorm,
    pub(crate) layer1: Vec<BasicBlock>,
    pub(crate) layer2: Vec<BasicBlock>,
    pub(crate) layer3: Vec<BasicBlock>,
    pub(crate) layer4: Vec<BasicBlock>,
    pub(crate) fc: Linear,
}

impl ResNet {
    /// A network with `outputs` outputs after the linear head.
    pub fn new(outputs: usize, initialiser: &mut Initialiser) -> Self {
        let conv1 = Weight::new(STEM, initialiser);
        let bn1 = BatchNorm::new(STAGES[0], initialiser);
        let mut shapes = blocks();
        let mut stage = || -> Vec<BasicBlock> {
            shapes.by_ref().take(BLOCKS).map(|shape| BasicBlock::new(shape, initialiser)).collect()
        };
        let [layer1, layer2, layer3, layer4] = [stage(), stage(), stage(), stage()];
        let features = STAGES[3];
        let fc = Linear {
            weight: initialiser.uniform([outputs, features], features),
            bias: initialiser.uniform([outputs], features),
        };
        Self { conv1, bn1, layer1, layer2, layer3, layer4, fc }
    }

    /// The head's outputs in training mode: batch statistics normalise, and the running statistics move towards them.
    ///
    /// # Shapes
    /// - input `[images, 3, height, width]`, output `[images, outputs]`
    pub fn forward_training(&self, x: Tensor<4>) -> Tensor<2> {
        let x = x.permute([0, 2, 3, 1]);
        let x = conv_norm_training(x, &self.conv1, &self.bn1, STEM, Then::Relu);
        let mut x = max_pool(x);
        for block in [&self.layer1, &self.layer2, &self.layer3, &self.layer4].into_iter().flatten() {
            x = block.forward_training(x);
        }
        let [images, _, _, channels] = x.dims();
        let features = x.mean_dim(1).mean_dim(2).reshape([images, channels]);
        linear(features, self.fc.weight.val().transpose(), Some(self.fc.bias.val()))
    }
}

/// The highest value of each window of [`POOL`], `[images, height, width, channels]`.
fn max_pool(x: Tensor<4>) -> Tensor<4> {
    if has_our_kernels(&x.device()) {
        return Tensor::from_dispatch(Dispatch::max_pool_windows(x.into_dispatch(), POOL));
    }
    composed_max_pool(x)
}

/// The same in Burn's own operations, for devices that our kernels do not serve.
fn composed_max_pool(x: Tensor<4>) -> Tensor<4> {
    let Windows { kernel_px, stride_px, padding_px } = POOL;
    let x = x.permute([0, 3, 1, 2]);
    let options = MaxPoolOptions::new([kernel_px; 2]).with_stride([stride_px; 2]);
    let pooled = max_pool2d(x, options.with_padding([padding_px; 2]));
    pooled.permute([0, 2, 3, 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};
    use crate::weights::floats;
    use burn::tensor::TensorData;
    use rand::Rng;

    /// A leaf tensor whose values are drawn from `levels` distinct ones.
    fn drawn(shape: [usize; 4], levels: u32, seed: u64) -> Tensor<4> {
        let mut random = stream(seed, Purpose::Weights, 0);
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| random.random_range(0..levels) as f32 / levels as f32 - 0.25)
            .collect();
        Tensor::from_data(TensorData::new(values, shape), &crate::device::training()).require_grad()
    }

    /// Maxima, and the gradient towards x of their product with `weight`.
    fn pooled(pool: fn(Tensor<4>) -> Tensor<4>, x: &Tensor<4>, seed: u64) -> (Vec<f32>, Vec<f32>) {
        let y = pool(x.clone());
        let weight = drawn(y.dims(), 1 << 20, seed + 1).detach();
        let gradients = (y.clone() * weight).sum().backward();
        (floats(y), floats(x.grad(&gradients).expect("a gradient of x")))
    }

    #[test]
    fn max_pooling_of_ours_and_of_burns_agree() {
        for seed in 0..60 {
            let mut random = stream(seed, Purpose::Weights, 1);
            let mut to = |most: usize| random.random_range(1..=most);
            let shape = [to(3), to(19), to(19), to(70)];
            // With few levels most windows have several maxima: the first must win in both.
            for levels in [2, 1 << 20] {
                let x = drawn(shape, levels, seed);
                let (ours, to_x) = pooled(max_pool, &x, seed);
                let (theirs, to_x_of_theirs) = pooled(composed_max_pool, &x, seed);
                assert_eq!(ours, theirs, "{shape:?}");
                // At most four windows meet in a pixel: sums of four numbers below 1, in any order.
                let error = to_x.iter().zip(&to_x_of_theirs).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
                assert!(error <= 1e-6, "{shape:?}: {error:e}");
            }
        }
    }
}
