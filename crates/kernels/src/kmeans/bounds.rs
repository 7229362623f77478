//! Who can have changed its cluster? Elkan's bounds (2003), one for each point and centroid.
//!
//! A point is at most so far from its own centroid, and at least so far from each other one; when centroids move, bounds move by as
//! much. While the one is below all of the others the point stays, and is not looked at. On 9,850 embeddings of real tiles
//! 15 % of the comparisons remain.
//!
//! Bounds are wide enough for the rounding of the products: whoever is not looked at would not have moved.

use super::{Move, Points, highest, squared_norm};
use crate::network::channels_last::gathered::{Columns, ROWS};
use rayon::prelude::*;

/// Points of a task. Fixed: moves come in the order of points.
const TASK: usize = 896;
/// Lanes that bounds are compared in.
const LANES: usize = 16;
/// Bounds that are kept at most, for 256 MiB; beyond it all points are compared each time.
const MOST: usize = 1 << 26;
/// By this, moved bounds give way for their own rounding.
const ROUNDING: f32 = 1e-6;

/// Bounds of all points.
pub(super) struct Bounds {
    /// Distance to the own centroid, at most.
    upper: Vec<f32>,
    /// `[points][clusters, filled up to whole lanes]`: distance to each centroid, at least. Empty where bounds are too many.
    lower: Vec<f32>,
    /// |x|² of each point.
    norms: Vec<f32>,
    largest_norm: f32,
}

/// What centroids are compared by.
struct Centroids {
    columns: Columns,
    /// −|c|²/2.
    halves: Vec<f32>,
    /// What the squared distance of a point may be wrong by, through rounding.
    error: f32,
}

impl Centroids {
    fn new(points: Points<'_>, centroids: &[f32], largest_norm: f32) -> Self {
        let norms = centroids.chunks_exact(points.dimensions).map(squared_norm);
        let halves: Vec<f32> = norms.map(|norm| -0.5 * norm).collect();
        let largest = halves.iter().fold(0.0f32, |most, half| most.max(-2.0 * half));
        // |x|² + |c|² − 2 x·c: the product of n terms is wrong by n·ε·|x||c| at most, the rest by less than four roundings.
        let roundings = 2.0 * points.dimensions as f32 + 8.0;
        let error = roundings * f32::EPSILON * (largest_norm + largest);
        Self { columns: Columns::new(centroids, points.dimensions), halves, error }
    }
}

impl Bounds {
    pub(super) fn new(points: Points<'_>, clusters: usize) -> Self {
        let norms: Vec<f32> = points.values.par_chunks_exact(points.dimensions).map(squared_norm).collect();
        let largest_norm = norms.iter().fold(0.0, |most: f32, norm| most.max(*norm));
        let all = points.len().saturating_mul(clusters.next_multiple_of(LANES));
        let lower = vec![f32::INFINITY; if all <= MOST { all } else { 0 }];
        Self { upper: vec![f32::INFINITY; points.len()], lower, norms, largest_norm }
    }

    /// Forgets what is known of a point, whose cluster changed by other means.
    pub(super) fn forget(&mut self, point: usize) {
        self.upper[point] = f32::INFINITY;
    }

    /// Puts each point into the cluster of its nearest centroid, once these moved by `shifts`; gives who left its cluster.
    pub(super) fn reassign(
        &mut self,
        points: Points<'_>,
        centroids: &[f32],
        shifts: &[f32],
        assignment: &mut [u32],
    ) -> Vec<Move> {
        let centroids = Centroids::new(points, centroids, self.largest_norm);
        let stride = if self.lower.is_empty() { 0 } else { shifts.len().next_multiple_of(LANES) };
        let mut padded = shifts.to_vec();
        padded.resize(stride, 0.0);
        let parts = self.upper.par_chunks_mut(TASK).zip(assignment.par_chunks_mut(TASK));
        let mut lower: Vec<&mut [f32]> = match stride {
            0 => (0..points.len().div_ceil(TASK)).map(|_| &mut [][..]).collect(),
            _ => self.lower.chunks_mut(TASK * stride).collect(),
        };
        let norms = &self.norms;
        let moves: Vec<Vec<Move>> = parts
            .zip(&mut lower)
            .enumerate()
            .map(|(task, ((upper, assignment), lower))| {
                let first = task * TASK;
                let mut part = Part { first, stride, upper, lower, assignment };
                let looked_at = part.doubtful(&padded, centroids.error);
                part.compare(points, &norms[first..], &centroids, &looked_at)
            })
            .collect();
        moves.into_iter().flatten().collect()
    }
}

/// Some points with their bounds.
struct Part<'a> {
    /// The number of the first.
    first: usize,
    stride: usize,
    upper: &'a mut [f32],
    lower: &'a mut [f32],
    assignment: &'a mut [u32],
}

impl Part<'_> {
    /// Moves the bounds; gives the points that may have changed their cluster.
    fn doubtful(&mut self, shifts: &[f32], error: f32) -> Vec<u32> {
        let mut doubtful = Vec::new();
        for (index, (upper, own)) in self.upper.iter_mut().zip(&*self.assignment).enumerate() {
            if self.stride == 0 {
                doubtful.push((self.first + index) as u32);
                continue;
            }
            let lower = &mut self.lower[index * self.stride..][..self.stride];
            *upper = (*upper + shifts[*own as usize]) * (1.0 + ROUNDING);
            // Its own bound says nothing.
            lower[*own as usize] = f32::INFINITY;
            let nearest = moved(lower, shifts);
            // Written so that what is not a number is looked at.
            let stays = nearest > 0.0 && nearest * nearest > *upper * *upper + 2.0 * error;
            if !stays {
                doubtful.push((self.first + index) as u32);
            }
        }
        doubtful
    }

    /// Compares points with all centroids.
    fn compare(
        &mut self,
        points: Points<'_>,
        norms: &[f32],
        centroids: &Centroids,
        looked_at: &[u32],
    ) -> Vec<Move> {
        let clusters = centroids.columns.count();
        let mut scores = vec![0.0; ROWS.min(looked_at.len()) * clusters];
        let mut moves = Vec::new();
        for rows in looked_at.chunks(ROWS) {
            centroids.columns.multiply(points.values, rows, &centroids.halves, &mut scores);
            for (row, scores) in rows.iter().zip(scores.chunks_exact(clusters)) {
                let (point, index) = (*row as usize, *row as usize - self.first);
                let to = highest(scores);
                let from = std::mem::replace(&mut self.assignment[index], to);
                if from != to {
                    moves.push(Move { point, from: Some(from), to });
                }
                if self.stride > 0 {
                    let squared = |score: &f32| norms[index] - 2.0 * score;
                    self.upper[index] =
                        (squared(&scores[to as usize]) + centroids.error).sqrt() * (1.0 + ROUNDING);
                    let lower = &mut self.lower[index * self.stride..][..clusters];
                    for (lower, score) in lower.iter_mut().zip(scores) {
                        *lower = (squared(score) - centroids.error).max(0.0).sqrt() * (1.0 - ROUNDING);
                    }
                }
            }
        }
        moves
    }
}

/// Takes the shifts off the bounds, and gives the least.
fn moved(lower: &mut [f32], shifts: &[f32]) -> f32 {
    let mut least = [f32::INFINITY; LANES];
    for (lower, shifts) in lower.as_chunks_mut::<LANES>().0.iter_mut().zip(shifts.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            lower[lane] = (lower[lane] - shifts[lane]) * (1.0 - ROUNDING);
            least[lane] = if lower[lane] < least[lane] { lower[lane] } else { least[lane] };
        }
    }
    least.into_iter().fold(f32::INFINITY, f32::min)
}
