//! Overlap of foreground with foreground, blind to where one nucleus ends and the next begins.

use microtome_vault::{Error, Result};

use super::ScoringKey;
use super::overlaps::{Overlaps, ratio};
use crate::truth::Truth;

/// Dice coefficient of the foregrounds, `2 |T ∩ P| / (|T| + |P|)` (Dice 1945); 1 where both are empty.
pub fn dice(overlaps: &Overlaps) -> f64 {
    dice_of_counts(overlaps.intersection_px(), overlaps.truth_px() + overlaps.predicted_px())
}

/// Intersection over union of the foregrounds, `|T ∩ P| / |T ∪ P|` (Jaccard 1901); 1 where both are empty.
pub fn iou(overlaps: &Overlaps) -> f64 {
    let intersection_px = overlaps.intersection_px();
    let union_px = overlaps.truth_px() + overlaps.predicted_px() - intersection_px;
    ratio(intersection_px as f64, union_px as f64, 1.0)
}

/// Dice coefficient of a mask: for the oracle's choice of a channel, which is printed beside the label-free
/// choice and never used instead of it.
///
/// # Shapes
/// `mask`: one value a pixel of the truth's picture, row-major.
///
/// # Errors
/// `Input` when the mask has another number of pixels than the truth.
pub fn semantic_dice(mask: &[bool], truth: &Truth) -> Result<f64> {
    let labels = truth.labels(&ScoringKey(()));
    if mask.len() != labels.ids.len() {
        let what =
            format!("the mask has {} pixels, the truth of {} is {}", mask.len(), truth.name(), labels.size);
        return Err(Error::input(what));
    }
    let both_px = mask.iter().zip(&labels.ids).filter(|&(&is_nucleus, &id)| is_nucleus && id > 0).count();
    let sum_px = mask.iter().filter(|&&is_nucleus| is_nucleus).count()
        + labels.ids.iter().filter(|&&id| id > 0).count();
    Ok(dice_of_counts(both_px as u64, sum_px as u64))
}

fn dice_of_counts(intersection_px: u64, sum_px: u64) -> f64 {
    ratio(2.0 * intersection_px as f64, sum_px as f64, 1.0)
}

#[cfg(test)]
mod tests {
    use super::super::overlaps::tests::{overlaps, row};
    use super::*;

    #[test]
    fn dice_and_iou_of_a_known_pair() {
        let table = overlaps(&[1, 1, 2, 0], &[0, 5, 5, 5]);
        assert_eq!((dice(&table), iou(&table)), (4.0 / 6.0, 0.5));
    }

    #[test]
    fn empty_maps_score_one_together_and_zero_apart() {
        assert_eq!((dice(&overlaps(&[0], &[0])), iou(&overlaps(&[0], &[0]))), (1.0, 1.0));
        assert_eq!((dice(&overlaps(&[1], &[0])), iou(&overlaps(&[1], &[0]))), (0.0, 0.0));
        assert_eq!((dice(&overlaps(&[], &[])), iou(&overlaps(&[], &[]))), (1.0, 1.0));
    }

    #[test]
    fn a_mask_is_scored_as_a_label_map_is() {
        let truth = Truth::for_tests("picture", row(&[0, 5, 5, 5]));
        assert_eq!(semantic_dice(&[true, true, true, false], &truth).unwrap(), 4.0 / 6.0);
        assert!(semantic_dice(&[true], &truth).unwrap_err().to_string().contains("4×1"));
    }
}
