//! k-means from several beginnings among a sample of the tiles, and how far each cluster is to be trusted.

use super::Quality;
use crate::context::Context;
use microtome_kernels::kmeans::{Clustering, Points, Settings, k_means, nearest};
use microtome_nets::random::{Purpose, stream};
use microtome_vault::{Error, Result};
use rand::Rng;
use std::collections::BTreeSet;

/// Iterations of k-means, at most.
const MOST_ITERATIONS: usize = 100;
/// Samples with replacement that clusters are looked for in again.
const BOOTSTRAPS: usize = 10;

fn rng(seed: u64, number: u64) -> impl FnMut() -> f64 {
    let mut random = stream(seed, Purpose::Clusters, number);
    move || random.random::<f64>()
}

/// `most` of the points at most, spread evenly.
fn sample(points: Points<'_>, most: usize) -> Vec<f32> {
    let count = points.len().min(most);
    (0..count).flat_map(|index| points.get(index * points.len() / count)).copied().collect()
}

/// The best of several beginnings, among a sample of the points.
pub(in crate::tissue) fn found(
    points: Points<'_>,
    count: usize,
    restarts: usize,
    most: usize,
    seed: u64,
    context: &Context<'_>,
) -> Result<Clustering> {
    let sample = sample(points, most.max(count));
    let sample = Points::new(&sample, points.dimensions());
    let settings = Settings { clusters: count, most_iterations: MOST_ITERATIONS, is_spherical: true };
    let mut best: Option<Clustering> = None;
    context.progress().begin("clusters", restarts);
    for restart in 0..restarts {
        context.check_cancelled()?;
        let next = k_means(sample, settings, &mut rng(seed, restart as u64));
        if best.as_ref().is_none_or(|best| next.inertia < best.inertia) {
            best = Some(next);
        }
        context.progress().advance(restart + 1, "");
    }
    context.progress().end();
    best.ok_or_else(|| Error::bug("no clusters were looked for"))
}

pub(super) fn cosines(points: Points<'_>, centroids: &[f32], assignment: &[u32]) -> Vec<f32> {
    let of = |(point, cluster): (&[f32], &u32)| -> f32 {
        let centroid = &centroids[*cluster as usize * points.dimensions()..][..points.dimensions()];
        point.iter().zip(centroid).map(|(a, b)| a * b).sum()
    };
    points.iter().zip(assignment).map(of).collect()
}

/// For each cluster the mean over bootstraps of the largest Jaccard index with a cluster of the bootstrap.
pub(in crate::tissue) fn stability(
    points: Points<'_>,
    found: &Clustering,
    most: usize,
    seed: u64,
    context: &Context<'_>,
) -> Result<Vec<f64>> {
    let count = found.centroids.len() / points.dimensions();
    let sample = sample(points, most.max(count));
    let sample = Points::new(&sample, points.dimensions());
    let own = nearest(sample, &found.centroids);
    let settings = Settings { clusters: count, most_iterations: MOST_ITERATIONS / 4, is_spherical: true };
    let mut sums = vec![0.0; count];
    context.progress().begin("stability of the clusters", BOOTSTRAPS);
    for bootstrap in 0..BOOTSTRAPS {
        context.check_cancelled()?;
        let mut draw = rng(seed, 1_000 + bootstrap as u64);
        let drawn: Vec<f32> = (0..sample.len())
            .flat_map(|_| sample.get(((draw() * sample.len() as f64) as usize).min(sample.len() - 1)))
            .copied()
            .collect();
        let again = k_means(Points::new(&drawn, points.dimensions()), settings, &mut draw);
        let other = nearest(sample, &again.centroids);
        for (sum, best) in sums.iter_mut().zip(best_jaccard(&own, &other, count)) {
            *sum += best;
        }
        context.progress().advance(bootstrap + 1, "");
    }
    context.progress().end();
    Ok(sums.into_iter().map(|sum| sum / BOOTSTRAPS as f64).collect())
}

/// For each cluster of the first partition the largest Jaccard index with a cluster of the second.
fn best_jaccard(first: &[u32], second: &[u32], count: usize) -> Vec<f64> {
    let mut both = vec![0usize; count * count];
    let (mut of_first, mut of_second) = (vec![0usize; count], vec![0usize; count]);
    for (a, b) in first.iter().zip(second) {
        both[*a as usize * count + *b as usize] += 1;
        of_first[*a as usize] += 1;
        of_second[*b as usize] += 1;
    }
    let jaccard = |a: usize, b: usize| {
        let shared = both[a * count + b];
        shared as f64 / (of_first[a] + of_second[b] - shared).max(1) as f64
    };
    (0..count).map(|a| (0..count).map(|b| jaccard(a, b)).fold(0.0, f64::max)).collect()
}

/// What is said of each cluster; `stability` is known of those that were looked for among all tiles.
pub(super) fn qualities(
    assignment: &[u32],
    cosine: &[f32],
    tiles_of_slide: &[usize],
    stability: &[Option<f64>],
) -> Vec<Quality> {
    let slide_of_tile =
        tiles_of_slide.iter().enumerate().flat_map(|(slide, count)| std::iter::repeat_n(slide, *count));
    let mut slides = vec![BTreeSet::new(); stability.len()];
    let mut sums = vec![(0usize, 0.0f64); stability.len()];
    for ((cluster, cosine), slide) in assignment.iter().zip(cosine).zip(slide_of_tile) {
        let cluster = *cluster as usize;
        slides[cluster].insert(slide);
        sums[cluster].0 += 1;
        sums[cluster].1 += f64::from(*cosine);
    }
    let each = sums.into_iter().zip(slides).zip(stability);
    each.map(|(((tiles, sum), slides), stability)| Quality {
        tiles,
        slides: slides.len(),
        compactness: sum / tiles.max(1) as f64,
        stability: *stability,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_its_own_best_match_and_half_a_cluster_is_half_found() {
        let first = [0, 0, 0, 0, 1, 1, 2, 2];
        assert_eq!(best_jaccard(&first, &first, 3), [1.0; 3]);
        let renamed = [2, 2, 2, 2, 0, 0, 1, 1];
        assert_eq!(best_jaccard(&first, &renamed, 3), [1.0; 3]);
        let split = [0, 0, 1, 1, 2, 2, 2, 2];
        assert_eq!(best_jaccard(&first, &split, 3), [0.5, 0.5, 0.5]);
    }
}
