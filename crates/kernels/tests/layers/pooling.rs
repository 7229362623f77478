//! Pooling against loops over windows.

use crate::{CASES, assert_close, random_channels, values};
use microtome_kernels::Size;
use microtome_kernels::network::channels_last::Maps;
use microtome_kernels::network::channels_last::pooling::{
    Windows, average_pool_gradient_on, average_pool_on, max_pool_gradient_on, max_pool_on,
};
use microtome_kernels::network::vector::Path;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn random_case(rng: &mut ChaCha8Rng) -> (Maps, Windows) {
    let kernel_px = rng.random_range(1..=5);
    let windows = Windows {
        kernel_px,
        stride_px: rng.random_range(1..=4),
        padding_px: rng.random_range(0..=kernel_px / 2),
    };
    let size = Size::new(rng.random_range(0..=12), rng.random_range(0..=12));
    (Maps { images: rng.random_range(0..=3), size, channels: random_channels(rng) }, windows)
}

/// For each output value: the input places of its window with their place in it, in order of rows.
fn windows_of(grid: Maps, windows: Windows) -> Vec<Vec<(usize, u8)>> {
    let pooled = windows.output(grid);
    let (width, height) = (grid.size.width_px as isize, grid.size.height_px as isize);
    let mut all = Vec::new();
    for image in 0..grid.images {
        for (oy, ox) in
            (0..pooled.size.height_px).flat_map(|y| (0..pooled.size.width_px).map(move |x| (y, x)))
        {
            for channel in 0..grid.channels {
                let mut inputs = Vec::new();
                for place in 0..windows.kernel_px * windows.kernel_px {
                    let (ky, kx) = (place / windows.kernel_px, place % windows.kernel_px);
                    let y = (oy * windows.stride_px + ky) as isize - windows.padding_px as isize;
                    let x = (ox * windows.stride_px + kx) as isize - windows.padding_px as isize;
                    if (0..height).contains(&y) && (0..width).contains(&x) {
                        let pixel = (image as isize * height + y) * width + x;
                        inputs.push((pixel as usize * grid.channels + channel, place as u8));
                    }
                }
                all.push(inputs);
            }
        }
    }
    all
}

#[test]
fn maxima_and_their_gradients_equal_loops_over_windows() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for case in 0..CASES {
        let (grid, windows) = random_case(&mut rng);
        // Few different values: many equals, of which the first must win.
        let input: Vec<f32> = (0..grid.len()).map(|_| rng.random_range(0..4) as f32).collect();
        let length = windows.output(grid).len();
        let gradient = values(&mut rng, length);
        let (mut expected, mut places) = (vec![], vec![]);
        let mut to_input = vec![0.0; grid.len()];
        for (window, gradient) in windows_of(grid, windows).iter().zip(&gradient) {
            let mut winner = window[0];
            for candidate in window {
                if input[candidate.0] > input[winner.0] {
                    winner = *candidate;
                }
            }
            expected.push(input[winner.0]);
            places.push(winner.1);
            to_input[winner.0] += f64::from(*gradient);
        }
        for path in Path::available() {
            let what = format!("case {case} {grid:?} {windows:?} {}", path.name());
            let (mut output, mut winners) = (vec![f32::NAN; length], vec![255; length]);
            max_pool_on(path, &input, grid, windows, &mut output, &mut winners);
            assert_eq!(output, expected, "{what}");
            assert_eq!(winners, places, "{what}");
            let mut found = vec![f32::NAN; grid.len()];
            max_pool_gradient_on(path, &gradient, &winners, grid, windows, &mut found);
            // At most 25 additions of numbers below 1.
            assert_close(&found, &to_input, 2e-6, &what);
        }
    }
}

#[test]
fn a_window_of_minus_infinity_gives_it() {
    let grid = Maps { images: 1, size: Size::new(3, 3), channels: 5 };
    let windows = Windows { kernel_px: 3, stride_px: 2, padding_px: 1 };
    for path in Path::available() {
        let (mut output, mut winners) = ([0.0; 20], [9; 20]);
        max_pool_on(path, &[f32::NEG_INFINITY; 45], grid, windows, &mut output, &mut winners);
        assert_eq!(output, [f32::NEG_INFINITY; 20]);
        // The first pixel inside the image: the middle of the first window's row and column.
        assert_eq!(winners[0], 4);
    }
}

#[test]
fn means_of_images_and_their_gradients() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    for case in 0..CASES {
        let (images, channels) = (rng.random_range(0..=4), random_channels(&mut rng));
        let area = rng.random_range(0..=80);
        let input = values(&mut rng, images * area * channels);
        let gradient = values(&mut rng, images * channels);
        let mut means = vec![0.0; images * channels];
        let mut to_input = vec![0.0; input.len()];
        for i in 0..input.len() {
            let mean = i / (area * channels) * channels + i % channels;
            means[mean] += f64::from(input[i]) / area as f64;
            to_input[i] = f64::from(gradient[mean]) / area as f64;
        }
        for path in Path::available() {
            let what = format!("case {case} {images} × {area} × {channels} {}", path.name());
            let (mut found, mut back) = (vec![f32::NAN; means.len()], vec![f32::NAN; input.len()]);
            average_pool_on(path, &input, images, channels, &mut found);
            average_pool_gradient_on(path, &gradient, images, channels, &mut back);
            // At most 80 additions, then one rounding; two roundings.
            assert_close(&found, &means, 1e-6, &what);
            assert_close(&back, &to_input, 2e-7, &what);
        }
    }
}
