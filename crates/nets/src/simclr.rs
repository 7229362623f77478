//! SimCLR (Chen et al. 2020): an encoder learns to tell tiles apart by finding two views of the same tile alike. The first
//! stage of the tissue method (Pan et al. 2023).
//!
//! Reading order: [`recipe`] (what is done, the paper's or ours), [`tiles`] (what it is done to), `batches` (views),
//! [`loss`], and the loop here.

mod batches;
pub mod loss;
pub mod recipe;
pub mod tiles;

pub use recipe::{Recipe, Schedule, ViewKind};
pub use tiles::TrainingTiles;

use crate::initialise::Initialiser;
use crate::layers::{BatchNorm, Then, Weight, conv_norm_training};
use crate::operations::known_gradient::with_gradient;
use crate::optimiser::Adam;
use crate::resnet::names::to_torchvision;
use crate::resnet::{Linear, ResNet};
use crate::training::{Checkpoint, Observer, Step};
use crate::weights::{self, NamedTensor, Weights, floats};
use batches::Batches;
use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Tensor, TensorData, activation};
use loss::nt_xent;
use microtome_kernels::network::channels_last::Convolution;
use microtome_vault::{Error, Result};
use std::ops::Range;

/// Values of a projection that views are compared by.
const PROJECTED: usize = 128;
/// How the names of the encoder's weights begin in a checkpoint.
const ENCODER: &str = "encoder.";

/// The encoder, and what is thrown away after training.
#[derive(Module, Debug)]
struct Learner {
    encoder: ResNet,
    projector: Projector,
}

/// Two linear maps with ReLU between them; ours normalises before it.
#[derive(Module, Debug)]
struct Projector {
    hidden: Option<Linear>,
    conv: Option<Weight>,
    bn: Option<BatchNorm>,
    output: Linear,
}

impl Projector {
    fn new(features: usize, is_normalised: bool, initialiser: &mut Initialiser) -> Self {
        let layer = pointwise(features);
        Self {
            hidden: (!is_normalised).then(|| Linear::new(features, features, initialiser)),
            conv: is_normalised.then(|| Weight::new(layer, initialiser)),
            bn: is_normalised.then(|| BatchNorm::new(features, initialiser)),
            output: Linear::new(features, PROJECTED, initialiser),
        }
    }

    /// `[images, features]` to `[images, 128]`.
    fn forward_training(&self, x: Tensor<2>) -> Tensor<2> {
        let [images, features] = x.dims();
        let hidden = match (&self.hidden, &self.conv, &self.bn) {
            (Some(hidden), ..) => activation::relu(hidden.forward(x)),
            (None, Some(conv), Some(bn)) => {
                let x = x.reshape([images, 1, 1, features]);
                conv_norm_training(x, conv, bn, pointwise(features), Then::Relu).reshape([images, features])
            }
            _ => x,
        };
        self.output.forward(hidden)
    }
}

fn pointwise(features: usize) -> Convolution {
    Convolution::new(features, features, 1)
}

/// Trains an encoder on `tiles` from `start` (or from the beginning), and returns the last checkpoint.
///
/// # Errors
/// `Input` when there are fewer than two tiles; `Cancelled` when the observer asks to stop; those of the observer.
pub fn train(
    tiles: &TrainingTiles<'_>,
    recipe: &Recipe,
    seed: u64,
    start: Option<Checkpoint>,
    observer: &mut dyn Observer,
) -> Result<Checkpoint> {
    if tiles.len() < 2 {
        return Err(Error::input("an encoder learns by telling tiles apart, and there is only one")
            .advise("add slides, or make the step between tiles smaller"));
    }
    let mut training = Training::new(recipe, seed, start)?;
    let batches = Batches::new(tiles, recipe, seed);
    while training.epoch < recipe.epochs && !recipe.has_stopped(&training.curve) {
        training.run_epoch(&batches, observer)?;
        observer.epoch_ended(&training.checkpoint())?;
    }
    Ok(training.checkpoint())
}

/// An encoder with no training at all, under torchvision's names: what a training must be better than.
pub fn untrained(recipe: &Recipe, seed: u64) -> Weights {
    let learner = Training::learner(recipe, seed);
    to_torchvision(weights::collect(&learner.encoder))
}

/// The encoder's weights in a checkpoint, under torchvision's names.
pub fn encoder_weights(checkpoint: &Checkpoint) -> Weights {
    let own = |tensor: &NamedTensor| {
        let name = tensor.name.strip_prefix(ENCODER)?.to_owned();
        Some(NamedTensor { name, ..tensor.clone() })
    };
    to_torchvision(checkpoint.learner.iter().filter_map(own).collect())
}

struct Training<'a> {
    recipe: &'a Recipe,
    learner: Learner,
    optimiser: Adam,
    epoch: usize,
    curve: Vec<Step>,
}

impl<'a> Training<'a> {
    fn learner(recipe: &Recipe, seed: u64) -> Learner {
        let mut initialiser = Initialiser::new(seed);
        let encoder = ResNet::new(recipe.architecture, None, &mut initialiser);
        let features = recipe.architecture.features();
        let projector = Projector::new(features, recipe.is_projector_normalised, &mut initialiser);
        Learner { encoder, projector }
    }

    fn new(recipe: &'a Recipe, seed: u64, start: Option<Checkpoint>) -> Result<Self> {
        let (learner, optimiser) = (Self::learner(recipe, seed), Adam::default());
        let Some(start) = start else {
            return Ok(Self { recipe, learner, optimiser, epoch: 0, curve: Vec::new() });
        };
        Ok(Self {
            recipe,
            learner: weights::apply(learner, &start.learner)?,
            optimiser: start.optimiser,
            epoch: start.epochs_done,
            curve: start.curve,
        })
    }

    fn run_epoch(&mut self, batches: &Batches<'_>, observer: &mut dyn Observer) -> Result<()> {
        for views in batches.of_epoch(self.epoch) {
            let rate = self.recipe.learning_rate_at(self.curve.len(), batches.steps());
            let loss = self.step(views, batches.view_px(), rate);
            let step = Step { epoch: self.epoch, loss };
            self.curve.push(step);
            observer.stepped(step, self.curve.len(), batches.steps());
            if observer.cancelled() {
                return Err(Error::cancelled(format!(
                    "stopped in epoch {} of {}; the same command goes on from the last checkpoint, if there is one",
                    self.epoch + 1,
                    self.recipe.epochs
                )));
            }
        }
        self.epoch += 1;
        Ok(())
    }

    /// One step on views `[2 × tiles, side, side, 3]`, the second views after all first ones.
    fn step(&mut self, views: Vec<f32>, side_px: usize, rate: f64) -> f32 {
        let tiles = views.len() / (2 * 3 * side_px * side_px);
        let (value, gradients) = match self.recipe.tiles_at_once {
            Some(at_once) if at_once < tiles => self.cached_gradients(&views, side_px, at_once.max(1)),
            _ => {
                let loss = nt_xent(self.project(views, side_px), self.recipe.temperature);
                let value = floats(loss.clone())[0];
                (value, GradientsParams::from_grads(loss.backward(), &self.learner))
            }
        };
        self.learner = self.optimiser.step(rate, 0.0, self.learner.clone(), vec![gradients]);
        value
    }

    /// Projections of views, `[views, 128]`.
    fn project(&self, views: Vec<f32>, side_px: usize) -> Tensor<2> {
        Self::projections_of(&self.learner, views, side_px)
    }

    fn projections_of(learner: &Learner, views: Vec<f32>, side_px: usize) -> Tensor<2> {
        let shape = [views.len() / (3 * side_px * side_px), side_px, side_px, 3];
        let x = Tensor::<4>::from_data(TensorData::new(views, shape), &crate::device::training());
        learner.projector.forward_training(learner.encoder.channels_last_training(x))
    }

    /// Loss and gradients of a batch of which only `at_once` tiles are in memory at a time (Gao et al. 2021): all are projected, the
    /// loss's gradient towards the projections is kept, and all are projected again, part by part, to hand it on. Batch norm
    /// sees the tiles of a part; with it the gradient is otherwise that of the whole batch.
    fn cached_gradients(&self, views: &[f32], side_px: usize, at_once: usize) -> (f32, GradientsParams) {
        let own = 3 * side_px * side_px;
        let tiles = views.len() / (2 * own);
        // Of nearly the same size: a last part of one tile would be no batch to normalise.
        let count = tiles.div_ceil(at_once);
        let parts: Vec<Range<usize>> =
            (0..count).map(|part| part * tiles / count..(part + 1) * tiles / count).collect();
        // Both views of its tiles.
        let part = |of: &Range<usize>| -> Vec<f32> {
            let (first, second) = views.split_at(tiles * own);
            [first, second].map(|half| &half[of.start * own..of.end * own]).concat()
        };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        // Without a graph, which would keep what every layer gave. Clones share their running statistics, which are put back.
        let (untracked, before) = (self.learner.clone().no_grad(), weights::collect(&self.learner));
        for of in &parts {
            let projected = floats(Self::projections_of(&untracked, part(of), side_px));
            let (left, right) = projected.split_at(of.len() * PROJECTED);
            first.extend_from_slice(left);
            second.extend_from_slice(right);
        }
        weights::apply(self.learner.clone(), &before).expect("a network takes its own weights");
        first.append(&mut second);
        let data = TensorData::new(first, [2 * tiles, PROJECTED]);
        let projections = Tensor::<2>::from_data(data, &crate::device::training()).require_grad();
        let loss = nt_xent(projections.clone(), self.recipe.temperature);
        let value = floats(loss.clone())[0];
        let gradient = projections.grad(&loss.backward()).map(floats).unwrap_or_default();
        let mut sum = GradientsAccumulator::new();
        for of in &parts {
            let (left, right) = gradient.split_at(tiles * PROJECTED);
            let own = [left, right].map(|half| &half[of.start * PROJECTED..of.end * PROJECTED]).concat();
            let projected = self.project(part(of), side_px).reshape([2 * of.len(), PROJECTED, 1, 1]);
            let gradients = with_gradient(projected, value, own).backward();
            sum.accumulate(&self.learner, GradientsParams::from_grads(gradients, &self.learner));
        }
        (value, sum.grads())
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            epochs_done: self.epoch,
            learner: weights::collect(&self.learner),
            optimiser: self.optimiser.clone(),
            curve: self.curve.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resnet::names::recognised;
    use microtome_kernels::views::stain::StainStatistics;

    struct Watch {
        kept: Vec<Checkpoint>,
        stop_after: usize,
    }

    impl Observer for Watch {
        fn stepped(&mut self, _: Step, done: usize, of: usize) {
            assert!(done <= of);
        }
        fn epoch_ended(&mut self, checkpoint: &Checkpoint) -> Result<()> {
            self.kept.push(checkpoint.clone());
            Ok(())
        }
        fn cancelled(&self) -> bool {
            self.kept.len() >= self.stop_after
        }
    }

    /// Tiles of 32 px in two kinds of stripes.
    fn tiles(count: usize) -> Vec<u8> {
        let pixel = |tile: usize, at: usize| {
            let (x, y) = (at % 32, at / 32);
            let along = if tile.is_multiple_of(2) { x / 2 } else { (x + y) / 5 };
            if along.is_multiple_of(2) { [90, 40, 140] } else { [230, 180, 220] }
        };
        (0..count).flat_map(|tile| (0..32 * 32).flat_map(move |at| pixel(tile, at))).collect()
    }

    fn recipe() -> Recipe {
        Recipe { view_px: 16, batch: 8, epochs: 3, ..Recipe::small() }
    }

    #[test]
    fn a_training_learns_and_a_resumed_one_gives_the_same_bytes() {
        let rgb = tiles(16);
        let statistics = [StainStatistics { mean: [0.3; 3], deviation: [0.2; 3] }];
        let tiles = TrainingTiles::new(32, &rgb, &statistics, vec![0; 16]);
        let mut watch = Watch { kept: Vec::new(), stop_after: usize::MAX };
        let whole = train(&tiles, &recipe(), 5, None, &mut watch).unwrap();
        assert_eq!((whole.curve.len(), watch.kept.len()), (6, 3));
        let mut stopped = Watch { kept: Vec::new(), stop_after: 1 };
        assert!(train(&tiles, &recipe(), 5, None, &mut stopped).is_err());
        let from = stopped.kept.pop().unwrap();
        assert_eq!(from.epochs_done, 1);
        let mut on = Watch { kept: Vec::new(), stop_after: usize::MAX };
        let resumed = train(&tiles, &recipe(), 5, Some(from), &mut on).unwrap();
        assert!(resumed == whole);
        let (architecture, body) = recognised(encoder_weights(&whole)).unwrap();
        assert_eq!(architecture, recipe().architecture);
        let before: Weights = recognised(untrained(&recipe(), 5)).unwrap().1;
        assert!(body != before, "weights move");
        let losses =
            |range: std::ops::Range<usize>| -> f32 { whole.curve[range].iter().map(|s| s.loss).sum() };
        assert!(losses(4..6) < losses(0..2), "{:?}", whole.curve);
    }

    #[test]
    fn a_batch_in_parts_has_the_gradient_of_the_whole_one() {
        let recipe = Recipe { view_px: 16, batch: 4, ..Recipe::small() };
        let rgb = tiles(4);
        let statistics = [StainStatistics { mean: [0.3; 3], deviation: [0.2; 3] }];
        let tiles = TrainingTiles::new(32, &rgb, &statistics, vec![0; 4]);
        let drawn = Batches::new(&tiles, &recipe, 3).of_epoch(0).next().unwrap();
        // Both views of four tiles, twice: batch norm sees the same in each half as in the whole.
        let (first, second) = drawn.split_at(drawn.len() / 2);
        let views = [first, first, second, second].concat();
        let training = Training::new(&recipe, 3, None).unwrap();
        let loss = nt_xent(training.project(views.clone(), 16), recipe.temperature);
        let value = floats(loss.clone())[0];
        let whole = GradientsParams::from_grads(loss.backward(), &training.learner);
        let statistics = |training: &Training<'_>| -> Weights {
            let all = weights::collect(&training.learner).into_iter();
            all.filter(|tensor| tensor.name.contains("running_")).collect()
        };
        let (found, parts) = training.cached_gradients(&views, 16, 4);
        // The halves moved the statistics once each, and nothing else did.
        let again = Training::new(&recipe, 3, None).unwrap();
        let half = [first, second].concat();
        (0..3).for_each(|time| drop(again.project(if time == 0 { views.clone() } else { half.clone() }, 16)));
        for (own, wanted) in statistics(&training).iter().zip(&statistics(&again)) {
            let error =
                own.values.iter().zip(&wanted.values).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(error < 1e-5, "{}: {error:e}", own.name);
        }
        assert!((found - value).abs() < 1e-5, "{found} {value}");
        let learner = &training.learner;
        let (output, stem) = (learner.projector.output.weight.id, learner.encoder.conv1.weight.id);
        let of = |gradients: &GradientsParams| -> [Vec<f32>; 2] {
            [floats(gradients.get::<2>(output).unwrap()), floats(gradients.get::<4>(stem).unwrap())]
        };
        for (whole, parts) in of(&whole).into_iter().zip(of(&parts)) {
            let largest = whole.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let error = whole.iter().zip(&parts).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
            // Sums in another order, in single precision, through all layers.
            assert!(largest > 0.0 && error < 1e-3 * largest, "{error:e} of {largest:e}");
        }
    }

    #[test]
    fn a_training_in_parts_learns() {
        let rgb = tiles(16);
        let statistics = [StainStatistics { mean: [0.3; 3], deviation: [0.2; 3] }];
        let tiles = TrainingTiles::new(32, &rgb, &statistics, vec![0; 16]);
        let schedule = Schedule::Constant;
        let recipe = Recipe { tiles_at_once: Some(4), epochs: 12, schedule, ..recipe() };
        let mut watch = Watch { kept: Vec::new(), stop_after: usize::MAX };
        let taught = train(&tiles, &recipe, 5, None, &mut watch).unwrap();
        let losses =
            |range: std::ops::Range<usize>| -> f32 { taught.curve[range].iter().map(|s| s.loss).sum() };
        assert!(losses(20..24) < losses(0..4), "{:?}", taught.curve);
        assert!(train(&tiles, &recipe, 5, None, &mut watch).unwrap() == taught);
    }

    #[test]
    fn one_tile_is_refused() {
        let rgb = tiles(1);
        let statistics = [StainStatistics { mean: [0.3; 3], deviation: [0.2; 3] }];
        let tiles = TrainingTiles::new(32, &rgb, &statistics, vec![0]);
        let mut watch = Watch { kept: Vec::new(), stop_after: usize::MAX };
        assert!(train(&tiles, &recipe(), 5, None, &mut watch).is_err());
    }
}
