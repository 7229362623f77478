//! Our kernels against the composition of Burn's operations: outputs, statistics, gradients.

use super::*;
use crate::random::{Purpose, stream};
use crate::weights::floats;
use burn::tensor::TensorData;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

const SEEDS: u64 = 40;

/// What follows the batch norm; the residual is a tensor of its own or the layer's input.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Nothing,
    Relu,
    Join,
    JoinInput,
}

struct Case {
    x: Tensor<4>,
    residual: Tensor<4>,
    weight: Weight,
    norm: BatchNorm,
    layer: Convolution,
    kind: Kind,
}

/// Numbers of one path, in order: output, statistics, gradients of x, weight, γ, β, residual.
type Numbers = Vec<(&'static str, Vec<f32>)>;

type Forward = fn(Tensor<4>, &Weight, &BatchNorm, Convolution, Then) -> (Tensor<4>, Tensor<2>);

/// A tensor of values in ±1 around `centre`.
fn drawn<const D: usize>(shape: [usize; D], centre: f32, random: &mut ChaCha8Rng) -> Tensor<D> {
    let mut draw = || centre + random.random_range(-1.0..1.0f32);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| draw()).collect();
    Tensor::from_data(TensorData::new(values, shape), &crate::device::training())
}

impl Case {
    fn new(kernel: usize, stride: usize, kind: Kind, seed: u64) -> Self {
        let mut random = stream(seed, Purpose::Weights, 2);
        let mut between = |least: usize, most: usize| random.random_range(least..=most);
        let (images, height, width) = (between(1, 3), between(3, 14), between(3, 14));
        // Narrow layers and wide ones take different algorithms.
        let widest = if seed.is_multiple_of(2) { 7 } else { 40 };
        // A filter of one weight has no gradient: batch norm undoes its scale. Hence two inputs at least.
        let (inputs, outputs) = (between(2, widest), between(1, widest));
        let outputs = if kind == Kind::JoinInput { inputs } else { outputs };
        let layer = Convolution { inputs, outputs, kernel, stride, padding: kernel / 2, dilation: 1 };
        let x = drawn([images, height, width, inputs], 0.0, &mut random).require_grad();
        let extent = |length: usize| (length - 1) / stride + 1;
        let residual =
            drawn([images, extent(height), extent(width), outputs], 0.0, &mut random).require_grad();
        let mut initialiser = Initialiser::new(seed);
        let mut norm = BatchNorm::new(outputs, &mut initialiser);
        norm.weight = Param::from_tensor(drawn([outputs], 1.5, &mut random));
        norm.bias = Param::from_tensor(drawn([outputs], 0.0, &mut random));
        Self { x, residual, weight: Weight::new(layer, &mut initialiser), norm, layer, kind }
    }

    fn then(&self) -> Then {
        match self.kind {
            Kind::Nothing => Then::Nothing,
            Kind::Relu => Then::Relu,
            Kind::Join => Then::JoinAndRelu(self.residual.clone()),
            Kind::JoinInput => Then::JoinAndRelu(self.x.clone()),
        }
    }

    /// The weight of each output in the loss: none where ReLU is so near its bend that rounding decides on which side.
    fn importance(&self) -> Tensor<4> {
        let mut random = stream(0, Purpose::Weights, 3);
        let importance = drawn(self.residual.dims(), 0.0, &mut random);
        let (before, _) = composed(self.x.clone(), &self.weight, &self.norm, self.layer, Then::Nothing);
        let before = match self.then() {
            Then::JoinAndRelu(residual) => before + residual,
            _ => before,
        };
        importance * before.detach().abs().greater_elem(1e-4).float()
    }

    fn numbers(&self, forward: Forward, importance: &Tensor<4>) -> Numbers {
        let (output, statistics) = forward(self.x.clone(), &self.weight, &self.norm, self.layer, self.then());
        let gradients = (output.clone() * importance.clone()).sum().backward();
        let weight = self.weight.weight.val().grad(&gradients).expect("a gradient of the weight");
        let of_norm =
            |parameter: &Param<Tensor<1>>| floats(parameter.val().grad(&gradients).expect("a gradient"));
        let mut numbers = vec![
            ("output", floats(output)),
            ("statistics", floats(statistics)),
            ("x", floats(self.x.grad(&gradients).expect("a gradient of x"))),
            ("weight", floats(weight)),
            ("gamma", of_norm(&self.norm.weight)),
            ("beta", of_norm(&self.norm.bias)),
        ];
        if self.kind == Kind::Join {
            let residual = self.residual.grad(&gradients).expect("a gradient of the residual");
            numbers.push(("residual", floats(residual)));
        }
        numbers
    }
}

/// The largest difference, as a share of the largest expected magnitude.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    found.iter().zip(expected).fold(0.0f32, |m, (f, e)| m.max((f - e).abs())) / largest
}

#[test]
fn our_kernels_and_burns_operations_agree() {
    let mut compared = 0;
    for (kernel, stride) in [(1, 1), (1, 2), (3, 1), (3, 2), (7, 1), (7, 2)] {
        for kind in [Kind::Nothing, Kind::Relu, Kind::Join, Kind::JoinInput] {
            if kind == Kind::JoinInput && stride == 2 {
                continue;
            }
            for seed in 0..SEEDS {
                let case = Case::new(kernel, stride, kind, seed);
                let importance = case.importance();
                let expected = case.numbers(composed, &importance);
                let found = case.numbers(fused, &importance);
                assert_eq!(found.len(), expected.len());
                for ((what, found), (_, expected)) in found.iter().zip(&expected) {
                    let error = error(found, expected);
                    // Sums of up to 49 · 40 products in another order, divided by deviations of few values.
                    assert!(
                        error <= 1e-4,
                        "{what}: {error:e} in {:?}, {kind:?}, {:?}",
                        case.layer,
                        case.x.dims()
                    );
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, SEEDS as usize * (6 * (6 + 6 + 7) + 3 * 6));
}

#[test]
fn running_statistics_move_towards_the_batch_as_the_composition_says() {
    for kind in [Kind::Relu, Kind::Join] {
        let case = Case::new(3, 2, kind, 5);
        let (_, expected) = composed(case.x.clone(), &case.weight, &case.norm, case.layer, case.then());
        let output = conv_norm_training(case.x.clone(), &case.weight, &case.norm, case.layer, case.then());
        let values = count(&output) as f32;
        let expected = floats(expected);
        let (means, variances) = expected.split_at(case.layer.outputs);
        let mean: Vec<f32> = means.iter().map(|mean| 0.1 * mean).collect();
        let variance: Vec<f32> = variances.iter().map(|v| 0.9 + 0.1 * v * values / (values - 1.0)).collect();
        assert!(error(&floats(case.norm.running_mean.value_sync()), &mean) < 1e-5);
        assert!(error(&floats(case.norm.running_var.value_sync()), &variance) < 1e-5);
    }
}
