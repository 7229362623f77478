//! Stains: unmixing against the matrix equation, and vectors found in pictures that were mixed from known
//! ones.

use super::pictures::{for_many_sizes, on_any_threads};
use microtome_kernels::stain::{MacenkoSettings, StainMatrix, concentrations, macenko, optical_density};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[test]
fn optical_density_is_a_logarithm() {
    assert_eq!(optical_density(255), 0.0);
    assert_eq!(optical_density(0), optical_density(1));
    for value in 1..=255_u8 {
        let expected = -(f64::from(value) / 255.0).log10();
        assert!((f64::from(optical_density(value)) - expected).abs() < 1e-6);
    }
}

#[test]
fn concentrations_mix_back_to_the_density() {
    for_many_sizes(51, 12, |size, rng| {
        let rgb: Vec<u8> =
            (0..3 * size.area_px() + rng.random_range(0..3)).map(|_| rng.random_range(0..=255)).collect();
        let mut vector = || [0, 1, 2].map(|_| rng.random_range(0.05..1.0_f32));
        let stains = StainMatrix::from_two(vector(), vector());
        let Some(inverse) = stains.inverse() else { return };
        let largest = inverse.iter().flatten().fold(1.0, |largest: f32, x| largest.max(x.abs()));
        let planes = concentrations(&rgb, &stains);
        assert!(planes.iter().all(|plane| plane.len() == size.area_px()));
        for (index, pixel) in rgb.chunks_exact(3).enumerate() {
            for (colour, &value) in pixel.iter().enumerate() {
                let mixed: f32 =
                    (0..3).map(|stain| planes[stain][index] * stains.vectors[stain][colour]).sum();
                assert!((mixed - optical_density(value)).abs() < 1e-5 * largest, "{stains:?}");
            }
        }
    });
}

#[test]
fn the_residual_is_orthogonal_and_parallel_stains_have_no_inverse() {
    let [haematoxylin, eosin, residual] = StainMatrix::ruifrok_johnston().vectors;
    let dot = |a: [f32; 3], b: [f32; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    assert!(dot(haematoxylin, residual).abs() < 1e-6 && dot(eosin, residual).abs() < 1e-6);
    assert!((dot(haematoxylin, haematoxylin) - 1.0).abs() < 1e-6);
    for eosin in [[0.2, 0.4, 0.6], [0.0; 3], [f32::NAN, 1.0, 1.0], [f32::INFINITY, 1.0, 1.0]] {
        let stains = StainMatrix::from_two([0.1, 0.2, 0.3], eosin);
        assert_eq!(stains.inverse(), None);
        assert_eq!(concentrations(&[1, 2, 3], &stains), [[0.0], [0.0], [0.0]]);
    }
}

/// A picture of pixels that hold two stains in changing amounts, some mostly one of them, and background.
fn mixed(stains: &StainMatrix, count: usize, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let pixel = |_| {
        let amounts = match rng.random_range(0..4) {
            0 => [0.0, 0.0],
            1 => [rng.random_range(0.8..1.2), 0.0],
            2 => [0.0, rng.random_range(0.8..1.2)],
            _ => [rng.random_range(0.3..0.8), rng.random_range(0.3..0.8)],
        };
        let density = |c: usize| amounts[0] * stains.vectors[0][c] + amounts[1] * stains.vectors[1][c];
        [0, 1, 2].map(|colour| (255.0 * 10.0_f32.powf(-density(colour))).round() as u8)
    };
    (0..count).flat_map(pixel).collect()
}

#[test]
fn stains_that_a_picture_was_mixed_from_are_found() {
    for_many_sizes(52, 1, |_, rng| {
        let mut near = |vector: [f32; 3]| vector.map(|x| x + rng.random_range(-0.06..0.06));
        let stains = StainMatrix::from_two(near([0.60, 0.70, 0.35]), near([0.28, 0.90, 0.30]));
        let rgb = mixed(&stains, 1_000, rng);
        let settings = MacenkoSettings { od_floor: 0.1, ..MacenkoSettings::PAPER };
        let found = on_sample_threads(rng, || macenko(&rgb, settings)).expect("two stains");
        for (found, mixed) in found.vectors.iter().zip(stains.vectors).take(2) {
            let cosine: f32 = found.iter().zip(mixed).map(|(a, b)| a * b).sum();
            assert!(cosine > 0.999, "{found:?} {mixed:?}");
        }
    });
}

/// Mostly as it is; now and then on one thread and on four.
fn on_sample_threads<T: PartialEq + std::fmt::Debug + Send>(
    rng: &mut ChaCha8Rng,
    kernel: impl Fn() -> T + Sync,
) -> T {
    if rng.random_bool(0.01) { on_any_threads(kernel) } else { kernel() }
}

#[test]
fn pictures_without_two_stains_are_answered() {
    let settings = MacenkoSettings::PAPER;
    assert_eq!(macenko(&[], settings), None);
    assert_eq!(macenko(&[255; 3_000], settings), None);
    assert_eq!(macenko(&[0; 3_000], settings), None);
    assert_eq!(macenko(&[120, 40, 130].repeat(1_000), settings), None);
    let grey: Vec<u8> = (0..1_000_u32).flat_map(|i| [(i % 170) as u8; 3]).collect();
    assert_eq!(macenko(&grey, settings), None);
    for_many_sizes(53, 30, |size, rng| {
        let rgb: Vec<u8> = (0..3 * size.area_px()).map(|_| rng.random_range(0..=255)).collect();
        for percentile in [f32::NAN, -4.0, 0.0, 50.0, 1e9] {
            macenko(&rgb, MacenkoSettings { od_floor: 0.15, percentile });
        }
    });
}

#[test]
fn a_large_picture_is_sampled_and_gives_the_same_stains() {
    let mut rng = ChaCha8Rng::seed_from_u64(54);
    let stains = StainMatrix::from_two([0.60, 0.70, 0.35], [0.28, 0.90, 0.30]);
    let rgb = mixed(&stains, 2_300_000, &mut rng);
    let found = on_any_threads(|| macenko(&rgb, MacenkoSettings::PAPER)).expect("two stains");
    for (found, mixed) in found.vectors.iter().zip(stains.vectors).take(2) {
        assert!(found.iter().zip(mixed).all(|(a, b)| (a - b).abs() < 0.02), "{found:?} {mixed:?}");
    }
}
