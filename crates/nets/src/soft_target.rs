//! Learning from soft targets: what a label-free method believes of the same pictures, weighed by how sure it is.

use crate::confidence::ConfidenceNetwork;
use crate::device::has_our_kernels;
use crate::operations::cross_entropy::CrossEntropyOps;
use crate::training::Batch;
use burn::backend::Dispatch;
use burn::tensor::{Tensor, TensorData, activation};

/// Every value of the training on soft targets.
#[derive(Clone, Debug, PartialEq)]
pub struct SoftTargetConfig {
    /// Target maps a picture, each learned by one output channel.
    pub targets: usize,
    /// Side of the random crops, in pixels.
    pub crop_px: usize,
    /// Pictures in a batch.
    pub batch: usize,
    /// Crops of each picture in an epoch.
    pub repeats: usize,
    /// Passes over the pictures.
    pub epochs: usize,
    /// Adam's highest step; it rises over the first tenth and falls along a cosine.
    pub learning_rate: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f32,
    /// ε of x' = (1−ε)·x + ε.
    pub epsilon: f32,
}

impl SoftTargetConfig {
    pub(crate) fn learning_rate_at(&self, done: usize, steps: usize) -> f64 {
        let share = (done as f64 + 0.5) / steps.max(1) as f64;
        let rise = (share / 0.1).min(1.0);
        let fall = 0.5 * (1.0 + (std::f64::consts::PI * ((share - 0.1) / 0.9).max(0.0)).cos());
        self.learning_rate * rise * fall
    }

    /// Weighted binary cross entropy: Σ w·(softplus(z) − t·z) / Σ w.
    pub(crate) fn loss(&self, network: &ConfidenceNetwork, batch: &Batch) -> Tensor<1> {
        let device = crate::device::training();
        let crops = &batch.crops;
        let (images, height, width) = (crops.images, crops.height_px, crops.width_px);
        let tensor = |values: &[f32], channels: usize| {
            let data = TensorData::new(values.to_vec(), [images, channels, height, width]);
            Tensor::<4>::from_data(data, &device)
        };
        let logits = network.logits_training(tensor(&crops.values, crops.channels));
        let target = tensor(&batch.probability, self.targets);
        let total: f64 = batch.weight.iter().map(|&w| f64::from(w)).sum::<f64>() * self.targets as f64;
        let scale = 1.0 / total.max(1.0) as f32;
        if !has_our_kernels(&device) {
            let loss = activation::softplus(logits.clone(), 1.0) - target * logits;
            return (loss * tensor(&batch.weight, 1)).sum() * scale;
        }
        let of_each_target = |plane: &[f32]| plane.repeat(self.targets);
        let weight: Vec<f32> =
            batch.weight.chunks((height * width).max(1)).flat_map(of_each_target).collect();
        let [logits, target, weight] = [logits, target, tensor(&weight, self.targets)].map(Tensor::into_dispatch);
        Tensor::from_dispatch(Dispatch::weighted_cross_entropy(logits, target, weight, scale))
    }
}
