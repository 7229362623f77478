//! Each kernel of the small networks against a naive reference, on random shapes, on every path of this processor.

use microtome_kernels::Size;
use microtome_kernels::network::convolution::{
    Convolution, Epilogue, convolve, convolve_on, input_gradient, weight_gradient, weight_gradient_on,
};
use microtome_kernels::network::normalisation::{Affine, affine_elu, backward, moments};
use microtome_kernels::network::{Planes, vector::Path};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CASES: usize = 1_000;

fn values(rng: &mut ChaCha8Rng, length: usize) -> Vec<f32> {
    (0..length).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn random_layer(rng: &mut ChaCha8Rng) -> (Planes, Convolution) {
    let layer = Convolution {
        inputs: rng.random_range(1..=9),
        outputs: rng.random_range(1..=17),
        kernel: [1, 3][rng.random_range(0..2)],
        dilation: [1, 2, 3, 5, 10, 20][rng.random_range(0..6)],
    };
    let size = Size::new(rng.random_range(0..=70), rng.random_range(0..=40));
    (Planes { images: rng.random_range(0..=3), channels: layer.inputs, size }, layer)
}

/// Calls `visit(output index, input index, weight index)` for each product of the convolution.
fn for_each_product(shape: Planes, layer: Convolution, mut visit: impl FnMut(usize, usize, usize)) {
    let (width, height) = (shape.size.width_px as isize, shape.size.height_px as isize);
    let half = layer.kernel as isize / 2;
    for image in 0..shape.images {
        for output in 0..layer.outputs {
            for input in 0..layer.inputs {
                for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                    for (ky, kx) in (-half..=half).flat_map(|ky| (-half..=half).map(move |kx| (ky, kx))) {
                        let (sy, sx) = (y + ky * layer.dilation as isize, x + kx * layer.dilation as isize);
                        if sy < 0 || sy >= height || sx < 0 || sx >= width {
                            continue;
                        }
                        let at = |channels: usize, channel: usize, y: isize, x: isize| {
                            (((image * channels + channel) as isize * height + y) * width + x) as usize
                        };
                        let tap = (ky + half) as usize * layer.kernel + (kx + half) as usize;
                        visit(
                            at(layer.outputs, output, y, x),
                            at(layer.inputs, input, sy, sx),
                            (output * layer.inputs + input) * layer.kernel * layer.kernel + tap,
                        );
                    }
                }
            }
        }
    }
}

fn assert_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        assert!(error <= tolerance * (1.0 + expected.abs()), "{what}[{i}]: {found} for {expected}");
    }
}

#[test]
fn convolutions_equal_the_sum_of_products() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for case in 0..CASES {
        let (shape, layer) = random_layer(&mut rng);
        let (input, weight) = (values(&mut rng, shape.len()), values(&mut rng, layer.weights()));
        let mut expected = vec![0.0; shape.with_channels(layer.outputs).len()];
        for_each_product(shape, layer, |o, i, w| expected[o] += f64::from(input[i]) * f64::from(weight[w]));
        for path in Path::available() {
            let found = convolve_on(path, &input, shape, &weight, layer, Epilogue::None);
            // 9 × 9 inputs of at most 1: rounding of 81 additions.
            assert_close(
                &found,
                &expected,
                1e-5,
                &format!("case {case} {} {shape:?} {layer:?}", path.name()),
            );
        }
    }
}

#[test]
fn gradients_of_convolutions_equal_the_sum_of_products() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for case in 0..CASES {
        let (shape, layer) = random_layer(&mut rng);
        let gradient_shape = shape.with_channels(layer.outputs);
        let input = values(&mut rng, shape.len());
        let weight = values(&mut rng, layer.weights());
        let gradient = values(&mut rng, gradient_shape.len());
        let mut to_input = vec![0.0; input.len()];
        let mut to_weight = vec![0.0; weight.len()];
        for_each_product(shape, layer, |o, i, w| {
            to_input[i] += f64::from(gradient[o]) * f64::from(weight[w]);
            to_weight[w] += f64::from(gradient[o]) * f64::from(input[i]);
        });
        let what = format!("case {case} {shape:?} {layer:?}");
        assert_close(&input_gradient(&gradient, gradient_shape, &weight, layer), &to_input, 2e-5, &what);
        for path in Path::available() {
            let found = weight_gradient_on(path, &input, &gradient, shape, layer);
            assert_close(&found, &to_weight, 2e-5, &format!("{what} {}", path.name()));
        }
    }
}

fn elu(x: f64) -> f64 {
    if x > 0.0 { x } else { x.exp() - 1.0 }
}

#[test]
fn the_epilogue_adds_the_bias_and_bends() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..CASES {
        let (shape, layer) = random_layer(&mut rng);
        let (input, weight) = (values(&mut rng, shape.len()), values(&mut rng, layer.weights()));
        let bias: Vec<f32> = values(&mut rng, layer.outputs).iter().map(|bias| bias * 20.0).collect();
        let area = shape.size.area_px().max(1);
        for path in Path::available() {
            let plain = convolve_on(path, &input, shape, &weight, layer, Epilogue::None);
            let bent = convolve_on(path, &input, shape, &weight, layer, Epilogue::BiasElu(&bias));
            let expected: Vec<f64> = (plain.iter().enumerate())
                .map(|(i, z)| elu(f64::from(*z) + f64::from(bias[i / area % layer.outputs])))
                .collect();
            assert_close(&bent, &expected, 3e-6, path.name());
        }
    }
}

#[test]
fn normalisation_and_its_gradients_equal_their_definition() {
    const EPSILON: f32 = 1e-5;
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for case in 0..CASES {
        let size = Size::new(rng.random_range(1..=40), rng.random_range(1..=20));
        let shape = Planes { images: rng.random_range(1..=3), channels: rng.random_range(1..=9), size };
        if shape.images * size.area_px() < 4 {
            continue; // With fewer values the variance is rounding error.
        }
        let z = values(&mut rng, shape.len());
        let gradient = values(&mut rng, shape.len());
        let gamma = values(&mut rng, shape.channels);
        let beta = values(&mut rng, shape.channels);
        let found_moments = moments(&z, shape);
        let affine: Vec<Affine> = (0..shape.channels)
            .map(|c| Affine::normalising(found_moments[c], gamma[c], beta[c], EPSILON))
            .collect();
        let y = affine_elu(&z, shape, &affine);
        let found = backward(&z, &gradient, shape, &found_moments, &gamma, &beta, EPSILON);

        let area = size.area_px();
        let mut expected_y = vec![0.0; z.len()];
        let mut expected_dz = vec![0.0; z.len()];
        for c in 0..shape.channels {
            let at: Vec<usize> = (0..shape.images)
                .flat_map(|n| (0..area).map(move |i| (n * shape.channels + c) * area + i))
                .collect();
            let n = at.len() as f64;
            let mean = at.iter().map(|&i| f64::from(z[i])).sum::<f64>() / n;
            let variance = at.iter().map(|&i| (f64::from(z[i]) - mean).powi(2)).sum::<f64>() / n;
            let deviation = (variance + f64::from(EPSILON)).sqrt();
            let normal = |i: usize| (f64::from(z[i]) - mean) / deviation;
            let bent = |i: usize| normal(i) * f64::from(gamma[c]) + f64::from(beta[c]);
            let g = |i: usize| f64::from(gradient[i]) * if bent(i) > 0.0 { 1.0 } else { bent(i).exp() };
            let sum_g: f64 = at.iter().map(|&i| g(i)).sum();
            let sum_gn: f64 = at.iter().map(|&i| g(i) * normal(i)).sum();
            for &i in &at {
                expected_y[i] = elu(bent(i));
                expected_dz[i] =
                    f64::from(gamma[c]) / deviation * (g(i) - sum_g / n - normal(i) * sum_gn / n);
            }
            assert_close(&[found.gamma[c], found.beta[c]], &[sum_gn, sum_g], 1e-3, &format!("case {case}"));
        }
        assert_close(&y, &expected_y, 1e-4, &format!("y of case {case} {shape:?}"));
        assert_close(&found.z, &expected_dz, 1e-3, &format!("dz of case {case} {shape:?}"));
    }
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let layer = Convolution { inputs: 8, outputs: 8, kernel: 3, dilation: 5 };
    let shape = Planes { images: 3, channels: 8, size: Size::new(97, 83) };
    let input = values(&mut rng, shape.len());
    let weight = values(&mut rng, layer.weights());
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let z = convolve(&input, shape, &weight, layer, Epilogue::None);
            let gradients =
                backward(&z, &input, shape, &moments(&z, shape), &weight[..8], &weight[8..16], 1e-5);
            let dw = weight_gradient(&input, &gradients.z, shape, layer);
            [z, gradients.z, gradients.gamma, gradients.beta, dw]
                .concat()
                .iter()
                .map(|v| v.to_bits())
                .collect()
        })
    };
    let one: Vec<u32> = run(1);
    for threads in [2, 3, 8, 16] {
        assert!(one == run(threads), "{threads} threads give other bytes than one");
    }
}
