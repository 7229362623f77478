//! Adam and AdamW against PyTorch's numbers, and against their definition.

use crate::{CASES, golden_adam as golden, random_pixels, values};
use microtome_kernels::network::adam::{Adam, Decay};
use microtome_kernels::network::vector::Path;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Runs the recorded gradients and compares parameter and moments with the recorded ones.
fn check_golden(adam: Adam, parameter: &[f32], first: &[f32], second: &[f32]) {
    let length = golden::PARAMETER.len();
    for path in Path::available() {
        let mut found = [golden::PARAMETER.to_vec(), vec![0.0; length], vec![0.0; length]];
        for (i, gradient) in golden::GRADIENTS.chunks(length).enumerate() {
            let [parameter, first, second] = &mut found;
            adam.step_on(path, i as u64 + 1, parameter, gradient, first, second);
        }
        for (found, expected) in found.iter().zip([parameter, first, second]) {
            for (found, expected) in found.iter().zip(expected) {
                // Fused multiply-adds round once where PyTorch may round twice, in each of five steps.
                let error = (found - expected).abs();
                assert!(error <= 1e-6 * expected.abs() + 1e-9, "{}: {found} for {expected}", path.name());
            }
        }
    }
}

#[test]
fn adam_gives_the_numbers_of_pytorch() {
    let adam = Adam { decay: Decay::Penalty(0.1), ..Adam::with_learning_rate(0.02) };
    check_golden(adam, &golden::ADAM_PARAMETER, &golden::ADAM_FIRST, &golden::ADAM_SECOND);
}

#[test]
fn adam_with_decoupled_decay_gives_the_numbers_of_pytorch() {
    let decay = Decay::Decoupled(0.1);
    let adam = Adam { beta1: 0.8, beta2: 0.95, epsilon: 1e-3, decay, ..Adam::with_learning_rate(0.02) };
    check_golden(adam, &golden::ADAMW_PARAMETER, &golden::ADAMW_FIRST, &golden::ADAMW_SECOND);
}

/// One step in double precision on one value.
fn step_of(adam: &Adam, number: u64, parameter: f64, gradient: f64, first: f64, second: f64) -> [f64; 3] {
    let (gradient, parameter) = match adam.decay {
        Decay::Penalty(factor) => (gradient + factor * parameter, parameter),
        Decay::Decoupled(factor) => (gradient, parameter * (1.0 - adam.learning_rate * factor)),
    };
    let first = adam.beta1 * first + (1.0 - adam.beta1) * gradient;
    let second = adam.beta2 * second + (1.0 - adam.beta2) * gradient * gradient;
    let corrected = |moment: f64, beta: f64| moment / (1.0 - beta.powf(number as f64));
    let root = corrected(second, adam.beta2).sqrt() + adam.epsilon;
    [parameter - adam.learning_rate * corrected(first, adam.beta1) / root, first, second]
}

#[test]
fn a_step_equals_its_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(31);
    for case in 0..CASES {
        let length = random_pixels(&mut rng);
        let factor = [0.0, 0.01, 0.5][rng.random_range(0..3)];
        let decay = if rng.random_bool(0.5) { Decay::Penalty(factor) } else { Decay::Decoupled(factor) };
        let adam = Adam { decay, ..Adam::with_learning_rate(rng.random_range(1e-4..0.5)) };
        let number = rng.random_range(1..=1000);
        let (parameter, gradient) = (values(&mut rng, length), values(&mut rng, length));
        let (first, second) = (values(&mut rng, length), values(&mut rng, length));
        let second: Vec<f32> = second.iter().map(|v| v.abs()).collect();
        for path in Path::available() {
            let mut found = [parameter.clone(), first.clone(), second.clone()];
            let [p, m, v] = &mut found;
            adam.step_on(path, number, p, &gradient, m, v);
            for i in 0..length {
                let old = [parameter[i], gradient[i], first[i], second[i]].map(f64::from);
                let new = step_of(&adam, number, old[0], old[1], old[2], old[3]);
                // A step length that bias corrections may make 100 times the learning rate, to a few roundings.
                let step = (new[0] - old[0]).abs();
                for (which, tolerance) in [1e-6 * (1.0 + step), 3e-7, 3e-7].into_iter().enumerate() {
                    let error = (f64::from(found[which][i]) - new[which]).abs();
                    assert!(
                        error <= tolerance,
                        "case {case} {}: {} off by {error}",
                        path.name(),
                        ["p", "m", "v"][which]
                    );
                }
            }
        }
    }
}
