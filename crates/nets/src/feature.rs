//! The feature network: 32 numbers for an attended patch, compared by their cosine (Boserup & Selvan 2023).

use crate::initialise::Initialiser;
use burn::module::{Module, Param, RunningState};
use burn::tensor::module::{conv2d, linear};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, activation};

/// Channels between the layers.
const WIDTH: usize = 8;
/// Length of a feature vector.
const FEATURES: usize = 32;

/// Convolution 3×3, batch norm, ELU, with strides. Only the first of the three layers has a bias.
#[derive(Module, Debug)]
pub struct StridedLayer {
    pub(crate) weight: Param<Tensor<4>>,
    pub(crate) bias: Option<Param<Tensor<1>>>,
    pub(crate) gamma: Param<Tensor<1>>,
    pub(crate) beta: Param<Tensor<1>>,
    pub(crate) running_mean: RunningState<Tensor<1>>,
    pub(crate) running_variance: RunningState<Tensor<1>>,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
}

impl StridedLayer {
    fn new(channels: [usize; 2], stride: usize, has_bias: bool, initialiser: &mut Initialiser) -> Self {
        let [inputs, outputs] = channels;
        Self {
            weight: initialiser.uniform([outputs, inputs, 3, 3], inputs * 9),
            bias: has_bias.then(|| initialiser.uniform([outputs], inputs * 9)),
            gamma: initialiser.constant(outputs, 1.0),
            beta: initialiser.constant(outputs, 0.0),
            running_mean: initialiser.running(outputs, 0.0),
            running_variance: initialiser.running(outputs, 1.0),
            stride,
            dilation: stride,
        }
    }

    fn forward_training(&self, x: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions::new([self.stride; 2], [0, 0], [self.dilation; 2], 1);
        let z = conv2d(x, self.weight.val(), self.bias.as_ref().map(Param::val), options);
        let channels = z.dims()[1];
        let per_channel = |t: Tensor<1>| t.reshape([1, channels, 1, 1]);
        let mean = z.clone().mean_dim(0).mean_dim(2).mean_dim(3);
        let centred = z - mean;
        let variance = centred.clone().square().mean_dim(0).mean_dim(2).mean_dim(3);
        let normal = centred / (variance + 1e-5).sqrt();
        activation::elu(normal * per_channel(self.gamma.val()) + per_channel(self.beta.val()), 1.0)
    }
}

/// Three strided layers and a linear map: 3,530 parameters for patches of 3 × 50 × 50.
#[derive(Module, Debug)]
pub struct FeatureNetwork {
    pub(crate) layers: Vec<StridedLayer>,
    pub(crate) weight: Param<Tensor<2>>,
    pub(crate) bias: Param<Tensor<1>>,
}

impl FeatureNetwork {
    /// A network for patches of `patch_px` × `patch_px` with `inputs` channels.
    pub fn new(inputs: usize, patch_px: usize, initialiser: &mut Initialiser) -> Self {
        let side = last_side_px(patch_px);
        Self {
            layers: vec![
                StridedLayer::new([inputs, WIDTH], 1, true, initialiser),
                StridedLayer::new([WIDTH, WIDTH], 2, false, initialiser),
                StridedLayer::new([WIDTH, 1], 2, false, initialiser),
            ],
            weight: initialiser.uniform([FEATURES, side * side], side * side),
            bias: initialiser.uniform([FEATURES], side * side),
        }
    }

    /// # Shapes
    /// - input `[patches, inputs, patch_px, patch_px]`, output `[patches, 32]`
    pub fn forward_training(&self, x: Tensor<4>) -> Tensor<2> {
        let patches = x.dims()[0];
        let x = self.layers.iter().fold(x, |x, layer| layer.forward_training(x));
        let flat = x.reshape([patches as i32, -1]);
        linear(flat, self.weight.val().transpose(), Some(self.bias.val()))
    }
}

/// Side of the last feature map, in pixels: 9 for patches of 50. Patches under 18 leave nothing.
pub fn last_side_px(patch_px: usize) -> usize {
    // Without padding: a 3×3 kernel takes 2 pixels, with dilation 2 it takes 4, and stride 2 halves.
    let halve = |side: usize| if side >= 5 { (side - 5) / 2 + 1 } else { 0 };
    halve(halve(patch_px.saturating_sub(2)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn fifty_pixels_leave_nine() {
        assert_eq!(super::last_side_px(50), 9);
    }
}
