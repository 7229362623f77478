//! What a query found, as files: masks, confidence, overlays, areas, outlines of regions, a page to look at.

use super::areas::{Areas, measure, write_table};
use super::asked::{Asked, Inquiry};
use super::look::Look;
use super::query::{Places, QuerySettings, Question, ask, imported};
use super::{overlay, regions, report, tiles};
use crate::context::Context;
use crate::export::file_in;
use crate::export::png::{Samples, write_png};
use crate::export::pyramid::PixelKind;
use crate::export::zarr::ZarrWriter;
use crate::project::key::Key;
use crate::slides::view::View;
use microtome_slide::{Slide, TissueMask};
use microtome_vault::lock::FolderLock;
use microtome_vault::{Budget, Error, Fault, Result, disk};
use std::path::{Path, PathBuf};

/// Version of what is written.
const VERSION: u32 = 2;
/// Folders of the answer.
const FOLDERS: [&str; 5] = ["masks", "confidence", "overlays", "regions", ".done"];
/// A dictionary does not know a slide half of whose places are farther from it than nearly all of its own tiles.
const DRIFT_ADVICE: &str = "look at its overlay before you trust it, or name clusters of slides like it";

/// What was written.
#[derive(Debug)]
pub struct Answered {
    /// The slides that were done, or were done before.
    pub slides: Vec<Areas>,
    /// Files that could not be worked on.
    pub skipped: Vec<(PathBuf, Error)>,
    /// The page to look at.
    pub report: PathBuf,
}

/// Asks a dictionary about slides and writes what it says into `out`. Slides that are there from the same are not done again.
///
/// # Errors
/// `Usage` when the folder holds something else; when no slide can be worked on: the first one's error; `Cancelled`.
pub fn answer(
    inquiry: &Inquiry,
    settings: &QuerySettings,
    out: &Path,
    context: &Context<'_>,
) -> Result<Answered> {
    let (dictionary, slides) = (&inquiry.dictionary, &inquiry.slides);
    let _lock = take(out)?;
    let (mut done, mut skipped) = (Vec::new(), Vec::new());
    context.progress().begin("asking the dictionary", slides.len());
    for (index, slide) in slides.iter().enumerate() {
        context.check_cancelled()?;
        let key = key_of(&inquiry.sha256, slide, settings);
        let outcome = match read_note(out, &slide.name)?.filter(|note| note.key == key) {
            Some(note) => Ok(note),
            None => one(inquiry, slide, settings, out, key, context),
        };
        match outcome {
            Ok(areas) => done.push(areas),
            Err(error) if matches!(error.fault(), Fault::Input | Fault::Limit) => {
                context.warn(format!("skipped, the others go on: {error}"));
                skipped.push((slide.path.clone(), error));
            }
            Err(error) => return Err(error),
        }
        context.progress().advance(index + 1, &slide.name);
    }
    context.progress().end();
    if done.is_empty() {
        let first = skipped.into_iter().next().map(|(_, error)| error);
        return Err(first.unwrap_or_else(|| Error::usage("no slide is named")));
    }
    write_table(out, dictionary, &done)?;
    let report = report::write(out, dictionary, settings, &done, &skipped)?;
    Ok(Answered { slides: done, skipped, report })
}

/// Takes the folder, which is new or holds an answer.
fn take(out: &Path) -> Result<FolderLock> {
    let is_ours = out.join("classes.json").is_file() || out.join(".done").is_dir();
    let mut others =
        out.read_dir().into_iter().flatten().flatten().filter(|entry| entry.file_name() != ".lock");
    if !is_ours && others.next().is_some() {
        return Err(Error::usage("the folder holds something else")
            .advise("name a new folder with --out")
            .at(out));
    }
    disk::create_folder_all(out)?;
    let lock = FolderLock::acquire(out, "microtome tissue query")?;
    for folder in FOLDERS {
        disk::create_folder_all(out.join(folder))?;
        disk::remove_leftovers(out.join(folder))?;
    }
    Ok(lock)
}

fn key_of(dictionary: &str, slide: &Asked, settings: &QuerySettings) -> String {
    Key::of("query", VERSION)
        .with("dictionary", dictionary)
        .with("slide", &slide.sha256)
        .with("mpp", slide.mpp.map_or(String::new(), |mpp| mpp.microns().to_string()))
        .with("tiles", slide.imported.as_ref().map_or("", |own| own.list.key.as_str()))
        .with("settings", format!("{settings:?}"))
        .finish()
}

fn note_of(out: &Path, name: &str) -> Result<PathBuf> {
    file_in(&out.join(".done"), name, "json")
}

fn read_note(out: &Path, name: &str) -> Result<Option<Areas>> {
    let path = note_of(out, name)?;
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = disk::read_file_bounded(&path, Budget::of_bytes(1 << 20))?;
    Ok(serde_json::from_slice(&bytes).ok())
}

fn one(
    inquiry: &Inquiry,
    asked: &Asked,
    settings: &QuerySettings,
    out: &Path,
    key: String,
    context: &Context<'_>,
) -> Result<Areas> {
    let dictionary = &inquiry.dictionary;
    let slide = Slide::open(&asked.path, context.budget)?;
    let view = tiles::view(&slide, asked.mpp, &dictionary.tiles)?;
    let places = match &asked.imported {
        Some(tiles) => imported::ask(dictionary, &view, tiles, settings, context)?,
        None if dictionary.encoder.is_imported() => {
            return Err(Error::input("no tiles of this slide were imported").at(&asked.path));
        }
        None => seen_places(inquiry, asked, &slide, &view, settings, context)?,
    };
    let mut warnings = slide.warnings.clone();
    if places.nearness < dictionary.far_cosine {
        let warning = format!(
            "the dictionary does not know this tissue: half of it is nearer than {:.2} to no prototype, where {:.2} is far; {DRIFT_ADVICE}",
            places.nearness, dictionary.far_cosine
        );
        context.warn(format!("{}: {warning}", asked.name));
        warnings.push(warning);
    }
    let areas = measure(asked, key, dictionary, &places, &view, warnings, asked.mpp.or(slide.mpp));
    write_maps(out, asked, &slide, &view, &places)?;
    regions::write(
        &out.join("regions"),
        &asked.name,
        &places,
        view.downsample,
        &dictionary.classes,
        areas.mpp,
    )?;
    overlay::write(out, asked, &slide, &view, &places, &dictionary.classes, context)?;
    let note = serde_json::to_vec(&areas).map_err(|error| Error::bug(error.to_string()))?;
    // Last: a slide with its note is whole.
    disk::write_atomic(note_of(out, &asked.name)?, &note)?;
    Ok(areas)
}

/// What the dictionary says of the places of a slide that it sees.
fn seen_places(
    inquiry: &Inquiry,
    asked: &Asked,
    slide: &Slide,
    view: &View<'_>,
    settings: &QuerySettings,
    context: &Context<'_>,
) -> Result<Places> {
    let dictionary = &inquiry.dictionary;
    let look = match asked.look {
        Some(look) => look,
        None => {
            let corners = tiles::corners(slide, asked.mpp, view, &dictionary.tiles, context)?;
            if corners.is_empty() {
                return Err(
                    Error::input("no tissue was found, or none that a tile fits into").at(&asked.path)
                );
            }
            Look::of(view, &corners, dictionary.tiles.side_px, context)?
        }
    };
    let tissue = match slide.is_pyramid() {
        true => Some(TissueMask::of(slide, asked.mpp.or(slide.mpp), context.budget)?.0),
        false => None,
    };
    let question = Question { dictionary, view, look: &look, tissue: tissue.as_ref(), settings };
    let keeper = inquiry.kept.as_ref().map(|kept| kept.of(asked, settings));
    ask(&question, keeper.as_ref(), context)
}

/// Masks and confidence: PNG with the picture's extent, or OME-Zarr with a pixel for each place of a slide.
fn write_maps(out: &Path, asked: &Asked, slide: &Slide, view: &View<'_>, places: &Places) -> Result<()> {
    for (folder, values) in [("masks", &places.class), ("confidence", &places.confidence)] {
        let folder = out.join(folder);
        if !slide.is_pyramid() {
            let size = slide.levels[0].size;
            let side = places.side_px as f64 * view.downsample;
            let cell = |px: usize, cells: usize| (((px as f64 + 0.5) / side) as usize).min(cells - 1);
            let columns: Vec<usize> = (0..size.width_px).map(|x| cell(x, places.size.width_px)).collect();
            let mut pixels = Vec::with_capacity(size.area_px());
            for y in 0..size.height_px {
                let row = places.size.index(0, cell(y, places.size.height_px));
                pixels.extend(columns.iter().map(|column| values[row + column]));
            }
            write_png(&file_in(&folder, &asked.name, "png")?, size, Samples::Grey8(&pixels))?;
            continue;
        }
        let path = file_in(&folder, &asked.name, "ome.zarr")?;
        let mpp = view.mpp.map(|mpp| mpp.of_level(places.side_px as f64));
        let writer = ZarrWriter::create(&path, &asked.name, places.size, PixelKind::Labels, mpp)?;
        let labels: Vec<u8> = values.iter().flat_map(|value| u32::from(*value).to_le_bytes()).collect();
        writer.write([0, 0], places.size, &labels)?;
        writer.finish()?;
    }
    Ok(())
}
