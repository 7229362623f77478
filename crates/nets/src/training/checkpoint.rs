//! What a training needs to go on, as one file.

use super::Step;
use crate::optimiser::Adam;
use crate::weights::{NamedTensor, Weights, from_safetensors, to_safetensors};
use microtome_vault::{Error, Result};
use std::collections::BTreeMap;

/// The state of a training at the end of an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Epochs that are complete.
    pub epochs_done: usize,
    /// Weights and running statistics of the networks that are trained, under `confidence.` and `feature.`.
    pub learner: Weights,
    /// Adam's state.
    pub(crate) optimiser: Adam,
    /// Every step so far.
    pub curve: Vec<Step>,
}

/// Names of what a checkpoint file holds besides weights.
const CURVE: &str = "curve";
const EPOCHS_DONE: &str = "epochs_done";

impl Checkpoint {
    /// The checkpoint as the bytes of a safetensors file; `texts` come back from [`Self::from_bytes`].
    ///
    /// # Errors
    /// `Bug` when the library refuses its own format.
    pub fn to_bytes(&self, texts: &BTreeMap<String, String>) -> Result<Vec<u8>> {
        let mut tensors = self.learner.clone();
        tensors.extend(self.optimiser.state());
        let curve: Vec<f32> = self.curve.iter().flat_map(|step| [step.epoch as f32, step.loss]).collect();
        tensors.push(NamedTensor { name: CURVE.into(), shape: vec![self.curve.len(), 2], values: curve });
        let mut texts = texts.clone();
        texts.insert(EPOCHS_DONE.into(), self.epochs_done.to_string());
        to_safetensors(&tensors, &texts)
    }

    /// A checkpoint and its texts from the bytes of a file.
    ///
    /// # Errors
    /// `Input` when the bytes are not a checkpoint.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, BTreeMap<String, String>)> {
        let (mut tensors, texts) = from_safetensors(bytes)?;
        let mut take = |name: &str| {
            let index = tensors.iter().position(|tensor| tensor.name == name);
            index.map(|index| tensors.remove(index).values).ok_or_else(|| broken(name))
        };
        let curve = take(CURVE)?;
        let optimiser = Adam::restore(&mut tensors)?;
        let epochs_done = texts.get(EPOCHS_DONE).and_then(|text| text.parse().ok());
        let step = |pair: &[f32]| Step { epoch: pair[0] as usize, loss: pair[1] };
        let checkpoint = Self {
            epochs_done: epochs_done.ok_or_else(|| broken(EPOCHS_DONE))?,
            learner: tensors,
            optimiser,
            curve: curve.chunks_exact(2).map(step).collect(),
        };
        Ok((checkpoint, texts))
    }
}

fn broken(what: &str) -> Error {
    Error::input(format!("not a checkpoint of a training: “{what}” is missing"))
        .advise("delete it to train from the beginning")
}
