//! The training loop: batches of random crops, one objective, Adam; a checkpoint after each epoch from which the
//! same command goes on to the same bytes.

mod checkpoint;
mod crops;

pub use checkpoint::Checkpoint;
pub(crate) use crops::Batch;
pub use crops::{Augmentation, SoftTarget, TrainingPicture};

use crate::confidence::ConfidenceNetwork;
use crate::contrastive::ContrastiveConfig;
use crate::contrastive::Similarity;
use crate::feature::FeatureNetwork;
use crate::initialise::Initialiser;
use crate::optimiser::Adam;
use crate::random::{Purpose, stream};
use crate::soft_target::SoftTargetConfig;
use crate::weights::{self, Weights};
use burn::module::Module;
use burn::optim::GradientsParams;
use crops::Batches;
use microtome_vault::{Error, Result};
use rand_chacha::ChaCha8Rng;

/// What the network is taught.
#[derive(Clone, Debug, PartialEq)]
pub enum Objective {
    /// Patches that are alike, without any target.
    Contrastive(ContrastiveConfig),
    /// Targets that were computed from the same pictures.
    SoftTarget(SoftTargetConfig),
}

/// One step of the curve that is shown and kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Loss of the batch; NaN for a batch that was skipped because a channel had no positive or no negative.
    pub loss: f32,
}

/// Who watches a training.
pub trait Observer {
    /// A step is done, the `done`-th of `of`.
    fn stepped(&mut self, step: Step, done: usize, of: usize);
    /// An epoch is done; what is kept here is enough to go on from.
    ///
    /// # Errors
    /// Those of writing it down, which end the training.
    fn epoch_ended(&mut self, checkpoint: &Checkpoint) -> Result<()>;
    /// Whether to stop after this step.
    fn cancelled(&self) -> bool;
}

/// The networks that are trained together.
#[derive(Module, Debug)]
pub(crate) struct Learner {
    pub(crate) confidence: ConfidenceNetwork,
    pub(crate) feature: Option<FeatureNetwork>,
}

/// Trains on `pictures` from `start` (or from the beginning) to the end of the last epoch, and returns the last
/// checkpoint.
///
/// # Errors
/// `Input` when no picture is as large as the crop; `Cancelled` when the observer asks to stop; those of the observer.
pub fn train(
    pictures: &[TrainingPicture<'_>],
    objective: &Objective,
    seed: u64,
    start: Option<Checkpoint>,
    observer: &mut dyn Observer,
) -> Result<Checkpoint> {
    let mut training = Training::new(objective, seed, start)?;
    let batches = Batches::new(pictures, objective)?;
    while training.epoch < objective.epochs() {
        training.run_epoch(&batches, observer)?;
        observer.epoch_ended(&training.checkpoint()?)?;
    }
    training.checkpoint()
}

/// A network with no training at all, as a checkpoint.
///
/// # Errors
/// `Bug` when the optimiser's state cannot be written.
pub fn untrained(objective: &Objective, seed: u64) -> Result<Checkpoint> {
    Training::new(objective, seed, None)?.checkpoint()
}

struct Training<'a> {
    objective: &'a Objective,
    seed: u64,
    learner: Learner,
    optimiser: Adam,
    epoch: usize,
    curve: Vec<Step>,
}

impl<'a> Training<'a> {
    fn new(objective: &'a Objective, seed: u64, start: Option<Checkpoint>) -> Result<Self> {
        let (learner, optimiser) = (objective.learner(seed), Adam::default());
        let Some(start) = start else {
            return Ok(Self { objective, seed, learner, optimiser, epoch: 0, curve: Vec::new() });
        };
        Ok(Self {
            objective,
            seed,
            learner: weights::apply(learner, &start.learner)?,
            optimiser: start.optimiser,
            epoch: start.epochs_done,
            curve: start.curve,
        })
    }

    fn run_epoch(&mut self, batches: &Batches<'_>, observer: &mut dyn Observer) -> Result<()> {
        let mut crops_random = stream(self.seed, Purpose::Crops, self.epoch as u64);
        let mut patches_random = stream(self.seed, Purpose::Patches, self.epoch as u64);
        for batch in batches.of_epoch(&mut crops_random) {
            let rate = self.objective.learning_rate(self.curve.len(), batches.steps());
            let loss = self.step(&batch, rate, &mut patches_random);
            let step = Step { epoch: self.epoch, loss };
            self.curve.push(step);
            observer.stepped(step, self.curve.len(), batches.steps());
            if observer.cancelled() {
                return Err(Error::cancelled(format!(
                    "stopped in epoch {} of {}; the same command goes on from the last checkpoint, if there is one",
                    self.epoch + 1,
                    self.objective.epochs()
                )));
            }
        }
        self.epoch += 1;
        Ok(())
    }

    fn step(&mut self, batch: &crops::Batch, rate: f64, random: &mut ChaCha8Rng) -> f32 {
        let found = self.objective.gradients(&self.learner, batch, random);
        let Some((loss, gradients)) = found else { return f32::NAN };
        let penalty = self.objective.penalty();
        self.learner = self.optimiser.step(rate, penalty, self.learner.clone(), gradients);
        loss
    }

    fn checkpoint(&self) -> Result<Checkpoint> {
        Ok(Checkpoint {
            epochs_done: self.epoch,
            learner: weights::collect(&self.learner),
            optimiser: self.optimiser.clone(),
            curve: self.curve.clone(),
        })
    }
}

impl Objective {
    /// Passes over the pictures.
    pub fn epochs(&self) -> usize {
        match self {
            Self::Contrastive(config) => config.epochs,
            Self::SoftTarget(config) => config.epochs,
        }
    }

    fn crop_px(&self) -> usize {
        match self {
            Self::Contrastive(config) => config.crop_px,
            Self::SoftTarget(config) => config.crop_px,
        }
    }

    fn batch(&self) -> usize {
        match self {
            Self::Contrastive(config) => config.batch,
            Self::SoftTarget(config) => config.batch,
        }
    }

    fn repeats(&self) -> usize {
        match self {
            Self::Contrastive(_) => 1,
            Self::SoftTarget(config) => config.repeats,
        }
    }

    fn epsilon(&self) -> f32 {
        match self {
            Self::Contrastive(config) => config.epsilon,
            Self::SoftTarget(config) => config.epsilon,
        }
    }

    fn augmentation(&self) -> Augmentation {
        match self {
            Self::Contrastive(_) => Augmentation::None,
            Self::SoftTarget(_) => Augmentation::FlipsAndStain,
        }
    }

    fn learner(&self, seed: u64) -> Learner {
        let mut initialiser = Initialiser::new(seed);
        match self {
            Self::Contrastive(config) => Learner {
                confidence: ConfidenceNetwork::new(3, config.channels, &mut initialiser),
                feature: (config.similarity == Similarity::FeaturisedCosine)
                    .then(|| FeatureNetwork::new(3, config.patch_px, &mut initialiser)),
            },
            Self::SoftTarget(config) => Learner {
                confidence: ConfidenceNetwork::new(3, config.targets, &mut initialiser),
                feature: None,
            },
        }
    }

    fn penalty(&self) -> f64 {
        f64::from(match self {
            Self::Contrastive(config) => config.weight_decay,
            Self::SoftTarget(config) => config.weight_decay,
        })
    }

    /// The step size of the `done`-th of `steps` steps.
    fn learning_rate(&self, done: usize, steps: usize) -> f64 {
        match self {
            Self::Contrastive(config) => config.learning_rate,
            Self::SoftTarget(config) => config.learning_rate_at(done, steps),
        }
    }

    /// The loss of a batch and the gradients of the networks, if the batch has any.
    fn gradients(
        &self,
        learner: &Learner,
        batch: &crops::Batch,
        random: &mut ChaCha8Rng,
    ) -> Option<(f32, Vec<GradientsParams>)> {
        match self {
            Self::Contrastive(config) => config.gradients(learner, &batch.crops, random),
            Self::SoftTarget(config) => {
                let loss = config.loss(&learner.confidence, batch);
                let value = weights::floats(loss.clone())[0];
                Some((value, vec![GradientsParams::from_grads(loss.backward(), &learner.confidence)]))
            }
        }
    }
}

/// The weights of the confidence network alone, as they are kept in a model file.
pub fn confidence_weights(checkpoint: &Checkpoint) -> Weights {
    checkpoint
        .learner
        .iter()
        .filter_map(|tensor| {
            let name = tensor.name.strip_prefix("confidence.")?.to_owned();
            Some(weights::NamedTensor { name, ..tensor.clone() })
        })
        .collect()
}
