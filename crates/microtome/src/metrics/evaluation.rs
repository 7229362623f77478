//! All metrics of all pictures, and their means: one plain function from pairs of files to an [`Evaluation`].

use microtome_kernels::Labels;
use microtome_vault::{Error, Result};
use rayon::prelude::*;

use super::ScoringKey;
use super::bootstrap::{Interval, interval};
use super::overlaps::Overlaps;
use super::{aji, detection, dice, panoptic};
use crate::truth::{self, Interpretation, Pair, Truth};

/// Every metric of one picture. All but the counts lie in [0, 1].
#[derive(Clone, Debug, PartialEq)]
pub struct PictureScores {
    /// The picture's name without folder and extension.
    pub name: String,
    /// Dice coefficient of the foregrounds.
    pub dice: f64,
    /// Intersection over union of the foregrounds.
    pub iou: f64,
    /// Aggregated Jaccard index.
    pub aji: f64,
    /// Panoptic quality.
    pub pq: f64,
    /// Detection quality.
    pub dq: f64,
    /// Segmentation quality.
    pub sq: f64,
    /// F1 of the nuclei at an IoU above one half.
    pub f1: f64,
    /// Share of the predicted nuclei that are true.
    pub precision: f64,
    /// Share of the true nuclei that were found.
    pub recall: f64,
    /// Number of nuclei in the truth.
    pub true_nuclei: usize,
    /// Number of nuclei in the prediction.
    pub predicted_nuclei: usize,
}

/// Scores of all pictures, in the order in which they were given, and their means with 95 % intervals over
/// pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Scores picture by picture.
    pub pictures: Vec<PictureScores>,
    /// Dice coefficient of the foregrounds.
    pub dice: Interval,
    /// Intersection over union of the foregrounds.
    pub iou: Interval,
    /// Aggregated Jaccard index.
    pub aji: Interval,
    /// Panoptic quality.
    pub pq: Interval,
    /// Detection quality.
    pub dq: Interval,
    /// Segmentation quality.
    pub sq: Interval,
    /// F1 of the nuclei at an IoU above one half.
    pub f1: Interval,
    /// Share of the predicted nuclei that are true.
    pub precision: Interval,
    /// Share of the true nuclei that were found.
    pub recall: Interval,
    /// What a reader of the numbers should know: how files were understood. One sentence each.
    pub notes: Vec<String>,
}

/// Reads and scores all pairs, several at a time.
///
/// # Errors
/// `Usage` without pairs; else the error of the first pair, in the given order, that cannot be read or whose
/// sizes differ.
pub fn evaluate(pairs: &[Pair]) -> Result<Evaluation> {
    if pairs.is_empty() {
        return Err(Error::usage("there is no picture to evaluate"));
    }
    // Results are collected before the first error is looked for: which error is reported must not depend on
    // threads.
    let read: Vec<Result<ScoredPair>> = pairs.par_iter().map(score_pair).collect();
    let read = read.into_iter().collect::<Result<Vec<_>>>()?;
    let notes = notes_on(&read);
    Ok(summarise(read.into_iter().map(|pair| pair.scores).collect(), notes))
}

/// Scores one prediction.
///
/// # Errors
/// `Input` when the sizes differ.
pub fn score(predicted: &Labels, truth: &Truth) -> Result<PictureScores> {
    let overlaps = Overlaps::between(predicted, truth.labels(&ScoringKey(())))?;
    let quality = panoptic::panoptic_quality(&overlaps);
    Ok(PictureScores {
        name: truth.name().to_owned(),
        dice: dice::dice(&overlaps),
        iou: dice::iou(&overlaps),
        aji: aji::aji(&overlaps),
        pq: quality.pq,
        dq: quality.dq,
        sq: quality.sq,
        f1: detection::f1(&overlaps),
        precision: detection::precision(&overlaps),
        recall: detection::recall(&overlaps),
        true_nuclei: overlaps.truth.len(),
        predicted_nuclei: overlaps.predicted.len(),
    })
}

/// Means and intervals of scores that were computed one by one.
pub fn summarise(pictures: Vec<PictureScores>, notes: Vec<String>) -> Evaluation {
    let over = |metric: fn(&PictureScores) -> f64| interval(&pictures.iter().map(metric).collect::<Vec<_>>());
    Evaluation {
        dice: over(|scores| scores.dice),
        iou: over(|scores| scores.iou),
        aji: over(|scores| scores.aji),
        pq: over(|scores| scores.pq),
        dq: over(|scores| scores.dq),
        sq: over(|scores| scores.sq),
        f1: over(|scores| scores.f1),
        precision: over(|scores| scores.precision),
        recall: over(|scores| scores.recall),
        pictures,
        notes,
    }
}

struct ScoredPair {
    scores: PictureScores,
    predicted_as: Interpretation,
    truth_as: Interpretation,
}

fn score_pair(pair: &Pair) -> Result<ScoredPair> {
    let predicted = truth::read_prediction(&pair.predicted)?;
    // A truth of polygons has no size of its own: it takes the prediction's.
    let truth = truth::read_truth(&pair.truth, Some(predicted.labels.size))?;
    let mut scores = score(&predicted.labels, &truth).map_err(|error| error.at(&pair.predicted))?;
    scores.name.clone_from(&pair.name);
    Ok(ScoredPair { scores, predicted_as: predicted.interpretation, truth_as: truth.interpretation() })
}

fn notes_on(pairs: &[ScoredPair]) -> Vec<String> {
    let masks = |side: fn(&ScoredPair) -> Interpretation| {
        pairs.iter().filter(|pair| side(pair) == Interpretation::MaskComponents).count()
    };
    let sides = [("truth", masks(|pair| pair.truth_as)), ("prediction", masks(|pair| pair.predicted_as))];
    let some = sides.into_iter().filter(|&(_, count)| count > 0);
    let of_masks = some.map(|(side, count)| {
        let all = pairs.len();
        let why = "a mask of one value: its 8-connected parts are the nuclei";
        format!("the {side} of {count} of {all} pictures is {why}")
    });
    let left_out: usize = pairs.iter().map(|pair| pair.truth_as.regions_left_out()).sum();
    let of_regions =
        (left_out > 0).then(|| format!("{left_out} annotated regions without an area were left out"));
    of_masks.chain(of_regions).collect()
}

#[cfg(test)]
mod tests {
    use super::super::overlaps::tests::row;
    use super::*;
    use microtome_vault::Fault;

    #[test]
    fn a_perfect_prediction_scores_one_in_everything() {
        let labels = row(&[0, 1, 1, 2, 0, 7]);
        let scores = score(&labels, &Truth::for_tests("picture", labels.clone())).unwrap();
        let all = [
            scores.dice,
            scores.iou,
            scores.aji,
            scores.pq,
            scores.dq,
            scores.sq,
            scores.f1,
            scores.precision,
        ];
        assert_eq!((all, scores.recall), ([1.0; 8], 1.0));
        assert_eq!((scores.name.as_str(), scores.true_nuclei, scores.predicted_nuclei), ("picture", 3, 3));
    }

    #[test]
    fn means_are_over_pictures() {
        let truth = Truth::for_tests("picture", row(&[1, 1, 0]));
        let pictures = [row(&[1, 1, 0]), row(&[0, 0, 0])].map(|labels| score(&labels, &truth).unwrap());
        let evaluation = summarise(pictures.to_vec(), Vec::new());
        assert_eq!((evaluation.dice.mean, evaluation.aji.mean, evaluation.recall.mean), (0.5, 0.5, 0.5));
        assert_eq!((evaluation.dice.low, evaluation.dice.high), (0.0, 1.0));
    }

    #[test]
    fn no_pairs_are_a_usage_error() {
        assert_eq!(evaluate(&[]).unwrap_err().fault(), Fault::Usage);
    }
}
