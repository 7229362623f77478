//! Losses, their gradients and the sigmoid against their definitions in double precision.

use crate::{CASES, assert_close, assert_near, random_channels, random_pixels, values};
use microtome_kernels::network::entropy::binary_entropy_bits_on;
use microtome_kernels::network::loss::{
    UNLABELLED, binary_cross_entropy_on, labelled, sigmoid, sigmoid_gradient_on, sigmoid_in_place,
    sigmoid_on, soft_dice_on, softmax_cross_entropy_on, squared_error_on,
};
use microtome_kernels::network::vector::Path;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn sigmoid_of(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Logits of all sizes: near zero, ordinary, and where eˣ leaves single precision.
fn logits(rng: &mut ChaCha8Rng, length: usize) -> Vec<f32> {
    let size = [1.0, 10.0, 80.0, 1000.0][rng.random_range(0..4)];
    values(rng, length).iter().map(|x| x * size).collect()
}

#[test]
fn binary_cross_entropy_equals_its_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    for case in 0..CASES {
        let length = random_pixels(&mut rng);
        let x = logits(&mut rng, length);
        let t: Vec<f32> = values(&mut rng, length).iter().map(|t| t.abs()).collect();
        let weights = rng.random_bool(0.5).then(|| values(&mut rng, length));
        let scale = 1.0 / length.max(1) as f32;
        let (mut loss, mut magnitude, mut gradient) = (0.0, 0.0, vec![]);
        for i in 0..length {
            let weight = f64::from(scale) * weights.as_ref().map_or(1.0, |weights| f64::from(weights[i]));
            let (x, t) = (f64::from(x[i]), f64::from(t[i]));
            let term = weight * (x.max(0.0) - x * t + (-x.abs()).exp().ln_1p());
            loss += term;
            magnitude += term.abs();
            gradient.push(weight * (sigmoid_of(x) - t));
        }
        for path in Path::available() {
            let what = format!("case {case} {length} {}", path.name());
            let mut found = vec![f32::NAN; length];
            let value = binary_cross_entropy_on(path, &x, &t, weights.as_deref(), scale, &mut found);
            // A term to about 6 roundings of its parts (which reach |x|), and a few dozen additions.
            assert!((value - loss).abs() <= 2e-6 * (1.0 + magnitude), "{what}: {value} for {loss}");
            assert_close(&found, &gradient, 5e-7, &what);
        }
    }
}

#[test]
fn softmax_cross_entropy_equals_its_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(22);
    for case in 0..CASES {
        let (classes, pixels) = (rng.random_range(1..=12), random_pixels(&mut rng));
        let x = logits(&mut rng, pixels * classes);
        let labels: Vec<u8> = (0..pixels)
            .map(|_| if rng.random_bool(0.2) { UNLABELLED } else { rng.random_range(0..classes) as u8 })
            .collect();
        let scale = 1.0 / labelled(&labels).max(1) as f32;
        let (mut loss, mut magnitude, mut gradient) = (0.0, 0.0, vec![0.0; x.len()]);
        for (pixel, label) in labels.iter().enumerate().filter(|(_, label)| **label != UNLABELLED) {
            let logits = &x[pixel * classes..][..classes];
            let greatest = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
            let sum: f64 = logits.iter().map(|x| (f64::from(*x) - greatest).exp()).sum();
            loss += f64::from(scale) * (sum.ln() + greatest - f64::from(logits[usize::from(*label)]));
            magnitude += f64::from(scale) * greatest.abs();
            for class in 0..classes {
                let one = f64::from(u8::from(class == usize::from(*label)));
                let softmax = (f64::from(logits[class]) - greatest).exp() / sum;
                gradient[pixel * classes + class] = f64::from(scale) * (softmax - one);
            }
        }
        for path in Path::available() {
            let what = format!("case {case} {pixels} × {classes} {}", path.name());
            let mut found = vec![f32::NAN; x.len()];
            let value = softmax_cross_entropy_on(path, &x, &labels, classes, scale, &mut found);
            // The logarithm is added to the greatest logit and rounded there.
            assert!((value - loss).abs() <= 2e-6 * (1.0 + loss + magnitude), "{what}: {value} for {loss}");
            assert_close(&found, &gradient, 1e-6, &what);
        }
    }
}

#[test]
#[should_panic(expected = "labels are classes")]
fn a_label_that_is_no_class_panics() {
    softmax_cross_entropy_on(Path::best(), &[0.0; 6], &[0, 3], 3, 1.0, &mut [0.0; 6]);
}

#[test]
fn soft_dice_equals_its_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(23);
    for case in 0..CASES {
        let (channels, pixels) = (random_channels(&mut rng), random_pixels(&mut rng));
        let p: Vec<f32> = values(&mut rng, pixels * channels).iter().map(|p| p.abs()).collect();
        let t: Vec<f32> = (0..p.len()).map(|_| f32::from(rng.random_range(0..2u8))).collect();
        let (smoothing, scale) = ([0.0, 1.0][rng.random_range(0..2)], 1.0 / channels as f32);
        let (mut loss, mut gradient) = (0.0, vec![0.0; p.len()]);
        for channel in 0..channels {
            let places = || (channel..p.len()).step_by(channels);
            let both: f64 = places().map(|i| f64::from(p[i]) * f64::from(t[i])).sum();
            let either: f64 = places().map(|i| f64::from(p[i]) + f64::from(t[i])).sum();
            let (above, below) = (2.0 * both + f64::from(smoothing), either + f64::from(smoothing));
            if below > 0.0 {
                loss += f64::from(scale) * (1.0 - above / below);
            }
            for i in places() {
                gradient[i] = -f64::from(scale) * (2.0 * f64::from(t[i]) * below - above) / below / below;
            }
        }
        for path in Path::available() {
            let what = format!("case {case} {pixels} × {channels} {}", path.name());
            let mut found = vec![f32::NAN; p.len()];
            let value = soft_dice_on(path, &p, &t, channels, smoothing, scale, &mut found);
            // Sums of positive numbers to a few roundings; up to one pixel's 1/p of a gradient.
            assert_near(value, loss, 2e-6, &what);
            assert_close(&found, &gradient, 5e-6, &what);
        }
    }
}

#[test]
fn squared_errors_equal_their_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(24);
    for case in 0..CASES {
        let length = random_pixels(&mut rng);
        let (x, t) = (values(&mut rng, length), values(&mut rng, length));
        let scale = 1.0 / length.max(1) as f32;
        let difference = |i: usize| f64::from(x[i]) - f64::from(t[i]);
        let loss: f64 = (0..length).map(|i| difference(i).powi(2) * f64::from(scale)).sum();
        let gradient: Vec<f64> = (0..length).map(|i| 2.0 * f64::from(scale) * difference(i)).collect();
        for path in Path::available() {
            let what = format!("case {case} {length} {}", path.name());
            let mut found = vec![f32::NAN; length];
            assert_near(squared_error_on(path, &x, &t, scale, &mut found), loss, 2e-6, &what);
            assert_close(&found, &gradient, 2e-7, &what);
        }
    }
}

/// Distance in units in the last place of the expected number, where that is normal.
fn units_off(found: f32, expected: f64) -> f64 {
    let unit = f64::from(f32::EPSILON) * 2f64.powi(expected.abs().log2().floor() as i32);
    (f64::from(found) - expected).abs() / unit
}

#[test]
fn sigmoids_are_within_four_units_in_the_last_place() {
    let x: Vec<f32> = (-860_000..1_000_000).map(|i| i as f32 * 1e-4).collect();
    for path in Path::available() {
        let mut y = vec![f32::NAN; x.len()];
        sigmoid_on(path, &x, &mut y);
        for (x, y) in x.iter().zip(&y) {
            let units = units_off(*y, sigmoid_of(f64::from(*x)));
            assert!(units <= 4.0, "{}: sigmoid({x}) = {y}, {units} units off", path.name());
        }
        let mut edges = [0.0; 5];
        sigmoid_on(path, &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, 0.0], &mut edges);
        assert!(edges[0].is_nan() && edges[1] == 1.0 && edges[3] == 1.0 && edges[4] == 0.5);
        assert!((0.0..2e-38).contains(&edges[2]));
    }
}

#[test]
fn gradients_of_sigmoids() {
    let mut rng = ChaCha8Rng::seed_from_u64(25);
    for _ in 0..CASES {
        let length = random_pixels(&mut rng);
        let x = values(&mut rng, length);
        let (mut y, mut in_place) = (vec![f32::NAN; length], x.clone());
        sigmoid(&x, &mut y);
        sigmoid_in_place(&mut in_place);
        assert_eq!(y, in_place);
        let gradient = values(&mut rng, length);
        let slope = |x: f32| sigmoid_of(f64::from(x)) * (1.0 - sigmoid_of(f64::from(x)));
        let expected: Vec<f64> = (0..length).map(|i| f64::from(gradient[i]) * slope(x[i])).collect();
        for path in Path::available() {
            let mut found = gradient.clone();
            sigmoid_gradient_on(path, &y, &mut found);
            // The sigmoid's own error and three roundings.
            assert_close(&found, &expected, 5e-7, path.name());
        }
    }
}

#[test]
fn binary_entropy_equals_its_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(27);
    let bits = |p: f64| if p > 0.0 { p * p.log2().max(-100.0) } else { 0.0 };
    for case in 0..CASES {
        let length = random_pixels(&mut rng);
        let mut p: Vec<f32> = values(&mut rng, length).iter().map(|p| p.abs().min(1.0)).collect();
        // Decided ones too: both ends, and what is next to nothing.
        for (place, value) in p.iter_mut().zip([0.0, 1.0, 1e-45, 1e-38, 1e-20, 1.0 - 6e-8]) {
            *place = value;
        }
        let expected: Vec<f64> =
            p.iter().map(|&p| -(bits(f64::from(p)) + bits(f64::from(1.0 - p)))).collect();
        for path in Path::available() {
            let mut found = vec![f32::NAN; length];
            binary_entropy_bits_on(path, &p, &mut found);
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let difference = (f64::from(*found) - expected).abs();
                assert!(difference <= 1e-6, "case {case} {path:?}: {i} {} {found} {expected}", p[i]);
            }
        }
    }
}
