//! The oracle's choice beside ours: which output channel of a contrastive model has the highest Dice, had one looked at
//! the truth. The reference publishes that number; here it is printed for comparison only.

use super::dice::semantic_dice;
use super::run_pictures::RunPictures;
use crate::nuclei::choice::Sense;
use crate::nuclei::config::Method;
use crate::nuclei::model::Model;
use crate::nuclei::segmenter::all_channel_masks;
use crate::truth::{Pair, read_truth};
use microtome_vault::{Budget, Result};
use std::path::Path;

/// Mean Dice of each channel and sense at a threshold of one half, before morphology.
#[derive(Clone, Debug, PartialEq)]
pub struct Oracle {
    /// What we chose without truth, and its mean Dice.
    pub ours: (Sense, f64),
    /// What the truth would choose, and its mean Dice.
    pub oracle: (Sense, f64),
    /// All of them.
    pub all: Vec<(Sense, f64)>,
    /// Pictures that were looked at.
    pub pictures: usize,
}

/// The oracle's choice for the contrastive run in whose folder `predicted` is; none for anything else, and where its
/// pictures are gone.
///
/// # Errors
/// Those of reading pictures and truths that are there.
pub fn of_run(predicted: &Path, pairs: &[Pair], budget: Budget) -> Result<Option<Oracle>> {
    let Some(pictures) = RunPictures::of(predicted) else { return Ok(None) };
    let model = Model::read(&pictures.folder.join("model.safetensors")).ok();
    let Some(model) = model.filter(|model| model.record.method == Method::Contrastive) else {
        return Ok(None);
    };
    let mut sums: Vec<(Sense, f64)> = Vec::new();
    let mut count = 0;
    for pair in pairs {
        let Some(picture) = pictures.read(pair, budget)? else { continue };
        let truth = read_truth(&pair.truth, Some(picture.size))?;
        for (index, (sense, mask)) in all_channel_masks(&model, &picture)?.into_iter().enumerate() {
            let dice = semantic_dice(&mask, &truth)?;
            match sums.get_mut(index) {
                Some((_, sum)) => *sum += dice,
                None => sums.push((sense, dice)),
            }
        }
        count += 1;
    }
    let all: Vec<(Sense, f64)> =
        sums.into_iter().map(|(sense, sum)| (sense, sum / f64::from(count))).collect();
    let chosen = Sense { channel: model.record.channel, inverted: model.record.inverted };
    let ours = all.iter().copied().find(|(sense, _)| *sense == chosen);
    let oracle = all.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    Ok(ours.zip(oracle).map(|(ours, oracle)| Oracle { ours, oracle, all, pictures: count as usize }))
}

impl Oracle {
    /// Two lines for the terminal.
    pub fn to_text(&self) -> String {
        let show = |(sense, dice): (Sense, f64)| {
            let inverted = if sense.inverted { ", inverted" } else { "" };
            format!("channel {}{inverted}: Dice {dice:.4}", sense.channel)
        };
        format!(
            "\nOutput channel at the chosen epoch, threshold 0.5, before morphology, over {} pictures:\n  \
             ours, chosen without truth   {}\n  the oracle's, with truth     {}\n",
            self.pictures,
            show(self.ours),
            show(self.oracle)
        )
    }
}
