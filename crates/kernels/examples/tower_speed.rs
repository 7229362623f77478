//! How fast a training step's two halves and the inference of the confidence network are on this machine:
//! `cargo run --release -p microtome-kernels --example tower_speed [side] [images] [only this work]`.

use microtome_kernels::Size;
use microtome_kernels::memory::Recycling;
use microtome_kernels::network::Planes;
use microtome_kernels::network::normalisation::Affine;
use microtome_kernels::network::tower::{FoldedTower, Layer, Parameters, Tower};
use std::time::Instant;

#[global_allocator]
static MEMORY: Recycling = Recycling;

fn main() {
    let argument = |index: usize, default: usize| {
        std::env::args().nth(index).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (side, images) = (argument(1, 300), argument(2, 10));
    let tower = Tower { inputs: 3, outputs: 4, dilations: vec![1, 2, 3, 5, 10, 20], sigmoid: true };
    let wave = |length: usize, step: f32| -> Vec<f32> {
        (0..length).map(|i| (i as f32 * step).sin() * 0.2).collect()
    };
    let (stem, inner, head) = (wave(216, 0.7), wave(576, 0.3), wave(32, 0.9));
    let (ones, zeros) = ([1.0; 8], [0.0; 8]);
    let layer = |weight| Layer { weight, gamma: &ones, beta: &zeros };
    let layers: Vec<Layer<'_>> =
        (0..tower.layers()).map(|index| layer(if index == 0 { &stem } else { &inner })).collect();
    let parameters = Parameters { layers, head_weight: &head, head_bias: &zeros[..4], epsilon: 1e-5 };
    let shape = Planes { images, channels: 3, size: Size::new(side, side) };
    let picture = wave(shape.len(), 0.37);
    let gigaflop = 2.0 * shape.len() as f64 / 3.0 * (12.0 * 576.0 + 216.0 + 32.0) / 1e9;
    let (output, trace) = tower.forward(&picture, shape, &parameters);
    time("forward", gigaflop, &mut || drop(tower.forward(&picture, shape, &parameters)));
    time("backward", 2.0 * gigaflop, &mut || {
        drop(tower.backward(&picture, &trace, &parameters, &output, &output));
    });
    drop(trace);
    time("forward and backward", 3.0 * gigaflop, &mut || {
        let (output, trace) = tower.forward(&picture, shape, &parameters);
        drop(tower.backward(&picture, &trace, &parameters, &output, &output));
    });
    let affine = [Affine { scale: 1.0, shift: 0.0 }; 8];
    let folded: Vec<(&[f32], [Affine; 8])> =
        parameters.layers.iter().map(|layer| (layer.weight, affine)).collect();
    let folded = FoldedTower::new(tower, &folded, &head, &zeros[..4]);
    time("inference", gigaflop, &mut || drop(folded.apply(&picture, shape)));
}

fn time(name: &str, gigaflop: f64, work: &mut dyn FnMut()) {
    if std::env::args().nth(3).is_some_and(|only| only != name) {
        return;
    }
    let mut seconds: Vec<f64> = (0..9)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[4];
    println!(
        "{name:22} {:8.1} ms (best {:.1})  {:6.1} GFLOP/s",
        median * 1e3,
        seconds[0] * 1e3,
        gigaflop / median
    );
}
