//! Trained models as files: weights and what is needed to apply them, in one safetensors file.

use super::config::{ConfigFile, Method};
use super::segmenter::Segmenter;
use microtome_nets::weights::{Weights, from_safetensors, to_safetensors};
use microtome_vault::{Budget, Error, Result, checksum, disk};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What the weights are weights of. A model of another architecture is refused.
const ARCHITECTURE: &str = "microtome confidence network 1";
/// Largest model file that is read: a thousand times what one takes.
const LARGEST: Budget = Budget::of_bytes(64 << 20);

/// A trained network and how it is applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The weights of the confidence network.
    pub weights: Weights,
    /// What else it takes to apply and to understand them.
    pub record: ModelRecord,
}

/// The on-disk record within a model file (version 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Version of this record.
    pub format_version: u32,
    /// Version of Microtome that trained it.
    pub microtome: String,
    /// The method that trained it.
    pub method: Method,
    /// Output channel that is nuclei.
    pub channel: usize,
    /// Whether nuclei are where that channel is low.
    pub inverted: bool,
    /// Seed of the training.
    pub seed: u64,
    /// All values of the training.
    pub config: ConfigFile,
    /// SHA-256 of each picture it was trained on, by name.
    pub trained_on: BTreeMap<String, String>,
}

impl Model {
    /// Writes the model, whole or not at all, and returns its SHA-256.
    ///
    /// # Errors
    /// `Io` when it cannot be written.
    pub fn write(&self, path: &Path) -> Result<String> {
        let record = serde_json::to_string(&self.record)
            .map_err(|error| Error::bug(format!("the model's record is not writable ({error})")))?;
        let texts = BTreeMap::from([
            ("architecture".to_owned(), ARCHITECTURE.to_owned()),
            ("record".to_owned(), record),
        ]);
        let bytes = to_safetensors(&self.weights, &texts)?;
        disk::write_atomic(path, &bytes)?;
        Ok(checksum::sha256_hex(&bytes))
    }

    /// Reads a model.
    ///
    /// # Errors
    /// `Input` when the file is not a model of this architecture and of a version that is known, or holds values that
    /// no training takes.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = disk::read_file_bounded(path, LARGEST)?;
        let model = Self::from_bytes(&bytes).map_err(|error| error.at(path))?;
        Segmenter::of_model(&model).map_err(|error| error.at(path))?;
        Ok(model)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (weights, texts) = from_safetensors(bytes)?;
        let found = texts.get("architecture").map_or("none", String::as_str);
        if found != ARCHITECTURE {
            return Err(Error::input(format!(
                "the model's architecture is “{found}”, this command applies “{ARCHITECTURE}”"
            ))
            .advise("train a model with `microtome nuclei train`"));
        }
        let record = texts.get("record").map_or("", String::as_str);
        let record: ModelRecord = serde_json::from_str(record)
            .map_err(|error| Error::input(format!("the model's record is not readable ({error})")))?;
        if record.format_version != 1 {
            let version = record.format_version;
            return Err(Error::input(format!("the model's record has version {version}, known is 1"))
                .advise("a newer microtome wrote it; use that one"));
        }
        let check = record.config.check();
        check.map_err(|error| {
            Error::input(format!("the model's record has values that none is trained with ({error})"))
        })?;
        Ok(Self { weights, record })
    }
}
