//! How sure a mean over pictures is: the percentile bootstrap of Efron 1979.
//!
//! Pictures are drawn, not nuclei, because nuclei of one picture share its stain and its organ. The draws
//! depend on the seed and on the number of pictures only, so that two metrics, and two methods on the same
//! pictures, meet the same resamples.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Resamples drawn for an interval.
pub const RESAMPLES: usize = 10_000;
/// Seed of the resamples.
pub const SEED: u64 = 20_230_208;
/// Share of the resampled means that an interval encloses.
pub const CONFIDENCE: f64 = 0.95;

/// A mean over pictures with its 95 % percentile interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Mean over the pictures.
    pub mean: f64,
    /// The 2.5th percentile of the resampled means.
    pub low: f64,
    /// The 97.5th percentile of the resampled means.
    pub high: f64,
}

/// Mean of one value a picture, with the 95 % percentile interval of [`RESAMPLES`] resamples; all zero
/// without values.
pub fn interval(values: &[f64]) -> Interval {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| resampled_mean(values, &mut random)).collect();
    means.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Interval { mean: mean(values), low: quantile(&means, tail), high: quantile(&means, 1.0 - tail) }
}

/// The value of a statistic of `count` pictures with its interval, as [`interval`]; the statistic is given the pictures
/// that were drawn. Fewer resamples, for statistics that cost more than a mean.
pub fn interval_of(count: usize, statistic: impl Fn(&[usize]) -> f64) -> Interval {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut drawn = || -> Vec<usize> { (0..count).map(|_| position_below(count, &mut random)).collect() };
    let mut values: Vec<f64> = (0..RESAMPLES / 10).map(|_| statistic(&drawn())).collect();
    values.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let all: Vec<usize> = (0..count).collect();
    Interval { mean: statistic(&all), low: quantile(&values, tail), high: quantile(&values, 1.0 - tail) }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn resampled_mean(values: &[f64], random: &mut ChaCha8Rng) -> f64 {
    let drawn = values.iter().filter_map(|_| values.get(position_below(values.len(), random)));
    drawn.sum::<f64>() / values.len().max(1) as f64
}

/// A position below `count`, by multiplying a 64-bit draw into the range: what is drawn is fixed here and not
/// by the version of a library. Its bias is below `count / 2^64`.
fn position_below(count: usize, random: &mut ChaCha8Rng) -> usize {
    ((u128::from(random.next_u64()) * count as u128) >> 64) as usize
}

/// Quantile of sorted values, linear between neighbours (definition 7 of Hyndman & Fan 1996).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * sorted.len().saturating_sub(1) as f64;
    let (below, fraction) = (position.floor() as usize, position.fract());
    let low = sorted.get(below).copied().unwrap_or(0.0);
    let high = sorted.get(below + 1).copied().unwrap_or(low);
    low + fraction * (high - low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_picture_has_an_interval_without_width() {
        assert_eq!(interval(&[0.5]), Interval { mean: 0.5, low: 0.5, high: 0.5 });
        assert_eq!(interval(&[]), Interval { mean: 0.0, low: 0.0, high: 0.0 });
    }

    #[test]
    fn the_interval_is_the_same_each_time_and_encloses_the_mean() {
        let values: Vec<f64> = (0..30).map(|index| (index as f64 * 0.37).fract()).collect();
        let first = interval(&values);
        assert_eq!(first, interval(&values));
        assert!(first.low < first.mean && first.mean < first.high);
    }

    #[test]
    fn quantiles_are_linear_between_neighbours() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!((quantile(&[1.0, 2.0], 0.0), quantile(&[1.0, 2.0], 1.0)), (1.0, 2.0));
    }

    #[test]
    fn positions_reach_both_ends_and_no_further() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let drawn: Vec<usize> = (0..1_000).map(|_| position_below(3, &mut random)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&0), Some(&2)));
    }
}
