//! An evaluation as a JSON file: the on-disk types, apart from the domain's, and a version that grows when
//! they change.
//!
//! Version 1: `format_version`, `bootstrap` (how the intervals were drawn), one object `{mean, low, high}` a
//! metric (`dice`, `iou`, `aji`, `pq`, `dq`, `sq`, `f1`, `precision`, `recall`), `notes`, `pictures`, and for contrastive
//! runs `oracle` (the channel we chose and the one that truth would choose).

use microtome_vault::{Error, Result};
use serde::Serialize;

use super::bootstrap::{CONFIDENCE, Interval, RESAMPLES, SEED};
use super::evaluation::{Evaluation, PictureScores};
use super::oracle::Oracle;
use crate::nuclei::choice::Sense;

/// Version of what [`to_json`] writes.
pub const FORMAT_VERSION: u32 = 1;

/// The evaluation as indented JSON with a newline at its end. Numbers are the shortest that read back as they
/// were.
///
/// # Errors
/// `Bug` only, when the serialiser refuses.
pub fn to_json(evaluation: &Evaluation, oracle: Option<&Oracle>) -> Result<String> {
    let file = EvaluationFile { oracle: oracle.map(OracleEntry::from), ..EvaluationFile::from(evaluation) };
    let written = serde_json::to_string_pretty(&file);
    written
        .map(|text| text + "\n")
        .map_err(|error| Error::bug(format!("an evaluation is not JSON ({error})")))
}

#[derive(Serialize)]
struct EvaluationFile<'a> {
    format_version: u32,
    bootstrap: BootstrapEntry,
    dice: IntervalEntry,
    iou: IntervalEntry,
    aji: IntervalEntry,
    pq: IntervalEntry,
    dq: IntervalEntry,
    sq: IntervalEntry,
    f1: IntervalEntry,
    precision: IntervalEntry,
    recall: IntervalEntry,
    notes: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    oracle: Option<OracleEntry>,
    pictures: Vec<PictureEntry<'a>>,
}

#[derive(Serialize)]
struct OracleEntry {
    ours: SenseEntry,
    oracle: SenseEntry,
}

#[derive(Serialize)]
struct SenseEntry {
    channel: usize,
    inverted: bool,
    dice: f64,
}

impl From<&Oracle> for OracleEntry {
    fn from(oracle: &Oracle) -> Self {
        let entry = |(sense, dice): (Sense, f64)| SenseEntry {
            channel: sense.channel,
            inverted: sense.inverted,
            dice,
        };
        Self { ours: entry(oracle.ours), oracle: entry(oracle.oracle) }
    }
}

#[derive(Serialize)]
struct BootstrapEntry {
    resamples: usize,
    seed: u64,
    confidence: f64,
}

#[derive(Serialize)]
struct IntervalEntry {
    mean: f64,
    low: f64,
    high: f64,
}

#[derive(Serialize)]
struct PictureEntry<'a> {
    name: &'a str,
    dice: f64,
    iou: f64,
    aji: f64,
    pq: f64,
    dq: f64,
    sq: f64,
    f1: f64,
    precision: f64,
    recall: f64,
    true_nuclei: usize,
    predicted_nuclei: usize,
}

impl<'a> From<&'a Evaluation> for EvaluationFile<'a> {
    fn from(evaluation: &'a Evaluation) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            bootstrap: BootstrapEntry { resamples: RESAMPLES, seed: SEED, confidence: CONFIDENCE },
            dice: evaluation.dice.into(),
            iou: evaluation.iou.into(),
            aji: evaluation.aji.into(),
            pq: evaluation.pq.into(),
            dq: evaluation.dq.into(),
            sq: evaluation.sq.into(),
            f1: evaluation.f1.into(),
            precision: evaluation.precision.into(),
            recall: evaluation.recall.into(),
            notes: &evaluation.notes,
            oracle: None,
            pictures: evaluation.pictures.iter().map(PictureEntry::from).collect(),
        }
    }
}

impl From<Interval> for IntervalEntry {
    fn from(interval: Interval) -> Self {
        Self { mean: interval.mean, low: interval.low, high: interval.high }
    }
}

impl<'a> From<&'a PictureScores> for PictureEntry<'a> {
    fn from(scores: &'a PictureScores) -> Self {
        Self {
            name: &scores.name,
            dice: scores.dice,
            iou: scores.iou,
            aji: scores.aji,
            pq: scores.pq,
            dq: scores.dq,
            sq: scores.sq,
            f1: scores.f1,
            precision: scores.precision,
            recall: scores.recall,
            true_nuclei: scores.true_nuclei,
            predicted_nuclei: scores.predicted_nuclei,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::evaluation::{score, summarise};
    use super::super::overlaps::tests::row;
    use super::*;
    use crate::truth::Truth;

    #[test]
    fn the_file_has_the_promised_keys_in_the_promised_order() {
        let truth = Truth::for_tests("a \"quoted\" name", row(&[1, 1, 0]));
        let scores = score(&row(&[1, 0, 0]), &truth).unwrap();
        let text = to_json(&summarise(vec![scores], vec!["a note".to_owned()]), None).unwrap();
        let file: serde_json::Value = serde_json::from_str(&text).unwrap();
        let keys: Vec<&String> = file.as_object().unwrap().keys().collect();
        let promised = "format_version bootstrap dice iou aji pq dq sq f1 precision recall notes pictures";
        assert_eq!(keys, promised.split(' ').collect::<Vec<_>>());
        assert_eq!(file["format_version"], 1);
        assert_eq!(file["dice"]["mean"], 2.0 / 3.0);
        assert_eq!(file["iou"]["high"], 0.5);
        assert_eq!(file["pictures"][0]["name"], "a \"quoted\" name");
        assert_eq!(file["pictures"][0]["true_nuclei"], 1);
        assert!(text.ends_with("}\n"));
    }
}
