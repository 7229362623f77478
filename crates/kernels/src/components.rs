//! Connected components of a mask: which pixels hang together.
//!
//! Rows are cut into runs, and runs that touch a run of the row above are joined by union-find: the work
//! follows the number of runs, which is far below the number of pixels.

use crate::region::PixelBox;
use crate::runs::{end_of_run, runs};
use crate::{Labels, Size};
use std::ops::Range;

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
/// If `mask` does not have `size.area_px()` elements, or more than 32 bits count.
pub fn label_components(mask: &[bool], size: Size, connectivity: Connectivity) -> Labels {
    assert_eq!(mask.len(), size.area_px(), "the mask does not fill {size} pixels");
    let mut labels = Labels::background(size);
    for (run, number) in ComponentRuns::of(mask, true, size, connectivity).iter() {
        labels.ids[run.range()].fill(number as u32 + 1);
    }
    labels
}

/// Number of pixels of each object, indexed by id; entry 0 is the background.
///
/// The answer is as long as the highest id: call [`Labels::renumber`] first on labels that were read from a
/// file.
pub fn areas_px(labels: &Labels) -> Vec<usize> {
    let mut areas_px = vec![0; labels.highest_id() as usize + 1];
    runs(&labels.ids).for_each(|(run, id)| areas_px[id as usize] += run.len());
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
        for (run, id) in runs(row).filter(|(_, id)| *id > 0) {
            let (start, end) = (run.start, run.end);
            let whole = PixelBox { min_x_px: start, min_y_px: y, max_x_px: end, max_y_px: y + 1 };
            let extent = extents[id as usize].get_or_insert(Extent { bounds: whole, first_x_px: start });
            extent.bounds.min_x_px = extent.bounds.min_x_px.min(start);
            extent.bounds.max_x_px = extent.bounds.max_x_px.max(end);
            extent.bounds.max_y_px = y + 1;
        }
    }
    extents
}

/// Neighbouring pixels of one row, as indices into the raster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    start: u32,
    end: u32,
}

impl Run {
    /// The pixels.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The connected components of a mask, each as the runs that it consists of, so that no label map takes memory.
#[derive(Clone, Debug)]
pub struct Pieces {
    size: Size,
    /// Those of a component after those of the one before it, each in the order of the scan.
    runs: Vec<Run>,
    /// Where the runs of each component end.
    ends: Vec<usize>,
}

/// One of [`Pieces`].
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Its runs, in the order of the scan.
    pub runs: &'a [Run],
    /// The smallest rectangle that holds it.
    pub bounds: PixelBox,
}

impl Pieces {
    /// The components of `mask`, in the order in which a row-major scan meets them.
    ///
    /// # Panics
    /// If `mask` does not have `size.area_px()` elements, or more than 32 bits count.
    pub fn of(mask: &[bool], size: Size, connectivity: Connectivity) -> Self {
        assert_eq!(mask.len(), size.area_px(), "the mask does not fill {size} pixels");
        let numbered = ComponentRuns::of(mask, true, size, connectivity);
        let mut next = vec![0; numbered.areas_px.len()];
        numbered.iter().for_each(|(_, component)| next[component] += 1);
        let mut start = 0;
        for next in &mut next {
            start += std::mem::replace(next, start);
        }
        let mut runs = vec![Run { start: 0, end: 0 }; numbered.runs.len()];
        for (run, component) in numbered.iter() {
            runs[next[component]] = run;
            next[component] += 1;
        }
        // Behind its last run every component points to its end.
        Self { size, runs, ends: next }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// The runs of the piece with a number, from 0, in the order of the scan.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn runs(&self, number: usize) -> &[Run] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.runs[start..self.ends[number]]
    }

    /// The piece with a number, from 0.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn piece(&self, number: usize) -> Piece<'_> {
        let runs = self.runs(number);
        let width_px = self.size.width_px;
        let first = |run: &Run| run.range().start % width_px;
        let row = |run: Option<&Run>| run.map_or(0, |run| run.range().start / width_px);
        let bounds = PixelBox {
            min_x_px: runs.iter().map(first).min().unwrap_or(0),
            min_y_px: row(runs.first()),
            max_x_px: runs.iter().map(|run| first(run) + run.range().len()).max().unwrap_or(0),
            max_y_px: row(runs.last()) + 1,
        };
        Piece { runs, bounds }
    }
}

/// The connected components of some pixels, as runs in the order of the scan.
pub(crate) struct ComponentRuns {
    runs: Vec<Run>,
    /// For each run its component's number, from 0.
    numbers: Vec<u32>,
    /// For each component its pixels.
    pub(crate) areas_px: Vec<usize>,
}

impl ComponentRuns {
    /// Those of the pixels of a mask that are `wanted`, numbered in the order in which the scan meets them.
    ///
    /// # Panics
    /// If there are more pixels than 32 bits count.
    pub(crate) fn of(mask: &[bool], wanted: bool, size: Size, connectivity: Connectivity) -> Self {
        assert!(u32::try_from(mask.len()).is_ok(), "{size} pixels are more than 32 bits count");
        let (runs, mut numbers) = joined_runs(mask, wanted, size, connectivity);
        let mut areas_px: Vec<usize> = Vec::new();
        for (index, run) in runs.iter().enumerate() {
            // The parent of a run comes before it, and has its number by now; a root gets the next one.
            let parent = numbers[index] as usize;
            numbers[index] = if parent == index { areas_px.len() as u32 } else { numbers[parent] };
            if parent == index {
                areas_px.push(0);
            }
            areas_px[numbers[index] as usize] += run.range().len();
        }
        Self { runs, numbers, areas_px }
    }

    /// Each run, with its component's number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Run, usize)> + '_ {
        self.runs.iter().zip(&self.numbers).map(|(run, number)| (*run, *number as usize))
    }
}

/// Runs, and for each the index of one that it is joined to, or its own.
fn joined_runs(mask: &[bool], wanted: bool, size: Size, connectivity: Connectivity) -> (Vec<Run>, Vec<u32>) {
    let (mut runs, mut parents) = (Vec::new(), Vec::new());
    let mut above = 0..0;
    for y in 0..size.height_px {
        let first = runs.len();
        push_runs(&mut runs, mask, wanted, y * size.width_px..(y + 1) * size.width_px);
        parents.extend(first as u32..runs.len() as u32);
        join_rows(&runs, &mut parents, above, size.width_px, connectivity);
        above = first..runs.len();
    }
    (runs, parents)
}

fn push_runs(runs: &mut Vec<Run>, mask: &[bool], wanted: bool, row: Range<usize>) {
    let mut start = row.start;
    while start < row.end {
        let end = end_of_run(&mask[..row.end], start);
        if mask[start] == wanted {
            runs.push(Run { start: start as u32, end: end as u32 });
        }
        start = end;
    }
}

/// Joins the runs after `above` with those of `above` that they touch; both are sorted, so one walk is
/// enough.
fn join_rows(
    runs: &[Run],
    parents: &mut [u32],
    above: Range<usize>,
    width_px: usize,
    connectivity: Connectivity,
) {
    let reach = usize::from(connectivity == Connectivity::Eight);
    let (mut upper, mut lower) = (above.start, above.end);
    while upper < above.end && lower < runs.len() {
        let (high, low) = (runs[upper].range(), runs[lower].range());
        let (start, end) = (high.start + width_px, high.end + width_px);
        if start < low.end + reach && low.start < end + reach {
            join(parents, upper, lower);
        }
        if end < low.end { upper += 1 } else { lower += 1 }
    }
}

fn root_of(parents: &mut [u32], mut index: usize) -> usize {
    while parents[index] as usize != index {
        parents[index] = parents[parents[index] as usize];
        index = parents[index] as usize;
    }
    index
}

/// The smaller index becomes the root, so that a root is the first run of its component.
fn join(parents: &mut [u32], one: usize, other: usize) {
    let (one, other) = (root_of(parents, one), root_of(parents, other));
    parents[one.max(other)] = one.min(other) as u32;
}
