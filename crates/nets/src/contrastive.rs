//! Patch-based contrastive learning of confidence maps (Boserup & Selvan 2023, arXiv 2208.10779).
//!
//! A crop gives confidence maps; square patches on a grid are described by their mean confidence and mean entropy
//! ([`patches`]); a sampler draws positive and negative patches ([`sampler`]); patches of the picture multiplied by the
//! confidence are compared ([`similarity`]); positives shall be like one another, and unlike negatives and the
//! positives of other channels ([`loss`]).

pub mod loss;
pub mod patches;
pub mod sampler;
pub mod similarity;

pub use sampler::Sampler;
pub use similarity::Similarity;

use crate::operations::known_gradient::with_gradient;
use crate::operations::with_values;
use crate::training::Learner;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use loss::{Confidence, Crops, Loss};
use rand_chacha::ChaCha8Rng;

/// Every value of the method; the paper's are in [`ContrastiveConfig::paper`].
#[derive(Clone, Debug, PartialEq)]
pub struct ContrastiveConfig {
    /// Output channels K, one of which becomes nuclei.
    pub channels: usize,
    /// Side of the random crops, in pixels.
    pub crop_px: usize,
    /// Pictures in a batch.
    pub batch: usize,
    /// Passes over the pictures.
    pub epochs: usize,
    /// Side of a patch, in pixels.
    pub patch_px: usize,
    /// Distance between patches on the grid, in pixels.
    pub stride_px: usize,
    /// Patches drawn for each picture and channel.
    pub draws: usize,
    /// Anchors drawn for each channel.
    pub anchors: usize,
    /// How patches are drawn.
    pub sampler: Sampler,
    /// How attended patches are compared.
    pub similarity: Similarity,
    /// Weight of the loss between channels.
    pub inter_weight: f32,
    /// Adam's step.
    pub learning_rate: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f32,
    /// ε of x' = (1−ε)·x + ε, so that black is not zero once it is multiplied by a confidence.
    pub epsilon: f32,
}

impl ContrastiveConfig {
    /// The paper's values.
    pub const fn paper() -> Self {
        Self {
            channels: 4,
            crop_px: 300,
            batch: 10,
            epochs: 25,
            patch_px: 50,
            stride_px: 20,
            draws: 10,
            anchors: 10,
            sampler: Sampler::Entropy,
            similarity: Similarity::MeanSquaredError,
            inter_weight: 1.0,
            learning_rate: 2e-4,
            weight_decay: 1e-4,
            epsilon: 0.05,
        }
    }
}

impl ContrastiveConfig {
    /// The loss of a batch and the gradients of both networks, or none when a channel has no positive or no negative.
    pub(crate) fn gradients(
        &self,
        learner: &Learner,
        crops: &Crops,
        random: &mut ChaCha8Rng,
    ) -> Option<(f32, Vec<GradientsParams>)> {
        let shape = [crops.images, crops.channels, crops.height_px, crops.width_px];
        let pixels = TensorData::new(crops.values.clone(), shape);
        let x = Tensor::<4>::from_data(pixels, &crate::device::training());
        let output = learner.confidence.forward_training(x);
        let loss = with_values(output.clone(), |values| self.loss(learner, crops, values, random))?;
        let gradients = with_gradient(output, loss.value, loss.confidence).backward();
        let of_confidence = GradientsParams::from_grads(gradients, &learner.confidence);
        Some((loss.value, loss.features.into_iter().chain([of_confidence]).collect()))
    }

    /// The loss of confidences `[images, channels, height, width]` over patches drawn from them.
    fn loss(
        &self,
        learner: &Learner,
        crops: &Crops,
        values: &[f32],
        random: &mut ChaCha8Rng,
    ) -> Option<Loss> {
        let grid = patches::Grid {
            patch_px: self.patch_px,
            stride_px: self.stride_px,
            height_px: crops.height_px,
            width_px: crops.width_px,
        };
        let statistics = patches::statistics(values, grid);
        let draws = sampler::draw(self.sampler, &statistics, self.channels, grid, self.draws, random);
        if !draws.complete() {
            return None;
        }
        let anchors = loss::draw_anchors(&draws, self.anchors, random);
        let confidence = Confidence { channels: self.channels, values };
        Some(loss::contrastive_loss(confidence, crops, &draws, &anchors, learner.feature.as_ref(), self))
    }
}
