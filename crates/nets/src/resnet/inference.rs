//! ResNet-18 without tensors: batch norm folded into the convolutions, sums and ReLU in their epilogues.

use super::{BLOCKS, POOL, STAGES, STEM, blocks, inner, past};
use crate::operations::convolution::EPSILON;
use crate::weights::{NamedTensor, named};
use microtome_kernels::network::channels_last::pooling::{average_pool, max_pool};
use microtome_kernels::network::channels_last::{Activation, Convolution, Epilogue, Maps, convolve};
use microtome_vault::Result;

/// The encoder, ready to be applied.
#[derive(Clone, Debug)]
pub struct FoldedResNet {
    stem: FoldedLayer,
    blocks: Vec<FoldedBlock>,
    /// `[outputs, 512]`.
    head_weight: Vec<f32>,
    head_bias: Vec<f32>,
}

#[derive(Clone, Debug)]
struct FoldedBlock {
    first: FoldedLayer,
    second: FoldedLayer,
    past: Option<FoldedLayer>,
}

#[derive(Clone, Debug)]
struct FoldedLayer {
    layer: Convolution,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl FoldedResNet {
    /// Folds the weights of a [`ResNet`](super::ResNet).
    ///
    /// # Errors
    /// `Input` when a tensor is missing or of another shape: the model is of another architecture.
    pub fn new(weights: &[NamedTensor]) -> Result<Self> {
        let outputs = weights.iter().find(|tensor| tensor.name == "fc.bias").map_or(1, |t| t.values.len());
        let block = |(index, (inputs, outputs, stride)): (usize, (usize, usize, usize))| {
            let path = format!("layer{}.{}", index / BLOCKS + 1, index % BLOCKS);
            let layer = |conv: &str, norm: &str, layer: Convolution| {
                fold(weights, &format!("{path}.{conv}"), &format!("{path}.{norm}"), layer)
            };
            Ok(FoldedBlock {
                first: layer("conv1", "bn1", inner(inputs, outputs, stride))?,
                second: layer("conv2", "bn2", inner(outputs, outputs, 1))?,
                past: match inputs == outputs {
                    true => None,
                    false => Some(layer("downsample.conv", "downsample.bn", past(inputs, outputs, stride))?),
                },
            })
        };
        Ok(Self {
            stem: fold(weights, "conv1", "bn1", STEM)?,
            blocks: blocks().enumerate().map(block).collect::<Result<_>>()?,
            head_weight: named(weights, "fc.weight", &[outputs, STAGES[3]])?.values.clone(),
            head_bias: named(weights, "fc.bias", &[outputs])?.values.clone(),
        })
    }

    /// The head's outputs, `[images, outputs]`, for `pictures` `[images, height, width, 3]`.
    pub fn apply(&self, pictures: &[f32], shape: Maps) -> Vec<f32> {
        let features = self.features(pictures, shape);
        let of_image = |features: &[f32]| -> Vec<f32> {
            let rows = self.head_weight.chunks_exact(STAGES[3]).zip(&self.head_bias);
            rows.map(|(row, bias)| bias + row.iter().zip(features).map(|(w, f)| w * f).sum::<f32>()).collect()
        };
        features.chunks_exact(STAGES[3]).flat_map(of_image).collect()
    }

    /// The features before the head, `[images, 512]`.
    pub fn features(&self, pictures: &[f32], shape: Maps) -> Vec<f32> {
        let (x, shape) = self.stem.apply(pictures, shape, None, Activation::Relu);
        let pooled = POOL.output(shape);
        let (mut x, mut shape) = (pool(&x, shape), pooled);
        for block in &self.blocks {
            (x, shape) = block.apply(x, shape);
        }
        let mut features = vec![0.0; shape.images * shape.channels];
        average_pool(&x, shape.images, shape.channels, &mut features);
        features
    }
}

impl FoldedBlock {
    fn apply(&self, x: Vec<f32>, shape: Maps) -> (Vec<f32>, Maps) {
        let (y, middle) = self.first.apply(&x, shape, None, Activation::Relu);
        let residual = match &self.past {
            Some(past) => past.apply(&x, shape, None, Activation::None).0,
            None => x,
        };
        self.second.apply(&y, middle, Some(&residual), Activation::Relu)
    }
}

impl FoldedLayer {
    fn apply(
        &self,
        x: &[f32],
        shape: Maps,
        residual: Option<&[f32]>,
        activation: Activation,
    ) -> (Vec<f32>, Maps) {
        let output = self.layer.output(shape);
        let mut y = vec![0.0; output.len()];
        let epilogue = Epilogue { bias: Some(&self.bias), residual, activation };
        convolve(x, shape, &self.weight, self.layer, epilogue, &mut y);
        (y, output)
    }
}

fn pool(x: &[f32], shape: Maps) -> Vec<f32> {
    let output = POOL.output(shape);
    let (mut values, mut winners) = (vec![0.0; output.len()], vec![0; output.len()]);
    max_pool(x, shape, POOL, &mut values, &mut winners);
    values
}

/// γ/σ into the weight, β − mean·γ/σ as the bias.
fn fold(weights: &[NamedTensor], conv: &str, norm: &str, layer: Convolution) -> Result<FoldedLayer> {
    let Convolution { inputs, outputs, kernel, .. } = layer;
    let weight = &named(weights, &format!("{conv}.weight"), &[outputs, inputs, kernel, kernel])?.values;
    let get = |name: &str| named(weights, &format!("{norm}.{name}"), &[outputs]);
    let (gamma, beta) = (&get("weight")?.values, &get("bias")?.values);
    let (mean, variance) = (&get("running_mean")?.values, &get("running_var")?.values);
    let scale: Vec<f32> = (0..outputs).map(|c| gamma[c] / (variance[c] + EPSILON).sqrt()).collect();
    let taps = inputs * kernel * kernel;
    Ok(FoldedLayer {
        layer,
        weight: weight.iter().enumerate().map(|(i, w)| w * scale[i / taps]).collect(),
        bias: (0..outputs).map(|c| beta[c] - mean[c] * scale[c]).collect(),
    })
}
