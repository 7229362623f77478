//! A vector of length 1 for each tile of each slide.
//!
//! A slide of several windows keeps what is done in [`parts`], until all of it is put in place at once.

mod parts;
mod stored;
mod vectors;

pub use stored::{Embeddings, OfSlide, look};
pub use vectors::{Seeing, TileReading};

use super::encoder::Encoder;
use super::look::Look;
use super::tiles::{self, TileList};
use crate::arrays::{Group, GroupWriter};
use crate::context::Context;
use crate::project::Project;
use crate::project::key::Key;
use crate::project::slides::ProjectSlide;
use microtome_vault::checksum::sha256_hex;
use microtome_vault::{Error, Result, disk};
use parts::Parts;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of what is computed here.
const VERSION: u32 = 2;
/// The kind of the arrays.
pub(super) const KIND: &str = "embeddings";
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
        if is_done {
            // A kill may have come between the two.
            disk::remove_folder_all(path.with_extension("parts"))?;
        } else if !list.corners_px.is_empty() {
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
        .advise(format!("run `{}` first", tiles::command(project)))
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
        let seeing = Seeing { encoder, view: &view, look: &look, reading, level };
        let mut vectors = seeing.vectors(Some(&parts), context)?;
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
