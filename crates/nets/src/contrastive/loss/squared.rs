//! The loss with minus the mean squared error as similarity, and its gradient, in closed form.
//!
//! With s = −|a − b|² / D the loss of a channel is Σ_a [ −Σ_p s(a,p) + P · log Σ_q e^{s(a,q)} ] over its anchors a and
//! its P positives p, for each set of repelled patches q. Hence ∂/∂s(a,p) = −1 and ∂/∂s(a,q) = P · e^{s(a,q)} / Σ_q.

use super::{Cutter, Loss};
use crate::contrastive::ContrastiveConfig;
use crate::contrastive::patches::Patch;
use crate::contrastive::sampler::Draws;
use microtome_kernels::network::distance::{add_gradient_of_squared_distances, squared_distances};
use rayon::prelude::*;

/// Attended patches of one channel and parity, and the gradient towards them: `[patches, channels × patch²]`.
struct Attended {
    values: Vec<f32>,
    gradient: Vec<f32>,
}

impl Attended {
    fn new(values: Vec<f32>) -> Self {
        Self { gradient: vec![0.0; values.len()], values }
    }
}

pub(super) fn loss(
    cutter: &Cutter<'_>,
    draws: &Draws,
    anchors: &[Vec<usize>],
    config: &ContrastiveConfig,
) -> Loss {
    let attend = |parity: &[Vec<Patch>]| -> Vec<Attended> {
        let of_channel = |(channel, patches)| Attended::new(attended(cutter, channel, patches));
        parity.iter().map(Vec::as_slice).enumerate().map(of_channel).collect()
    };
    let (mut positives, mut negatives) = (attend(&draws.positives), attend(&draws.negatives));
    let scale = 1.0 / (config.anchors * config.anchors * cutter.crops.images) as f64;
    let length = cutter.crops.channels * config.patch_px * config.patch_px;
    let inter = if positives.len() > 1 { f64::from(config.inter_weight) } else { 0.0 };
    let mut total = 0.0;
    for channel in 0..positives.len() {
        let mut contrast = Contrast::new(&positives[channel], &anchors[channel], length, scale);
        total += contrast.attract(&mut positives[channel], 1.0 + inter);
        total += contrast.repel(&mut [&mut negatives[channel]], 1.0);
        if inter != 0.0 {
            let others = positives.iter_mut().enumerate().filter(|(other, _)| *other != channel);
            let mut others: Vec<&mut Attended> = others.map(|(_, attended)| attended).collect();
            total += contrast.repel(&mut others, inter);
        }
        contrast.give_back(&mut positives[channel], &anchors[channel]);
    }
    let mut confidence = vec![0.0; cutter.confidence.values.len()];
    for (patches, attended) in [(&draws.positives, &positives), (&draws.negatives, &negatives)] {
        for (channel, (patches, attended)) in patches.iter().zip(attended).enumerate() {
            add_back(cutter, channel, patches, attended, &mut confidence);
        }
    }
    Loss { value: total as f32, confidence, features: None }
}

/// The anchors of a channel, and the gradient towards them.
struct Contrast {
    anchors: Attended,
    positives: usize,
    length: usize,
    scale: f64,
}

impl Contrast {
    fn new(positives: &Attended, anchors: &[usize], length: usize, scale: f64) -> Self {
        let patch = |&index: &usize| &positives.values[index * length..(index + 1) * length];
        let anchors = Attended::new(anchors.iter().flat_map(patch).copied().collect());
        Self { anchors, positives: positives.values.len() / length, length, scale }
    }

    /// −weight · Σ s(a, p).
    fn attract(&mut self, positives: &mut Attended, weight: f64) -> f64 {
        let distances = squared_distances(&self.anchors.values, &positives.values, self.length);
        let sum: f64 = distances.iter().map(|&distance| f64::from(distance)).sum();
        let factor = weight * self.scale / self.length as f64;
        self.add_gradient(positives, &vec![factor as f32; distances.len()]);
        factor * sum
    }

    /// weight · P · Σ_a log Σ_q e^{s(a,q)} over the patches q of all sets.
    fn repel(&mut self, sets: &mut [&mut Attended], weight: f64) -> f64 {
        let rows = self.anchors.values.len() / self.length;
        let factor = weight * self.scale * self.positives as f64;
        let similarities: Vec<Vec<f64>> = sets
            .iter()
            .map(|set| {
                let distances = squared_distances(&self.anchors.values, &set.values, self.length);
                distances.iter().map(|&distance| -f64::from(distance) / self.length as f64).collect()
            })
            .collect();
        let logarithms: Vec<f64> = (0..rows)
            .map(|a| log_sum_of_exponentials(|| similarities.iter().flat_map(|of_set| row(of_set, rows, a))))
            .collect();
        for (set, of_set) in sets.iter_mut().zip(&similarities) {
            let factors: Vec<f32> = (0..rows)
                .flat_map(|a| row(of_set, rows, a).iter().map(move |s| (s, a)))
                .map(|(s, a)| (-factor * (s - logarithms[a]).exp() / self.length as f64) as f32)
                .collect();
            self.add_gradient(set, &factors);
        }
        factor * logarithms.iter().sum::<f64>()
    }

    fn add_gradient(&mut self, set: &mut Attended, factors: &[f32]) {
        let values = [&self.anchors.values[..], &set.values];
        let gradients = [&mut self.anchors.gradient[..], &mut set.gradient];
        add_gradient_of_squared_distances(values, self.length, factors, gradients);
    }

    /// Anchors are positives: adds the gradient towards them, in their order.
    fn give_back(&self, positives: &mut Attended, anchors: &[usize]) {
        for (&index, gradient) in anchors.iter().zip(self.anchors.gradient.chunks_exact(self.length)) {
            let to = &mut positives.gradient[index * self.length..(index + 1) * self.length];
            to.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
        }
    }
}

/// Row `index` of a matrix of `rows` rows.
fn row(matrix: &[f64], rows: usize, index: usize) -> &[f64] {
    let columns = matrix.len() / rows;
    &matrix[index * columns..(index + 1) * columns]
}

/// log Σ eˢ; the highest is taken out, so that very unlike patches do not all underflow.
fn log_sum_of_exponentials<'a, I: Iterator<Item = &'a f64>>(all: impl Fn() -> I) -> f64 {
    let highest = all().copied().fold(f64::NEG_INFINITY, f64::max);
    all().map(|s| (s - highest).exp()).sum::<f64>().ln() + highest
}

/// Picture × confidence of each patch.
fn attended(cutter: &Cutter<'_>, channel: usize, patches: &[Patch]) -> Vec<f32> {
    let pixels = cutter.patch_px * cutter.patch_px;
    let length = cutter.crops.channels * pixels;
    let mut values = vec![0.0; patches.len() * length];
    values.par_chunks_exact_mut(length).zip(patches).for_each(|(values, patch)| {
        for (colour, values) in values.chunks_exact_mut(pixels).enumerate() {
            let rows = values.chunks_exact_mut(cutter.patch_px).zip(cutter.both_rows(patch, channel, colour));
            for (values, (confidence, picture)) in rows {
                let factors = cutter.confidence.values[confidence].iter().zip(&cutter.crops.values[picture]);
                values.iter_mut().zip(factors).for_each(|(value, (p, x))| *value = p * x);
            }
        }
    });
    values
}

/// Adds Σ over colours of picture · gradient to the confidence's gradient. Patches may overlap: they are added in their
/// order.
fn add_back(cutter: &Cutter<'_>, channel: usize, patches: &[Patch], attended: &Attended, sums: &mut [f32]) {
    let pixels = cutter.patch_px * cutter.patch_px;
    let length = cutter.crops.channels * pixels;
    for (patch, gradient) in patches.iter().zip(attended.gradient.chunks_exact(length)) {
        for (colour, gradient) in gradient.chunks_exact(pixels).enumerate() {
            let rows = gradient.chunks_exact(cutter.patch_px).zip(cutter.both_rows(patch, channel, colour));
            for (gradient, (to, picture)) in rows {
                let products = gradient.iter().zip(&cutter.crops.values[picture]);
                sums[to].iter_mut().zip(products).for_each(|(sum, (g, x))| *sum += g * x);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Confidence, Crops, composed, draw_anchors};
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn uniform(random: &mut ChaCha8Rng, length: usize) -> Vec<f32> {
        (0..length).map(|_| random.random()).collect()
    }

    /// `count` patches of 4 px for each output, in pictures of 12 px.
    fn patches(random: &mut ChaCha8Rng, images: usize, outputs: usize, count: usize) -> Vec<Vec<Patch>> {
        let mut patch = |_| {
            let (top_px, left_px) = (random.random_range(0..8), random.random_range(0..8));
            Patch { image: random.random_range(0..images), top_px, left_px }
        };
        (0..outputs).map(|_| (0..count).map(&mut patch).collect()).collect()
    }

    #[test]
    fn the_closed_form_equals_the_composition() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        for case in 0..60 {
            let (images, outputs, side) = (random.random_range(1..4), random.random_range(1..4), 12);
            let pictures = uniform(&mut random, images * 3 * side * side);
            let crops = Crops { images, channels: 3, height_px: side, width_px: side, values: pictures };
            let values = uniform(&mut random, images * outputs * side * side);
            let confidence = Confidence { channels: outputs, values: &values };
            let draws = Draws {
                positives: patches(&mut random, images, outputs, 1 + case % 7),
                negatives: patches(&mut random, images, outputs, 1 + case % 5),
            };
            let inter_weight = [1.0, 0.0, 0.3][case % 3];
            let config =
                ContrastiveConfig { patch_px: 4, anchors: 3, inter_weight, ..ContrastiveConfig::paper() };
            let anchors = draw_anchors(&draws, config.anchors, &mut random);
            let cutter = Cutter { confidence, crops: &crops, patch_px: 4, features: None };
            let found = loss(&cutter, &draws, &anchors, &config);
            let expected = composed(&cutter, &draws, &anchors, &config);
            assert!((found.value - expected.value).abs() <= 1e-5 * (1.0 + expected.value.abs()), "{case}");
            let largest = expected.confidence.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            for (found, expected) in found.confidence.iter().zip(&expected.confidence) {
                assert!((found - expected).abs() <= 1e-5 * largest, "{case}: {found} for {expected}");
            }
        }
    }
}
