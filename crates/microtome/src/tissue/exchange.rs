//! Tiles and vectors out of and into a project, as HDF5 files of TRIDENT and CLAM ([`super::features`]), one a slide.

use super::embed::{self, Embedded, OfSlide};
use super::encoder::{Encoder, imported};
use super::features::Features;
use super::look::Look;
use super::{pretrain, tiles};
use crate::arrays::Group;
use crate::context::Context;
use crate::export::file_in;
use crate::project::Project;
use crate::project::key::Key;
use crate::project::settings::{Imported, Settings};
use crate::project::slides::ProjectSlide;
use crate::slides::fingerprint::fingerprint;
use microtome_vault::{Error, Result, disk};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Extensions that such files have.
const EXTENSIONS: [&str; 2] = ["h5", "hdf5"];

/// Where vectors come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// A folder with a file for each slide, named like it.
    pub folder: PathBuf,
    /// Side of the tiles in pixels of level 0, over what the files say.
    pub side_in_level0_px: Option<usize>,
}

/// The project's settings once vectors are imported.
///
/// # Errors
/// `Usage` when a slide has no file; `Io`.
pub fn settings(project: &Project, source: &Source) -> Result<Settings> {
    let mut key = Key::of("files", 1).with("side", format!("{:?}", source.side_in_level0_px));
    for slide in &project.slides()? {
        key = key.with(&slide.name, fingerprint(&file_of(slide, source)?)?);
    }
    let mut settings = project.settings.clone();
    // For whoever reads it later, from another folder.
    let from = std::path::absolute(&source.folder).unwrap_or_else(|_| source.folder.clone());
    settings.tiles.imported = Some(Imported { from, sha256: key.finish() });
    settings.encoder.kind = imported::KIND.to_owned();
    Ok(settings)
}

fn file_of(slide: &ProjectSlide, source: &Source) -> Result<PathBuf> {
    let candidates = EXTENSIONS.map(|extension| source.folder.join(format!("{}.{extension}", slide.name)));
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Error::usage(format!("there is no file {}.h5 with vectors of that slide", slide.name))
            .advise("every slide of the project needs one, named like the slide")
            .at(&source.folder)
    })
}

/// Takes tiles and vectors of all slides from their files. The project has the [`settings`] for it.
///
/// # Errors
/// `Input` when files are damaged, of different lengths, or of other slides; `Limit`; `Io`; `Cancelled`.
pub fn import(project: &Project, source: &Source, context: &Context<'_>) -> Result<Embedded> {
    let slides = project.slides()?;
    let Some(imported) = &project.settings.tiles.imported else {
        return Err(Error::bug("vectors are imported into a project that does not ask for it"));
    };
    // All files are read before anything is written: one that is damaged leaves the project as it was.
    let (mut sums, mut tiles, mut found) = (Vec::<f64>::new(), 0, Vec::new());
    context.progress().begin("reading vectors", slides.len());
    for (done, slide) in slides.iter().enumerate() {
        context.check_cancelled()?;
        let features = read(slide, source, sums.len(), context)?;
        sums.resize(features.dimensions, 0.0);
        for vector in features.vectors.chunks_exact(features.dimensions) {
            sums.iter_mut().zip(vector).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        tiles += features.corners_in_level0.len();
        found.push((features.corners_in_level0, features.side_in_level0_px));
        context.progress().advance(done + 1, &slide.name);
    }
    context.progress().end();
    if tiles == 0 {
        return Err(Error::input("the files have no tiles").at(&source.folder));
    }
    let mut lists = Vec::new();
    for (slide, (corners, side)) in slides.iter().zip(found) {
        lists.push(tiles::import(project, slide, corners, side, context)?);
    }
    let centre = sums.iter().map(|sum| (sum / tiles as f64) as f32).collect();
    let encoder = pretrain::import(project, &imported.sha256, centre)?;
    context.progress().begin("embeddings", slides.len());
    for (done, (slide, list)) in slides.iter().zip(&lists).enumerate() {
        context.check_cancelled()?;
        let (path, key) = (project.array_of(embed::KIND, &slide.name), embed::key_of(list, &encoder));
        let is_done = Group::open(&path)?.is_some_and(|group| group.text("key") == Some(&key));
        if !is_done && !list.corners_px.is_empty() {
            let mut vectors = read(slide, source, sums.len(), context)?.vectors;
            encoder.project(imported::LEVEL, &mut vectors);
            disk::create_folder_all(path.parent().unwrap_or(&project.root))?;
            let of_level = BTreeMap::from([(imported::LEVEL, vectors)]);
            embed::write(&path, &encoder, slide, &key, &of_level, &Look::unknown().to_json())?;
        }
        context.progress().advance(done + 1, &slide.name);
    }
    context.progress().end();
    Ok(Embedded { slides: slides.len(), tiles, dimensions: sums.len() })
}

/// The file of a slide, whose vectors are as long as those before.
fn read(slide: &ProjectSlide, source: &Source, before: usize, context: &Context<'_>) -> Result<Features> {
    let path = file_of(slide, source)?;
    let features = Features::read(&path, &slide.open(context)?, source.side_in_level0_px, context.budget)?;
    match before == 0 || features.dimensions == before {
        true => Ok(features),
        false => Err(Error::input(format!(
            "vectors have {} values, those of the slides before {before}",
            features.dimensions
        ))
        .advise("import files of one encoder alone")
        .at(path)),
    }
}

/// Writes a file for each slide into a folder; gives how many there are.
///
/// # Errors
/// `Usage` when embeddings are missing, or a file is there: it may be what vectors were imported from; `Io` when the disk refuses; `Cancelled`.
pub fn export(project: &Project, encoder: &Encoder, folder: &Path, context: &Context<'_>) -> Result<usize> {
    let slides = project.slides()?;
    for slide in &slides {
        let path = file_in(folder, &slide.name, "h5")?;
        if path.exists() {
            return Err(Error::usage("there is a file already, and it may hold more than this would write")
                .advise("name another folder")
                .at(path));
        }
    }
    disk::create_folder_all(folder)?;
    context.progress().begin("writing vectors", slides.len());
    let mut written = 0;
    for (done, slide) in slides.iter().enumerate() {
        context.check_cancelled()?;
        if let Some(own) = OfSlide::of(project, slide, encoder, context)? {
            let corners = tiles::corners_in_level0(project, slide, context)?;
            let open = slide.open(context)?;
            let downsample = tiles::view(&open, slide.mpp, &project.settings.tiles)?.downsample;
            let features = Features {
                corners_in_level0: corners,
                side_in_level0_px: (own.list.side_px as f64 * downsample).round() as usize,
                dimensions: encoder.dimensions(encoder.level()),
                vectors: own.read(context)?,
            };
            features.write(&file_in(folder, &slide.name, "h5")?, &slide.name, &open)?;
            written += 1;
        }
        context.progress().advance(done + 1, &slide.name);
    }
    context.progress().end();
    Ok(written)
}
