//! The layers whose channels come last, the losses and the optimisers, each against a naive reference in double
//! precision, on random shapes, on every path of this processor.

mod adam;
mod distances;
#[path = "../golden/adam.rs"]
mod golden_adam;
mod losses;
mod normalisation;
mod pooling;
mod threads;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

const CASES: usize = 1_000;

fn values(rng: &mut ChaCha8Rng, length: usize) -> Vec<f32> {
    (0..length).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Now and then one channel, or as many as a register has, or an odd number.
fn random_channels(rng: &mut ChaCha8Rng) -> usize {
    match rng.random_range(0..4) {
        0 => [1, 8, 16, 64][rng.random_range(0..4)],
        _ => rng.random_range(1..=40),
    }
}

/// Now and then nothing or one pixel.
fn random_pixels(rng: &mut ChaCha8Rng) -> usize {
    match rng.random_range(0..8) {
        0 => rng.random_range(0..=1),
        _ => rng.random_range(2..=300),
    }
}

fn assert_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_near(f64::from(*found), *expected, tolerance, &format!("{what}[{i}]"));
    }
}

fn assert_near(found: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (found - expected).abs();
    assert!(error <= tolerance * (1.0 + expected.abs()), "{what}: {found} for {expected}");
}
