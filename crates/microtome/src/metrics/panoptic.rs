//! Panoptic quality: were the nuclei found, and how well do those that were found fit?

use super::detection;
use super::overlaps::{Overlap, Overlaps, ratio};

/// Panoptic quality of one class (Kirillov et al. 2019), and its two factors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PanopticQuality {
    /// Panoptic quality, `dq * sq`.
    pub pq: f64,
    /// Detection quality: F1 at an IoU above one half.
    pub dq: f64,
    /// Segmentation quality: mean IoU of the nuclei that match; 0 where none does.
    pub sq: f64,
}

/// Panoptic quality with its factors; all are 1 where both maps are empty.
pub fn panoptic_quality(overlaps: &Overlaps) -> PanopticQuality {
    let dq = detection::f1(overlaps);
    let if_none = if overlaps.both_are_empty() { 1.0 } else { 0.0 };
    let sum_of_ious: f64 = overlaps.matches().map(Overlap::iou).sum();
    let sq = ratio(sum_of_ious, overlaps.matches().count() as f64, if_none);
    PanopticQuality { pq: dq * sq, dq, sq }
}

#[cfg(test)]
mod tests {
    use super::super::overlaps::tests::overlaps;
    use super::*;

    #[test]
    fn quality_is_the_product_of_its_factors() {
        let quality = panoptic_quality(&overlaps(&[1, 1, 0, 2, 3, 0], &[1, 1, 1, 0, 0, 2]));
        assert_eq!(quality, PanopticQuality { pq: 0.4 * (2.0 / 3.0), dq: 0.4, sq: 2.0 / 3.0 });
    }

    #[test]
    fn empty_maps_score_one_together_and_zero_apart() {
        let all = |value| PanopticQuality { pq: value, dq: value, sq: value };
        assert_eq!(panoptic_quality(&overlaps(&[0], &[0])), all(1.0));
        assert_eq!(panoptic_quality(&overlaps(&[4], &[0])), all(0.0));
    }
}
