//! Smoothing, thresholds and shrinking against their sums written out.

use super::pictures::{for_many_sizes, on_any_threads, random_values};
use microtome_kernels::Size;
use microtome_kernels::gaussian::{self, gaussian_blur};
use microtome_kernels::resample::downsample_area;
use microtome_kernels::threshold::otsu;
use rand::Rng;

fn reflect(mut index: i64, length: i64) -> usize {
    while index < 0 || index >= length {
        index = if index < 0 { -index - 1 } else { 2 * length - 1 - index };
    }
    index as usize
}

/// The two-dimensional sum in `f64`, not separated.
fn naive_gaussian(values: &[f32], size: Size, sigma: f64) -> Vec<f64> {
    let radius = (4.0 * sigma + 0.5) as i64;
    let weight = |d: i64| (-0.5 * (d as f64 / sigma).powi(2)).exp();
    let sum: f64 = (-radius..=radius).map(weight).sum();
    let source = |x: i64, y: i64| {
        f64::from(values[size.index(reflect(x, size.width_px as i64), reflect(y, size.height_px as i64))])
    };
    let row = |x: i64, y: i64| (-radius..=radius).map(|dx| weight(dx) * source(x + dx, y)).sum::<f64>();
    let pixel =
        |x: i64, y: i64| (-radius..=radius).map(|dy| weight(dy) * row(x, y + dy)).sum::<f64>() / (sum * sum);
    (0..size.area_px()).map(|i| pixel((i % size.width_px) as i64, (i / size.width_px) as i64)).collect()
}

#[test]
fn smoothing_is_the_sum_written_out() {
    for_many_sizes(21, 14, |size, rng| {
        let values: Vec<f32> = (0..size.area_px()).map(|_| rng.random_range(-3.0..3.0)).collect();
        let sigma = rng.random_range(0.1..2.0_f32);
        let blurred = gaussian_blur(&values, size, sigma);
        for (got, expected) in blurred.iter().zip(naive_gaussian(&values, size, f64::from(sigma))) {
            assert!((f64::from(*got) - expected).abs() < 2e-6, "{size} {sigma}: {got} {expected}");
        }
    });
}

#[test]
fn wide_rows_are_smoothed_block_by_block() {
    for_many_sizes(22, 1, |_, rng| {
        let size = Size::new(rng.random_range(30..140), rng.random_range(1..4));
        let values: Vec<f32> = (0..size.area_px()).map(|_| rng.random_range(-3.0..3.0)).collect();
        let blurred = gaussian_blur(&values, size, 0.7);
        for (got, expected) in blurred.iter().zip(naive_gaussian(&values, size, f64::from(0.7_f32))) {
            assert!((f64::from(*got) - expected).abs() < 2e-6, "{size}: {got} {expected}");
        }
    });
}

#[test]
fn strips_that_are_higher_than_the_kernel_are_smoothed_like_the_whole() {
    let size = Size::new(150, 40);
    let values: Vec<f32> = (0..size.area_px()).map(|at| (at * 7919 % 997) as f32 / 997.0).collect();
    let blurred = gaussian_blur(&values, size, 2.0);
    for (got, expected) in blurred.iter().zip(naive_gaussian(&values, size, 2.0)) {
        assert!((f64::from(*got) - expected).abs() < 2e-6, "{got} {expected}");
    }
}

#[test]
fn wide_smoothing_is_near_the_sum_and_alike_in_windows() {
    for_many_sizes(24, 1, |_, rng| {
        let size = Size::new(rng.random_range(1..200), rng.random_range(1..160));
        let values: Vec<f32> = (0..size.area_px()).map(|_| rng.random_range(0.0..1.0)).collect();
        let sigma = rng.random_range(10.0..40.0);
        let exact = gaussian_blur(&values, size, sigma);
        // Cells that are cut at the border are weighed as whole ones: only there the difference is larger.
        let cell_px = gaussian::cell_px(sigma);
        let cut = !size.width_px.is_multiple_of(cell_px) || !size.height_px.is_multiple_of(cell_px);
        for (got, expected) in gaussian::gaussian_blur_wide(&values, size, sigma).iter().zip(exact) {
            assert!(
                (got - expected).abs() < if cut { 2e-2 } else { 2e-3 },
                "{size} {sigma}: {got} {expected}"
            );
        }
    });
    let size = Size::new(700, 500);
    let values: Vec<f32> = (0..size.area_px()).map(|at| (at * 7919 % 997) as f32 / 997.0).collect();
    let whole = gaussian::gaussian_blur_wide(&values, size, 25.0);
    let (left, top, window) = (64, 32, Size::new(500, 440));
    let row = |y: usize| &values[size.index(left, top + y)..][..window.width_px];
    let inner: Vec<f32> = (0..window.height_px).flat_map(row).copied().collect();
    let blurred = gaussian::gaussian_blur_wide(&inner, window, 25.0);
    let reach = gaussian::reach_px(25.0) + gaussian::cell_px(25.0);
    let mut compared = 0;
    for y in reach..window.height_px - reach {
        for x in reach..window.width_px - reach {
            assert_eq!(blurred[window.index(x, y)], whole[size.index(left + x, top + y)], "{x} {y}");
            compared += 1;
        }
    }
    assert!(compared > 10_000);
}

#[test]
fn strange_values_and_sigmas_are_answered() {
    for_many_sizes(23, 12, |size, rng| {
        let values = random_values(size, rng);
        for sigma in [f32::NAN, -1.0, 0.0, 1e-30] {
            let blurred = gaussian_blur(&values, size, sigma);
            assert!(
                blurred.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits() || a == b || b.is_nan())
            );
        }
        assert_eq!(gaussian_blur(&values, size, f32::INFINITY).len(), values.len());
        assert_eq!(gaussian_blur(&values, size, 3.0).len(), values.len());
    });
    let flat = gaussian_blur(&[1.0, 2.0, 3.0, 6.0], Size::new(4, 1), f32::INFINITY);
    assert!(flat.iter().all(|value| (value - 3.0).abs() < 1e-3), "{flat:?}");
}

/// How well a cut separates: the sums for each class, from the values' bins.
fn separation(bins: &[usize], low: f64, width: f64, cut: usize) -> f64 {
    let centre = |bin: usize| low + (bin as f64 + 0.5) * width;
    let class =
        |above: bool| bins.iter().filter(move |&&bin| (bin > cut) == above).map(move |&bin| centre(bin));
    let mean = |above: bool| class(above).sum::<f64>() / class(above).count() as f64;
    class(false).count() as f64 * class(true).count() as f64 * (mean(false) - mean(true)).powi(2)
}

#[test]
fn no_cut_separates_better_than_the_threshold() {
    for_many_sizes(24, 8, |size, rng| {
        let values = random_values(size, rng);
        let finite: Vec<f64> = values.iter().filter(|v| v.is_finite()).map(|&v| f64::from(v)).collect();
        let (low, high) =
            finite.iter().fold((f64::MAX, f64::MIN), |(low, high), &v| (low.min(v), high.max(v)));
        let Some(threshold) = otsu(&values) else {
            assert!(finite.is_empty() || low == high, "{values:?}");
            return;
        };
        let width = (high - low) / 256.0;
        let bins: Vec<usize> =
            finite.iter().map(|v| (((v - low) / (high - low) * 256.0) as usize).min(255)).collect();
        let cut = ((f64::from(threshold) - low) / width) as usize;
        let best = (0..255).map(|cut| separation(&bins, low, width, cut)).fold(0.0, f64::max);
        assert!(separation(&bins, low, width, cut) >= best * (1.0 - 1e-9), "{threshold}");
    });
}

#[test]
fn nothing_to_separate_has_no_threshold() {
    assert_eq!(otsu(&[]), None);
    assert_eq!(otsu(&[3.0; 9]), None);
    assert_eq!(otsu(&[f32::NAN; 4]), None);
    assert_eq!(otsu(&[1.0, f32::INFINITY, f32::NAN]), None);
    assert!(otsu(&[f32::MIN, f32::MAX]).is_some_and(f32::is_finite));
}

/// The mean over all target-by-source subpixels: `size.width_px * to.width_px` of them along a row.
fn naive_downsample(rgb: &[u8], size: Size, to: Size) -> Vec<u8> {
    let mut out = Vec::new();
    for (y, x, colour) in
        (0..to.height_px).flat_map(|y| (0..to.width_px).flat_map(move |x| (0..3).map(move |c| (y, x, c))))
    {
        let mut sum = 0;
        for v in y * size.height_px..(y + 1) * size.height_px {
            for u in x * size.width_px..(x + 1) * size.width_px {
                sum += usize::from(rgb[3 * size.index(u / to.width_px, v / to.height_px) + colour]);
            }
        }
        out.push((sum as f64 / size.area_px() as f64).round() as u8);
    }
    out
}

#[test]
fn shrinking_is_the_mean_over_subpixels() {
    for_many_sizes(25, 12, |size, rng| {
        let rgb: Vec<u8> = (0..3 * size.area_px()).map(|_| rng.random_range(0..=255)).collect();
        let to = Size::new(rng.random_range(0..10), rng.random_range(0..10));
        let shrunk = downsample_area(&rgb, size, to);
        let expected =
            if rgb.is_empty() { vec![0; 3 * to.area_px()] } else { naive_downsample(&rgb, size, to) };
        assert_eq!(shrunk, expected, "{size} {to}");
    });
}

#[test]
fn smoothing_does_not_depend_on_the_number_of_threads() {
    let size = Size::new(317, 203);
    for_many_sizes(26, 1, |_, rng| {
        if rng.random_bool(0.01) {
            let values: Vec<f32> = (0..size.area_px()).map(|_| rng.random_range(-3.0..3.0)).collect();
            on_any_threads(|| (gaussian_blur(&values, size, 2.5), otsu(&values)));
        }
    });
}
