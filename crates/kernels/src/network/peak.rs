//! How many multiply-adds this machine does in registers: what the kernels' speeds are measured against.

#![allow(clippy::needless_range_loop)] // A closure would be compiled without the instruction set.

use super::vector::{Path, Vector, run_on};
use rayon::prelude::*;
use std::time::Instant;

/// Multiply-adds of one measurement, in rounds of 12 registers: about 10 ms.
const ROUNDS: usize = 2_000_000;

/// Floating-point operations a second of all threads together, a multiply-add counting two: the best of some short
/// measurements.
pub fn operations_a_second(path: Path) -> f64 {
    let threads = rayon::current_num_threads();
    let operations = (2 * 12 * ROUNDS * threads * path.lanes()) as f64;
    let measure = |_| {
        let start = Instant::now();
        (0..threads).into_par_iter().with_max_len(1).for_each(|_| multiply_add(path, ROUNDS));
        operations / start.elapsed().as_secs_f64()
    };
    (0..15).map(measure).fold(0.0, f64::max)
}

run_on!(fn multiply_add = multiply_add_kernel(rounds: usize));

/// # Safety
/// The instruction set of `V` must be there.
#[inline(always)]
unsafe fn multiply_add_kernel<V: Vector, const OUTPUTS: usize, const VECTORS: usize>(rounds: usize) {
    unsafe {
        let factor = V::splat(std::hint::black_box(0.5));
        let mut sums = [V::zero(); 12];
        for _ in 0..rounds {
            for i in 0..12 {
                sums[i] = factor.plus_product(sums[i], factor);
            }
        }
        for i in 0..12 {
            std::hint::black_box(sums[i].sum());
        }
    }
}
