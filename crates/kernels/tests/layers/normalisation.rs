//! Batch normalisation against its definition, and against automatic differentiation by hand.

use crate::{CASES, assert_close, assert_near, random_channels, random_pixels, values};
use microtome_kernels::network::channels_last::Activation;
use microtome_kernels::network::channels_last::normalisation::{
    Slope, gradient_sums_on, input_gradient_on, input_gradient_over_g, input_gradient_over_z, moments,
    moments_on, normalise, normalise_in_place, normalise_on,
};
use microtome_kernels::network::normalisation::{Affine, GradientTerms, Moments};
use microtome_kernels::network::vector::Path;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const EPSILON: f32 = 1e-5;

/// Mean and variance of a channel in double precision.
fn moments_of(z: &[f32], channels: usize, channel: usize) -> (f64, f64) {
    let of_channel = || z.iter().skip(channel).step_by(channels).map(|z| f64::from(*z));
    let count = of_channel().count().max(1) as f64;
    let mean = of_channel().sum::<f64>() / count;
    (mean, of_channel().map(|z| (z - mean).powi(2)).sum::<f64>() / count)
}

#[test]
fn moments_equal_their_definition_however_far_the_mean() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for case in 0..CASES {
        let channels = random_channels(&mut rng);
        let far = [0.0, 1.0, 1000.0][rng.random_range(0..3)];
        let pixels = random_pixels(&mut rng);
        let z: Vec<f32> = values(&mut rng, pixels * channels).iter().map(|z| z + far).collect();
        for path in Path::available() {
            for (channel, found) in moments_on(path, &z, channels).iter().enumerate() {
                let (mean, variance) = moments_of(&z, channels, channel);
                let what = format!("case {case} {pixels} × {channels} {}", path.name());
                // 300 additions of numbers of at most 2, in single precision from the first pixel on.
                assert_near(f64::from(found.mean), mean, 2e-6, &what);
                assert_near(f64::from(found.variance), variance, 5e-6, &what);
            }
        }
    }
}

#[test]
fn moments_of_more_than_one_block() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for channels in [1, 3, 64, 511] {
        let z: Vec<f32> = values(&mut rng, 200_000 / channels * channels).iter().map(|z| z + 100.0).collect();
        for (channel, found) in moments(&z, channels).iter().enumerate() {
            let (mean, variance) = moments_of(&z, channels, channel);
            assert_near(f64::from(found.mean), mean, 2e-6, "mean");
            assert_near(f64::from(found.variance), variance, 2e-5, "variance");
        }
    }
}

fn bent(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Elu => x.max(x.min(0.0).exp_m1()),
    }
}

fn slope_of(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => 1.0,
        Activation::Relu => f64::from(x > 0.0),
        Activation::Elu => x.min(0.0).exp(),
    }
}

struct Case {
    channels: usize,
    z: Vec<f32>,
    affine: Vec<Affine>,
    residual: Option<Vec<f32>>,
    activation: Activation,
}

impl Case {
    fn random(rng: &mut ChaCha8Rng) -> Self {
        let channels = random_channels(rng);
        let length = random_pixels(rng) * channels;
        let affine = |_| Affine { scale: rng.random_range(-2.0..2.0), shift: rng.random_range(-1.0..1.0) };
        let affine = (0..channels).map(affine).collect();
        let residual = rng.random_bool(0.5).then(|| values(rng, length));
        let activation = [Activation::None, Activation::Relu, Activation::Elu][rng.random_range(0..3)];
        Self { channels, z: values(rng, length), affine, residual, activation }
    }

    /// What goes into the activation.
    fn inner(&self, i: usize) -> f64 {
        let affine = self.affine[i % self.channels];
        let residual = self.residual.as_ref().map_or(0.0, |residual| f64::from(residual[i]));
        f64::from(affine.scale) * f64::from(self.z[i]) + f64::from(affine.shift) + residual
    }
}

#[test]
fn normalised_values_equal_their_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for number in 0..CASES {
        let case = Case::random(&mut rng);
        let expected: Vec<f64> = (0..case.z.len()).map(|i| bent(case.activation, case.inner(i))).collect();
        let residual = case.residual.as_deref();
        for path in Path::available() {
            let mut y = vec![f32::NAN; case.z.len()];
            normalise_on(path, &case.z, &case.affine, residual, case.activation, &mut y);
            // Three roundings of numbers of at most 4, and an exponential to 2 units in the last place.
            assert_close(&y, &expected, 1e-6, &format!("case {number} {}", path.name()));
        }
        let (mut y, mut in_place) = (vec![f32::NAN; case.z.len()], case.z.clone());
        normalise(&case.z, &case.affine, residual, case.activation, &mut y);
        normalise_in_place(&mut in_place, &case.affine, residual, case.activation);
        assert_eq!(y, in_place);
    }
}

#[test]
fn not_a_number_stays_so() {
    let affine = [Affine { scale: 1.0, shift: 0.0 }];
    for activation in [Activation::None, Activation::Relu, Activation::Elu] {
        for path in Path::available() {
            let mut y = [0.0; 21];
            normalise_on(path, &[f32::NAN; 21], &affine, None, activation, &mut y);
            assert!(y.iter().all(|y| y.is_nan()), "{activation:?} {}", path.name());
        }
    }
}

/// The gradients by the textbook, towards z, γ, β and the residual.
struct Expected {
    z: Vec<f64>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    residual: Vec<f64>,
}

fn expected_gradients(case: &Case, gradient: &[f32], moments: &[Moments], gamma: &[f32]) -> Expected {
    let g: Vec<f64> = (0..gradient.len())
        .map(|i| f64::from(gradient[i]) * slope_of(case.activation, case.inner(i)))
        .collect();
    let mut expected = Expected { z: vec![0.0; g.len()], gamma: vec![], beta: vec![], residual: g.clone() };
    for channel in 0..case.channels {
        let places = || (channel..g.len()).step_by(case.channels);
        let deviation = (f64::from(moments[channel].variance) + f64::from(EPSILON)).sqrt();
        let normal = |i: usize| (f64::from(case.z[i]) - f64::from(moments[channel].mean)) / deviation;
        let count = places().count().max(1) as f64;
        let sum: f64 = places().map(|i| g[i]).sum();
        let products: f64 = places().map(|i| g[i] * normal(i)).sum();
        for i in places() {
            expected.z[i] =
                f64::from(gamma[channel]) / deviation * (g[i] - sum / count - normal(i) * products / count);
        }
        expected.gamma.push(products);
        expected.beta.push(sum);
    }
    expected
}

/// The case with its own moments in its affine map; none where a variance would be rounding error.
fn training_case(rng: &mut ChaCha8Rng) -> Option<(Case, Vec<Moments>, Vec<f32>)> {
    let mut case = Case::random(rng);
    if case.z.len() < 8 * case.channels {
        return None;
    }
    let moments = moments(&case.z, case.channels);
    let gamma = values(rng, case.channels);
    for c in 0..case.channels {
        case.affine[c] = Affine::normalising(moments[c], gamma[c], case.affine[c].shift, EPSILON);
    }
    // A slope is not continuous at zero: keep away from it, so that rounding decides nothing.
    let near = (0..case.z.len()).any(|i| case.inner(i).abs() < 1e-5);
    (!near).then_some((case, moments, gamma))
}

#[test]
fn gradients_equal_their_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut checked = 0;
    while checked < CASES {
        let Some((case, moments, gamma)) = training_case(&mut rng) else { continue };
        checked += 1;
        let gradient = values(&mut rng, case.z.len());
        let expected = expected_gradients(&case, &gradient, &moments, &gamma);
        let mut y = vec![0.0; case.z.len()];
        normalise(&case.z, &case.affine, case.residual.as_deref(), case.activation, &mut y);
        let slope = match case.activation {
            Activation::None => Slope::One,
            Activation::Relu if case.residual.is_none() => Slope::ReluOfInput(&case.affine),
            Activation::Relu => Slope::Relu(&y),
            Activation::Elu => Slope::Elu(&y),
        };
        for path in Path::available() {
            let what = format!("{} × {} {:?} {}", case.z.len(), case.channels, case.activation, path.name());
            let mut g = gradient.clone();
            let sums = gradient_sums_on(path, &mut g, &case.z, case.channels, slope);
            let pixels = case.z.len() / case.channels;
            let terms: Vec<GradientTerms> = (0..case.channels)
                .map(|c| GradientTerms::new(sums[c], moments[c], gamma[c], EPSILON, pixels))
                .collect();
            let mut dz = vec![f32::NAN; g.len()];
            input_gradient_on(path, &g, &case.z, &terms, slope, &mut dz);
            // Sums of 300 terms of at most 1, divided by a deviation that 8 random values leave above 0.05.
            assert_close(&dz, &expected.z, 3e-5, &what);
            let gamma: Vec<f32> = terms.iter().map(|terms| terms.gamma).collect();
            let beta: Vec<f32> = terms.iter().map(|terms| terms.beta).collect();
            assert_close(&gamma, &expected.gamma, 3e-5, &what);
            assert_close(&beta, &expected.beta, 1e-5, &what);
            if !matches!(slope, Slope::ReluOfInput(_)) {
                // ELU's slope is y + 1, where y has lost what its own rounding lost: 1e-6 of 1.
                assert_close(&g, &expected.residual, 1e-6, &what);
            }
            if path == Path::best() {
                let (mut over_z, mut over_g) = (case.z.clone(), g.clone());
                input_gradient_over_z(&g, &mut over_z, &terms, slope);
                input_gradient_over_g(&mut over_g, &case.z, &terms, slope);
                assert!(over_z == dz && over_g == dz, "{what}");
            }
        }
    }
}

#[test]
fn asking_the_input_for_the_slope_gives_the_bytes_of_asking_the_output() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for _ in 0..CASES {
        let case = Case { residual: None, activation: Activation::Relu, ..Case::random(&mut rng) };
        let gradient = values(&mut rng, case.z.len());
        for path in Path::available() {
            let mut y = vec![0.0; case.z.len()];
            normalise_on(path, &case.z, &case.affine, None, Activation::Relu, &mut y);
            let mut g = gradient.clone();
            let by_output = gradient_sums_on(path, &mut g, &case.z, case.channels, Slope::Relu(&y));
            let mut untouched = gradient.clone();
            let slope = Slope::ReluOfInput(&case.affine);
            let by_input = gradient_sums_on(path, &mut untouched, &case.z, case.channels, slope);
            assert_eq!(by_output, by_input);
            assert_eq!(untouched, gradient);
        }
    }
}
