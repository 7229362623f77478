//! How fast ResNet-18's convolutions run here, forward and back:
//! `cargo run --release -p microtome-kernels --example channels_last_speed [images] [side] [direct|winograd] [layer]`.
//!
//! GFLOP/s count the products of the direct sum whatever the algorithm, so Winograd can pass the peak, which is that of
//! multiply-adds in registers.

use microtome_kernels::Size;
use microtome_kernels::network::channels_last::{
    Algorithm, Convolution, Epilogue, Maps, convolve_on, input_gradient_on, weight_gradient_on,
};
use microtome_kernels::network::peak;
use microtome_kernels::network::vector::Path;
use std::time::Instant;

/// Name, side of the input as a share of the image's, layer, how often it comes.
fn layers() -> Vec<(String, usize, Convolution, usize)> {
    let convolution = |inputs, outputs, kernel, stride| Convolution {
        stride,
        padding: kernel / 2,
        ..Convolution::new(inputs, outputs, kernel)
    };
    let mut layers = vec![("stem 7×7/2".to_owned(), 1, convolution(3, 64, 7, 2), 1)];
    layers.push(("1: 3×3".to_owned(), 4, convolution(64, 64, 3, 1), 4));
    for stage in 2..=4 {
        let channels = 32 << stage;
        layers.push((format!("{stage}: 3×3/2"), 1 << stage, convolution(channels / 2, channels, 3, 2), 1));
        layers.push((format!("{stage}: 1×1/2"), 1 << stage, convolution(channels / 2, channels, 1, 2), 1));
        layers.push((format!("{stage}: 3×3"), 2 << stage, convolution(channels, channels, 3, 1), 3));
    }
    layers
}

/// The fastest of some runs, in seconds: others may use the machine at the same time.
fn seconds(mut work: impl FnMut()) -> f64 {
    work();
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..15).map(time).fold(f64::INFINITY, f64::min)
}

fn main() {
    let argument = |n: usize| std::env::args().nth(n);
    let images: usize = argument(1).and_then(|a| a.parse().ok()).unwrap_or(32);
    let side: usize = argument(2).and_then(|a| a.parse().ok()).unwrap_or(128);
    let forced = argument(3).and_then(|name| match name.as_str() {
        "direct" => Some(Algorithm::Direct),
        "winograd" => Some(Algorithm::Winograd),
        _ => None,
    });
    let path = Path::best();
    let peak = peak::operations_a_second(path) / 1e9;
    println!("{images} images of {side}², {} path, peak {peak:.0} GFLOP/s", path.name());
    println!(
        "{:12} {:>5} {:>22} {:>22} {:>22}",
        "layer", "times", "forward", "to the input", "to the weight"
    );
    let mut sums = [0.0; 3];
    for (name, share, layer, times) in layers() {
        if argument(4).is_some_and(|wanted| !name.starts_with(&wanted)) {
            continue;
        }
        let shape = Maps { images, size: Size::new(side / share, side / share), channels: layer.inputs };
        let algorithm = forced.filter(|forced| forced.handles(layer)).unwrap_or(Algorithm::best(layer));
        let x: Vec<f32> = (0..shape.len()).map(|i| (i as f32 * 0.37).sin()).collect();
        let w: Vec<f32> = (0..layer.weights()).map(|i| (i as f32 * 0.11).cos() * 0.1).collect();
        let mut z = vec![0.0; layer.output(shape).len()];
        let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
        let gigaflop = 2.0 * (z.len() * layer.inputs * layer.kernel * layer.kernel) as f64 / 1e9;
        let found = [
            seconds(|| convolve_on(path, algorithm, &x, shape, &w, layer, Epilogue::NONE, &mut z)),
            seconds(|| input_gradient_on(path, algorithm, &z, shape, &w, layer, &mut dx)),
            seconds(|| weight_gradient_on(path, algorithm, &x, &z, shape, layer, &mut dw)),
        ];
        print!("{name:12} {times:5}");
        for pass in 0..3 {
            let needed = pass != 1 || layer.inputs > 3;
            sums[pass] += if needed { found[pass] * times as f64 } else { 0.0 };
            let speed = gigaflop / found[pass];
            print!(" {:8.2} ms {speed:5.0} ({:3.0} %)", found[pass] * 1e3, 100.0 * speed / peak);
        }
        println!();
    }
    let [forward, input, weight] = sums.map(|sum| sum * 1e3);
    let all = forward + input + weight;
    println!(
        "sum: forward {forward:.1}, to the input {input:.1}, to the weight {weight:.1}; all {all:.1} ms"
    );
}
