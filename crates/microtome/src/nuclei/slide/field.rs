//! How the places of a slide are read: at anchors on a grid, each by a window around it.

use crate::context::Context;
use crate::nuclei::best::{BestCalibration, Values};
use crate::nuclei::reading::{Field, Reading};
use crate::nuclei::segmenter::{Calibration, Segmenter};
use microtome_slide::{MicronsPerPixel, Picture, PointInLevel, RectangleInLevel, Size, Slide, TissueMask};
use microtome_vault::checksum::sha256_hex;
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
    /// Of the anchors: a damaged reading would make wrong nuclei of right pixels.
    sha256: String,
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

/// Readings that were kept; none if they are of another run or damaged.
fn read(path: &Path, key: &str, grid: Size) -> Option<Vec<Reading>> {
    parsed(&disk::read_file_bounded(path, LARGEST).ok()?, key, grid)
}

fn parsed(bytes: &[u8], key: &str, grid: Size) -> Option<Vec<Reading>> {
    let file: FieldFile = serde_json::from_slice(bytes).ok()?;
    let fits = file.key == key
        && (file.width, file.height) == (grid.width_px, grid.height_px)
        && file.anchors.len() == grid.area_px()
        && checksum_of(&file.anchors).is_ok_and(|sha256| sha256 == file.sha256);
    fits.then_some(file.anchors)
}

fn write(path: &Path, key: &str, grid: Size, anchors: &[Reading]) -> Result<()> {
    let (width, height) = (grid.width_px, grid.height_px);
    let sha256 = checksum_of(anchors)?;
    let file = FieldFile { key: key.to_owned(), width, height, anchors: anchors.to_vec(), sha256 };
    disk::write_atomic(path, &json(&file)?)
}

fn checksum_of(anchors: &[Reading]) -> Result<String> {
    Ok(sha256_hex(&json(&anchors)?))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::bug(format!("readings as JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nuclei::stain::Slope;

    fn anchors() -> Vec<Reading> {
        let reading = |i: usize| {
            let value = 0.1 + i as f32 / 7.0;
            let slope = Slope { threshold: value, width: value };
            Reading { inverse: [[value; 3]; 3], high_ends: [value; 2], slopes: [slope; 2] }
        };
        (0..6).map(reading).collect()
    }

    #[test]
    fn readings_come_back_for_their_run_only() {
        let folder = tempfile::tempdir().unwrap();
        let (path, grid) = (folder.path().join("field.json"), Size::new(3, 2));
        assert_eq!(read(&path, "run", grid), None);
        write(&path, "run", grid, &anchors()).unwrap();
        assert_eq!(read(&path, "run", grid), Some(anchors()));
        assert_eq!(read(&path, "another", grid), None);
        assert_eq!(read(&path, "run", Size::new(2, 3)), None);
    }

    #[test]
    fn no_flipped_bit_makes_another_reading() {
        let folder = tempfile::tempdir().unwrap();
        let (path, grid) = (folder.path().join("field.json"), Size::new(3, 2));
        write(&path, "run", grid, &anchors()).unwrap();
        let whole = disk::read_file_bounded(&path, LARGEST).unwrap();
        let mut refused = 0;
        for (at, bit) in (0..whole.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            match parsed(&bytes, "run", grid) {
                // What the JSON says is the same.
                Some(found) => assert_eq!(found, anchors(), "bit {bit} of byte {at}"),
                None => refused += 1,
            }
        }
        assert!(refused > 7 * whole.len(), "{refused} refused of {}", 8 * whole.len());
    }
}
