//! Which tiles of a slide are worked on: a grid of squares of one level, of which those with tissue are taken, row by row.

use crate::geometry::{PointInLevel, RectangleInLevel};
use crate::tissue::{Shares, TissueMask};
use crate::{MicronsPerPixel, Size, Slide};

/// A tile of a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlannedTile {
    /// The part that is its own: cores cover the grid and do not overlap.
    pub core: RectangleInLevel,
    /// What it consists of.
    pub shares: Shares,
}

/// Tiles in a fixed order: by rows, from the left.
#[derive(Clone, Debug)]
pub struct TilePlan {
    /// The level.
    pub level: usize,
    /// Its extent.
    pub size: Size,
    /// Pixels of level 0 that its pixels are wide.
    pub downsample: f64,
    /// Side of a core, in pixels of the level; those at the right and lower edge are cut off there.
    pub core_px: usize,
    /// The tiles with tissue.
    pub tiles: Vec<PlannedTile>,
}

impl TilePlan {
    /// The squares of `core_px` of a level in which there is tissue.
    ///
    /// # Panics
    /// If there is no such level, or squares have no extent.
    pub fn of(slide: &Slide, level: usize, core_px: usize, tissue: &TissueMask) -> Self {
        assert!(core_px > 0, "a tile has a side");
        let (size, downsample) = (slide.levels[level].size, slide.levels[level].downsample);
        let tile = |left: usize, top: usize| {
            let own = Size::new(core_px.min(size.width_px - left), core_px.min(size.height_px - top));
            let core = RectangleInLevel { corner: PointInLevel::new(left as i64, top as i64), size: own };
            PlannedTile { core, shares: tissue.shares(core, downsample) }
        };
        let tops = (0..size.height_px).step_by(core_px);
        let tiles = tops.flat_map(|top| (0..size.width_px).step_by(core_px).map(move |left| (left, top)));
        let tiles = tiles.map(|(left, top)| tile(left, top)).filter(|tile| tile.shares.tissue > 0.0);
        Self { level, size, downsample, core_px, tiles: tiles.collect() }
    }
}

/// The level whose resolution is nearest to `wanted`, as a ratio; `mpp` is that of level 0.
pub fn nearest_level(slide: &Slide, mpp: MicronsPerPixel, wanted: MicronsPerPixel) -> usize {
    let distance =
        |index: usize| (mpp.of_level(slide.levels[index].downsample).microns() / wanted.microns()).ln().abs();
    let nearer = |best: usize, index: usize| if distance(index) < distance(best) { index } else { best };
    (0..slide.levels.len()).fold(0, nearer)
}
