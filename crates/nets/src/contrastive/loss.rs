//! The contrastive loss over drawn patches.

mod squared;

use super::patches::Patch;
use super::sampler::Draws;
use super::{ContrastiveConfig, Similarity};
use crate::feature::FeatureNetwork;
use crate::weights::floats;
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

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

/// Confidence maps: `values` is `[images, channels, height, width]`.
#[derive(Clone, Copy, Debug)]
pub struct Confidence<'a> {
    /// Number of output channels K.
    pub channels: usize,
    /// The confidences.
    pub values: &'a [f32],
}

/// A loss and its gradients.
pub struct Loss {
    /// The loss.
    pub value: f32,
    /// Towards the confidence, `[images, channels, height, width]`.
    pub confidence: Vec<f32>,
    /// Towards the feature network's parameters.
    pub features: Option<GradientsParams>,
}

/// Σ over channels of intra + `inter_weight` · inter, each divided by anchors² · images, with its gradients.
///
/// intra: −Σ_a Σ_{p ∈ P_c} log(e^{s(a,p)} / Σ_{q ∈ N_c} e^{s(a,q)}); inter has the positives of the other channels
/// in the denominator.
///
/// Patches are small, maps are large: patches are cut out first, differentiated alone, and their gradients are added
/// back where they were cut. The paper's similarity, minus the mean squared error, has kernels of its own.
pub fn contrastive_loss(
    confidence: Confidence<'_>,
    crops: &Crops,
    draws: &Draws,
    anchors: &[Vec<usize>],
    features: Option<&FeatureNetwork>,
    config: &ContrastiveConfig,
) -> Loss {
    let cutter = Cutter { confidence, crops, patch_px: config.patch_px, features };
    match config.similarity {
        Similarity::MeanSquaredError => squared::loss(&cutter, draws, anchors, config),
        _ => composed(&cutter, draws, anchors, config),
    }
}

/// The loss in Burn's operations, for every similarity.
fn composed(cutter: &Cutter<'_>, draws: &Draws, anchors: &[Vec<usize>], config: &ContrastiveConfig) -> Loss {
    let (crops, confidence, features) = (cutter.crops, cutter.confidence, cutter.features);
    let cut = |parity: &[Vec<Patch>]| -> Vec<Cut> {
        parity.iter().enumerate().map(|(channel, patches)| cutter.cut(channel, patches)).collect()
    };
    let (positives, negatives) = (cut(&draws.positives), cut(&draws.negatives));
    let attended = |cuts: &[Cut]| cuts.iter().map(|cut| cutter.attended(cut)).collect::<Vec<_>>();
    let total = sum_over_channels(&attended(&positives), &attended(&negatives), anchors, config);
    let total = total / ((config.anchors * config.anchors * crops.images) as f32);
    let value = floats(total.clone())[0];
    let mut gradients = total.backward();
    let mut to_confidence = vec![0.0; confidence.values.len()];
    for cut in positives.into_iter().chain(negatives) {
        if let Some(gradient) = cut.confidence.grad_remove(&mut gradients) {
            cutter.add_back(&cut.starts, &floats(gradient), &mut to_confidence);
        }
    }
    let features = features.map(|features| GradientsParams::from_grads(gradients, features));
    Loss { value, confidence: to_confidence, features }
}

fn sum_over_channels(
    positives: &[Tensor<2>],
    negatives: &[Tensor<2>],
    anchors: &[Vec<usize>],
    config: &ContrastiveConfig,
) -> Tensor<1> {
    let mut total = Tensor::<1>::zeros([1], &crate::device::training());
    for channel in 0..positives.len() {
        let contrast = Contrast::new(&positives[channel], &anchors[channel], config.similarity);
        total = total + contrast.against(&negatives[channel]);
        if positives.len() > 1 && config.inter_weight != 0.0 {
            let others = positives.iter().enumerate().filter(|(other, _)| *other != channel);
            let others = Tensor::cat(others.map(|(_, patches)| patches.clone()).collect(), 0);
            total = total + contrast.against(&others) * config.inter_weight;
        }
    }
    total
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

/// Patches of one channel.
struct Cut {
    /// Where each patch begins in the maps.
    starts: Vec<usize>,
    /// Where each patch begins in the pictures' first colour.
    picture_starts: Vec<usize>,
    /// `[patches, patch²]`, where differentiation ends.
    confidence: Tensor<2>,
}

/// Cuts attended patches: picture × confidence of a channel.
struct Cutter<'a> {
    confidence: Confidence<'a>,
    crops: &'a Crops,
    patch_px: usize,
    features: Option<&'a FeatureNetwork>,
}

impl Cutter<'_> {
    fn cut(&self, channel: usize, patches: &[Patch]) -> Cut {
        let starts: Vec<usize> =
            patches.iter().map(|patch| self.start_in_confidence(patch, channel)).collect();
        let mut values = Vec::with_capacity(patches.len() * self.patch_px * self.patch_px);
        for &start in &starts {
            self.rows(start).for_each(|row| values.extend_from_slice(&self.confidence.values[row]));
        }
        let data = TensorData::new(values, [patches.len(), self.patch_px * self.patch_px]);
        let confidence = Tensor::from_data(data, &crate::device::training()).require_grad();
        let picture_starts = patches.iter().map(|patch| self.start_in_picture(patch, 0)).collect();
        Cut { starts, picture_starts, confidence }
    }

    /// `[patches, channels × patch²]`, or `[patches, 32]` where a feature network looks at them.
    fn attended(&self, cut: &Cut) -> Tensor<2> {
        let (count, pixels, channels) =
            (cut.starts.len(), self.patch_px * self.patch_px, self.crops.channels);
        let picture = TensorData::new(self.picture_patches(cut), [count, channels, pixels]);
        let picture = Tensor::<3>::from_data(picture, &crate::device::training());
        let attended = picture * cut.confidence.clone().reshape([count, 1, pixels]);
        match self.features {
            None => attended.reshape([count, channels * pixels]),
            Some(features) => {
                features.forward_training(attended.reshape([count, channels, self.patch_px, self.patch_px]))
            }
        }
    }

    /// The colours of each patch, channel by channel.
    fn picture_patches(&self, cut: &Cut) -> Vec<f32> {
        let crops = self.crops;
        let plane = crops.height_px * crops.width_px;
        let mut values =
            Vec::with_capacity(cut.starts.len() * crops.channels * self.patch_px * self.patch_px);
        for start in &cut.picture_starts {
            for channel in 0..crops.channels {
                let rows = self.rows(start + channel * plane);
                rows.for_each(|row| values.extend_from_slice(&crops.values[row]));
            }
        }
        values
    }

    /// Patches may overlap: their gradients add up, in the order of the patches.
    fn add_back(&self, starts: &[usize], gradient: &[f32], sums: &mut [f32]) {
        let rows = starts.iter().flat_map(|&start| self.rows(start));
        for (row, gradient) in rows.zip(gradient.chunks_exact(self.patch_px)) {
            sums[row].iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
        }
    }

    /// Where a patch begins in the maps.
    fn start_in_confidence(&self, patch: &Patch, channel: usize) -> usize {
        self.start(patch, self.confidence.channels, channel)
    }

    /// Where a patch begins in the pictures.
    fn start_in_picture(&self, patch: &Patch, colour: usize) -> usize {
        self.start(patch, self.crops.channels, colour)
    }

    fn start(&self, patch: &Patch, planes: usize, plane: usize) -> usize {
        let Crops { height_px, width_px, .. } = *self.crops;
        ((patch.image * planes + plane) * height_px + patch.top_px) * width_px + patch.left_px
    }

    /// The rows of a patch in the map of a channel, and in a colour of the picture.
    fn both_rows(
        &self,
        patch: &Patch,
        channel: usize,
        colour: usize,
    ) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + use<> {
        let of_map = self.rows(self.start_in_confidence(patch, channel));
        of_map.zip(self.rows(self.start_in_picture(patch, colour)))
    }

    /// The rows of a patch that begins at `start`.
    fn rows(&self, start: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (patch_px, width_px) = (self.patch_px, self.crops.width_px);
        (0..patch_px).map(move |y| start + y * width_px..start + y * width_px + patch_px)
    }
}
