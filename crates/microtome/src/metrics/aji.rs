//! The aggregated Jaccard index of Kumar et al. 2017, which punishes merged and split nuclei.

use super::overlaps::{Overlap, Overlaps, ratio};

/// Aggregated Jaccard index (Kumar et al. 2017, algorithm 1); 1 where both maps are empty.
///
/// Each true nucleus takes the predicted one of highest IoU, that of lowest id where two are equal;
/// intersections and unions are summed; a true nucleus that meets no other, and a predicted one that was
/// never taken, add their area to the union. As in the paper, several true nuclei may take the same predicted
/// one.
pub fn aji(overlaps: &Overlaps) -> f64 {
    let taken = best_of_each_truth(overlaps);
    let intersection_px: u64 = taken.iter().map(|pair| pair.intersection_px).sum();
    let union_px: u64 = taken.iter().map(|pair| pair.union_px).sum();
    let left_px = untaken_truth_px(overlaps, &taken) + untaken_predicted_px(overlaps, &taken);
    ratio(intersection_px as f64, (union_px + left_px) as f64, 1.0)
}

/// For each true nucleus that meets a predicted one, the pair of highest IoU, in the order of the true ids.
fn best_of_each_truth(overlaps: &Overlaps) -> Vec<Overlap> {
    let mut best: Vec<Overlap> = Vec::new();
    for pair in &overlaps.pairs {
        match best.last_mut() {
            Some(last) if last.truth == pair.truth => {
                if pair.iou() > last.iou() {
                    *last = *pair;
                }
            }
            _ => best.push(*pair),
        }
    }
    best
}

fn untaken_truth_px(overlaps: &Overlaps, taken: &[Overlap]) -> u64 {
    let area_px = |pair: &Overlap| overlaps.truth.get(pair.truth).map_or(0, |nucleus| nucleus.area_px);
    overlaps.truth_px() - taken.iter().map(area_px).sum::<u64>()
}

fn untaken_predicted_px(overlaps: &Overlaps, taken: &[Overlap]) -> u64 {
    let mut positions: Vec<usize> = taken.iter().map(|pair| pair.predicted).collect();
    positions.sort_unstable();
    positions.dedup();
    let area_px = |&position: &usize| overlaps.predicted.get(position).map_or(0, |nucleus| nucleus.area_px);
    overlaps.predicted_px() - positions.iter().map(area_px).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::super::overlaps::tests::overlaps;
    use super::*;

    #[test]
    fn a_nucleus_that_was_never_taken_enlarges_the_union() {
        // Truth 1 takes predicted 1 (2 of 3 pixels); truth 2 is missed (1); predicted 9 is false (2).
        let table = overlaps(&[1, 1, 0, 0, 9, 9], &[1, 1, 1, 2, 0, 0]);
        assert_eq!(aji(&table), 2.0 / 6.0);
    }

    #[test]
    fn a_merged_nucleus_is_taken_twice() {
        // Both true nuclei take predicted 1: intersections 2 + 2, unions 4 + 4.
        assert_eq!(aji(&overlaps(&[1, 1, 1, 1], &[1, 1, 2, 2])), 4.0 / 8.0);
    }

    #[test]
    fn of_two_equal_halves_the_lower_id_is_taken() {
        // Predicted 3 is taken: 2 of union 4; predicted 8 is left: 2.
        assert_eq!(aji(&overlaps(&[8, 8, 3, 3], &[1, 1, 1, 1])), 2.0 / 6.0);
    }

    #[test]
    fn empty_maps_score_one_together_and_zero_apart() {
        assert_eq!(aji(&overlaps(&[0], &[0])), 1.0);
        assert_eq!(aji(&overlaps(&[1], &[0])), 0.0);
        assert_eq!(aji(&overlaps(&[0], &[1])), 0.0);
    }
}
