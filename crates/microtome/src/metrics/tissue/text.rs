//! Scores of masks as a table for people and as JSON for programs.

use super::evaluation::TissueEvaluation;
use super::partition::Agreement;
use crate::metrics::Interval;
use microtome_vault::{Error, Result};
use serde_json::{Value, json};

/// The scores as a table.
pub fn table(evaluation: &TissueEvaluation) -> String {
    let mut text =
        format!("{:<20} {:>8} {:>8} {:>8} {:>12}\n", "class", "Dice", "IoU", "accuracy", "true px");
    for (name, class) in evaluation.classes.iter().zip(&evaluation.scores.classes) {
        text += &format!(
            "{name:<20} {:>8.4} {:>8.4} {:>8.4} {:>12}\n",
            class.dice, class.iou, class.accuracy, class.truth_px
        );
    }
    let scores = &evaluation.scores;
    let line = |name: &str, value: f64, interval: &Interval| {
        format!(
            "{name:<24} {value:.4}  (95 % of draws of pictures: {:.4} to {:.4})\n",
            interval.low, interval.high
        )
    };
    text += "\n";
    text += &line("mean Dice", scores.mean_dice, &evaluation.mean_dice);
    text += &line("mean IoU", scores.mean_iou, &evaluation.mean_iou);
    text += &line("pixel accuracy", scores.pixel_accuracy, &evaluation.pixel_accuracy);
    text += &format!("{:<24} {:.4}\n", "mean class accuracy", scores.mean_accuracy);
    text += &format!("{:<24} {:.4}\n", "frequency-weighted IoU", scores.frequency_weighted_iou);
    text += &format!("pictures: {}\n", evaluation.pictures.len());
    evaluation.notes.iter().fold(text, |text, note| text + &format!("note: {note}\n"))
}

/// How clusters and classes of the tiles agree, in a line.
pub fn agreement(of: &Agreement) -> String {
    format!(
        "clusters and classes of the tiles: NMI {:.3}, ARI {:.3}, Fowlkes-Mallows {:.3}, one-to-one accuracy {:.3}",
        of.nmi, of.ari, of.fowlkes_mallows, of.one_to_one_accuracy
    )
}

/// The scores as JSON.
///
/// # Errors
/// `Bug` when the library refuses.
pub fn to_json(evaluation: &TissueEvaluation) -> Result<String> {
    let number = |value: f64| if value.is_finite() { json!(value) } else { Value::Null };
    let interval = |of: &Interval| json!({"low": number(of.low), "high": number(of.high)});
    let class = |(index, name): (usize, &String)| {
        let own = &evaluation.scores.classes[index];
        json!({
            "name": name,
            "dice": number(own.dice),
            "iou": number(own.iou),
            "accuracy": number(own.accuracy),
            "truth_px": own.truth_px,
            "predicted_px": own.predicted_px,
        })
    };
    let count = evaluation.classes.len();
    let row = |truth: usize| {
        (0..=count).map(|predicted| evaluation.confusion.count(truth, predicted)).collect::<Vec<u64>>()
    };
    let scores = &evaluation.scores;
    let value = json!({
        "task": "tissue",
        "mean_dice": number(scores.mean_dice),
        "mean_iou": number(scores.mean_iou),
        "pixel_accuracy": number(scores.pixel_accuracy),
        "mean_class_accuracy": number(scores.mean_accuracy),
        "frequency_weighted_iou": number(scores.frequency_weighted_iou),
        "interval_95": {
            "mean_dice": interval(&evaluation.mean_dice),
            "mean_iou": interval(&evaluation.mean_iou),
            "pixel_accuracy": interval(&evaluation.pixel_accuracy),
        },
        "classes": evaluation.classes.iter().enumerate().map(class).collect::<Vec<Value>>(),
        "confusion": (0..count).map(row).collect::<Vec<_>>(),
        "pictures": evaluation.pictures.iter().map(|(name, scores)| json!({
            "name": name,
            "mean_dice": number(scores.mean_dice),
            "mean_iou": number(scores.mean_iou),
            "pixel_accuracy": number(scores.pixel_accuracy),
        })).collect::<Vec<Value>>(),
        "notes": evaluation.notes,
    });
    serde_json::to_string_pretty(&value)
        .map_err(|error| Error::bug(format!("scores cannot be written ({error})")))
}
