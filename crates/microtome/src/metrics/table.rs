//! An evaluation as text for a terminal: one line a picture, then the means with their intervals.

use super::bootstrap::Interval;
use super::evaluation::{Evaluation, PictureScores};

/// Characters of a picture's name that are shown, at most.
const NAME_CHARS: usize = 40;
const METRICS: [&str; 9] = ["Dice", "IoU", "AJI", "PQ", "DQ", "SQ", "F1", "Prec.", "Recall"];

/// One line a picture: its metrics, and how many nuclei are true and were predicted; then [`summary`].
pub fn table(evaluation: &Evaluation) -> String {
    let names: Vec<String> = evaluation.pictures.iter().map(|scores| shortened(&scores.name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("picture".len());
    let mut text = heading(width);
    for (name, scores) in names.iter().zip(&evaluation.pictures) {
        text += &picture_line(name, width, scores);
    }
    text + "\n" + &summary(evaluation)
}

/// One line a metric: its mean over the pictures and the 95 % interval; then the notes.
pub fn summary(evaluation: &Evaluation) -> String {
    let count = evaluation.pictures.len();
    let pictures = if count == 1 { "picture" } else { "pictures" };
    let mut text = format!("{count} {pictures:<10} mean  95 % interval\n");
    for (metric, interval) in METRICS.iter().zip(intervals(evaluation)) {
        text +=
            &format!("{metric:<10} {:>8.4}  {:.4} to {:.4}\n", interval.mean, interval.low, interval.high);
    }
    for note in &evaluation.notes {
        text += &format!("note: {note}\n");
    }
    text
}

fn heading(width: usize) -> String {
    let metrics: String = METRICS.iter().map(|metric| format!(" {metric:>6}")).collect();
    format!("{:<width$}{metrics} {:>7} {:>9}\n", "picture", "true", "predicted")
}

fn picture_line(name: &str, width: usize, scores: &PictureScores) -> String {
    let metrics: String = metrics_of(scores).iter().map(|metric| format!(" {metric:>6.4}")).collect();
    format!("{name:<width$}{metrics} {:>7} {:>9}\n", scores.true_nuclei, scores.predicted_nuclei)
}

/// In the order of [`METRICS`].
fn metrics_of(scores: &PictureScores) -> [f64; 9] {
    let PictureScores { dice, iou, aji, pq, dq, sq, f1, precision, recall, .. } = *scores;
    [dice, iou, aji, pq, dq, sq, f1, precision, recall]
}

/// In the order of [`METRICS`].
fn intervals(evaluation: &Evaluation) -> [Interval; 9] {
    let Evaluation { dice, iou, aji, pq, dq, sq, f1, precision, recall, .. } = *evaluation;
    [dice, iou, aji, pq, dq, sq, f1, precision, recall]
}

/// The name, or its beginning and an ellipsis; control characters, which could steer a terminal, become
/// spaces.
fn shortened(name: &str) -> String {
    let shown = |char: char| if char.is_control() { ' ' } else { char };
    if name.chars().count() <= NAME_CHARS {
        return name.chars().map(shown).collect();
    }
    name.chars().take(NAME_CHARS - 1).map(shown).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::super::evaluation::{score, summarise};
    use super::super::overlaps::tests::row;
    use super::*;
    use crate::truth::Truth;

    #[test]
    fn a_table_reads_like_this() {
        let truth = Truth::for_tests("kidney", row(&[1, 1, 1, 0]));
        let scores = score(&row(&[1, 1, 0, 2]), &truth).unwrap();
        let text = table(&summarise(vec![scores], vec!["read as a mask".to_owned()]));
        let expected = "\
picture   Dice    IoU    AJI     PQ     DQ     SQ     F1  Prec. Recall    true predicted
kidney  0.6667 0.5000 0.5000 0.4444 0.6667 0.6667 0.6667 0.5000 1.0000       1         2

1 picture    mean  95 % interval
Dice         0.6667  0.6667 to 0.6667
IoU          0.5000  0.5000 to 0.5000
AJI          0.5000  0.5000 to 0.5000
PQ           0.4444  0.4444 to 0.4444
DQ           0.6667  0.6667 to 0.6667
SQ           0.6667  0.6667 to 0.6667
F1           0.6667  0.6667 to 0.6667
Prec.        0.5000  0.5000 to 0.5000
Recall       1.0000  1.0000 to 1.0000
note: read as a mask
";
        assert_eq!(text, expected);
    }

    #[test]
    fn long_and_hostile_names_are_tamed() {
        assert_eq!(shortened(&"x".repeat(60)).chars().count(), 40);
        assert_eq!(shortened("a\u{1b}[2Jb"), "a [2Jb");
    }
}
