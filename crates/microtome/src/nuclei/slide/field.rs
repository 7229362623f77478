//! How the places of a slide are read: at anchors on a grid, each by a window around it.

use crate::context::Context;
use crate::nuclei::best::{BestCalibration, Values};
use crate::nuclei::reading::{Field, Reading};
use crate::nuclei::segmenter::{Calibration, Segmenter};
use microtome_slide::{MicronsPerPixel, Picture, PointInLevel, RectangleInLevel, Size, Slide, TissueMask};
use microtome_vault::{Budget, Error, Fault, Result, disk};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Distance of anchors, in µm: a field of view at 40×. The window that each is read by is half as wide.
const SPACING_UM: f64 = 256.0;
/// The same in pixels, where no resolution is known.
const SPACING_PX: usize = 1024;
/// Share of tissue in a window, at least: with less, glass and edges would be read, and the place is read as the whole
/// slide is.
const LEAST_TISSUE: f64 = 0.7;
/// Largest file of readings that is read.
const LARGEST: Budget = Budget::of_bytes(1 << 30);

/// Readings on disk.
#[derive(Serialize, Deserialize)]
struct FieldFile {
    key: String,
    width: usize,
    height: usize,
    anchors: Vec<Reading>,
}

/// What a method reads off a slide: off `samples` as a whole, and where it reads places, at the anchors of its grid too.
/// Readings are kept in the file `kept` for the run `key`.
///
/// # Errors
/// `Io`, `Limit`, `Cancelled`.
pub fn calibrate(
    slide: &Slide,
    level: usize,
    mpp: Option<MicronsPerPixel>,
    (segmenter, samples, tissue): (&Segmenter, &[Picture], &TissueMask),
    (kept, key): (&Path, &str),
    context: &Context<'_>,
) -> Result<Calibration> {
    let Some(config) = segmenter.reads_places().filter(|_| !samples.is_empty()) else {
        return Ok(segmenter.calibrate(samples));
    };
    let whole = Values::of(samples, config);
    let stain = whole.stain();
    let spacing_px = mpp.map_or(SPACING_PX, |mpp| (SPACING_UM / mpp.microns()).round().max(64.0) as usize);
    let size = slide.levels[level].size;
    let grid = Size::new(size.width_px.div_ceil(spacing_px), size.height_px.div_ceil(spacing_px));
    let of_field = |anchors| {
        let field = Field::of_squares(grid, spacing_px, anchors);
        Ok(Calibration::Best(BestCalibration::of_field(stain, field, config)))
    };
    if let Some(anchors) = read(kept, key, grid) {
        return of_field(anchors);
    }
    let (alike, prior) = (whole.reading(), whole.thinned());
    drop(whole);
    let done = AtomicUsize::new(0);
    context.progress().begin("reading the stain", grid.area_px());
    let anchor = |index: usize| {
        context.check_cancelled()?;
        let (column, row) = (index % grid.width_px, index / grid.width_px);
        let inner = |square: usize| (square * spacing_px + spacing_px / 4) as i64;
        let corner = PointInLevel::new(inner(column), inner(row));
        let side_px = spacing_px / 2;
        let square = RectangleInLevel { corner, size: Size::new(side_px, side_px) }.within(size);
        let is_read = tissue.shares(square, slide.levels[level].downsample).tissue >= LEAST_TISSUE
            && square.size.width_px.min(square.size.height_px) >= side_px / 2;
        let window = if is_read { window(slide, level, mpp, square, context)? } else { None };
        let reading = window.map(|window| Values::of(&[window], config).beside(&prior).reading());
        context.progress().advance(1 + done.fetch_add(1, Ordering::Relaxed), "");
        Ok(reading.unwrap_or(alike))
    };
    let anchors: Result<Vec<Reading>> = (0..grid.area_px()).into_par_iter().map(anchor).collect();
    context.progress().end();
    let anchors = anchors?;
    write(kept, key, grid, &anchors)?;
    of_field(anchors)
}

/// The pixels of a window; none if some cannot be read.
fn window(
    slide: &Slide,
    level: usize,
    mpp: Option<MicronsPerPixel>,
    square: RectangleInLevel,
    context: &Context<'_>,
) -> Result<Option<Picture>> {
    match slide.region_in_level(level, square, context.budget) {
        Ok(region) if region.unreadable.is_none() => Ok(Some(region.into_picture(&slide.path, mpp))),
        Ok(_) => Ok(None),
        Err(error) if error.fault() == Fault::Input => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(path: &Path, key: &str, grid: Size) -> Option<Vec<Reading>> {
    let bytes = disk::read_file_bounded(path, LARGEST).ok()?;
    let file: FieldFile = serde_json::from_slice(&bytes).ok()?;
    let fits = file.key == key && (file.width, file.height) == (grid.width_px, grid.height_px);
    (fits && file.anchors.len() == grid.area_px()).then_some(file.anchors)
}

fn write(path: &Path, key: &str, grid: Size, anchors: &[Reading]) -> Result<()> {
    let (width, height) = (grid.width_px, grid.height_px);
    let file = FieldFile { key: key.to_owned(), width, height, anchors: anchors.to_vec() };
    let bytes =
        serde_json::to_vec(&file).map_err(|error| Error::bug(format!("readings as JSON: {error}")))?;
    disk::write_atomic(path, &bytes)
}
