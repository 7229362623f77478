//! Masks of many pictures against truth.

use super::confusion::{ClassScores, Confusion};
use crate::metrics::ScoringKey;
use crate::metrics::bootstrap::{Interval, interval_of};
use crate::truth::class_mask::{ClassCodes, codes_of, read_class_truth, read_predicted_mask};
use crate::truth::layout::{Pair, pair_masks};
use microtome_vault::{Budget, Error, Result, disk};
use rayon::prelude::*;
use serde_json::Value;
use std::path::Path;

/// The file beside masks that names their classes.
pub const CLASSES_FILE: &str = "classes.json";

/// Scores of masks.
#[derive(Clone, Debug)]
pub struct TissueEvaluation {
    /// The classes' names.
    pub classes: Vec<String>,
    /// Of all pixels together.
    pub scores: ClassScores,
    /// All pixels.
    pub confusion: Confusion,
    /// Of the mean Dice, when pictures are drawn.
    pub mean_dice: Interval,
    /// Of the mean IoU.
    pub mean_iou: Interval,
    /// Of the share of pixels that were given their class.
    pub pixel_accuracy: Interval,
    /// The pictures with their own scores.
    pub pictures: Vec<(String, ClassScores)>,
    /// What a reader of the numbers should know, a sentence each.
    pub notes: Vec<String>,
}

/// Scores the masks of a folder against those of another, by name. Truth without a mask is noted and passed over.
///
/// # Errors
/// `Input` when a mask has no truth, cannot be read, or has another size than its truth.
pub fn evaluate(predicted: &Path, truth: &Path, codes: Option<ClassCodes>) -> Result<TissueEvaluation> {
    let (pairs, mut notes) = pair_masks(predicted, truth)?;
    let (classes, is_oracle_named) = classes_of(predicted, &pairs)?;
    let paths: Vec<&Path> = pairs.iter().map(|pair| pair.truth.as_path()).collect();
    let codes = match codes {
        Some(codes) => codes,
        None => codes_of(&paths, classes.len())?,
    };
    notes.push(match codes {
        ClassCodes::Instances => {
            "the truth was read as objects: 0 is the first class, all else the second".to_owned()
        }
        codes => format!("the truth was read as {}", codes.name()),
    });
    if is_oracle_named {
        notes.push(
            "the clusters were named by an oracle that saw truth: an experiment, not a person's work"
                .to_owned(),
        );
    }
    let one = |pair: &Pair| confusion_of(pair, codes, classes.len());
    let all: Vec<Result<Confusion>> = pairs.par_iter().map(one).collect();
    let all: Vec<Confusion> = all.into_iter().collect::<Result<_>>()?;
    let sum = |drawn: &mut dyn Iterator<Item = usize>| {
        let mut sum = Confusion::new(classes.len());
        drawn.for_each(|picture| sum.add_all(&all[picture]));
        sum.scores()
    };
    let of = |score: fn(&ClassScores) -> f64| {
        interval_of(all.len(), |drawn| score(&sum(&mut drawn.iter().copied())))
    };
    let mut confusion = Confusion::new(classes.len());
    all.iter().for_each(|picture| confusion.add_all(picture));
    Ok(TissueEvaluation {
        scores: confusion.scores(),
        confusion,
        mean_dice: of(|scores| scores.mean_dice),
        mean_iou: of(|scores| scores.mean_iou),
        pixel_accuracy: of(|scores| scores.pixel_accuracy),
        pictures: pairs.iter().zip(&all).map(|(pair, all)| (pair.name.clone(), all.scores())).collect(),
        classes,
        notes,
    })
}

fn confusion_of(pair: &Pair, codes: ClassCodes, classes: usize) -> Result<Confusion> {
    let truth = read_class_truth(&pair.truth, codes, classes)?;
    let (size, predicted) = read_predicted_mask(&pair.predicted, classes)?;
    if size != truth.size() {
        return Err(Error::input(format!("the mask has {size} pixels, its truth {}", truth.size()))
            .advise("give the truth of this very picture, at its resolution")
            .at(&pair.predicted));
    }
    let mut confusion = Confusion::new(classes);
    confusion.add(&predicted, truth.classes(&ScoringKey(())));
    Ok(confusion)
}

/// Names of the classes, and whether an oracle named the clusters: from the file beside the masks; else by the values.
fn classes_of(predicted: &Path, pairs: &[Pair]) -> Result<(Vec<String>, bool)> {
    let folders = [Some(predicted), predicted.parent()];
    let file =
        folders.into_iter().flatten().map(|folder| folder.join(CLASSES_FILE)).find(|file| file.is_file());
    let Some(file) = file else {
        let mut highest = 1;
        for pair in pairs {
            let (_, mask) = read_predicted_mask(&pair.predicted, 255)?;
            highest =
                mask.into_iter().filter(|class| *class != 255).map(usize::from).fold(highest, usize::max);
        }
        return Ok(((0..=highest).map(|class| format!("class {class}")).collect(), false));
    };
    let bytes = disk::read_file_bounded(&file, Budget::of_bytes(1 << 20))?;
    let value: Option<Value> = serde_json::from_slice(&bytes).ok();
    let name = |class: &Value| class.get("name").and_then(Value::as_str).map(str::to_owned);
    let names = value.as_ref().and_then(|value| value.get("classes")?.as_array()?.iter().map(name).collect());
    let is_oracle = value.as_ref().and_then(|value| value.get("named_by")?.as_str()) == Some("oracle");
    let broken = || Error::input("the file does not name classes").at(&file);
    names.map(|names| (names, is_oracle)).ok_or_else(broken)
}
