//! Residual networks without tensors: batch norm folded into the convolutions, sums and ReLU in their epilogues.

use super::POOL;
use super::architecture::{Architecture, BlockShape};
use crate::operations::convolution::EPSILON;
use crate::weights::{NamedTensor, named};
use microtome_kernels::network::channels_last::pooling::{average_pool, max_pool};
use microtome_kernels::network::channels_last::{Activation, Convolution, Epilogue, Maps, convolve};
use microtome_vault::Result;

/// The encoder, ready to be applied.
#[derive(Clone, Debug)]
pub struct FoldedResNet {
    architecture: Architecture,
    stem: FoldedLayer,
    stages: Vec<Vec<FoldedBlock>>,
    head: Option<Head>,
}

#[derive(Clone, Debug)]
struct Head {
    /// `[outputs, features]`.
    weight: Vec<f32>,
    bias: Vec<f32>,
}

#[derive(Clone, Debug)]
struct FoldedBlock {
    layers: Vec<FoldedLayer>,
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
    pub fn new(architecture: Architecture, weights: &[NamedTensor]) -> Result<Self> {
        let block = |path: String, shape: BlockShape| {
            let layer = |(index, layer): (usize, Convolution)| {
                let number = index + 1;
                fold(weights, &format!("{path}.conv{number}"), &format!("{path}.bn{number}"), layer)
            };
            let past = |layer: Convolution| {
                fold(weights, &format!("{path}.downsample.conv"), &format!("{path}.downsample.bn"), layer)
            };
            Ok(FoldedBlock {
                layers: shape.layers().into_iter().enumerate().map(layer).collect::<Result<_>>()?,
                past: shape.past().map(past).transpose()?,
            })
        };
        let stage = |(stage, shapes): (usize, Vec<BlockShape>)| {
            let path = |index: usize| format!("layer{}.{index}", stage + 1);
            shapes.into_iter().enumerate().map(|(index, shape)| block(path(index), shape)).collect()
        };
        let features = architecture.features();
        let head = match weights.iter().find(|tensor| tensor.name == "fc.bias") {
            None => None,
            Some(bias) => Some(Head {
                weight: named(weights, "fc.weight", &[bias.values.len(), features])?.values.clone(),
                bias: bias.values.clone(),
            }),
        };
        Ok(Self {
            architecture,
            stem: fold(weights, "conv1", "bn1", architecture.stem)?,
            stages: architecture.blocks().into_iter().enumerate().map(stage).collect::<Result<_>>()?,
            head,
        })
    }

    /// Which network it is.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// The head's outputs, `[images, outputs]`, for `pictures` `[images, height, width, 3]`; the features without a head.
    pub fn apply(&self, pictures: &[f32], shape: Maps) -> Vec<f32> {
        let features = self.features(pictures, shape);
        let Some(head) = &self.head else { return features };
        let count = self.architecture.features();
        let of_image = |features: &[f32]| -> Vec<f32> {
            let rows = head.weight.chunks_exact(count).zip(&head.bias);
            rows.map(|(row, bias)| bias + row.iter().zip(features).map(|(w, f)| w * f).sum::<f32>()).collect()
        };
        features.chunks_exact(count).flat_map(of_image).collect()
    }

    /// The features before the head, `[images, features]`.
    pub fn features(&self, pictures: &[f32], shape: Maps) -> Vec<f32> {
        self.pooled(pictures, shape, self.architecture.deepest_level())
    }

    /// The means of a level's maps, `[images, channels]`.
    pub fn pooled(&self, pictures: &[f32], shape: Maps, level: usize) -> Vec<f32> {
        let (x, shape) = self.maps(pictures, shape, level);
        let mut features = vec![0.0; shape.images * shape.channels];
        average_pool(&x, shape.images, shape.channels, &mut features);
        features
    }

    /// The maps of a level, `[images, rows, columns, channels]`, and their shape.
    pub fn maps(&self, pictures: &[f32], shape: Maps, level: usize) -> (Vec<f32>, Maps) {
        let (mut x, mut shape) = self.stem.apply(pictures, shape, None, Activation::Relu);
        if self.architecture.is_pooled {
            let pooled = POOL.output(shape);
            (x, shape) = (pool(&x, shape), pooled);
        }
        for block in self.stages[..level].iter().flatten() {
            (x, shape) = block.apply(x, shape);
        }
        (x, shape)
    }
}

impl FoldedBlock {
    fn apply(&self, x: Vec<f32>, shape: Maps) -> (Vec<f32>, Maps) {
        let residual = self.past.as_ref().map(|past| past.apply(&x, shape, None, Activation::None).0);
        let (last, first) = self.layers.split_last().expect("a block has layers");
        let (mut y, mut middle) = (Vec::new(), shape);
        for (index, layer) in first.iter().enumerate() {
            let input = if index == 0 { &x } else { &y };
            (y, middle) = layer.apply(input, middle, None, Activation::Relu);
        }
        last.apply(&y, middle, Some(residual.as_ref().unwrap_or(&x)), Activation::Relu)
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
