//! The contrastive loss over drawn patches.

use super::patches::Patch;
use super::sampler::Draws;
use super::{ContrastiveConfig, Similarity};
use crate::device::has_our_kernels;
use crate::feature::FeatureNetwork;
use crate::operations::patches::{PatchOps, Patches};
use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor, TensorData};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// A batch of crops: `values` is `[images, channels, height, width]`, after the ε transform.
#[derive(Clone, Debug)]
pub struct Crops {
    /// Number of pictures.
    pub images: usize,
    /// Colour channels.
    pub channels: usize,
    /// Height, in pixels.
    pub height_px: usize,
    /// Width, in pixels.
    pub width_px: usize,
    /// The pixels.
    pub values: Vec<f32>,
}

/// For each channel, which of its positives are anchors (with replacement).
pub fn draw_anchors(draws: &Draws, anchors: usize, random: &mut ChaCha8Rng) -> Vec<Vec<usize>> {
    let of_channel = |positives: &Vec<Patch>| match positives.len() {
        0 => Vec::new(),
        length => (0..anchors).map(|_| random.random_range(0..length)).collect(),
    };
    draws.positives.iter().map(of_channel).collect()
}

/// Σ over channels of intra + `inter_weight` · inter, each divided by anchors² · images; a scalar.
///
/// intra: −Σ_a Σ_{p ∈ P_c} log(e^{s(a,p)} / Σ_{q ∈ N_c} e^{s(a,q)}); inter has the positives of the other channels
/// in the denominator.
///
/// # Shapes
/// - confidence `[images, K, height, width]`
pub fn contrastive_loss(
    confidence: &Tensor<4>,
    crops: &Crops,
    draws: &Draws,
    anchors: &[Vec<usize>],
    features: Option<&FeatureNetwork>,
    config: &ContrastiveConfig,
) -> Tensor<1> {
    let cutter = Cutter { confidence, crops, patch_px: config.patch_px, features };
    let all = |parity: &[Vec<Patch>]| -> Vec<Tensor<2>> {
        parity.iter().enumerate().map(|(channel, patches)| cutter.attended(channel, patches)).collect()
    };
    let (positives, negatives) = (all(&draws.positives), all(&draws.negatives));
    let mut total = Tensor::<1>::zeros([1], &confidence.device());
    for channel in 0..positives.len() {
        let contrast = Contrast::new(&positives[channel], &anchors[channel], config.similarity);
        total = total + contrast.against(&negatives[channel]);
        if positives.len() > 1 && config.inter_weight != 0.0 {
            let others = positives.iter().enumerate().filter(|(other, _)| *other != channel);
            let others = Tensor::cat(others.map(|(_, patches)| patches.clone()).collect(), 0);
            total = total + contrast.against(&others) * config.inter_weight;
        }
    }
    total / ((config.anchors * config.anchors * crops.images) as f32)
}

/// The anchors of a channel and how alike they are to its positives.
struct Contrast {
    anchors: Tensor<2>,
    /// −Σ_a Σ_p s(a, p).
    attraction: Tensor<1>,
    positives: usize,
    similarity: Similarity,
}

impl Contrast {
    fn new(positives: &Tensor<2>, anchors: &[usize], similarity: Similarity) -> Self {
        let indices: Vec<i32> = anchors.iter().map(|&index| index as i32).collect();
        let indices = Tensor::<1, Int>::from_ints(indices.as_slice(), &positives.device());
        let anchors = positives.clone().select(0, indices);
        let attraction = similarity.matrix(anchors.clone(), positives.clone()).sum().neg();
        Self { anchors, attraction, positives: positives.dims()[0], similarity }
    }

    /// −Σ_a Σ_p (s(a,p) − log Σ_q e^{s(a,q)}).
    fn against(&self, repelled: &Tensor<2>) -> Tensor<1> {
        let s = self.similarity.matrix(self.anchors.clone(), repelled.clone());
        // Similarities are bounded above (by 0, 1 or log₂ 25), so that the sum of exponentials cannot overflow; the
        // highest is taken out all the same, so that very unlike patches do not underflow to log 0.
        let highest = s.clone().max_dim(1).detach();
        let log_sum = (s - highest.clone()).exp().sum_dim(1).log() + highest;
        self.attraction.clone() + log_sum.sum() * self.positives as f32
    }
}

/// Cuts attended patches: picture × confidence of a channel.
struct Cutter<'a> {
    confidence: &'a Tensor<4>,
    crops: &'a Crops,
    patch_px: usize,
    features: Option<&'a FeatureNetwork>,
}

impl Cutter<'_> {
    /// `[patches, channels × patch²]`, or `[patches, 32]` where a feature network looks at them.
    fn attended(&self, channel: usize, patches: &[Patch]) -> Tensor<2> {
        let device = self.confidence.device();
        let (count, pixels) = (patches.len(), self.patch_px * self.patch_px);
        let channels = self.crops.channels;
        let confidence = self.confidence_patches(channel, patches).reshape([count, 1, pixels]);
        let picture = TensorData::new(self.picture_patches(patches), [count, channels, pixels]);
        let attended = Tensor::<3>::from_data(picture, &device) * confidence;
        match self.features {
            None => attended.reshape([count, channels * pixels]),
            Some(features) => {
                features.forward_training(attended.reshape([count, channels, self.patch_px, self.patch_px]))
            }
        }
    }

    /// `[patches, patch²]` of a channel's confidence.
    fn confidence_patches(&self, channel: usize, patches: &[Patch]) -> Tensor<2> {
        let [_, outputs, height, width] = self.confidence.dims();
        let start = |patch: &Patch| {
            ((patch.image * outputs + channel) * height + patch.top_px) * width + patch.left_px
        };
        let starts: Vec<usize> = patches.iter().map(start).collect();
        if has_our_kernels(&self.confidence.device()) {
            let patches = Patches { starts, side_px: self.patch_px, width_px: width };
            let maps = self.confidence.clone().into_dispatch();
            return Tensor::from_dispatch(Dispatch::cut_patches(maps, patches));
        }
        let pixels = self.patch_px * self.patch_px;
        let pixel = |index: usize| index / self.patch_px * width + index % self.patch_px;
        let indices: Vec<i32> =
            starts.iter().flat_map(|start| (0..pixels).map(move |index| (start + pixel(index)) as i32)).collect();
        let indices = TensorData::new(indices, [patches.len() * pixels]);
        let indices = Tensor::<1, Int>::from_data(indices, &self.confidence.device());
        self.confidence.clone().flatten::<1>(0, 3).select(0, indices).reshape([patches.len(), pixels])
    }

    /// The colours of each patch, channel by channel.
    fn picture_patches(&self, patches: &[Patch]) -> Vec<f32> {
        let crops = self.crops;
        let mut values = Vec::with_capacity(patches.len() * crops.channels * self.patch_px * self.patch_px);
        for patch in patches {
            for channel in 0..crops.channels {
                for start in self.row_starts(patch, patch.image * crops.channels + channel) {
                    values.extend_from_slice(&crops.values[start..start + self.patch_px]);
                }
            }
        }
        values
    }

    fn row_starts(&self, patch: &Patch, plane: usize) -> impl Iterator<Item = usize> + use<> {
        let (height, width, patch_px) = (self.crops.height_px, self.crops.width_px, self.patch_px);
        let Patch { top_px, left_px, .. } = *patch;
        (0..patch_px).map(move |y| (plane * height + top_px + y) * width + left_px)
    }
}
