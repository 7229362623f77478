//! Parts of a slide's tissue that methods learn from and are calibrated on.

use super::input::SlideWork;
use crate::context::Context;
use crate::nuclei::inputs::Input;
use microtome_nets::random::{Purpose, stream};
use microtome_slide::plan::PlannedTile;
use microtome_slide::slide::SlideFormat;
use microtome_slide::{MicronsPerPixel, Picture, Size, Slide, TilePlan, TissueMask};
use microtome_vault::{Fault, Result};
use rand::seq::SliceRandom;

/// Side of a window, in pixels of the level.
const WINDOW_PX: usize = 1024;
/// Shares of tissue that windows have at least, and of pen and folds that they have at most: the first pair that any
/// window meets.
const DEMANDS: [(f64, f64); 3] = [(0.6, 0.05), (0.2, 0.2), (0.0, 1.0)];

/// [`windows`] of the slide that an input is.
///
/// # Errors
/// Those of opening it, and of [`windows`].
pub fn of_input(
    input: &Input,
    work: SlideWork,
    (count, seed): (usize, u64),
    context: &Context<'_>,
) -> Result<Vec<Picture>> {
    let slide = Slide::open(&input.path, context.budget)?;
    let tissue = tissue_of(&slide, input, context)?;
    windows(&slide, work.level, input.mpp, &tissue, (count, seed), context)
}

/// The tissue of a slide, a person's own before what is found; everything, of a picture.
///
/// # Errors
/// Those of reading it.
pub fn tissue_of(slide: &Slide, input: &Input, context: &Context<'_>) -> Result<TissueMask> {
    if slide.format == SlideFormat::Picture && input.tissue.is_none() {
        return Ok(TissueMask::everything(slide.levels[0].size));
    }
    context.progress().begin(&format!("looking for tissue in {}", input.name), 1);
    let (tissue, _) = TissueMask::of(slide, input.mpp, context.budget)?;
    let tissue = match &input.tissue {
        Some(own) => own.instead_of(tissue, slide.levels[0].size, context.budget)?,
        None => tissue,
    };
    context.progress().end();
    Ok(tissue)
}

/// Up to `count` windows of a level with much tissue and no artefacts, where `seed` wants them. Windows with unreadable
/// tiles are passed over while there are others. `mpp` is the resolution of level 0.
///
/// # Errors
/// `Io` when the disk refuses; `Limit` when a window exceeds the budget.
pub fn windows(
    slide: &Slide,
    level: usize,
    mpp: Option<MicronsPerPixel>,
    tissue: &TissueMask,
    (count, seed): (usize, u64),
    context: &Context<'_>,
) -> Result<Vec<Picture>> {
    let size = slide.levels[level].size;
    let side = Size::new(size.width_px.min(WINDOW_PX), size.height_px.min(WINDOW_PX));
    let plan = TilePlan::of(slide, level, side.width_px.min(side.height_px), tissue);
    let mut places = plan.tiles;
    let is_cut = |tile: &PlannedTile| tile.core.size.width_px != tile.core.size.height_px;
    places.shuffle(&mut stream(seed, Purpose::Windows, 0));
    let meets = |tile: &PlannedTile, (tissue, spoilt): (f64, f64)| {
        tile.shares.tissue >= tissue && tile.shares.pen + tile.shares.fold <= spoilt
    };
    // Whole ones before those that the slide's edge cuts, and of these the best, in the order of the shuffle.
    places.sort_by_key(|tile| (is_cut(tile), DEMANDS.iter().position(|demand| meets(tile, *demand))));
    let (mut windows, mut damaged) = (Vec::new(), None);
    for tile in places {
        // Slivers at the edge are for slides that have nothing else.
        if windows.len() == count || (is_cut(&tile) && !windows.is_empty()) {
            break;
        }
        context.check_cancelled()?;
        let region = match slide.region_in_level(level, tile.core, context.budget) {
            Ok(region) => region,
            Err(error) if error.fault() == Fault::Input => continue,
            Err(error) => return Err(error),
        };
        let unreadable = region.unreadable.is_some();
        let window = region.into_picture(&slide.path, mpp.map(|mpp| mpp.of_level(plan.downsample)));
        match unreadable {
            true => damaged = damaged.or(Some(window)),
            false => windows.push(window),
        }
    }
    if windows.is_empty() {
        windows.extend(damaged);
    }
    Ok(windows)
}
