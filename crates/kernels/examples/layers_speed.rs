//! How fast the memory-bound layers of channels-last networks run here, in GB/s beside a copy:
//! `cargo run --release -p microtome-kernels --example layers_speed -- [channels] [megabytes]`.
//!
//! Bytes are those that a layer must read and write, each tensor once. A copy to another tensor costs a third stream
//! (the old contents of what is written are read), so that passes in place may run above the copy's rate.
use microtome_kernels::Size;
use microtome_kernels::network::adam::Adam;
use microtome_kernels::network::channels_last::normalisation::{
    Slope, gradient_sums, input_gradient, input_gradient_over_z, moments, normalise, normalise_in_place,
};
use microtome_kernels::network::channels_last::pooling::{
    Windows, average_pool, average_pool_gradient, max_pool, max_pool_gradient,
};
use microtome_kernels::network::channels_last::{Activation, Maps};
use microtome_kernels::network::loss::{
    binary_cross_entropy, sigmoid_in_place, soft_dice, softmax_cross_entropy, squared_error,
};
use microtome_kernels::network::normalisation::{Affine, GradientTerms};
use rayon::prelude::*;
use std::time::Instant;

const REPEATS: usize = 21;

/// Prints the median and the best of the runs; `tensors` is what is read and written, in units of `length` floats.
fn time(name: &str, length: usize, tensors: f64, mut work: impl FnMut()) {
    let mut times: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let gigabytes = length as f64 * 4.0 * tensors / 1e9;
    let (median, best) = (times[REPEATS / 2], times[0]);
    println!(
        "{name:34} {:7.2} ms {:6.1} GB/s   (best {:6.1})",
        median * 1e3,
        gigabytes / median,
        gigabytes / best
    );
}

/// Uses a loss, so that it is computed.
fn sink(loss: f64) {
    std::hint::black_box(loss);
}

fn wave(length: usize, step: f32) -> Vec<f32> {
    (0..length).map(|i| (i as f32 * step).sin()).collect()
}

fn main() {
    let argument = |n: usize, otherwise: usize| {
        std::env::args().nth(n).and_then(|word| word.parse().ok()).unwrap_or(otherwise)
    };
    let (channels, megabytes) = (argument(1, 64), argument(2, 33));
    let side = ((megabytes * 250_000 / 32 / channels) as f64).sqrt() as usize / 2 * 2;
    let grid = Maps { images: 32, size: Size::new(side, side), channels };
    let length = grid.len();
    println!("32 × {side} × {side} × {channels}, {:.1} MB a tensor", length as f64 * 4e-6);
    let (mut x, mut y, mut g) = (wave(length, 0.37), vec![0.0; length], wave(length, 0.11));
    let chunk = 1 << 15;
    time("copy", length, 2.0, || {
        y.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(y, x)| y.copy_from_slice(x));
    });
    time("read", length, 1.0, || {
        let sums: Vec<u32> =
            x.par_chunks(chunk).map(|x| x.iter().fold(0, |sum, x| sum ^ x.to_bits())).collect();
        std::hint::black_box(sums);
    });
    time("fill", length, 1.0, || y.par_chunks_mut(chunk).for_each(|y| y.fill(1.0)));

    let of_batch = moments(&x, channels);
    let affine: Vec<Affine> = of_batch.iter().map(|m| Affine::normalising(*m, 1.0, 0.1, 1e-5)).collect();
    let pixels = length / channels;
    let terms = |sums: &[[f64; 2]]| -> Vec<GradientTerms> {
        (0..channels).map(|c| GradientTerms::new(sums[c], of_batch[c], 1.0, 1e-5, pixels)).collect()
    };
    time("moments", length, 1.0, || drop(moments(&x, channels)));
    time("normalise, ReLU", length, 2.0, || normalise(&x, &affine, None, Activation::Relu, &mut y));
    time("normalise, ReLU, in place", length, 2.0, || {
        normalise_in_place(&mut y, &affine, None, Activation::Relu);
    });
    time("normalise, ELU, in place", length, 2.0, || {
        normalise_in_place(&mut y, &affine, None, Activation::Elu);
    });
    time("normalise, residual, ReLU", length, 3.0, || {
        normalise(&x, &affine, Some(&g), Activation::Relu, &mut y);
    });
    let by_input = Slope::ReluOfInput(&affine);
    let mut sums = vec![];
    time("gradient sums, ReLU of z", length, 2.0, || sums = gradient_sums(&mut g, &x, channels, by_input));
    time("gradient sums, ReLU of y", length, 4.0, || {
        drop(gradient_sums(&mut g, &x, channels, Slope::Relu(&y)))
    });
    time("gradient sums, ELU of y", length, 4.0, || {
        drop(gradient_sums(&mut g, &x, channels, Slope::Elu(&y)))
    });
    let terms = terms(&sums);
    time("input gradient", length, 3.0, || input_gradient(&g, &x, &terms, Slope::One, &mut y));
    time("input gradient over z", length, 3.0, || input_gradient_over_z(&g, &mut y, &terms, Slope::One));
    time("input gradient over z, ReLU of z", length, 3.0, || {
        input_gradient_over_z(&g, &mut y, &terms, by_input);
    });

    let windows = Windows { kernel_px: 3, stride_px: 2, padding_px: 1 };
    let pooled = windows.output(grid).len();
    let (mut small, mut winners) = (vec![0.0; pooled], vec![0; pooled]);
    let part = pooled as f64 / length as f64 * 1.25;
    time("max pool 3/2", length, 1.0 + part, || max_pool(&x, grid, windows, &mut small, &mut winners));
    time("max pool gradient", length, 1.0 + part, || {
        max_pool_gradient(&small, &winners, grid, windows, &mut y);
    });
    let mut means = vec![0.0; 32 * channels];
    time("average pool", length, 1.0, || average_pool(&x, 32, channels, &mut means));
    time("average pool gradient", length, 1.0, || average_pool_gradient(&means, 32, channels, &mut y));

    time("binary cross entropy", length, 3.0, || sink(binary_cross_entropy(&x, &g, None, 1e-6, &mut y)));
    time("squared error", length, 3.0, || sink(squared_error(&x, &g, 1e-6, &mut y)));
    time("soft Dice", length, 4.0, || sink(soft_dice(&x, &g, channels, 1.0, 1.0, &mut y)));
    let (classes, labels) = (5, vec![3; length / 5]);
    let of_classes = labels.len() * classes;
    time("softmax cross entropy, 5 classes", of_classes, 2.05, || {
        sink(softmax_cross_entropy(&x[..of_classes], &labels, classes, 1e-6, &mut y[..of_classes]));
    });
    time("sigmoid, in place", length, 2.0, || sigmoid_in_place(&mut y));
    let mut second = vec![0.0; length];
    let adam = Adam::with_learning_rate(1e-3);
    time("Adam", length, 7.0, || adam.step(9, &mut x, &g, &mut y, &mut second));
}
