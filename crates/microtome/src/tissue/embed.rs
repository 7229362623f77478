//! A vector of length 1 for each tile of each slide.
//!
//! A slide of several windows keeps what is done in [`parts`], until all of it is put in place at once.

mod parts;

use super::encoder::{CellMap, CellPlace, Encoder, Reading};
use super::look::Look;
use super::tiles::{self, TileList};
use crate::arrays::{Group, GroupWriter};
use crate::context::Context;
use crate::project::Project;
use crate::project::key::Key;
use crate::project::slides::ProjectSlide;
use crate::slides::view::View;
use microtome_kernels::Size;
use microtome_vault::checksum::sha256_hex;
use microtome_vault::{Error, Result, disk};
use parts::Parts;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of what is computed here.
const VERSION: u32 = 2;
/// The kind of the arrays.
pub(super) const KIND: &str = "embeddings";
/// Tiles that are read at a time where each is seen alone.
const BATCH: usize = 256;
/// Values that are hashed at a time.
const HASHED_VALUES: usize = 1 << 20;

/// What was computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Embedded {
    /// Slides with tiles.
    pub slides: usize,
    /// Tiles of all of them.
    pub tiles: usize,
    /// Values of a vector.
    pub dimensions: usize,
}

/// What is read of a slide's tiles: which, and what a name is about.
#[derive(Clone, Copy, Debug)]
pub struct TileReading<'a> {
    /// Upper left corners, in pixels of the view.
    pub corners_px: &'a [[i64; 2]],
    /// Side, in pixels of the view.
    pub side_px: usize,
    /// Side of the named middle.
    pub named_px: usize,
}

/// Computes the vectors of every slide that has none yet.
///
/// # Errors
/// `Usage` when tiles or the encoder are missing; those of reading; `Cancelled`.
pub fn embed(project: &Project, encoder: &Encoder, context: &Context<'_>) -> Result<Embedded> {
    let slides = project.slides()?;
    let mut lists = Vec::new();
    for slide in &slides {
        lists.push(tiles::read(project, slide, context)?.ok_or_else(|| no_tiles(project))?);
    }
    let mut found = Embedded { dimensions: encoder.dimensions(encoder.level()), ..Embedded::default() };
    context.progress().begin("embeddings", lists.iter().map(|list| list.corners_px.len()).sum());
    for (slide, list) in slides.iter().zip(&lists) {
        context.check_cancelled()?;
        let path = project.array_of(KIND, &slide.name);
        let key = key_of(list, encoder);
        let is_done = Group::open(&path)?.is_some_and(|group| group.text("key") == Some(&key));
        if !is_done && !list.corners_px.is_empty() {
            make(project, slide, list, encoder, &key, context)?;
        }
        found.slides += usize::from(!list.corners_px.is_empty());
        found.tiles += list.corners_px.len();
        context.progress().advance(found.tiles, &slide.name);
    }
    context.progress().end();
    Ok(found)
}

fn no_tiles(project: &Project) -> Error {
    Error::usage("tiles are missing, or were made with other settings")
        .advise(format!("run `microtome tissue tile {}` first", project.root.display()))
}

/// What the vectors of a slide are made from.
pub fn key_of(list: &TileList, encoder: &Encoder) -> String {
    Key::of(KIND, VERSION)
        .with("tiles", &list.key)
        .with("named", list.named_px)
        .with("encoder", &encoder.sha256)
        .finish()
}

fn make(
    project: &Project,
    slide: &ProjectSlide,
    list: &TileList,
    encoder: &Encoder,
    key: &str,
    context: &Context<'_>,
) -> Result<()> {
    let settings = &project.settings.tiles;
    let open = slide.open(context)?;
    let view = tiles::view(&open, slide.mpp, settings)?;
    let look = Look::of(&view, &list.corners_px, list.side_px, context)?;
    let TileList { corners_px, side_px, named_px, .. } = list;
    let reading = TileReading { corners_px, side_px: *side_px, named_px: *named_px };
    let path = project.array_of(KIND, &slide.name);
    disk::create_folder_all(path.parent().unwrap_or(&project.root))?;
    let parts = Parts::open(path.with_extension("parts"), key)?;
    let mut of_level = BTreeMap::new();
    for level in encoder.levels() {
        let mut vectors = kept_vectors(encoder, &view, &look, reading, level, Some(&parts), context)?;
        encoder.project(level, &mut vectors);
        of_level.insert(level, vectors);
    }
    write(&path, encoder, slide, key, &of_level, &look.to_json())?;
    parts.remove()
}

/// Writes the vectors of a slide, by level.
pub(super) fn write(
    path: &Path,
    encoder: &Encoder,
    slide: &ProjectSlide,
    key: &str,
    of_level: &BTreeMap<usize, Vec<f32>>,
    look: &Value,
) -> Result<()> {
    let group = GroupWriter::create(path)?;
    for (level, vectors) in of_level {
        let dimensions = encoder.dimensions(*level);
        let shape = [vectors.len() / dimensions, dimensions];
        group.write(&name_of(encoder, *level), &shape, &["tile", "feature"], vectors)?;
    }
    group.finish(&json!({
        "key": key,
        "slide": slide.name,
        "encoder": encoder.kind,
        "encoder_sha256": encoder.sha256,
        "vectors_sha256": of_level.get(&encoder.level()).map(|vectors| hash(vectors)),
        "look": look,
    }))?;
    Ok(())
}

/// The hash of vectors, part by part, because a million of them are not copied.
fn hash(vectors: &[f32]) -> String {
    let part = |part: &[f32]| {
        let bytes: Vec<u8> = part.iter().flat_map(|value| value.to_le_bytes()).collect();
        sha256_hex(&bytes)
    };
    let sums: String = vectors.chunks(HASHED_VALUES).map(part).collect();
    sha256_hex(sums.as_bytes())
}

/// The array with the vectors of a level.
fn name_of(encoder: &Encoder, level: usize) -> String {
    if level == encoder.level() { "embeddings".to_owned() } else { format!("embeddings_level{level}") }
}

/// The vectors of a project, as they lie on the disk.
pub struct Embeddings {
    /// Tiles of each slide.
    pub tiles_of_slide: Vec<usize>,
    /// A hash of all vectors: those of slides that were added later make other clusters.
    pub sha256: String,
    groups: Vec<Group>,
}

impl Embeddings {
    /// Those of all slides.
    ///
    /// # Errors
    /// `Usage` when some are missing or of another encoder; `Input`; `Io`.
    pub fn of(project: &Project, encoder: &Encoder, context: &Context<'_>) -> Result<Self> {
        let (mut groups, mut tiles_of_slide, mut sums) = (Vec::new(), Vec::new(), String::new());
        for slide in &project.slides()? {
            let list = tiles::read(project, slide, context)?.ok_or_else(|| no_tiles(project))?;
            tiles_of_slide.push(list.corners_px.len());
            if !list.corners_px.is_empty() {
                let group = open(project, slide, &list, encoder)?;
                sums.push_str(group.text("vectors_sha256").ok_or_else(broken)?);
                groups.push(group);
            }
        }
        Ok(Self { tiles_of_slide, sha256: sha256_hex(sums.as_bytes()), groups })
    }

    /// The vectors of a level, one slide after the other, `[tiles][dimensions]`.
    ///
    /// # Errors
    /// `Limit` when they exceed the budget; `Input`; `Io`.
    pub fn read(&self, encoder: &Encoder, level: usize, context: &Context<'_>) -> Result<Vec<f32>> {
        let (tiles, dimensions) = (self.tiles_of_slide.iter().sum::<usize>(), encoder.dimensions(level));
        context.budget.grant("the embeddings", tiles as u64, 4 * dimensions as u64)?;
        let mut all = Vec::with_capacity(tiles * dimensions);
        for group in &self.groups {
            all.extend(group.read::<f32>(&name_of(encoder, level), context.budget)?.values);
        }
        if all.len() == tiles * dimensions { Ok(all) } else { Err(broken()) }
    }
}

/// The vectors of one slide, as they lie on the disk, with its tiles.
pub struct OfSlide {
    /// The tiles.
    pub list: TileList,
    group: Group,
    array: String,
    dimensions: usize,
}

impl OfSlide {
    /// Those of a slide; none when it has no tile.
    ///
    /// # Errors
    /// `Usage` when they are missing or of another encoder; those of reading.
    pub fn of(
        project: &Project,
        slide: &ProjectSlide,
        encoder: &Encoder,
        context: &Context<'_>,
    ) -> Result<Option<Self>> {
        let list = tiles::read(project, slide, context)?.ok_or_else(|| no_tiles(project))?;
        if list.corners_px.is_empty() {
            return Ok(None);
        }
        let group = open(project, slide, &list, encoder)?;
        let level = encoder.level();
        let (array, dimensions) = (name_of(encoder, level), encoder.dimensions(level));
        Ok(Some(Self { list, group, array, dimensions }))
    }

    /// The vectors, `[tiles][dimensions]`.
    ///
    /// # Errors
    /// `Limit` when they exceed the budget; `Input`; `Io`.
    pub fn read(&self, context: &Context<'_>) -> Result<Vec<f32>> {
        let vectors = self.group.read::<f32>(&self.array, context.budget)?.values;
        let is_whole = vectors.len() == self.list.corners_px.len() * self.dimensions;
        if is_whole { Ok(vectors) } else { Err(broken()) }
    }
}

fn broken() -> Error {
    Error::input("embeddings do not fit their tiles")
        .advise("remove the folder arrays/embeddings of the project and run `microtome tissue embed`")
}

fn open(project: &Project, slide: &ProjectSlide, list: &TileList, encoder: &Encoder) -> Result<Group> {
    let path = project.array_of(KIND, &slide.name);
    let group = Group::open(&path)?;
    match group {
        Some(group) if group.text("key") == Some(&key_of(list, encoder)) => Ok(group),
        Some(group) if group.text("encoder_sha256") != Some(&encoder.sha256) => {
            Err(Error::usage("embeddings are of another encoder than the project's")
                .advise(format!("run `microtome tissue embed {}` again", project.root.display()))
                .at(path))
        }
        _ => Err(Error::usage("embeddings are missing, or of other tiles")
            .advise(format!("run `microtome tissue embed {}` first", project.root.display()))
            .at(path)),
    }
}

/// How a slide looks, as it was when its vectors were computed.
///
/// # Errors
/// As [`read_all`].
pub fn look(project: &Project, slide: &ProjectSlide, list: &TileList, encoder: &Encoder) -> Result<Look> {
    let group = open(project, slide, list, encoder)?;
    Look::from_json(group.attributes.get("look").unwrap_or(&serde_json::Value::Null))
}

/// The backbone's vectors of tiles, `[tiles][dimensions]`.
///
/// # Errors
/// Those of reading; `Cancelled`.
pub fn vectors(
    encoder: &Encoder,
    view: &View<'_>,
    look: &Look,
    reading: TileReading<'_>,
    level: usize,
    context: &Context<'_>,
) -> Result<Vec<f32>> {
    kept_vectors(encoder, view, look, reading, level, None, context)
}

/// [`vectors`], of which parts may be there.
fn kept_vectors(
    encoder: &Encoder,
    view: &View<'_>,
    look: &Look,
    reading: TileReading<'_>,
    level: usize,
    parts: Option<&Parts>,
    context: &Context<'_>,
) -> Result<Vec<f32>> {
    match encoder.reading {
        Reading::Tile => alone(encoder, view, look, reading, level, parts, context),
        Reading::Middle => within(encoder, view, look, reading, level, parts, context),
    }
}

/// Each tile seen alone.
fn alone(
    encoder: &Encoder,
    view: &View<'_>,
    look: &Look,
    reading: TileReading<'_>,
    level: usize,
    parts: Option<&Parts>,
    context: &Context<'_>,
) -> Result<Vec<f32>> {
    let size = Size::new(reading.side_px, reading.side_px);
    let parts = parts.filter(|_| reading.corners_px.len() > BATCH);
    let mut all = Vec::new();
    for (number, corners) in reading.corners_px.chunks(BATCH).enumerate() {
        context.check_cancelled()?;
        let make = || {
            let read = |corner: &[i64; 2]| Ok(view.region(*corner, size, context.budget)?.rgb);
            let tiles: Vec<Vec<u8>> = corners.par_iter().map(read).collect::<Result<_>>()?;
            encoder.tiles(&tiles.concat(), reading.side_px, look, level)
        };
        all.extend(keep(parts, level, number, corners.len() * encoder.dimensions(level), make)?);
    }
    Ok(all)
}

/// A part that is kept, or that is made now.
fn keep(
    parts: Option<&Parts>,
    level: usize,
    number: usize,
    length: usize,
    make: impl FnOnce() -> Result<Vec<f32>>,
) -> Result<Vec<f32>> {
    match parts {
        None => make(),
        Some(parts) => parts.keep(level, number, length, make),
    }
}

/// The middle of each tile, seen with what is around it: the slide is encoded window by window.
fn within(
    encoder: &Encoder,
    view: &View<'_>,
    look: &Look,
    reading: TileReading<'_>,
    level: usize,
    parts: Option<&Parts>,
    context: &Context<'_>,
) -> Result<Vec<f32>> {
    let (dimensions, stride) = (encoder.dimensions(level), encoder.stride_px(level));
    let windows = encoder.windows(view, level);
    let middle = (reading.side_px / 2) as i64;
    let mut of_window: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (tile, corner) in reading.corners_px.iter().enumerate() {
        let place = corner.map(|px| px + middle);
        of_window.entry(encoder.window_of(view, level, place)).or_default().push(tile);
    }
    let mut all = vec![0.0; reading.corners_px.len() * dimensions];
    let border = reading.named_px.div_ceil(2 * stride) + 1;
    let parts = parts.filter(|_| of_window.len() > 1);
    for (window, tiles) in of_window {
        context.check_cancelled()?;
        let make = || {
            let (corner_px, size) = windows[window];
            let place = CellPlace { level, corner_px, size, border, shift_px: [0; 2] };
            let cells = encoder.cells(view, look, place, context)?;
            let origin = corner_px.map(|px| px - (border * stride) as i64);
            let mut own = vec![0.0; tiles.len() * dimensions];
            for (tile, mean) in tiles.iter().zip(own.chunks_exact_mut(dimensions)) {
                let centre = reading.corners_px[*tile].map(|px| px + middle);
                mean_around(&cells, [centre[0] - origin[0], centre[1] - origin[1]], reading.named_px, mean);
            }
            Ok(own)
        };
        let own = keep(parts, level, window, tiles.len() * dimensions, make)?;
        for (tile, mean) in tiles.iter().zip(own.chunks_exact(dimensions)) {
            all[tile * dimensions..][..dimensions].copy_from_slice(mean);
        }
    }
    Ok(all)
}

/// The mean of the cells whose middles lie in a square around a place, at least of the one that holds the place.
fn mean_around(cells: &CellMap, place_px: [i64; 2], side_px: usize, mean: &mut [f32]) {
    let stride = cells.stride_px as i64;
    let range = |at: i64, length: usize| {
        let nearest = at.div_euclid(stride);
        let half = side_px as i64 / 2;
        // Cells whose middles, at stride · cell + stride / 2, are within half a side.
        let first = (at - half - stride / 2 + stride - 1).div_euclid(stride).min(nearest);
        let last = (at + half - stride / 2 - 1).div_euclid(stride).max(nearest);
        first.max(0) as usize..((last + 1).max(1) as usize).min(length)
    };
    let mut count = 0.0f32;
    for row in range(place_px[1], cells.size.height_px) {
        for column in range(place_px[0], cells.size.width_px) {
            let from = &cells.values[cells.size.index(column, row) * cells.dimensions..][..cells.dimensions];
            mean.iter_mut().zip(from).for_each(|(sum, value)| *sum += value);
            count += 1.0;
        }
    }
    mean.iter_mut().for_each(|sum| *sum /= count.max(1.0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_of_the_cells_in_the_middle() {
        let size = Size::new(8, 8);
        let values = (0..64).map(|at| at as f32).collect();
        let cells = CellMap { size, stride_px: 8, dimensions: 1, values };
        let mean = |place, side| {
            let mut mean = [0.0];
            mean_around(&cells, place, side, &mut mean);
            mean[0]
        };
        // Around (32, 32): middles at 20, 28, 36, 44 are within 16; columns and rows 2 to 5.
        assert_eq!(
            mean([32, 32], 32),
            (2..6).flat_map(|y| (2..6).map(move |x| (8 * y + x) as f32)).sum::<f32>() / 16.0
        );
        assert_eq!(mean([33, 33], 1), 4.0 * 8.0 + 4.0);
        assert_eq!(mean([0, 0], 16), 0.0);
    }
}
