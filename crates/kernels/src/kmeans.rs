//! k-means: seeding by k-means++ (Arthur & Vassilvitskii 2007, greedy as in scikit-learn) and Lloyd's iterations.
//!
//! The distances of points to centroids are a product of matrices, `x·c − |c|²/2`, whose maximum is the nearest centroid. [`bounds`]
//! know which points cannot have changed their cluster; these are not looked at. Sums are kept in double precision and
//! only the points that change their cluster move them. [`seeds`] are drawn in one pass over the points each.

mod bounds;
mod seeds;

use crate::network::channels_last::gathered::{Columns, ROWS};
use bounds::Bounds;
use rayon::prelude::*;

/// Values of a point that a task adds up. Fixed, so that no sum depends on the number of threads.
const SLICE: usize = 64;

/// Points, `[points][dimensions]`.
#[derive(Clone, Copy, Debug)]
pub struct Points<'a> {
    values: &'a [f32],
    dimensions: usize,
}

impl<'a> Points<'a> {
    /// # Panics
    /// When the values are not a whole number of points, or a point has no value.
    pub fn new(values: &'a [f32], dimensions: usize) -> Self {
        assert!(dimensions > 0 && values.len().is_multiple_of(dimensions), "a whole number of points");
        Self { values, dimensions }
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.values.len() / self.dimensions
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.values.is_empty()
    }

    /// Values of a point.
    pub fn dimensions(self) -> usize {
        self.dimensions
    }

    /// A point.
    pub fn get(self, index: usize) -> &'a [f32] {
        &self.values[index * self.dimensions..][..self.dimensions]
    }

    /// All points, one after the other.
    pub fn iter(self) -> impl Iterator<Item = &'a [f32]> {
        self.values.chunks_exact(self.dimensions)
    }
}

/// How clusters are looked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// K.
    pub clusters: usize,
    /// The most iterations; fewer when no point changes its cluster any more.
    pub most_iterations: usize,
    /// Whether centroids are kept at length 1, as for points of length 1 that are compared by their cosine.
    pub is_spherical: bool,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Clustering {
    /// `[clusters][dimensions]`.
    pub centroids: Vec<f32>,
    /// The cluster of each point.
    pub assignment: Vec<u32>,
    /// Sum of the squared distances of the points to their centroids.
    pub inertia: f64,
    /// Iterations that were done.
    pub iterations: usize,
}

/// Clusters from seeds that are drawn with `draw`, a source of numbers in 0..1.
///
/// # Panics
/// When there are fewer points than clusters, or no cluster.
pub fn k_means(points: Points<'_>, settings: Settings, draw: &mut dyn FnMut() -> f64) -> Clustering {
    assert!(settings.clusters > 0 && settings.clusters <= points.len(), "at most as many clusters as points");
    lloyd(points, seeds::drawn(points, settings.clusters, draw), settings)
}

/// Lloyd's iterations from given centroids, `[clusters][dimensions]`.
///
/// # Panics
/// When the centroids are not of the points' dimensions.
pub fn lloyd(points: Points<'_>, centroids: Vec<f32>, settings: Settings) -> Clustering {
    assert_eq!(centroids.len(), settings.clusters * points.dimensions, "a centroid for each cluster");
    let mut state = State::new(points, centroids, settings);
    let mut iterations = 0;
    while iterations < settings.most_iterations && state.iterate() {
        iterations += 1;
    }
    let (inertia, centroids) = (inertia(points, &state.centroids, &state.assignment), state.centroids);
    Clustering { centroids, assignment: state.assignment, inertia, iterations }
}

/// The nearest centroid of each point.
pub fn nearest(points: Points<'_>, centroids: &[f32]) -> Vec<u32> {
    let halves: Vec<f32> =
        centroids.chunks_exact(points.dimensions).map(|c| -0.5 * squared_norm(c)).collect();
    let clusters = halves.len();
    let mut assignment = vec![0; points.len()];
    multiplied(points, centroids, &halves, assignment.par_chunks_mut(ROWS), |scores, assignment| {
        let rows = scores.chunks_exact(clusters).zip(assignment);
        rows.for_each(|(scores, cluster)| *cluster = highest(scores));
    });
    assignment
}

/// `x·c` of each point and centroid, `[points][centroids]`.
pub fn products(points: Points<'_>, centroids: &[f32]) -> Vec<f32> {
    let clusters = centroids.len() / points.dimensions;
    let mut all = vec![0.0; points.len() * clusters];
    if clusters > 0 {
        let parts = all.par_chunks_mut(ROWS * clusters);
        multiplied(points, centroids, &vec![0.0; clusters], parts, |scores, all| all.copy_from_slice(scores));
    }
    all
}

/// Gives `take` the products of some points with all centroids, and the part that belongs to these points.
fn multiplied<T: Send>(
    points: Points<'_>,
    centroids: &[f32],
    bias: &[f32],
    parts: impl IndexedParallelIterator<Item = T>,
    take: impl Fn(&[f32], T) + Sync + Send,
) {
    let columns = Columns::new(centroids, points.dimensions);
    parts.enumerate().for_each_init(Vec::new, |scores, (task, part)| {
        let rows: Vec<u32> =
            (task * ROWS..points.len().min((task + 1) * ROWS)).map(|row| row as u32).collect();
        scores.resize(ROWS * columns.count(), 0.0);
        columns.multiply(points.values, &rows, bias, scores);
        take(&scores[..rows.len() * columns.count()], part);
    });
}

/// The place of the highest score, the first of several.
fn highest(scores: &[f32]) -> u32 {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = index;
        }
    }
    best as u32
}

struct State<'a> {
    points: Points<'a>,
    settings: Settings,
    centroids: Vec<f32>,
    assignment: Vec<u32>,
    bounds: Bounds,
    counts: Vec<usize>,
    /// `[clusters][dimensions]`.
    sums: Vec<f64>,
}

/// A point that leaves one cluster, if it had one, for another.
struct Move {
    point: usize,
    from: Option<u32>,
    to: u32,
}

impl<'a> State<'a> {
    fn new(points: Points<'a>, centroids: Vec<f32>, settings: Settings) -> Self {
        let (mut assignment, mut bounds) = (vec![0; points.len()], Bounds::new(points, settings.clusters));
        bounds.reassign(points, &centroids, &vec![0.0; settings.clusters], &mut assignment);
        let (counts, sums) = (vec![0; settings.clusters], vec![0.0; centroids.len()]);
        let mut state = Self { points, settings, centroids, assignment, bounds, counts, sums };
        let to = |(point, to): (usize, &u32)| Move { point, from: None, to: *to };
        let moves: Vec<Move> = state.assignment.iter().enumerate().map(to).collect();
        state.add(&moves);
        state
    }

    /// Moves the centroids to the means of their points and the points to their nearest centroids; gives whether anything
    /// changed.
    fn iterate(&mut self) -> bool {
        self.fill_empty();
        let shifts = self.move_centroids();
        let moves = self.bounds.reassign(self.points, &self.centroids, &shifts, &mut self.assignment);
        self.add(&moves);
        !moves.is_empty()
    }

    /// Moves the centroids to the means of their points; gives by how much, or by a little more.
    fn move_centroids(&mut self) -> Vec<f32> {
        let dimensions = self.points.dimensions;
        let means = self.centroids.chunks_exact_mut(dimensions).zip(self.sums.chunks_exact(dimensions));
        let shift = |((centroid, sums), count): ((&mut [f32], &[f64]), &usize)| {
            // No points that differ are left for it.
            if *count == 0 {
                return 0.0;
            }
            let length = match self.settings.is_spherical {
                true => sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt().max(f64::MIN_POSITIVE),
                false => *count as f64,
            };
            let mut squared = 0.0;
            for (value, sum) in centroid.iter_mut().zip(sums) {
                let new = (sum / length) as f32;
                squared += (f64::from(new) - f64::from(*value)).powi(2);
                *value = new;
            }
            (squared.sqrt() * (1.0 + 1e-6)) as f32
        };
        means.zip(&self.counts).map(shift).collect()
    }

    /// A cluster without points takes the point that is farthest from its own centroid, as in scikit-learn.
    fn fill_empty(&mut self) {
        let empty: Vec<usize> = (0..self.counts.len()).filter(|cluster| self.counts[*cluster] == 0).collect();
        if empty.is_empty() {
            return;
        }
        let distances = distances(self.points, &self.centroids, &self.assignment);
        let mut order: Vec<usize> = (0..distances.len()).collect();
        order.sort_by(|a, b| distances[*b].total_cmp(&distances[*a]).then(a.cmp(b)));
        for (cluster, point) in empty.into_iter().zip(order) {
            let from = self.assignment[point];
            if self.counts[from as usize] > 1 && distances[point] > 0.0 {
                self.assignment[point] = cluster as u32;
                self.bounds.forget(point);
                self.add(&[Move { point, from: Some(from), to: cluster as u32 }]);
            }
        }
    }

    fn add(&mut self, moves: &[Move]) {
        for one in moves {
            self.counts[one.to as usize] += 1;
            one.from.into_iter().for_each(|from| self.counts[from as usize] -= 1);
        }
        let (points, dimensions) = (self.points, self.points.dimensions);
        let mut slices: Vec<Vec<&mut [f64]>> = (0..dimensions.div_ceil(SLICE)).map(|_| Vec::new()).collect();
        for sums in self.sums.chunks_exact_mut(dimensions) {
            sums.chunks_mut(SLICE).zip(&mut slices).for_each(|(part, slice)| slice.push(part));
        }
        slices.par_iter_mut().enumerate().for_each(|(slice, sums)| {
            for one in moves {
                let values = points.get(one.point).chunks(SLICE).nth(slice).unwrap_or_default();
                let add = |sum: (&mut f64, &f32)| *sum.0 += f64::from(*sum.1);
                sums[one.to as usize].iter_mut().zip(values).for_each(add);
                if let Some(from) = one.from {
                    let subtract = |sum: (&mut f64, &f32)| *sum.0 -= f64::from(*sum.1);
                    sums[from as usize].iter_mut().zip(values).for_each(subtract);
                }
            }
        });
    }
}

/// Squared distance of each point to the centroid of its cluster.
pub fn distances(points: Points<'_>, centroids: &[f32], assignment: &[u32]) -> Vec<f64> {
    let all = points.values.par_chunks_exact(points.dimensions).zip(assignment);
    let centroid = |cluster: u32| &centroids[cluster as usize * points.dimensions..][..points.dimensions];
    all.map(|(point, cluster)| squared_distance(point, centroid(*cluster))).collect()
}

/// Sum of the squared distances of the points to the centroids of their clusters.
pub fn inertia(points: Points<'_>, centroids: &[f32], assignment: &[u32]) -> f64 {
    distances(points, centroids, assignment).iter().sum()
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    // Sums of sixteen lanes, which the compiler keeps in registers.
    let mut lanes = [0.0f32; 16];
    let (mut a, mut b) = (a.chunks_exact(16), b.chunks_exact(16));
    for (a, b) in a.by_ref().zip(b.by_ref()) {
        for lane in 0..16 {
            lanes[lane] += (a[lane] - b[lane]) * (a[lane] - b[lane]);
        }
    }
    let rest = a.remainder().iter().zip(b.remainder());
    let rest: f64 = rest.map(|(a, b)| f64::from(a - b) * f64::from(a - b)).sum();
    lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>() + rest
}

fn squared_norm(vector: &[f32]) -> f32 {
    vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in 0..1, by a linear congruence.
    fn source(mut state: u64) -> impl FnMut() -> f64 {
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    fn naive_lloyd(points: Points<'_>, mut centroids: Vec<f32>, settings: Settings) -> (Vec<f32>, Vec<u32>) {
        let d = points.dimensions();
        let assign = |centroids: &[f32]| -> Vec<u32> {
            let nearest = |point: &[f32]| {
                let distance = |k: &usize| -> f64 {
                    let c = &centroids[k * d..][..d];
                    point.iter().zip(c).map(|(a, b)| f64::from(a - b).powi(2)).sum()
                };
                (0..settings.clusters).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap() as u32
            };
            points.iter().map(nearest).collect()
        };
        let mut assignment = assign(&centroids);
        for _ in 0..settings.most_iterations {
            for k in 0..settings.clusters {
                let own: Vec<&[f32]> = points
                    .iter()
                    .zip(&assignment)
                    .filter(|(_, of)| **of == k as u32)
                    .map(|(p, _)| p)
                    .collect();
                if own.is_empty() {
                    continue;
                }
                let mean: Vec<f64> = (0..d)
                    .map(|j| own.iter().map(|p| f64::from(p[j])).sum::<f64>() / own.len() as f64)
                    .collect();
                let norm = mean.iter().map(|m| m * m).sum::<f64>().sqrt();
                let length = if settings.is_spherical { norm } else { 1.0 };
                (0..d).for_each(|j| centroids[k * d + j] = (mean[j] / length) as f32);
            }
            assignment = assign(&centroids);
        }
        (centroids, assignment)
    }

    #[test]
    fn iterations_are_those_of_the_naive_algorithm() {
        let mut compared = 0;
        for seed in 0..1000u64 {
            let mut draw = source(seed);
            let mut to = |most: f64| 1 + (draw() * most) as usize;
            let (count, dimensions) = (to(120.0), to(80.0));
            let clusters = to((count as f64 / 3.0).min(40.0)).min(count);
            let is_spherical = seed % 2 == 1;
            let mut values: Vec<f32> = (0..count * dimensions).map(|_| draw() as f32 - 0.3).collect();
            if is_spherical {
                values.chunks_exact_mut(dimensions).for_each(|point| {
                    let norm = squared_norm(point).sqrt();
                    point.iter_mut().for_each(|value| *value /= norm);
                });
            }
            let points = Points::new(&values, dimensions);
            let settings = Settings { clusters, most_iterations: 12, is_spherical };
            let start = seeds::drawn(points, clusters, &mut draw);
            let ours = lloyd(points, start.clone(), settings);
            let (centroids, assignment) = naive_lloyd(points, start, settings);
            // Where all clusters keep points; the naive algorithm does not fill empty ones.
            if (0..clusters as u32).any(|cluster| !assignment.contains(&cluster)) {
                continue;
            }
            compared += 1;
            let differing = ours.assignment.iter().zip(&assignment).filter(|(a, b)| a != b).count();
            assert_eq!(differing, 0, "seed {seed}: {count} points of {dimensions}, {clusters} clusters");
            // Means of at most 120 numbers below 1, once rounded.
            let error = ours.centroids.iter().zip(&centroids).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(error <= 1e-6, "seed {seed}: {error:e}");
        }
        assert!(compared >= 900, "{compared} compared");
    }

    #[test]
    fn well_separated_groups_are_found_from_any_seed() {
        let mut draw = source(7);
        let values: Vec<f32> = (0..600)
            .flat_map(|index| {
                let (x, y) = [(0.0, 0.0), (9.0, 0.0), (0.0, 9.0)][index % 3];
                [x + draw() as f32, y + draw() as f32]
            })
            .collect();
        for seed in 0..20 {
            let settings = Settings { clusters: 3, most_iterations: 50, is_spherical: false };
            let found = k_means(Points::new(&values, 2), settings, &mut source(seed));
            for (index, cluster) in found.assignment.iter().enumerate() {
                assert_eq!(*cluster, found.assignment[index % 3], "seed {seed}, point {index}");
            }
        }
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_number_of_threads() {
        let mut draw = source(3);
        let values: Vec<f32> = (0..5000 * 70).map(|_| draw() as f32).collect();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let settings = Settings { clusters: 13, most_iterations: 8, is_spherical: false };
            pool.install(|| k_means(Points::new(&values, 70), settings, &mut source(1)))
        };
        let one = run(1);
        for threads in [2, 3, 8, 16] {
            assert!(run(threads) == one, "{threads} threads");
        }
    }

    #[test]
    fn points_that_are_all_the_same_make_one_cluster_and_no_panic() {
        let values = vec![0.5; 40];
        let settings = Settings { clusters: 3, most_iterations: 10, is_spherical: false };
        let found = k_means(Points::new(&values, 4), settings, &mut source(1));
        assert_eq!(found.inertia, 0.0);
        assert!(found.centroids.iter().all(|value| value.is_finite()));
    }
}
