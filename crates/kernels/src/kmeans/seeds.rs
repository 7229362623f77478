//! Seeds by greedy k-means++: each is drawn with a probability proportional to its squared distance to the nearest seed so
//! far, the best of several draws.
//!
//! Candidates are few, so that a panel of products would be mostly empty: here registers run along the vectors, and the
//! points are read once for all candidates, at the speed of memory.

#![allow(unsafe_code)] // Vector registers are read through pointers; the kernel asserts its bounds.
#![allow(clippy::needless_range_loop)] // A closure would be compiled without the vector instructions.

use super::{Points, squared_norm};
use crate::network::vector::{Path, Vector, run_on};
use rayon::prelude::*;

/// Points of a task. Fixed, so that no sum depends on the number of threads.
const TASK: usize = 512;
/// Points that are multiplied together.
const PAIR: usize = 2;
/// Candidates that are multiplied together: with two points and their products they fit 16 registers.
const TOGETHER: usize = 6;

/// What is known of the points while seeds are drawn.
struct Drawing<'a> {
    path: Path,
    points: Points<'a>,
    /// |x|² of each point.
    norms: Vec<f32>,
    /// Squared distance of each point to its nearest seed.
    nearest: Vec<f32>,
    /// Their sum in each task.
    sums: Vec<f64>,
}

/// Points as seeds, `[clusters][dimensions]`.
pub(super) fn drawn(points: Points<'_>, clusters: usize, draw: &mut dyn FnMut() -> f64) -> Vec<f32> {
    let tries = 2 + (clusters as f64).ln() as usize;
    let norms: Vec<f32> = points.values.par_chunks_exact(points.dimensions).map(squared_norm).collect();
    let first = ((draw() * points.len() as f64) as usize).min(points.len() - 1);
    let nearest = vec![f32::INFINITY; points.len()];
    let sums = vec![0.0; points.len().div_ceil(TASK)];
    let mut drawing = Drawing { path: Path::best(), points, norms, nearest, sums };
    let (distances, _) = drawing.to_candidates(&[first]);
    drawing.take(&distances, 1, 0);
    let mut seeds = points.get(first).to_vec();
    while seeds.len() < clusters * points.dimensions {
        let candidates: Vec<usize> = (0..tries).map(|_| drawing.draw(draw())).collect();
        let (distances, potentials) = drawing.to_candidates(&candidates);
        let best =
            (0..tries).fold(0, |best, next| if potentials[next] < potentials[best] { next } else { best });
        drawing.take(&distances, tries, best);
        seeds.extend_from_slice(points.get(candidates[best]));
    }
    seeds
}

impl Drawing<'_> {
    /// The point at which the running sum of the squared distances passes `share` of their total.
    fn draw(&self, share: f64) -> usize {
        let wanted = share * self.sums.iter().sum::<f64>();
        let mut before = 0.0;
        for (task, sum) in self.sums.iter().enumerate() {
            if before + sum > wanted {
                let own = self.nearest.iter().enumerate().skip(task * TASK).take(TASK);
                for (point, distance) in own {
                    before += f64::from(*distance);
                    if before > wanted {
                        return point;
                    }
                }
            } else {
                before += sum;
            }
        }
        // All points are seeds already, or the same.
        ((share * self.nearest.len() as f64) as usize).min(self.nearest.len() - 1)
    }

    /// Squared distances of all points to some of them, `[points][candidates]`, and for each candidate the sum of the distances to
    /// the nearest seed, were it one.
    fn to_candidates(&self, candidates: &[usize]) -> (Vec<f32>, Vec<f64>) {
        let (points, count) = (self.points, candidates.len());
        let mut distances = vec![0.0; points.len() * count];
        let tasks = distances.par_chunks_mut(TASK * count).enumerate();
        let potentials: Vec<Vec<f64>> = tasks
            .map(|(task, distances)| {
                let first = task * TASK;
                let own = &points.values[first * points.dimensions..];
                for (group, candidates) in candidates.chunks(TOGETHER).enumerate() {
                    let mut columns = [&[][..]; TOGETHER];
                    columns.iter_mut().zip(candidates).for_each(|(column, of)| *column = points.get(*of));
                    multiply(
                        self.path,
                        own,
                        &columns[..candidates.len()],
                        group * TOGETHER,
                        count,
                        distances,
                    );
                }
                let mut potentials = vec![0.0; count];
                for (index, row) in distances.chunks_exact_mut(count).enumerate() {
                    let point = first + index;
                    for ((distance, candidate), sum) in row.iter_mut().zip(candidates).zip(&mut potentials) {
                        let squared = self.norms[point] + self.norms[*candidate] - 2.0 * *distance;
                        *distance = if point == *candidate { 0.0 } else { squared.max(0.0) };
                        *sum += f64::from(distance.min(self.nearest[point]));
                    }
                }
                potentials
            })
            .collect();
        let mut sums = vec![0.0; count];
        for potentials in potentials {
            sums.iter_mut().zip(potentials).for_each(|(sum, own)| *sum += own);
        }
        (distances, sums)
    }

    /// Makes a candidate a seed.
    fn take(&mut self, distances: &[f32], candidates: usize, best: usize) {
        let parts = self.nearest.par_chunks_mut(TASK).zip(distances.par_chunks(TASK * candidates));
        parts.zip(&mut self.sums).for_each(|((nearest, distances), sum)| {
            let own = distances.chunks_exact(candidates).map(|distances| distances[best]);
            nearest.iter_mut().zip(own).for_each(|(nearest, own)| *nearest = nearest.min(own));
            *sum = nearest.iter().copied().map(f64::from).sum();
        });
    }
}

run_on!(fn multiply = multiply_kernel(
    points: &[f32],
    columns: &[&[f32]],
    first: usize,
    stride: usize,
    products: &mut [f32],
));

/// `products[point][first + column] = Σ points[point][k] · columns[column][k]`, `stride` products a point.
///
/// # Safety
/// The instruction set of `V` must be there.
#[inline(always)]
unsafe fn multiply_kernel<V: Vector, const OUTPUTS: usize, const VECTORS: usize>(
    points: &[f32],
    columns: &[&[f32]],
    first: usize,
    stride: usize,
    products: &mut [f32],
) {
    let dimensions = columns[0].len();
    let pairs = products.chunks_mut(PAIR * stride).zip(points.chunks(PAIR * dimensions));
    for (products, points) in pairs {
        // A last point without another is multiplied twice.
        let other = if products.len() > stride { &points[dimensions..] } else { points };
        let sums = unsafe {
            match columns.len() {
                1 => pair::<V, 1>([points, other], columns),
                2 => pair::<V, 2>([points, other], columns),
                3 => pair::<V, 3>([points, other], columns),
                4 => pair::<V, 4>([points, other], columns),
                5 => pair::<V, 5>([points, other], columns),
                _ => pair::<V, TOGETHER>([points, other], columns),
            }
        };
        for (products, sums) in products.chunks_exact_mut(stride).zip(sums) {
            products[first..first + columns.len()].copy_from_slice(&sums[..columns.len()]);
        }
    }
}

/// The products of two points with some columns.
///
/// # Safety
/// As for `multiply_kernel`.
#[inline(always)]
unsafe fn pair<V: Vector, const COLUMNS: usize>(
    points: [&[f32]; PAIR],
    columns: &[&[f32]],
) -> [[f32; TOGETHER]; PAIR] {
    let dimensions = columns[0].len();
    assert!(points.iter().all(|point| point.len() >= dimensions) && columns.len() == COLUMNS);
    assert!(columns.iter().all(|column| column.len() == dimensions));
    // SAFETY: loads end within the dimensions, which all points and columns have.
    unsafe {
        let mut sums = [[V::zero(); COLUMNS]; PAIR];
        let mut k = 0;
        while k < dimensions {
            let own = [part::<V>(points[0], k, dimensions), part::<V>(points[1], k, dimensions)];
            for c in 0..COLUMNS {
                let column = part::<V>(columns[c], k, dimensions);
                sums[0][c] = sums[0][c].plus_product(own[0], column);
                sums[1][c] = sums[1][c].plus_product(own[1], column);
            }
            k += V::LANES;
        }
        let mut totals = [[0.0; TOGETHER]; PAIR];
        for p in 0..PAIR {
            for c in 0..COLUMNS {
                totals[p][c] = sums[p][c].sum();
            }
        }
        totals
    }
}

/// A register of a vector from `k` on, zero beyond its end.
///
/// # Safety
/// The instruction set of `V` must be there; the vector has `dimensions` values.
#[inline(always)]
unsafe fn part<V: Vector>(vector: &[f32], k: usize, dimensions: usize) -> V {
    unsafe {
        let from = vector.as_ptr().add(k);
        if k + V::LANES <= dimensions { V::load(from) } else { V::load_first(from, dimensions - k) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_to_candidates_are_those_of_the_naive_sum() {
        let mut state = 1u32;
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.4
        };
        let cases = [(1, 1, 1), (7, 3, 2), (600, 17, 5), (1025, 48, 7), (33, 130, 13)];
        let paths = Path::available();
        for (path, (count, dimensions, candidates)) in
            paths.iter().flat_map(|path| cases.map(|case| (*path, case)))
        {
            let values: Vec<f32> = (0..count * dimensions).map(|_| draw()).collect();
            let points = Points::new(&values, dimensions);
            let candidates: Vec<usize> = (0..candidates).map(|index| index * 5 % count).collect();
            let norms = points.iter().map(squared_norm).collect();
            let nearest: Vec<f32> = (0..count).map(|index| index as f32 % 3.0).collect();
            let drawing = Drawing { path, points, norms, nearest: nearest.clone(), sums: Vec::new() };
            let (distances, potentials) = drawing.to_candidates(&candidates);
            for (at, candidate) in candidates.iter().enumerate() {
                let mut potential = 0.0;
                for point in 0..count {
                    let both = points.get(point).iter().zip(points.get(*candidate));
                    let naive: f64 = both.map(|(a, b)| f64::from(a - b).powi(2)).sum();
                    let found = f64::from(distances[point * candidates.len() + at]);
                    // Of up to 130 numbers below 1, in single precision.
                    assert!((found - naive).abs() <= 1e-4, "{found} {naive}");
                    potential += naive.min(f64::from(nearest[point]));
                }
                assert!((potential - potentials[at]).abs() <= 1e-4 * count as f64);
            }
        }
    }

    #[test]
    fn points_are_drawn_as_often_as_they_are_far() {
        let values = vec![0.0; 1100];
        let points = Points::new(&values, 1);
        let mut nearest = vec![0.0; 1100];
        (nearest[3], nearest[700], nearest[1099]) = (1.0, 2.0, 1.0);
        let sums = nearest.chunks(TASK).map(|part| part.iter().map(|d| f64::from(*d)).sum()).collect();
        let drawing = Drawing { path: Path::best(), points, norms: Vec::new(), nearest, sums };
        let found: Vec<usize> =
            [0.0, 0.24, 0.26, 0.74, 0.76, 0.999].map(|share| drawing.draw(share)).to_vec();
        assert_eq!(found, [3, 3, 700, 700, 1099, 1099]);
    }
}
