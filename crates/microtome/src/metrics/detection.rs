//! Whether each nucleus was found, whatever its exact outline: precision, recall and F1 at an IoU above one
//! half.

use super::overlaps::{Overlaps, ratio};

/// Share of the predicted nuclei that match a true one; 1 where both maps are empty, 0 where only the
/// prediction is.
pub fn precision(overlaps: &Overlaps) -> f64 {
    share_of_matches(overlaps, overlaps.predicted.len() as f64)
}

/// Share of the true nuclei that match a predicted one; 1 where both maps are empty, 0 where only the truth
/// is.
pub fn recall(overlaps: &Overlaps) -> f64 {
    share_of_matches(overlaps, overlaps.truth.len() as f64)
}

/// Harmonic mean of precision and recall, `2 matches / (true + predicted)`; 1 where both maps are empty.
pub fn f1(overlaps: &Overlaps) -> f64 {
    share_of_matches(overlaps, (overlaps.truth.len() + overlaps.predicted.len()) as f64 / 2.0)
}

fn share_of_matches(overlaps: &Overlaps, nuclei: f64) -> f64 {
    let if_empty = if overlaps.both_are_empty() { 1.0 } else { 0.0 };
    ratio(overlaps.matches().count() as f64, nuclei, if_empty)
}

#[cfg(test)]
mod tests {
    use super::super::overlaps::tests::overlaps;
    use super::*;

    #[test]
    fn one_of_two_true_and_of_three_predicted_nuclei_matches() {
        let table = overlaps(&[1, 1, 0, 2, 3, 0], &[1, 1, 1, 0, 0, 2]);
        assert_eq!((precision(&table), recall(&table), f1(&table)), (1.0 / 3.0, 0.5, 0.4));
    }

    #[test]
    fn empty_maps_score_one_together_and_zero_apart() {
        let scores = |table: &Overlaps| [precision(table), recall(table), f1(table)];
        assert_eq!(scores(&overlaps(&[0], &[0])), [1.0; 3]);
        assert_eq!(scores(&overlaps(&[1], &[0])), [0.0; 3]);
        assert_eq!(scores(&overlaps(&[0], &[1])), [0.0; 3]);
    }
}
