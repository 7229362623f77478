//! Connected components of a mask: which pixels hang together.
//!
//! Rows are cut into runs, and runs that touch a run of the row above are joined by union-find: the work
//! follows the number of runs, which is far below the number of pixels.

use crate::region::PixelBox;
use crate::{Labels, Size};

/// Which pixels are neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connectivity {
    /// Pixels that share an edge.
    Four,
    /// Pixels that share an edge or a corner.
    Eight,
}

/// Numbers the connected components of `mask` 1, 2, 3 … in the order in which a row-major scan meets them.
///
/// # Panics
/// If `mask` does not have `size.area_px()` elements.
pub fn label_components(mask: &[bool], size: Size, connectivity: Connectivity) -> Labels {
    assert_eq!(mask.len(), size.area_px(), "the mask does not fill {size} pixels");
    let mut labels = Labels::background(size);
    for (run, number) in component_runs(mask, true, size, connectivity).0 {
        labels.ids[run.start..run.end].fill(number as u32 + 1);
    }
    labels
}

/// Number of pixels of each object, indexed by id; entry 0 is the background.
///
/// The answer is as long as the highest id: call [`Labels::renumber`] first on labels that were read from a
/// file.
pub fn areas_px(labels: &Labels) -> Vec<usize> {
    let mut areas_px = vec![0; labels.highest_id() as usize + 1];
    for run in labels.ids.chunk_by(|one, next| one == next) {
        areas_px[run[0] as usize] += run.len();
    }
    areas_px
}

/// Where an object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The smallest rectangle that holds it.
    pub bounds: PixelBox,
    /// Column of its first pixel, by rows.
    pub first_x_px: usize,
}

/// The extent of each object, indexed by id; none for ids that are not in use, and for the background.
///
/// As long as the highest id: see [`areas_px`].
pub fn extents(labels: &Labels) -> Vec<Option<Extent>> {
    let mut extents: Vec<Option<Extent>> = vec![None; labels.highest_id() as usize + 1];
    for (y, row) in labels.ids.chunks_exact(labels.size.width_px.max(1)).enumerate() {
        let mut end = 0;
        for run in row.chunk_by(|one, next| one == next) {
            let start = end;
            end += run.len();
            if run[0] == 0 {
                continue;
            }
            let whole = PixelBox { min_x_px: start, min_y_px: y, max_x_px: end, max_y_px: y + 1 };
            let extent = extents[run[0] as usize].get_or_insert(Extent { bounds: whole, first_x_px: start });
            extent.bounds.min_x_px = extent.bounds.min_x_px.min(start);
            extent.bounds.max_x_px = extent.bounds.max_x_px.max(end);
            extent.bounds.max_y_px = y + 1;
        }
    }
    extents
}

/// Neighbouring pixels of one row, as indices into the raster.
pub(crate) struct Run {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The connected components of the pixels that are `wanted`, as runs: with each run its component's number, from 0, and for
/// each component its pixels.
pub(crate) fn component_runs(
    mask: &[bool],
    wanted: bool,
    size: Size,
    connectivity: Connectivity,
) -> (Vec<(Run, usize)>, Vec<usize>) {
    let (runs, mut parents) = joined_runs(mask, wanted, size, connectivity);
    let mut number_of_root = vec![0; runs.len()];
    let mut areas_px = Vec::new();
    let numbered = |(index, run): (usize, Run)| {
        let root = root_of(&mut parents, index);
        // A root is the first run of its component: it gets a number before any other run asks for it.
        if root == index {
            number_of_root[root] = areas_px.len();
            areas_px.push(0);
        }
        areas_px[number_of_root[root]] += run.end - run.start;
        (run, number_of_root[root])
    };
    (runs.into_iter().enumerate().map(numbered).collect(), areas_px)
}

fn joined_runs(
    mask: &[bool],
    wanted: bool,
    size: Size,
    connectivity: Connectivity,
) -> (Vec<Run>, Vec<usize>) {
    let (mut runs, mut parents) = (Vec::new(), Vec::new());
    let mut above = 0..0;
    for y in 0..size.height_px {
        let first = runs.len();
        push_runs(&mut runs, mask, wanted, y * size.width_px..(y + 1) * size.width_px);
        parents.extend(first..runs.len());
        join_rows(&runs, &mut parents, above, size.width_px, connectivity);
        above = first..runs.len();
    }
    (runs, parents)
}

fn push_runs(runs: &mut Vec<Run>, mask: &[bool], wanted: bool, row: std::ops::Range<usize>) {
    let mut at = row.start;
    while let Some(skip) = mask[at..row.end].iter().position(|&inside| inside == wanted) {
        let start = at + skip;
        let length = mask[start..row.end].iter().position(|&inside| inside != wanted);
        at = length.map_or(row.end, |length| start + length);
        runs.push(Run { start, end: at });
    }
}

/// Joins the runs after `above` with those of `above` that they touch; both are sorted, so one walk is
/// enough.
fn join_rows(
    runs: &[Run],
    parents: &mut [usize],
    above: std::ops::Range<usize>,
    width_px: usize,
    connectivity: Connectivity,
) {
    let reach = usize::from(connectivity == Connectivity::Eight);
    let (mut upper, mut lower) = (above.start, above.end);
    while upper < above.end && lower < runs.len() {
        let (high, low) = (&runs[upper], &runs[lower]);
        let (start, end) = (high.start + width_px, high.end + width_px);
        if start < low.end + reach && low.start < end + reach {
            join(parents, upper, lower);
        }
        if end < low.end { upper += 1 } else { lower += 1 }
    }
}

fn root_of(parents: &mut [usize], mut index: usize) -> usize {
    while parents[index] != index {
        parents[index] = parents[parents[index]];
        index = parents[index];
    }
    index
}

/// The smaller index becomes the root, so that a root is the first run of its component.
fn join(parents: &mut [usize], one: usize, other: usize) {
    let (one, other) = (root_of(parents, one), root_of(parents, other));
    parents[one.max(other)] = one.min(other);
}
