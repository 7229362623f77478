//! Vectors of length 1, as they lie on the disk.

use super::{KIND, key_of, name_of, no_tiles};
use crate::arrays::Group;
use crate::context::Context;
use crate::project::Project;
use crate::project::slides::ProjectSlide;
use crate::tissue::encoder::Encoder;
use crate::tissue::look::Look;
use crate::tissue::tiles::{self, TileList};
use microtome_vault::checksum::sha256_hex;
use microtome_vault::{Error, Result};
use serde_json::Value;

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
/// As [`OfSlide::of`].
pub fn look(project: &Project, slide: &ProjectSlide, list: &TileList, encoder: &Encoder) -> Result<Look> {
    let group = open(project, slide, list, encoder)?;
    Look::from_json(group.attributes.get("look").unwrap_or(&Value::Null))
}
