//! The table that every metric is computed from: areas of true and predicted nuclei, and of their
//! intersections.
//!
//! It is sparse, because a nucleus meets few others, and sorted, because the order of sums must not vary.

use microtome_kernels::Labels;
use microtome_vault::{Error, Result};

/// A nucleus of one label map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nucleus {
    /// Its id in the label map.
    pub id: u32,
    /// Its area.
    pub area_px: u64,
}

/// A true and a predicted nucleus that share at least one pixel, as positions in [`Overlaps::truth`] and
/// [`Overlaps::predicted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Position of the true nucleus.
    pub truth: usize,
    /// Position of the predicted nucleus.
    pub predicted: usize,
    /// Pixels that both own.
    pub intersection_px: u64,
    /// Pixels that at least one of them owns.
    pub union_px: u64,
}

impl Overlap {
    /// Intersection over union, in (0, 1].
    pub fn iou(&self) -> f64 {
        self.intersection_px as f64 / self.union_px as f64
    }

    /// Whether the two are a match: an IoU above one half, which no nucleus can have with two others
    /// (Kirillov et al. 2019). In whole numbers, so that exactly one half is never rounded into a match.
    pub fn is_match(&self) -> bool {
        self.intersection_px * 2 > self.union_px
    }
}

/// The sparse contingency table of two label maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlaps {
    /// True nuclei by ascending id.
    pub truth: Vec<Nucleus>,
    /// Predicted nuclei by ascending id.
    pub predicted: Vec<Nucleus>,
    /// Pairs that overlap, by ascending true id, then predicted id.
    pub pairs: Vec<Overlap>,
}

impl Overlaps {
    /// Counts the pixels that the nuclei of two label maps have in common.
    ///
    /// # Errors
    /// `Input` when the maps are not of one size.
    pub fn between(predicted: &Labels, truth: &Labels) -> Result<Self> {
        check_sizes(predicted, truth)?;
        let counts = pixel_counts(&predicted.ids, &truth.ids);
        let true_nuclei = nuclei(counts.iter().map(|count| (count.true_id, count.pixels)));
        let predicted_nuclei = nuclei(counts.iter().map(|count| (count.predicted_id, count.pixels)));
        let both = counts.iter().filter(|count| count.true_id > 0 && count.predicted_id > 0);
        let pairs = both.filter_map(|count| pair(count, &true_nuclei, &predicted_nuclei)).collect();
        Ok(Self { truth: true_nuclei, predicted: predicted_nuclei, pairs })
    }

    /// Pixels that both maps give to some nucleus.
    pub fn intersection_px(&self) -> u64 {
        self.pairs.iter().map(|pair| pair.intersection_px).sum()
    }

    /// Pixels of all true nuclei.
    pub fn truth_px(&self) -> u64 {
        self.truth.iter().map(|nucleus| nucleus.area_px).sum()
    }

    /// Pixels of all predicted nuclei.
    pub fn predicted_px(&self) -> u64 {
        self.predicted.iter().map(|nucleus| nucleus.area_px).sum()
    }

    /// Pairs of a true and a predicted nucleus that match.
    pub fn matches(&self) -> impl Iterator<Item = &Overlap> {
        self.pairs.iter().filter(|pair| pair.is_match())
    }

    /// Whether there is nothing to find and nothing was found.
    pub fn both_are_empty(&self) -> bool {
        self.truth.is_empty() && self.predicted.is_empty()
    }
}

/// `numerator / denominator`; `if_empty` where there is nothing to divide by.
pub(crate) fn ratio(numerator: f64, denominator: f64, if_empty: f64) -> f64 {
    if denominator > 0.0 { numerator / denominator } else { if_empty }
}

fn check_sizes(predicted: &Labels, truth: &Labels) -> Result<()> {
    if predicted.size == truth.size && predicted.ids.len() == truth.ids.len() {
        return Ok(());
    }
    let what = format!("the prediction is {} pixels, the truth is {}", predicted.size, truth.size);
    Err(Error::input(what).advise("compare label maps of the same picture at the same resolution"))
}

/// How many pixels have this true and this predicted id; 0 is the background.
struct PixelCount {
    true_id: u32,
    predicted_id: u32,
    pixels: u64,
}

/// Pixel counts by ascending true id, then predicted id.
///
/// Equal neighbours are counted before they are sorted: a row has few runs, so that the sort is cheap.
fn pixel_counts(predicted: &[u32], truth: &[u32]) -> Vec<PixelCount> {
    let pixels = truth.iter().zip(predicted).map(|(&true_id, &predicted_id)| ((true_id, predicted_id), 1));
    let mut runs = merge_neighbours(pixels);
    runs.sort_unstable_by_key(|&(ids, _)| ids);
    let counts = merge_neighbours(runs.into_iter());
    let named = |((true_id, predicted_id), pixels)| PixelCount { true_id, predicted_id, pixels };
    counts.into_iter().map(named).collect()
}

/// Adds up the counts of equal keys that follow one another.
fn merge_neighbours<Key: PartialEq>(counts: impl Iterator<Item = (Key, u64)>) -> Vec<(Key, u64)> {
    let mut merged: Vec<(Key, u64)> = Vec::new();
    for (key, count) in counts {
        match merged.last_mut() {
            Some((last, sum)) if *last == key => *sum += count,
            _ => merged.push((key, count)),
        }
    }
    merged
}

fn nuclei(ids_and_pixels: impl Iterator<Item = (u32, u64)>) -> Vec<Nucleus> {
    let mut parts: Vec<(u32, u64)> = ids_and_pixels.filter(|&(id, _)| id > 0).collect();
    parts.sort_unstable();
    merge_neighbours(parts.into_iter()).into_iter().map(|(id, area_px)| Nucleus { id, area_px }).collect()
}

fn pair(count: &PixelCount, truth: &[Nucleus], predicted: &[Nucleus]) -> Option<Overlap> {
    let position = |nuclei: &[Nucleus], id| nuclei.binary_search_by_key(&id, |nucleus| nucleus.id).ok();
    let (true_at, predicted_at) = (position(truth, count.true_id)?, position(predicted, count.predicted_id)?);
    let both_px = truth.get(true_at)?.area_px + predicted.get(predicted_at)?.area_px;
    let intersection_px = count.pixels;
    Some(Overlap {
        truth: true_at,
        predicted: predicted_at,
        intersection_px,
        union_px: both_px - intersection_px,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use microtome_kernels::Size;

    pub(crate) fn row(ids: &[u32]) -> Labels {
        Labels { size: Size::new(ids.len(), 1), ids: ids.to_vec() }
    }

    pub(crate) fn overlaps(predicted: &[u32], truth: &[u32]) -> Overlaps {
        Overlaps::between(&row(predicted), &row(truth)).unwrap()
    }

    #[test]
    fn the_table_is_sorted_whatever_the_order_of_the_ids() {
        let table = overlaps(&[7, 7, 0, 3, 3, 7], &[9, 9, 9, 2, 0, 2]);
        assert_eq!(table.truth, [Nucleus { id: 2, area_px: 2 }, Nucleus { id: 9, area_px: 3 }]);
        assert_eq!(table.predicted, [Nucleus { id: 3, area_px: 2 }, Nucleus { id: 7, area_px: 3 }]);
        let pairs: Vec<_> =
            table.pairs.iter().map(|p| (p.truth, p.predicted, p.intersection_px, p.union_px)).collect();
        assert_eq!(pairs, [(0, 0, 1, 3), (0, 1, 1, 4), (1, 1, 2, 4)]);
        assert_eq!((table.intersection_px(), table.truth_px(), table.predicted_px()), (4, 5, 5));
    }

    #[test]
    fn an_iou_of_exactly_one_half_is_no_match() {
        assert_eq!(overlaps(&[1, 1], &[1, 0]).matches().count(), 0);
        assert_eq!(overlaps(&[1, 1, 1], &[1, 1, 0]).matches().count(), 1);
    }

    #[test]
    fn two_sizes_are_an_input_error_that_names_both() {
        let narrow = Labels::background(Size::new(2, 3));
        let wide = Labels::background(Size::new(3, 2));
        let error = Overlaps::between(&narrow, &wide).unwrap_err();
        assert_eq!(error.fault(), microtome_vault::Fault::Input);
        assert!(error.to_string().contains("the prediction is 2×3 pixels, the truth is 3×2"), "{error}");
    }
}
