//! Squared distances of all pairs of two sets of vectors, and their gradient.

#![allow(clippy::needless_range_loop)] // Loops over registers: a closure would be compiled without their instructions.

use super::lanes::{Lanes, for_lanes};
use super::vector::arithmetic::Arithmetic;
use super::vector::{Path, run_on};
use rayon::prelude::*;

/// Floats of each vector that a task takes: with ten vectors beside it, they stay in the first-level cache. Fixed, so
/// that no sum depends on the number of threads.
const SLICE: usize = 512;
/// Vectors of the first set that are compared at a time, each with a sum in a register.
const GROUP: usize = 5;

/// |aᵢ − bⱼ|² for `a` `[m, length]` and `b` `[n, length]`, as `[m, n]`.
///
/// # Panics
/// When a set is not a whole number of vectors, or a vector has no value.
pub fn squared_distances(a: &[f32], b: &[f32], length: usize) -> Vec<f32> {
    squared_distances_on(Path::best(), a, b, length)
}

/// [`squared_distances`] on a given path.
pub fn squared_distances_on(path: Path, a: &[f32], b: &[f32], length: usize) -> Vec<f32> {
    let (m, n) = (count(a, length), count(b, length));
    let of_b: Vec<Vec<f32>> = b
        .par_chunks_exact(length)
        .map(|b| {
            let mut distances = vec![0.0; m];
            for (a, distances) in a.chunks(GROUP * length).zip(distances.chunks_mut(GROUP)) {
                distance_group(path, a, b, distances);
            }
            distances
        })
        .collect();
    let mut distances = vec![0.0; m * n];
    for (j, of_b) in of_b.iter().enumerate() {
        of_b.iter().enumerate().for_each(|(i, distance)| distances[i * n + j] = *distance);
    }
    distances
}

/// Adds Σᵢⱼ gᵢⱼ · ∂|aᵢ − bⱼ|² to the gradients towards both sets; `g` is `[m, n]`.
///
/// # Panics
/// When lengths disagree.
pub fn add_gradient_of_squared_distances(
    [a, b]: [&[f32]; 2],
    length: usize,
    g: &[f32],
    [to_a, to_b]: [&mut [f32]; 2],
) {
    add_gradient_of_squared_distances_on(Path::best(), [a, b], length, g, [to_a, to_b]);
}

/// [`add_gradient_of_squared_distances`] on a given path.
pub fn add_gradient_of_squared_distances_on(
    path: Path,
    [a, b]: [&[f32]; 2],
    length: usize,
    g: &[f32],
    [to_a, to_b]: [&mut [f32]; 2],
) {
    let (m, n) = (count(a, length), count(b, length));
    assert_eq!(g.len(), m * n, "a factor for each pair");
    assert_eq!([to_a.len(), to_b.len()], [a.len(), b.len()], "gradients have their sets' lengths");
    let (mut to_a, mut to_b) = (slices(to_a, length), slices(to_b, length));
    to_a.par_iter_mut().zip(&mut to_b).enumerate().for_each(|(slice, (to_a, to_b))| {
        let range = slice * SLICE..length.min((slice + 1) * SLICE);
        for (j, to_b) in to_b.iter_mut().enumerate() {
            for (i, to_a) in to_a.iter_mut().enumerate() {
                let (a, b) = (&a[i * length..][range.clone()], &b[j * length..][range.clone()]);
                add_difference(path, a, b, 2.0 * g[i * n + j], to_a, to_b);
            }
        }
    });
}

fn count(vectors: &[f32], length: usize) -> usize {
    assert!(
        length > 0 && vectors.len().is_multiple_of(length),
        "a whole number of vectors of at least one value"
    );
    vectors.len() / length
}

/// For each slice of the vectors' values, that slice of every vector.
fn slices(vectors: &mut [f32], length: usize) -> Vec<Vec<&mut [f32]>> {
    let mut slices: Vec<Vec<&mut [f32]>> = (0..length.div_ceil(SLICE)).map(|_| Vec::new()).collect();
    for vector in vectors.chunks_exact_mut(length) {
        vector.chunks_mut(SLICE).zip(&mut slices).for_each(|(part, slice)| slice.push(part));
    }
    slices
}

run_on!(fn distance_group = distance_kernel(a: &[f32], b: &[f32], distances: &mut [f32]));
run_on!(fn add_difference = difference_kernel(
    a: &[f32], b: &[f32], factor: f32, to_a: &mut [f32], to_b: &mut [f32],
));

/// # Safety
/// The instruction set of `V` must be there; `a` holds as many vectors of `b`'s length as `distances`, at most
/// [`GROUP`].
#[inline(always)]
unsafe fn distance_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    a: &[f32],
    b: &[f32],
    distances: &mut [f32],
) {
    let last = distances.len() - 1;
    unsafe {
        let mut sums = [V::zero(); GROUP];
        for_lanes!(V, b.len(), |at, lanes| {
            let b_values: V = lanes.load(b.as_ptr().add(at));
            for i in 0..GROUP {
                let difference: V = lanes.load::<V>(a.as_ptr().add(i.min(last) * b.len() + at)).sub(b_values);
                sums[i] = sums[i].plus_product(difference, difference);
            }
        });
        for (i, distance) in distances.iter_mut().enumerate() {
            let mut lanes = [0.0f32; 16];
            sums[i].store(lanes.as_mut_ptr());
            *distance = lanes[..V::LANES].iter().sum();
        }
    }
}

/// Adds factor·(a − b) to one gradient and takes it from the other.
///
/// # Safety
/// The instruction set of `V` must be there, and the slices one length.
#[inline(always)]
unsafe fn difference_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    a: &[f32],
    b: &[f32],
    factor: f32,
    to_a: &mut [f32],
    to_b: &mut [f32],
) {
    unsafe {
        for_lanes!(V, a.len(), |at, lanes| {
            let difference: V = lanes.load::<V>(a.as_ptr().add(at)).sub(lanes.load(b.as_ptr().add(at)));
            let change = difference.mul(V::splat(factor));
            let (to_a, to_b) = (to_a.as_mut_ptr().add(at), to_b.as_mut_ptr().add(at));
            lanes.store(lanes.load::<V>(to_a).add(change), to_a);
            lanes.store(lanes.load::<V>(to_b).sub(change), to_b);
        });
    }
}
