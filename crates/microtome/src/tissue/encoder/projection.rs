//! From a backbone's vectors to vectors of length 1 that differ in what tells tissue apart: the mean of all tissue is taken
//! off, and hand-made numbers, which have units of their own, are made independent of one another.

use microtome_kernels::kmeans::{Points, products};
use rayon::prelude::*;

/// Part of a value's variance that is added to it before values are made independent: noise is not blown up.
const RIDGE: f64 = 1e-4;

/// An affine map, and the length taken off.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// What is taken off, `[dimensions]`.
    pub mean: Vec<f32>,
    /// What the rest is multiplied with, `[dimensions][dimensions]`, a row for each value that comes out; none leaves it.
    pub matrix: Option<Vec<f32>>,
}

impl Projection {
    /// The mean of vectors is taken off.
    pub fn centring(vectors: &[f32], dimensions: usize) -> Self {
        let mean = mean(vectors, dimensions).into_iter().map(|value| value as f32).collect();
        Self { mean, matrix: None }
    }

    /// The values of vectors become independent and of the same variance: distances are those of Mahalanobis (1936).
    pub fn whitening(vectors: &[f32], dimensions: usize) -> Self {
        let mean = mean(vectors, dimensions);
        let mut covariance = vec![0.0; dimensions * dimensions];
        for vector in vectors.chunks_exact(dimensions) {
            let centred: Vec<f64> = vector.iter().zip(&mean).map(|(v, m)| f64::from(*v) - m).collect();
            for row in 0..dimensions {
                for column in 0..=row {
                    covariance[row * dimensions + column] += centred[row] * centred[column];
                }
            }
        }
        let count = (vectors.len() / dimensions).max(1) as f64;
        covariance.iter_mut().for_each(|value| *value /= count);
        let matrix = inverse_of_root(covariance, dimensions).into_iter().map(|value| value as f32).collect();
        Self { mean: mean.into_iter().map(|value| value as f32).collect(), matrix: Some(matrix) }
    }

    /// Vectors `[vectors][dimensions]` become those of length 1.
    pub fn apply(&self, vectors: &mut [f32]) {
        let dimensions = self.mean.len();
        vectors.par_chunks_exact_mut(dimensions).for_each(|vector| {
            vector.iter_mut().zip(&self.mean).for_each(|(value, mean)| *value -= mean);
        });
        if let Some(matrix) = &self.matrix {
            let projected = products(Points::new(vectors, dimensions), matrix);
            vectors.copy_from_slice(&projected);
        }
        normalise(vectors, dimensions);
    }
}

/// Vectors of length 1; one of length 0 stays.
pub fn normalise(vectors: &mut [f32], dimensions: usize) {
    vectors.par_chunks_exact_mut(dimensions).for_each(|vector| {
        let length = vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt();
        if length > 0.0 {
            vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
        }
    });
}

fn mean(vectors: &[f32], dimensions: usize) -> Vec<f64> {
    let mut sums = vec![0.0; dimensions];
    for vector in vectors.chunks_exact(dimensions) {
        sums.iter_mut().zip(vector).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let count = (vectors.len() / dimensions).max(1) as f64;
    sums.into_iter().map(|sum| sum / count).collect()
}

/// L⁻¹ where L·Lᵀ is the covariance (its lower triangle is read) with a ridge: what it is multiplied with is white. By
/// Cholesky's factorisation and forward substitution.
fn inverse_of_root(mut l: Vec<f64>, n: usize) -> Vec<f64> {
    for row in 0..n {
        // A value that never changes says nothing, and is divided by 1.
        let own = l[row * n + row];
        l[row * n + row] = if own > 0.0 { own * (1.0 + RIDGE) } else { 1.0 };
    }
    for row in 0..n {
        for column in 0..=row {
            let known: f64 = (0..column).map(|k| l[row * n + k] * l[column * n + k]).sum();
            let rest = l[row * n + column] - known;
            l[row * n + column] = if row == column {
                rest.max(f64::MIN_POSITIVE).sqrt()
            } else {
                rest / l[column * n + column]
            };
        }
    }
    let mut inverse = vec![0.0; n * n];
    for column in 0..n {
        for row in column..n {
            let one = f64::from(u8::from(row == column));
            let known: f64 = (column..row).map(|k| l[row * n + k] * inverse[k * n + column]).sum();
            inverse[row * n + column] = (one - known) / l[row * n + row];
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(count: usize) -> Vec<f32> {
        let mut state = 5u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..count)
            .flat_map(|_| {
                let (a, b, c) = (next(), next(), next());
                [a * 100.0 + 7.0, a * 50.0 + b * 40.0, b - c, 3.0]
            })
            .collect()
    }

    #[test]
    fn whitened_values_are_independent_and_of_variance_one() {
        let all = vectors(5000);
        let projection = Projection::whitening(&all, 4);
        let centred: Vec<f32> = all.iter().zip(projection.mean.iter().cycle()).map(|(v, m)| v - m).collect();
        let white = products(Points::new(&centred, 4), projection.matrix.as_ref().unwrap());
        for row in 0..4 {
            for column in 0..4 {
                let product: f64 =
                    white.chunks_exact(4).map(|v| f64::from(v[row]) * f64::from(v[column])).sum();
                let expected = f64::from(u8::from(row == column && row < 3));
                assert!((product / 5000.0 - expected).abs() < 5e-3, "{row} {column}: {}", product / 5000.0);
            }
        }
    }

    #[test]
    fn vectors_come_out_with_length_one() {
        let all = vectors(50);
        for projection in [Projection::whitening(&all, 4), Projection::centring(&all, 4)] {
            let mut own = all.clone();
            projection.apply(&mut own);
            for vector in own.chunks_exact(4) {
                let length: f32 = vector.iter().map(|value| value * value).sum();
                assert!((length - 1.0).abs() < 1e-5, "{length}");
            }
        }
        let mut zero = vec![0.0; 4];
        normalise(&mut zero, 4);
        assert_eq!(zero, [0.0; 4]);
    }
}
