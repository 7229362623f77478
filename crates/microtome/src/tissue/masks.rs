//! What a query found, as files: masks, confidence, overlays, areas, outlines of regions, a page to look at.

use super::dictionary::Dictionary;
use super::look::Look;
use super::query::{Places, QuerySettings, ask};
use super::{regions, report, tiles};
use crate::context::Context;
use crate::export::file_in;
use crate::export::png::{Samples, write_png};
use crate::export::pyramid::PixelKind;
use crate::export::zarr::ZarrWriter;
use crate::project::key::Key;
use crate::project::settings::{Class, IGNORED};
use crate::slides::view::View;
use microtome_kernels::Size;
use microtome_kernels::resample::downsample_area;
use microtome_slide::{MicronsPerPixel, Slide, TissueMask};
use microtome_vault::lock::FolderLock;
use microtome_vault::{Budget, Error, Fault, Result, disk};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Version of what is written.
const VERSION: u32 = 1;
/// Longer side of the pictures to look at, in pixels.
const OVERLAY_PX: usize = 1600;
/// Share of the class's colour in them.
const COLOUR_SHARE: f32 = 0.35;
/// Folders of the answer.
const FOLDERS: [&str; 5] = ["masks", "confidence", "overlays", "regions", ".done"];
/// A dictionary does not know a slide half of whose places are farther from it than nearly all of its own tiles.
const DRIFT_ADVICE: &str = "look at its overlay before you trust it, or name clusters of slides like it";

/// A slide that is asked about.
pub struct Asked {
    /// What its files are called.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of its length and ends.
    pub sha256: String,
    /// Resolution of level 0, over what the file says.
    pub mpp: Option<MicronsPerPixel>,
    /// How it looks, if that is known.
    pub look: Option<Look>,
}

/// Areas of the classes of one slide; a line of the table and of the note that it is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Areas {
    /// The slide.
    pub name: String,
    /// What it was made from.
    key: String,
    /// Pixels of level 0 by class.
    pub area_px: Vec<f64>,
    /// Pixels of level 0 without a class.
    pub without_px: f64,
    /// Resolution of level 0, in µm per pixel.
    pub mpp: Option<f64>,
    /// Mean confidence of what has a class, 0 to 1.
    pub confidence: f64,
    /// Median cosine to the nearest prototype.
    pub nearness: f64,
    /// What is odd about it.
    pub warnings: Vec<String>,
}

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
    dictionary: &Dictionary,
    dictionary_sha256: &str,
    slides: &[Asked],
    settings: &QuerySettings,
    out: &Path,
    context: &Context<'_>,
) -> Result<Answered> {
    let _lock = take(out)?;
    let (mut done, mut skipped) = (Vec::new(), Vec::new());
    context.progress().begin("asking the dictionary", slides.len());
    for (index, slide) in slides.iter().enumerate() {
        context.check_cancelled()?;
        let key = key_of(dictionary_sha256, slide, settings);
        let outcome = match read_note(out, &slide.name)?.filter(|note| note.key == key) {
            Some(note) => Ok(note),
            None => one(dictionary, slide, settings, out, key, context),
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
    dictionary: &Dictionary,
    asked: &Asked,
    settings: &QuerySettings,
    out: &Path,
    key: String,
    context: &Context<'_>,
) -> Result<Areas> {
    let slide = Slide::open(&asked.path, context.budget)?;
    let view = tiles::view(&slide, asked.mpp, &dictionary.tiles)?;
    let look = match asked.look {
        Some(look) => look,
        None => {
            let corners = tiles::corners(&slide, asked.mpp, &view, &dictionary.tiles, context)?;
            if corners.is_empty() {
                return Err(
                    Error::input("no tissue was found, or none that a tile fits into").at(&asked.path)
                );
            }
            Look::of(&view, &corners, dictionary.tiles.side_px, context)?
        }
    };
    let mut places = ask(dictionary, &view, &look, settings, context)?;
    if slide.is_pyramid() {
        let tissue = TissueMask::of(&slide, asked.mpp.or(slide.mpp), context.budget)?.0;
        leave_out_glass(&mut places, &view, &tissue);
    }
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
    write_overlay(out, asked, &view, &places, &dictionary.classes, context)?;
    let note = serde_json::to_vec(&areas).map_err(|error| Error::bug(error.to_string()))?;
    // Last: a slide with its note is whole.
    disk::write_atomic(note_of(out, &asked.name)?, &note)?;
    Ok(areas)
}

/// Places whose middle is not in tissue get no class.
fn leave_out_glass(places: &mut Places, view: &View<'_>, tissue: &TissueMask) {
    let side = places.side_px as f64 * view.downsample;
    for row in 0..places.size.height_px {
        for column in 0..places.size.width_px {
            if !tissue.holds((column as f64 + 0.5) * side, (row as f64 + 0.5) * side) {
                let at = places.size.index(column, row);
                (places.class[at], places.confidence[at]) = (IGNORED, 0);
            }
        }
    }
}

fn measure(
    asked: &Asked,
    key: String,
    dictionary: &Dictionary,
    places: &Places,
    view: &View<'_>,
    warnings: Vec<String>,
    mpp: Option<MicronsPerPixel>,
) -> Areas {
    let mut area_px = vec![0.0; dictionary.classes.len()];
    let (mut without_px, mut confidence, mut count) = (0.0, 0.0, 0usize);
    for row in 0..places.size.height_px {
        for column in 0..places.size.width_px {
            // Places at the right and lower edge are cut off there.
            let side = |cell: usize, extent_px: usize| places.side_px.min(extent_px - cell * places.side_px);
            let own = side(column, view.size.width_px) * side(row, view.size.height_px);
            let own = own as f64 * view.downsample * view.downsample;
            let at = places.size.index(column, row);
            match area_px.get_mut(usize::from(places.class[at])) {
                Some(area) => {
                    *area += own;
                    confidence += f64::from(places.confidence[at]) / 254.0;
                    count += 1;
                }
                None => without_px += own,
            }
        }
    }
    Areas {
        name: asked.name.clone(),
        key,
        area_px,
        without_px,
        mpp: mpp.map(MicronsPerPixel::microns),
        confidence: confidence / count.max(1) as f64,
        nearness: places.nearness,
        warnings,
    }
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

/// The slide in small with the colours of its classes, and lines where they meet.
fn write_overlay(
    out: &Path,
    asked: &Asked,
    view: &View<'_>,
    places: &Places,
    classes: &[Class],
    context: &Context<'_>,
) -> Result<()> {
    let longest = view.size.width_px.max(view.size.height_px);
    let factor = longest.div_ceil(OVERLAY_PX).max(1);
    let size = Size::new(view.size.width_px.div_ceil(factor), view.size.height_px.div_ceil(factor));
    let rgb = small(view, factor, size, context)?;
    let place = |x: usize, y: usize| {
        let cell = |at: usize, cells: usize| (at * factor / places.side_px).min(cells - 1);
        places.class[places.size.index(cell(x, places.size.width_px), cell(y, places.size.height_px))]
    };
    let mut painted = rgb;
    for y in 0..size.height_px {
        for x in 0..size.width_px {
            let own = place(x, y);
            let Some(class) = classes.get(usize::from(own)) else { continue };
            let is_edge = (x + 1 < size.width_px && place(x + 1, y) != own)
                || (y + 1 < size.height_px && place(x, y + 1) != own);
            let share = if is_edge { 1.0 } else { COLOUR_SHARE };
            let pixel = &mut painted[3 * size.index(x, y)..][..3];
            for (value, colour) in pixel.iter_mut().zip(class.rgb()) {
                *value = (f32::from(*value) * (1.0 - share) + f32::from(colour) * share).round() as u8;
            }
        }
    }
    write_png(&file_in(&out.join("overlays"), &asked.name, "png")?, size, Samples::Rgb8(&painted))
}

/// The view in small, read in bands.
fn small(view: &View<'_>, factor: usize, size: Size, context: &Context<'_>) -> Result<Vec<u8>> {
    const BAND_ROWS: usize = 64;
    let mut rgb = Vec::with_capacity(3 * size.area_px());
    for top in (0..size.height_px).step_by(BAND_ROWS) {
        let rows = BAND_ROWS.min(size.height_px - top);
        let whole = Size::new(size.width_px * factor, rows * factor);
        let band = view.region([0, (top * factor) as i64], whole, context.budget)?;
        rgb.extend(downsample_area(&band.rgb, whole, Size::new(size.width_px, rows)));
    }
    Ok(rgb)
}

/// `areas.csv`, and `classes.json`, which says what the values of masks mean.
fn write_table(out: &Path, dictionary: &Dictionary, slides: &[Areas]) -> Result<()> {
    let failed = |error: csv::Error| Error::bug(format!("the table cannot be written ({error})"));
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut header = vec!["name".to_owned(), "mpp".to_owned()];
    for class in &dictionary.classes {
        header.extend([
            format!("{}_px", class.name),
            format!("{}_mm2", class.name),
            format!("{}_share", class.name),
        ]);
    }
    header.extend(["without_class_px".to_owned(), "mean_confidence".to_owned(), "median_cosine".to_owned()]);
    table.write_record(&header).map_err(failed)?;
    for slide in slides {
        let mm2 = |px: f64| slide.mpp.map_or(String::new(), |mpp| format!("{:.6}", px * mpp * mpp * 1e-6));
        let all: f64 = slide.area_px.iter().sum();
        let mut row = vec![slide.name.clone(), slide.mpp.map_or(String::new(), |mpp| mpp.to_string())];
        for px in &slide.area_px {
            row.extend([format!("{px:.0}"), mm2(*px), format!("{:.4}", px / all.max(1.0))]);
        }
        let rest = [slide.without_px, slide.confidence, slide.nearness];
        row.extend([format!("{:.0}", rest[0]), format!("{:.4}", rest[1]), format!("{:.4}", rest[2])]);
        table.write_record(&row).map_err(failed)?;
    }
    let bytes = table.into_inner().map_err(|error| Error::bug(error.to_string()))?;
    disk::write_atomic(out.join("areas.csv"), &bytes)?;
    let class =
        |(value, class): (usize, &Class)| json!({"value": value, "name": class.name, "colour": class.colour});
    let text = json!({
        "classes": dictionary.classes.iter().enumerate().map(class).collect::<Vec<_>>(),
        "without_class": IGNORED,
        "named_by": if dictionary.is_oracle_named { "oracle" } else { "person" },
    });
    let mut file = disk::AtomicWriter::create(out.join("classes.json"))?;
    let text = serde_json::to_string_pretty(&text).map_err(|error| Error::bug(error.to_string()))?;
    writeln!(file, "{text}").map_err(|error| Error::io("writing", &error).at(out))?;
    file.commit()
}
