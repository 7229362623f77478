//! Towers, pictures and gradients to try, and how far the kernels' results are from what is expected.

use super::naive::{self, Numbers};
use microtome_kernels::Size;
use microtome_kernels::network::normalisation::Affine;
use microtome_kernels::network::tower::{FoldedTower, Gradients, Layer, Parameters, Tower, WIDTH};
use microtome_kernels::network::{Planes, vector::Path};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(super) const EPSILON: f32 = 1e-5;

/// A tower with its parameters, a batch, and a gradient towards the outputs.
pub(super) struct Case {
    pub(super) tower: Tower,
    pub(super) shape: Planes,
    pub(super) numbers: Numbers<f32>,
    pub(super) picture: Vec<f32>,
    pub(super) gradient: Vec<f32>,
    /// For inference.
    pub(super) affine: Vec<[Affine; WIDTH]>,
}

/// What a path of the kernels gives for a case.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) output: Vec<f32>,
    /// Mean and variance of each layer's channels.
    pub(super) moments: Vec<Vec<[f32; 2]>>,
    pub(super) gradients: Numbers<f32>,
}

pub(super) fn random(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn values(rng: &mut ChaCha8Rng, length: usize, range: std::ops::Range<f32>) -> Vec<f32> {
    (0..length).map(|_| rng.random_range(range.clone())).collect()
}

/// Mostly small, with the widths around a vector and two, and now and then rows enough for two parts of a strand.
pub(super) fn random_size(rng: &mut ChaCha8Rng) -> Size {
    let width = match rng.random_range(0..10) {
        0 => 1,
        1..=3 => [15, 16, 17, 31, 32, 33, 47, 48, 49, 64][rng.random_range(0..10)],
        4 => rng.random_range(1..=70),
        _ => rng.random_range(1..=20),
    };
    let height = match rng.random_range(0..40) {
        0 => rng.random_range(45..=120),
        1..=4 => 1,
        5..=8 => rng.random_range(1..=30),
        _ => rng.random_range(1..=10),
    };
    // A tall picture is a narrow one, for the naive tower's sake.
    Size::new(if height > 40 { width.min(18) } else { width }, height)
}

pub(super) fn random_tower(rng: &mut ChaCha8Rng) -> Tower {
    let dilations =
        (0..rng.random_range(1..=2)).map(|_| [1, 2, 3, 5, 10, 20][rng.random_range(0..6)]).collect();
    Tower {
        inputs: rng.random_range(1..=4),
        outputs: rng.random_range(1..=5),
        dilations,
        sigmoid: rng.random_bool(0.5),
    }
}

impl Case {
    pub(super) fn new(rng: &mut ChaCha8Rng, tower: Tower, images: usize, size: Size) -> Self {
        let shape = Planes { images, channels: tower.inputs, size };
        // PyTorch's default: uniform within 1/√(inputs of a sum).
        let bound = |inputs: usize| 1.0 / (inputs as f32).sqrt();
        let layer = |index: usize, rng: &mut ChaCha8Rng| {
            let sum = 9 * if index == 0 { tower.inputs } else { WIDTH };
            let weight = values(rng, sum * WIDTH, -bound(sum)..bound(sum));
            [weight, values(rng, WIDTH, 0.5..1.5), values(rng, WIDTH, -0.5..0.5)]
        };
        let layers = (0..tower.layers()).map(|index| layer(index, rng)).collect();
        let head = bound(WIDTH);
        let head = [values(rng, tower.outputs * WIDTH, -head..head), values(rng, tower.outputs, -head..head)];
        let affine = |rng: &mut ChaCha8Rng| {
            let (scales, shifts) = (values(rng, WIDTH, -2.0..2.0), values(rng, WIDTH, -1.0..1.0));
            std::array::from_fn(|c| Affine { scale: scales[c], shift: shifts[c] })
        };
        let affine = (0..tower.layers()).map(|_| affine(rng)).collect();
        let picture = values(rng, shape.len(), -1.0..1.0);
        let gradient = values(rng, shape.with_channels(tower.outputs).len(), -1.0..1.0);
        Self { shape, numbers: Numbers { layers, head }, picture, gradient, affine, tower }
    }

    /// A random one with a number of values a channel in `counts`.
    pub(super) fn random(rng: &mut ChaCha8Rng, counts: std::ops::RangeInclusive<usize>) -> Self {
        let tower = random_tower(rng);
        loop {
            let (images, size) = (rng.random_range(1..=3), random_size(rng));
            if counts.contains(&(images * size.area_px())) {
                return Self::new(rng, tower, images, size);
            }
        }
    }

    pub(super) fn parameters(&self) -> Parameters<'_> {
        let layers =
            (self.numbers.layers.iter()).map(|[weight, gamma, beta]| Layer { weight, gamma, beta }).collect();
        let [head_weight, head_bias] = &self.numbers.head;
        Parameters { layers, head_weight, head_bias, epsilon: EPSILON }
    }

    pub(super) fn train_on(&self, path: Path) -> Found {
        let parameters = self.parameters();
        let (output, trace) = self.tower.forward_on(path, &self.picture, self.shape, &parameters);
        let gradients =
            self.tower.backward_on(path, &self.picture, &trace, &parameters, &output, &self.gradient);
        let moments = trace.moments().iter();
        let moments = moments.map(|layer| layer.iter().map(|m| [m.mean, m.variance]).collect()).collect();
        Found { output, moments, gradients: numbers(gradients) }
    }

    pub(super) fn folded(&self) -> FoldedTower {
        let layers: Vec<(&[f32], [Affine; WIDTH])> =
            self.numbers.layers.iter().zip(&self.affine).map(|([weight, ..], a)| (&weight[..], *a)).collect();
        let [head_weight, head_bias] = &self.numbers.head;
        FoldedTower::new(self.tower.clone(), &layers, head_weight, head_bias)
    }

    /// The naive tower's outputs with the affine maps of inference.
    pub(super) fn naive_inference(&self) -> Vec<f64> {
        let (numbers, picture) = (self.numbers.doubled(), naive::doubled(&self.picture));
        let affine = |layer: usize, _: &[f64]| {
            self.affine[layer].iter().map(|a| [f64::from(a.scale), f64::from(a.shift)]).collect()
        };
        naive::forward(&self.tower, &numbers, &picture, self.shape, affine).output
    }

    /// What is computed, for messages.
    pub(super) fn describe(&self, path: Path) -> String {
        let Planes { images, size, .. } = self.shape;
        format!("{} {images} × {}×{} {:?}", path.name(), size.width_px, size.height_px, self.tower)
    }
}

fn numbers(gradients: Gradients) -> Numbers<f32> {
    let layers = gradients.layers.into_iter().map(|layer| [layer.weight, layer.gamma, layer.beta]).collect();
    Numbers { layers, head: [gradients.head_weight, gradients.head_bias] }
}

/// The largest difference, relative to `scale`; infinite where a value is not a number.
pub(super) fn error(found: &[f32], expected: &[f64], scale: f64) -> f64 {
    assert_eq!(found.len(), expected.len());
    let difference = |(found, expected): (&f32, &f64)| {
        let difference = (f64::from(*found) - expected).abs();
        if difference.is_nan() { f64::INFINITY } else { difference }
    };
    let largest = found.iter().zip(expected).map(difference).fold(0.0, f64::max);
    if largest == 0.0 { 0.0 } else { largest / scale }
}

pub(super) fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

/// The largest errors of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Errors {
    pub(super) output: f64,
    /// Relative to the channels' root mean square.
    pub(super) means: f64,
    /// Relative to the channels' mean square.
    pub(super) variances: f64,
    pub(super) weights: f64,
    pub(super) gammas: f64,
    pub(super) betas: f64,
    pub(super) head_weight: f64,
    pub(super) head_bias: f64,
}

impl Errors {
    pub(super) fn all(&self) -> [f64; 8] {
        let Self { output, means, variances, weights, gammas, betas, head_weight, head_bias } = *self;
        [output, means, variances, weights, gammas, betas, head_weight, head_bias]
    }
}

/// What the naive tower gives in training.
pub(super) struct Expected {
    output: Vec<f64>,
    moments: Vec<Vec<[f64; 2]>>,
    gradients: Numbers<f64>,
    /// About what a sum of all gradients of one output is: the bias's own may cancel to anything less.
    bias_magnitude: f64,
}

impl Expected {
    pub(super) fn of(case: &Case) -> Self {
        let Case { tower, shape, .. } = case;
        let (numbers, picture) = (case.numbers.doubled(), naive::doubled(&case.picture));
        let (epsilon, gradient) = (f64::from(EPSILON), naive::doubled(&case.gradient));
        let made = naive::train(tower, &numbers, &picture, *shape, epsilon);
        let gradients = naive::backward(tower, &numbers, &made, *shape, epsilon, &gradient);
        let inside = shape.with_channels(WIDTH);
        let moments = made.z.iter().map(|z| naive::moments(z, inside)).collect();
        let count = (shape.images * shape.size.area_px()) as f64;
        Self { output: made.output, moments, gradients, bias_magnitude: count.sqrt() }
    }

    /// Gradients are compared with the largest of their tensor, or with `floor` where that is larger.
    pub(super) fn errors(&self, found: &Found, floor: f64) -> Errors {
        let mut errors =
            Errors { output: error(&found.output, &self.output, largest(&self.output)), ..Errors::default() };
        for (found, expected) in found.moments.iter().zip(&self.moments) {
            let square = expected.iter().map(|[mean, variance]| mean * mean + variance).fold(0.0, f64::max);
            let part = |which: usize| -> (Vec<f32>, Vec<f64>) {
                (found.iter().map(|m| m[which]).collect(), expected.iter().map(|m| m[which]).collect())
            };
            let ((found, expected), (variances, expected_variances)) = (part(0), part(1));
            errors.means = errors.means.max(error(&found, &expected, square.sqrt()));
            errors.variances = errors.variances.max(error(&variances, &expected_variances, square));
        }
        let relative = |found: &[f32], expected: &[f64]| error(found, expected, largest(expected).max(floor));
        for (found, expected) in found.gradients.layers.iter().zip(&self.gradients.layers) {
            errors.weights = errors.weights.max(relative(&found[0], &expected[0]));
            errors.gammas = errors.gammas.max(relative(&found[1], &expected[1]));
            errors.betas = errors.betas.max(relative(&found[2], &expected[2]));
        }
        let (found, expected) = (&found.gradients.head, &self.gradients.head);
        errors.head_weight = relative(&found[0], &expected[0]);
        errors.head_bias = error(&found[1], &expected[1], largest(&expected[1]).max(self.bias_magnitude));
        errors
    }
}
