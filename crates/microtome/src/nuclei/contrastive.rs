//! `--method contrastive`: the paper's method, with epoch and channel chosen without truth.

use super::choice::{Choice, choose, windows};
use super::config::ConfigFile;
use super::teaching::{CheckpointFolder, Keep, plain, teach};
use crate::context::Context;
use microtome_nets::training::{Objective, Step, confidence_weights};
use microtome_nets::weights::Weights;
use microtome_slide::Picture;
use microtome_vault::{Error, Result};

/// Name of the stage, and of its checkpoints.
const STAGE: &str = "contrastive";

/// What a training gave.
pub struct Taught {
    /// The weights of the chosen epoch.
    pub weights: Weights,
    /// How epoch and channel were chosen, for methods that choose.
    pub choice: Option<Choice>,
    /// The loss of every step, round after round.
    pub curve: Vec<Step>,
}

/// Trains on `pictures` and chooses.
///
/// # Errors
/// `Input` when no picture is as large as the crop, `Cancelled`, `Io`.
pub fn learn(
    pictures: &[Picture],
    config: &ConfigFile,
    checkpoints: &CheckpointFolder,
    context: &Context<'_>,
) -> Result<Taught> {
    let contrastive = config.contrastive();
    let objective = Objective::Contrastive(contrastive.clone());
    let last = teach(STAGE, &plain(pictures), &objective, Keep::EachEpoch, checkpoints, context)?;
    let skipped = last.curve.iter().filter(|step| step.loss.is_nan()).count();
    if skipped > 0 {
        context.warn(format!(
            "{skipped} of {} batches were skipped: a channel had no positive or no negative patch",
            last.curve.len()
        ));
    }
    let epochs: Vec<Weights> = (1..=contrastive.epochs)
        .map(|epoch| checkpoints.read(STAGE, epoch).map(|checkpoint| confidence_weights(&checkpoint)))
        .collect::<Option<_>>()
        .ok_or_else(|| {
            Error::new(microtome_vault::Fault::Io, "a checkpoint of this training was removed while it ran")
                .advise("the same command trains what is missing")
        })?;
    let choice = choose(&epochs, contrastive.epsilon, &windows(pictures, &config.stain(), context.seed))?;
    let weights = epochs[choice.chosen.epoch - 1].clone();
    Ok(Taught { weights, choice: Some(choice), curve: last.curve })
}
