//! One step of each work that `bench/run.py` sets beside PyTorch:
//! `network_speed WORK [--threads N] [--seconds S | --steps-on-stdin]`.
//!
//! Prints one JSON line a step, and at the end the peak memory. Losses and sizes are those of `bench/peer.py`.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use microtome_kernels::Size;
use microtome_kernels::memory::Recycling;
use microtome_kernels::network::Planes;
use microtome_kernels::network::channels_last::Maps;
use microtome_kernels::network::loss::squared_error;
use microtome_nets::confidence::ConfidenceNetwork;
use microtome_nets::device::training;
use microtome_nets::inference::FoldedNetwork;
use microtome_nets::initialise::Initialiser;
use microtome_nets::optimiser::Adam;
use microtome_nets::resnet::{Architecture, FoldedResNet, ResNet};
use microtome_nets::weights::collect;
use microtome_nets::{with_gradient, with_values};
use serde_json::json;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

#[global_allocator]
static MEMORY: Recycling = Recycling;

const WORKS: [&str; 4] =
    ["confidence-training", "confidence-inference", "resnet18-training", "resnet18-inference"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value_of = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let work = arguments.first().cloned().unwrap_or_default();
    let Some(mut step) = work_of(&work) else {
        eprintln!(
            "usage: network_speed WORK [--threads N] [--seconds S | --steps-on-stdin], WORK one of {WORKS:?}"
        );
        std::process::exit(2);
    };
    let threads = value_of("--threads").and_then(|text| text.parse().ok()).unwrap_or(0);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("the first pool");
    step();
    let mut timed = || {
        let begun = Instant::now();
        step();
        say(json!({"work": work, "seconds": begun.elapsed().as_secs_f64()}).to_string());
    };
    if arguments.iter().any(|argument| argument == "--steps-on-stdin") {
        say("ready".to_owned());
        std::io::stdin().lock().lines().map_while(Result::ok).for_each(|_| timed());
    } else {
        let seconds = value_of("--seconds").and_then(|text| text.parse().ok()).unwrap_or(10.0);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs_f64(seconds) {
            timed();
        }
    }
    say(json!({"work": work, "peak_bytes": peak_bytes()}).to_string());
}

fn say(line: String) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("whoever asked is listening");
}

/// The most memory that this process held, in bytes; 0 where the system does not tell.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn work_of(name: &str) -> Option<Box<dyn FnMut()>> {
    let mut initialiser = Initialiser::new(1);
    match name {
        "confidence-training" => {
            let network = ConfidenceNetwork::new(3, 4, &mut initialiser);
            let zeros = vec![0.0; 10 * 4 * 300 * 300];
            let forward =
                move |network: &ConfidenceNetwork, x| mean_square(network.forward_training(x), &zeros);
            Some(training_step(network, [10, 3, 300, 300], 2e-4, 1e-4, forward))
        }
        "confidence-inference" => {
            let network = ConfidenceNetwork::new(3, 4, &mut initialiser);
            let folded = FoldedNetwork::new(&collect(&network), 0.0).expect("its own weights");
            let picture = wave(3 * 1000 * 1000);
            let shape = Planes { images: 1, channels: 3, size: Size::new(1000, 1000) };
            Some(Box::new(move || drop(folded.maps_of_planes(&picture, shape))))
        }
        "resnet18-training" => {
            let network = ResNet::new(Architecture::RESNET18, Some(128), &mut initialiser);
            let forward = |network: &ResNet, x| network.forward_training(x).square().mean();
            Some(training_step(network, [32, 3, 128, 128], 1e-3, 0.0, forward))
        }
        "resnet18-inference" => {
            let network = ResNet::new(Architecture::RESNET18, Some(128), &mut initialiser);
            let folded =
                FoldedResNet::new(Architecture::RESNET18, &collect(&network)).expect("its own weights");
            let pictures = wave(32 * 128 * 128 * 3);
            let shape = Maps { images: 32, size: Size::new(128, 128), channels: 3 };
            Some(Box::new(move || drop(folded.apply(&pictures, shape))))
        }
        _ => None,
    }
}

/// Forward, loss, backward, Adam.
fn training_step<M: Module + 'static>(
    network: M,
    shape: [usize; 4],
    rate: f64,
    penalty: f64,
    loss: impl Fn(&M, Tensor<4>) -> Tensor<1> + 'static,
) -> Box<dyn FnMut()> {
    let (mut network, mut adam) = (Some(network), Adam::default());
    let pictures = wave(shape.iter().product());
    Box::new(move || {
        let before = network.take().expect("put back at the end of each step");
        let x = Tensor::<4>::from_data(TensorData::new(pictures.clone(), shape), &training());
        let loss = loss(&before, x);
        let gradients = GradientsParams::from_grads(loss.backward(), &before);
        network = Some(adam.step(rate, penalty, before, vec![gradients]));
    })
}

/// mean(x²), as the losses of a training are: value and gradient in one pass over memory.
fn mean_square(x: Tensor<4>, zeros: &[f32]) -> Tensor<1> {
    let mut gradient = vec![0.0; zeros.len()];
    let scale = 1.0 / zeros.len() as f32;
    let value = with_values(x.clone(), |values| squared_error(values, zeros, scale, &mut gradient));
    with_gradient(x, value as f32, gradient)
}

fn wave(length: usize) -> Vec<f32> {
    (0..length).map(|i| (i as f32 * 0.37).sin() * 0.5 + 0.5).collect()
}
