//! Residual networks (He et al. 2016) in torchvision's layout: the encoders of the tissue method.
//!
//! Inside, tensors are channels-last: `[images, height, width, channels]`.

mod architecture;
mod inference;
pub mod names;

pub use architecture::Architecture;
#[cfg(test)]
pub(crate) use architecture::Stage;
pub use inference::FoldedResNet;

use crate::device::has_our_kernels;
use crate::initialise::Initialiser;
use crate::layers::{BatchNorm, Then, Weight, conv_norm_training};
use crate::operations::convolution::ConvolutionOps;
use architecture::BlockShape;
use burn::backend::Dispatch;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::module::{linear, max_pool2d};
use burn::tensor::ops::MaxPoolOptions;
use microtome_kernels::network::channels_last::Convolution;
use microtome_kernels::network::channels_last::pooling::Windows;

/// The pooling after the stem.
pub(crate) const POOL: Windows = Windows { kernel_px: 3, stride_px: 2, padding_px: 1 };

/// Convolutions with batch norm and ReLU, and what leads past them, added up.
#[derive(Module, Debug)]
pub struct Block {
    pub(crate) conv1: Weight,
    pub(crate) bn1: BatchNorm,
    pub(crate) conv2: Weight,
    pub(crate) bn2: BatchNorm,
    pub(crate) conv3: Option<Weight>,
    pub(crate) bn3: Option<BatchNorm>,
    pub(crate) downsample: Option<Downsample>,
    pub(crate) stride: usize,
}

/// What leads past a block that changes the extent.
#[derive(Module, Debug)]
pub struct Downsample {
    pub(crate) conv: Weight,
    pub(crate) bn: BatchNorm,
}

impl Block {
    fn new(shape: BlockShape, initialiser: &mut Initialiser) -> Self {
        let layers = shape.layers();
        let mut both = |layer: Convolution| {
            (Weight::new(layer, initialiser), BatchNorm::new(layer.outputs, initialiser))
        };
        let ((conv1, bn1), (conv2, bn2)) = (both(layers[0]), both(layers[1]));
        let (conv3, bn3) = layers.get(2).map(|layer| both(*layer)).unzip();
        let downsample = shape.past().map(&mut both).map(|(conv, bn)| Downsample { conv, bn });
        Self { conv1, bn1, conv2, bn2, conv3, bn3, downsample, stride: shape.stride }
    }

    /// Channels in, in the middle and out, read off the weights.
    fn shape(&self) -> BlockShape {
        let [middle, inputs, ..] = self.conv1.weight.dims();
        let outputs = self.conv3.as_ref().unwrap_or(&self.conv2).weight.dims()[0];
        BlockShape { inputs, middle, outputs, stride: self.stride, is_bottleneck: self.conv3.is_some() }
    }

    fn forward_training(&self, x: Tensor<4>) -> Tensor<4> {
        let (shape, layers) = (self.shape(), self.shape().layers());
        let residual = match (&self.downsample, shape.past()) {
            (Some(past), Some(layer)) => {
                conv_norm_training(x.clone(), &past.conv, &past.bn, layer, Then::Nothing)
            }
            _ => x.clone(),
        };
        let y = conv_norm_training(x, &self.conv1, &self.bn1, layers[0], Then::Relu);
        let join = Then::JoinAndRelu(residual);
        match (&self.conv3, &self.bn3) {
            (Some(conv3), Some(bn3)) => {
                let y = conv_norm_training(y, &self.conv2, &self.bn2, layers[1], Then::Relu);
                conv_norm_training(y, conv3, bn3, layers[2], join)
            }
            _ => conv_norm_training(y, &self.conv2, &self.bn2, layers[1], join),
        }
    }
}

/// A linear map.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[outputs, inputs]`.
    pub(crate) weight: Param<Tensor<2>>,
    /// `[outputs]`.
    pub(crate) bias: Param<Tensor<1>>,
}

impl Linear {
    /// As PyTorch draws it: uniform in ±1/√inputs.
    pub(crate) fn new(inputs: usize, outputs: usize, initialiser: &mut Initialiser) -> Self {
        let (weight, bias) =
            (initialiser.uniform([outputs, inputs], inputs), initialiser.uniform([outputs], inputs));
        Self { weight, bias }
    }

    /// `[images, inputs]` to `[images, outputs]`.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        linear(x, self.weight.val().transpose(), Some(self.bias.val()))
    }
}

/// A residual network, with or without a linear head.
#[derive(Module, Debug)]
pub struct ResNet {
    pub(crate) conv1: Weight,
    pub(crate) bn1: BatchNorm,
    pub(crate) layer1: Vec<Block>,
    pub(crate) layer2: Vec<Block>,
    pub(crate) layer3: Vec<Block>,
    pub(crate) layer4: Vec<Block>,
    pub(crate) fc: Option<Linear>,
    pub(crate) is_pooled: bool,
}

impl ResNet {
    /// A network with `outputs` outputs of a linear head, or without one.
    pub fn new(architecture: Architecture, outputs: Option<usize>, initialiser: &mut Initialiser) -> Self {
        let conv1 = Weight::new(architecture.stem, initialiser);
        let bn1 = BatchNorm::new(architecture.stem.outputs, initialiser);
        let [layer1, layer2, layer3, layer4] = architecture
            .blocks()
            .map(|shapes| shapes.into_iter().map(|shape| Block::new(shape, initialiser)).collect());
        let fc = outputs.map(|outputs| Linear::new(architecture.features(), outputs, initialiser));
        Self { conv1, bn1, layer1, layer2, layer3, layer4, fc, is_pooled: architecture.is_pooled }
    }

    /// The features in training mode: batch statistics normalise, and the running statistics move towards them.
    ///
    /// # Shapes
    /// - input `[images, 3, height, width]`, output `[images, features]`
    pub fn features_training(&self, x: Tensor<4>) -> Tensor<2> {
        self.channels_last_training(x.permute([0, 2, 3, 1]))
    }

    /// [`Self::features_training`] of `[images, height, width, 3]`.
    pub fn channels_last_training(&self, x: Tensor<4>) -> Tensor<2> {
        let [outputs, inputs, kernel, _] = self.conv1.weight.dims();
        let stem = Convolution { inputs, outputs, kernel, stride: 2, padding: kernel / 2, dilation: 1 };
        let mut x = conv_norm_training(x, &self.conv1, &self.bn1, stem, Then::Relu);
        if self.is_pooled {
            x = max_pool(x);
        }
        for block in [&self.layer1, &self.layer2, &self.layer3, &self.layer4].into_iter().flatten() {
            x = block.forward_training(x);
        }
        let [images, _, _, channels] = x.dims();
        x.mean_dim(1).mean_dim(2).reshape([images, channels])
    }

    /// The head's outputs in training mode, or the features if there is no head.
    ///
    /// # Shapes
    /// - input `[images, 3, height, width]`, output `[images, outputs]`
    pub fn forward_training(&self, x: Tensor<4>) -> Tensor<2> {
        let features = self.features_training(x);
        self.fc.as_ref().map_or(features.clone(), |head| head.forward(features))
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
