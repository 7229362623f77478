//! Initial weights, as the papers' frameworks draw them: for the small networks uniform in ±1/√(fan in), which is
//! Kaiming's uniform distribution with a = √5, for weights and biases alike; for residual networks normal.

use crate::random::{Purpose, stream};
use burn::module::{Param, ParamId, RunningState};
use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Draws the parameters of a network one after the other, and numbers them, so that the optimiser's state finds its
/// parameter again in another process.
pub struct Initialiser {
    random: ChaCha8Rng,
    next_id: u64,
    device: Device,
}

impl Initialiser {
    /// Parameters under `seed`, on the training device.
    pub fn new(seed: u64) -> Self {
        Self { random: stream(seed, Purpose::Weights, 0), next_id: 1, device: crate::device::training() }
    }

    fn id(&mut self) -> ParamId {
        self.next_id += 1;
        ParamId::from(self.next_id - 1)
    }

    /// A parameter of the given shape, uniform in ±1/√`fan_in`.
    pub(crate) fn uniform<const D: usize>(&mut self, shape: [usize; D], fan_in: usize) -> Param<Tensor<D>> {
        let bound = 1.0 / (fan_in as f32).sqrt();
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| self.random.random_range(-bound..bound)).collect();
        self.parameter(TensorData::new(values, shape))
    }

    /// A parameter of the given shape, normal around 0, by the method of Box and Muller.
    pub(crate) fn normal<const D: usize>(&mut self, shape: [usize; D], deviation: f32) -> Param<Tensor<D>> {
        let mut draw = || {
            let (radius, angle): (f32, f32) = (1.0 - self.random.random::<f32>(), self.random.random());
            deviation * (-2.0 * radius.ln()).sqrt() * (std::f32::consts::TAU * angle).cos()
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| draw()).collect();
        self.parameter(TensorData::new(values, shape))
    }

    /// A parameter with one value everywhere.
    pub(crate) fn constant(&mut self, length: usize, value: f32) -> Param<Tensor<1>> {
        self.parameter(TensorData::new(vec![value; length], [length]))
    }

    /// A running statistic, which is saved with the weights and not trained.
    pub(crate) fn running(&mut self, length: usize, value: f32) -> RunningState<Tensor<1>> {
        let data = TensorData::new(vec![value; length], [length]);
        RunningState::with_id(self.id(), Tensor::from_data(data, &self.device))
    }

    fn parameter<const D: usize>(&mut self, data: TensorData) -> Param<Tensor<D>> {
        Param::initialized(self.id(), Tensor::from_data(data, &self.device).require_grad())
    }
}
