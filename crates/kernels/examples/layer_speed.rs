//! How fast one 8→8 layer of the confidence network runs here: `cargo run --release -p microtome-kernels --example layer_speed`.
use microtome_kernels::Size;
use microtome_kernels::network::Planes;
use microtome_kernels::network::convolution::{
    Convolution, Epilogue, convolve, input_gradient, weight_gradient,
};
use microtome_kernels::network::normalisation::{Affine, affine_elu, backward, moments};
use std::time::Instant;

fn main() {
    let side: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(300);
    let images = std::env::args().nth(2).and_then(|a| a.parse().ok()).unwrap_or(10);
    let shape = Planes { images, channels: 8, size: Size::new(side, side) };
    let layer = Convolution { inputs: 8, outputs: 8, kernel: 3, dilation: 5 };
    let x: Vec<f32> = (0..shape.len()).map(|i| (i as f32 * 0.37).sin()).collect();
    let w: Vec<f32> = (0..layer.weights()).map(|i| (i as f32 * 0.11).cos() * 0.1).collect();
    let gigaflop = 2.0 * shape.len() as f64 * 72.0 / 1e9;
    let time = |name: &str, gigaflop: f64, work: &dyn Fn()| {
        let mut times: Vec<f64> = (0..7)
            .map(|_| {
                let start = Instant::now();
                work();
                start.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{name:20} {:7.2} ms  {:6.1} GFLOP/s", times[3] * 1e3, gigaflop / times[3]);
    };
    let z = convolve(&x, shape, &w, layer, Epilogue::None);
    let m = moments(&z, shape);
    let ones = [1.0; 8];
    let affine: Vec<Affine> = m.iter().map(|m| Affine::normalising(*m, 1.0, 0.0, 1e-5)).collect();
    time("forward", gigaflop, &|| drop(convolve(&x, shape, &w, layer, Epilogue::None)));
    time("input gradient", gigaflop, &|| drop(input_gradient(&x, shape, &w, layer)));
    time("weight gradient", gigaflop, &|| drop(weight_gradient(&x, &z, shape, layer)));
    time("moments", 0.0, &|| drop(moments(&z, shape)));
    time("affine + ELU", 0.0, &|| drop(affine_elu(&z, shape, &affine)));
    time("norm backward", 0.0, &|| drop(backward(&z, &x, shape, &m, &ones, &ones, 1e-5)));
}
