//! What a training needs to go on, as one file.

use super::Step;
use crate::weights::{NamedTensor, Weights, from_safetensors, to_safetensors};
use burn::optim::ModuleOptimizer;
use burn::tensor::Bytes;
use microtome_vault::{Error, Result};
use std::collections::BTreeMap;

/// The state of a training at the end of an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Epochs that are complete.
    pub epochs_done: usize,
    /// Weights and running statistics of the networks that are trained, under `confidence.` and `feature.`.
    pub learner: Weights,
    /// Adam's state, in Burn's own format.
    pub(crate) optimiser: Vec<u8>,
    /// Every step so far.
    pub curve: Vec<Step>,
}

/// Names of what a checkpoint file holds besides weights.
const OPTIMISER: &str = "optimiser.bytes";
const CURVE: &str = "curve";
const EPOCHS_DONE: &str = "epochs_done";

impl Checkpoint {
    /// The checkpoint as the bytes of a safetensors file; `texts` come back from [`Self::from_bytes`].
    ///
    /// # Errors
    /// `Bug` when the library refuses its own format.
    pub fn to_bytes(&self, texts: &BTreeMap<String, String>) -> Result<Vec<u8>> {
        let mut tensors = self.learner.clone();
        // One float a byte and a step: a few hundred kilobytes, in a format that needs no other.
        let optimiser: Vec<f32> = self.optimiser.iter().map(|&byte| byte.into()).collect();
        let curve: Vec<f32> = self.curve.iter().flat_map(|step| [step.epoch as f32, step.loss]).collect();
        tensors.push(NamedTensor { name: OPTIMISER.into(), shape: vec![optimiser.len()], values: optimiser });
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
        let (optimiser, curve) = (take(OPTIMISER)?, take(CURVE)?);
        let epochs_done = texts.get(EPOCHS_DONE).and_then(|text| text.parse().ok());
        let step = |pair: &[f32]| Step { epoch: pair[0] as usize, loss: pair[1] };
        let checkpoint = Self {
            epochs_done: epochs_done.ok_or_else(|| broken(EPOCHS_DONE))?,
            learner: tensors,
            optimiser: optimiser.into_iter().map(|byte| byte as u8).collect(),
            curve: curve.chunks_exact(2).map(step).collect(),
        };
        Ok((checkpoint, texts))
    }
}

fn broken(what: &str) -> Error {
    Error::input(format!("not a checkpoint of a training: “{what}” is missing"))
        .advise("delete it to train from the beginning")
}

pub(super) fn optimiser_bytes(optimiser: &ModuleOptimizer) -> Result<Vec<u8>> {
    let bytes = optimiser.into_bytes();
    bytes
        .map(|bytes| bytes.to_vec())
        .map_err(|error| Error::bug(format!("Adam's state is not writable: {error}")))
}

pub(super) fn load_optimiser(optimiser: ModuleOptimizer, checkpoint: &Checkpoint) -> Result<ModuleOptimizer> {
    if checkpoint.optimiser.is_empty() {
        return Ok(optimiser);
    }
    let bytes = Bytes::from_bytes_vec(checkpoint.optimiser.clone());
    optimiser.from_bytes(bytes).map_err(|error| Error::input(format!("broken optimiser state ({error})")))
}
