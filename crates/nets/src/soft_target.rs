//! Learning from soft targets: what a label-free method believes of the same pictures, weighed by how sure it is.

use crate::confidence::ConfidenceNetwork;
use crate::operations::known_gradient::with_gradient;
use crate::operations::with_values;
use crate::training::Batch;
use burn::tensor::{Tensor, TensorData};
use microtome_kernels::network::loss::binary_cross_entropy;

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
        let crops = &batch.crops;
        let shape = [crops.images, crops.channels, crops.height_px, crops.width_px];
        let x = TensorData::new(crops.values.clone(), shape);
        let logits = network.logits_training(Tensor::<4>::from_data(x, &crate::device::training()));
        let plane = (crops.height_px * crops.width_px).max(1);
        let of_each_target = |plane: &[f32]| plane.repeat(self.targets);
        let weight: Vec<f32> = batch.weight.chunks(plane).flat_map(of_each_target).collect();
        let total: f64 = weight.iter().map(|&w| f64::from(w)).sum();
        let scale = 1.0 / total.max(1.0) as f32;
        let mut gradient = vec![0.0; weight.len()];
        let loss = with_values(logits.clone(), |values| {
            binary_cross_entropy(values, &batch.probability, Some(&weight), scale, &mut gradient)
        });
        with_gradient(logits, loss as f32, gradient)
    }
}
