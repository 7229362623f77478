//! Training a network on pictures: what is common to the methods that learn. Progress, Ctrl-C, checkpoints, and going
//! on where it stopped.

use crate::context::Context;
use microtome_nets::random::{Purpose, stream};
use microtome_nets::training::{Checkpoint, Objective, Observer, Step, TrainingPicture, train};
use microtome_slide::Picture;
use microtome_vault::lock::FolderLock;
use microtome_vault::{Budget, Result, disk};
use rand::seq::SliceRandom;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Largest checkpoint that is read.
const LARGEST_CHECKPOINT: Budget = Budget::of_bytes(256 << 20);
/// Pixels that are kept in memory for training, as RGB. Above it, a sample of the pictures is trained on.
const TRAINING_BYTES: u64 = 2 << 30;

/// Where the checkpoints of a training lie.
pub struct CheckpointFolder {
    folder: PathBuf,
    /// Identifies inputs, config and seed: a checkpoint of another training is not continued.
    key: String,
    _lock: FolderLock,
}

impl CheckpointFolder {
    /// Checkpoints in `folder`, which is made, of the training that `key` identifies.
    ///
    /// # Errors
    /// `Usage` when another process trains there; `Io` when the folder cannot be made.
    pub fn open(folder: PathBuf, key: String) -> Result<Self> {
        disk::create_folder_all(&folder)?;
        let lock = FolderLock::acquire(&folder, "a training")?;
        disk::remove_leftovers(&folder)?;
        Ok(Self { folder, key, _lock: lock })
    }

    fn path(&self, stage: &str, epochs_done: usize) -> PathBuf {
        self.folder.join(format!("{stage}-{epochs_done:05}.safetensors"))
    }

    /// The checkpoint after that epoch, if it is there and whole.
    pub fn read(&self, stage: &str, epochs_done: usize) -> Option<Checkpoint> {
        let bytes = disk::read_file_bounded(self.path(stage, epochs_done), LARGEST_CHECKPOINT).ok()?;
        let (checkpoint, texts) = Checkpoint::from_bytes(&bytes).ok()?;
        (texts.get("key") == Some(&self.key)).then_some(checkpoint)
    }

    /// The newest checkpoint that is there and whole.
    pub fn newest(&self, stage: &str, epochs: usize) -> Option<Checkpoint> {
        (1..=epochs).rev().find_map(|done| self.read(stage, done))
    }

    fn write(&self, stage: &str, checkpoint: &Checkpoint) -> Result<()> {
        let texts = BTreeMap::from([("key".to_owned(), self.key.clone())]);
        disk::write_atomic(self.path(stage, checkpoint.epochs_done), &checkpoint.to_bytes(&texts)?)
    }

    fn remove(&self, stage: &str, epochs_done: usize) -> Result<()> {
        disk::remove_file(self.path(stage, epochs_done))
    }

    /// Removes all checkpoints of a training that is complete.
    ///
    /// # Errors
    /// `Io` when one cannot be removed.
    pub fn clear(&self, stage: &str, epochs: usize) -> Result<()> {
        (1..=epochs).try_for_each(|done| self.remove(stage, done))
    }
}

/// Which checkpoints are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// One for each epoch: an epoch is chosen among them.
    EachEpoch,
    /// The newest, written every so many epochs.
    Newest {
        /// Epochs between two checkpoints.
        every: usize,
    },
}

/// Trains, from the newest checkpoint on.
///
/// # Errors
/// `Input` when no picture is as large as the crop, `Cancelled`, `Io` when a checkpoint cannot be written.
pub fn teach(
    stage: &str,
    pictures: &[TrainingPicture<'_>],
    objective: &Objective,
    keep: Keep,
    checkpoints: &CheckpointFolder,
    context: &Context<'_>,
) -> Result<Checkpoint> {
    let start = checkpoints.newest(stage, objective.epochs());
    if let Some(start) = &start {
        let done = start.epochs_done;
        context.progress().advance(0, &format!("going on after epoch {done} of {}", objective.epochs()));
    }
    let mut watch = Watch { stage, keep, checkpoints, context, begun: false, epochs: objective.epochs() };
    let trained = train(pictures, objective, context.seed, start, &mut watch);
    context.progress().end();
    trained
}

struct Watch<'a> {
    stage: &'a str,
    keep: Keep,
    checkpoints: &'a CheckpointFolder,
    context: &'a Context<'a>,
    begun: bool,
    epochs: usize,
}

impl Observer for Watch<'_> {
    fn stepped(&mut self, step: Step, done: usize, of: usize) {
        if !self.begun {
            self.context.progress().begin(self.stage, of);
            self.begun = true;
        }
        self.context.progress().advance(done, &format!("epoch {} loss {:.4}", step.epoch + 1, step.loss));
    }

    fn epoch_ended(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let done = checkpoint.epochs_done;
        match self.keep {
            Keep::EachEpoch => self.checkpoints.write(self.stage, checkpoint),
            Keep::Newest { every } if done.is_multiple_of(every) || done == self.epochs => {
                self.checkpoints.write(self.stage, checkpoint)?;
                let earlier = if done.is_multiple_of(every) { done - every } else { done / every * every };
                if earlier > 0 { self.checkpoints.remove(self.stage, earlier) } else { Ok(()) }
            }
            Keep::Newest { .. } => Ok(()),
        }
    }

    fn cancelled(&self) -> bool {
        self.context.is_cancelled()
    }
}

/// Which of `sizes_bytes` are trained on: all, or a sample that fits the memory kept for training.
pub fn training_sample(sizes_bytes: &[u64], seed: u64) -> Vec<usize> {
    let total: u64 = sizes_bytes.iter().sum();
    if total <= TRAINING_BYTES {
        return (0..sizes_bytes.len()).collect();
    }
    let mean = total.div_ceil(sizes_bytes.len() as u64).max(1);
    let count = ((TRAINING_BYTES / mean) as usize).clamp(1, sizes_bytes.len());
    let mut random = stream(seed, Purpose::Choice, 1);
    let mut order: Vec<usize> = (0..sizes_bytes.len()).collect();
    let (chosen, _) = order.partial_shuffle(&mut random, count);
    chosen.sort_unstable();
    chosen.to_vec()
}

/// Pictures as a training without targets sees them.
pub fn plain<'a>(pictures: &'a [Picture]) -> Vec<TrainingPicture<'a>> {
    pictures.iter().map(|p| TrainingPicture { size: p.size, rgb: &p.rgb, target: None }).collect()
}

/// Where the checkpoints of a model file lie while it is trained.
pub fn beside(model: &Path) -> PathBuf {
    let mut name = model.file_name().unwrap_or_default().to_owned();
    name.push(".training");
    model.with_file_name(name)
}
