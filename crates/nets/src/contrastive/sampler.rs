//! The five samplers: which patches are positive, which negative. All draws are with replacement.

use super::patches::{Grid, Patch, PatchStatistics};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// How patches are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampler {
    /// The paper's: a patch with probability ∝ max(1 − entropy, 0.001), positive with probability its mean.
    Entropy,
    /// Positives and negatives uniformly.
    Uniform,
    /// w = (mean / highest mean)^α; positives ∝ w/Σw, negatives ∝ (1 − w/Σw).
    Probabilistic {
        /// Exponent α.
        alpha: f32,
    },
    /// w = mean^α with one more pseudo-patch of value 1; draws of that sentinel are discarded.
    ProbabilisticSentinel {
        /// Exponent α.
        alpha: f32,
    },
    /// Positives uniformly among the k patches of highest mean, negatives among the others.
    TopK {
        /// How many patches are at the top.
        k: usize,
    },
}

/// Patches drawn in a batch, for each channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draws {
    /// Positive patches, for each channel.
    pub positives: Vec<Vec<Patch>>,
    /// Negative patches, for each channel.
    pub negatives: Vec<Vec<Patch>>,
}

impl Draws {
    /// Whether each channel has a positive and a negative; a batch where one lacks either is skipped.
    pub fn complete(&self) -> bool {
        self.positives.iter().chain(&self.negatives).all(|patches| !patches.is_empty())
    }
}

/// Draws `count` patches for each picture and channel; `statistics` holds channels within pictures.
pub fn draw(
    sampler: Sampler,
    statistics: &[PatchStatistics],
    channels: usize,
    grid: Grid,
    count: usize,
    random: &mut ChaCha8Rng,
) -> Draws {
    let mut draws = Draws { positives: vec![Vec::new(); channels], negatives: vec![Vec::new(); channels] };
    for (plane, statistics) in statistics.iter().enumerate() {
        let (image, channel) = (plane / channels, plane % channels);
        let (positives, negatives) = draw_plane(sampler, statistics, count, random);
        let patches = |indices: Vec<usize>| indices.into_iter().filter_map(move |i| grid.patch(image, i));
        draws.positives[channel].extend(patches(positives));
        draws.negatives[channel].extend(patches(negatives));
    }
    draws
}

/// Indices of positives and of negatives.
fn draw_plane(
    sampler: Sampler,
    statistics: &PatchStatistics,
    count: usize,
    random: &mut ChaCha8Rng,
) -> (Vec<usize>, Vec<usize>) {
    let mean = &statistics.mean;
    match sampler {
        Sampler::Entropy => by_entropy(statistics, count, random),
        Sampler::Uniform => {
            let mut uniform = || (0..count).map(|_| random.random_range(0..mean.len())).collect();
            (uniform(), uniform())
        }
        Sampler::Probabilistic { alpha } => {
            let highest = mean.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
            let weights: Vec<f32> = mean.iter().map(|m| (m / highest).powf(alpha)).collect();
            by_weights(&weights, count, random)
        }
        Sampler::ProbabilisticSentinel { alpha } => {
            let with_sentinel = mean.iter().chain(std::iter::once(&1.0));
            let weights: Vec<f32> = with_sentinel.map(|m| m.powf(alpha)).collect();
            by_weights(&weights, count, random)
        }
        Sampler::TopK { k } => by_rank(mean, k, count, random),
    }
}

fn by_entropy(
    statistics: &PatchStatistics,
    count: usize,
    random: &mut ChaCha8Rng,
) -> (Vec<usize>, Vec<usize>) {
    let weights: Vec<f32> = statistics.entropy.iter().map(|h| (1.0 - h).max(0.001)).collect();
    let drawn = Cumulative::new(&weights).draw(count, random);
    // A patch has one sense in a batch, however often it is drawn.
    let positive: Vec<bool> = statistics.mean.iter().map(|&mean| random.random::<f32>() < mean).collect();
    drawn.into_iter().partition(|&index| positive[index])
}

fn by_weights(weights: &[f32], count: usize, random: &mut ChaCha8Rng) -> (Vec<usize>, Vec<usize>) {
    let sum: f32 = weights.iter().sum();
    let share = |weight: f32| if sum > 0.0 { weight / sum } else { 1.0 / weights.len() as f32 };
    let positive: Vec<f32> = weights.iter().map(|&weight| share(weight)).collect();
    // The published code divides by count − 1 too, which makes them sum to 1 and changes no draw.
    let negative: Vec<f32> = positive.iter().map(|p| 1.0 - p).collect();
    let positives = Cumulative::new(&positive).draw(count, random);
    (positives, Cumulative::new(&negative).draw(count, random))
}

fn by_rank(mean: &[f32], k: usize, count: usize, random: &mut ChaCha8Rng) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..mean.len()).collect();
    order.sort_by(|&a, &b| mean[b].total_cmp(&mean[a]));
    let (top, rest) = order.split_at(k.min(order.len()));
    let mut uniform = |from: &[usize]| match from.len() {
        0 => Vec::new(),
        length => (0..count).map(|_| from[random.random_range(0..length)]).collect(),
    };
    (uniform(top), uniform(rest))
}

/// Draws by weight: a uniform number is looked up among the running sums.
struct Cumulative(Vec<f64>);

impl Cumulative {
    fn new(weights: &[f32]) -> Self {
        let running = weights.iter().scan(0.0, |sum, &weight| {
            *sum += f64::from(weight.max(0.0));
            Some(*sum)
        });
        Self(running.collect())
    }

    fn draw(&self, count: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
        let Some(&total) = self.0.last().filter(|total| **total > 0.0) else { return Vec::new() };
        let mut one = || {
            let target = random.random::<f64>() * total;
            self.0.partition_point(|&sum| sum <= target).min(self.0.len() - 1)
        };
        (0..count).map(|_| one()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const GRID: Grid = Grid { patch_px: 1, stride_px: 1, height_px: 2, width_px: 4 };
    const COUNT: usize = 40_000;

    /// How often each patch was drawn as positive and as negative, as shares of `COUNT`.
    fn shares(sampler: Sampler, mean: [f32; 8], entropy: [f32; 8]) -> ([f64; 8], [f64; 8]) {
        let statistics = PatchStatistics { mean: mean.into(), entropy: entropy.into() };
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let (positives, negatives) = draw_plane(sampler, &statistics, COUNT, &mut random);
        let share = |drawn: &[usize]| {
            std::array::from_fn(|i| drawn.iter().filter(|&&d| d == i).count() as f64 / COUNT as f64)
        };
        (share(&positives), share(&negatives))
    }

    fn assert_near(found: [f64; 8], expected: [f64; 8]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 0.01, "{found} for {expected}");
        }
    }

    const MEAN: [f32; 8] = [0.1, 0.2, 0.3, 0.4, 0.1, 0.2, 0.3, 0.4];

    #[test]
    fn entropy_prefers_certain_patches_and_parts_them_by_their_mean() {
        let mean = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0];
        let entropy = [0.0, 0.0, 1.0, 1.0, 0.5, 0.5, 1.0, 1.0];
        let (positives, negatives) = shares(Sampler::Entropy, mean, entropy);
        assert_near(positives, [1.0 / 3.0, 0.0, 0.0, 0.0, 1.0 / 6.0, 0.0, 0.0, 0.0]);
        assert_near(negatives, [0.0, 1.0 / 3.0, 0.0, 0.0, 0.0, 1.0 / 6.0, 0.0, 0.0]);
    }

    #[test]
    fn uniform_draws_each_patch_as_often() {
        let (positives, negatives) = shares(Sampler::Uniform, MEAN, [0.0; 8]);
        assert_near(positives, [0.125; 8]);
        assert_near(negatives, [0.125; 8]);
    }

    #[test]
    fn probabilistic_draws_by_mean_and_by_its_complement() {
        let (positives, negatives) = shares(Sampler::Probabilistic { alpha: 1.0 }, MEAN, [0.0; 8]);
        assert_near(positives, MEAN.map(|m| f64::from(m) / 2.0));
        assert_near(negatives, MEAN.map(|m| (1.0 - f64::from(m) / 2.0) / 7.0));
        let (squared, _) = shares(Sampler::Probabilistic { alpha: 2.0 }, MEAN, [0.0; 8]);
        assert_near(squared, MEAN.map(|m| f64::from(m * m) / 0.6));
    }

    #[test]
    fn the_sentinel_takes_its_share_and_is_discarded() {
        let sampler = Sampler::ProbabilisticSentinel { alpha: 1.0 };
        let (positives, negatives) = shares(sampler, MEAN, [0.0; 8]);
        assert_near(positives, MEAN.map(|m| f64::from(m) / 3.0));
        assert_near(negatives, MEAN.map(|m| (1.0 - f64::from(m) / 3.0) / 8.0));
        let statistics = vec![PatchStatistics { mean: MEAN.into(), entropy: vec![0.0; 8] }];
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let draws = draw(sampler, &statistics, 1, GRID, 1000, &mut random);
        assert!(draws.positives[0].len() < 600, "a third is the sentinel, the last row is dropped");
    }

    #[test]
    fn top_k_parts_the_highest_from_the_rest() {
        let (positives, negatives) = shares(Sampler::TopK { k: 2 }, MEAN, [0.0; 8]);
        assert_near(positives, [0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.5]);
        assert_near(negatives, [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0].map(|share| share / 6.0));
    }

    #[test]
    fn hopeless_statistics_draw_nothing_or_something_and_never_panic() {
        for value in [0.0, 1.0, f32::NAN] {
            let statistics = vec![PatchStatistics { mean: vec![value; 8], entropy: vec![value; 8] }];
            for sampler in [
                Sampler::Entropy,
                Sampler::Uniform,
                Sampler::Probabilistic { alpha: 1.0 },
                Sampler::ProbabilisticSentinel { alpha: 1.0 },
                Sampler::TopK { k: 50 },
            ] {
                draw(sampler, &statistics, 1, GRID, 10, &mut ChaCha8Rng::seed_from_u64(1));
            }
        }
    }
}
