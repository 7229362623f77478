//! The tiles of each slide: squares of one resolution, in tissue, in a fixed order.

use crate::arrays::{Group, GroupWriter};
use crate::context::Context;
use crate::project::Project;
use crate::project::key::Key;
use crate::project::settings::Tiles;
use crate::project::slides::ProjectSlide;
use crate::slides::view::View;
use microtome_kernels::Size;
use microtome_kernels::stain::optical_density;
use microtome_slide::{MicronsPerPixel, Slide, TissueMask};
use microtome_vault::{Error, Result};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Version of what is computed here.
const VERSION: u32 = 1;
/// The kind of the arrays.
const KIND: &str = "tiles";
/// A pixel that is not darker than this in any colour is glass.
const LEAST_OPTICAL_DENSITY: f32 = 0.05;

/// The tiles of a slide.
#[derive(Clone, Debug, PartialEq)]
pub struct TileList {
    /// What it was made from.
    pub key: String,
    /// Upper left corners `[x, y]`, in pixels of the view.
    pub corners_px: Vec<[i64; 2]>,
    /// Side, in pixels of the view.
    pub side_px: usize,
    /// Side of the middle that a name is about.
    pub named_px: usize,
}

/// What was found in a project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tiled {
    /// Slides with tiles.
    pub slides: usize,
    /// Tiles of all of them.
    pub tiles: usize,
}

/// What the tiles of a slide are made from.
fn key_of(slide: &ProjectSlide, settings: &Tiles) -> String {
    let key = Key::of(KIND, VERSION).with("slide", &slide.sha256);
    if let Some(imported) = &settings.imported {
        return key.with("imported", &imported.sha256).finish();
    }
    key.with("side", settings.side_px)
        .with("step", settings.step_px)
        .with("mpp", settings.mpp.map_or(String::new(), |mpp| mpp.to_string()))
        .with("tissue", settings.least_tissue)
        .with("most", settings.most_a_slide)
        .finish()
}

/// The command that lists the project's tiles.
pub fn command(project: &Project) -> String {
    let root = project.root.display();
    match &project.settings.tiles.imported {
        None => format!("microtome tissue tile {root}"),
        Some(imported) => format!("microtome tissue import {root} {}", imported.from.display()),
    }
}

/// The view of a slide that tiles are cut from.
///
/// # Errors
/// `Usage` when a resolution is asked for that the slide does not have.
pub fn view<'a>(slide: &'a Slide, mpp: Option<MicronsPerPixel>, settings: &Tiles) -> Result<View<'a>> {
    // Imported tiles are in pixels of level 0.
    let wanted = settings.mpp.filter(|_| settings.imported.is_none());
    let wanted = wanted.map(MicronsPerPixel::new).transpose()?;
    View::of(slide, mpp.or(slide.mpp), wanted)
        .map_err(|error| error.advise("name a coarser resolution, or none, with --mpp"))
}

/// Lists the tiles of every slide that has no list yet.
///
/// # Errors
/// When no slide has tissue; those of reading; `Cancelled`.
pub fn tile(project: &Project, context: &Context<'_>) -> Result<Tiled> {
    let slides = project.slides()?;
    let mut found = Tiled::default();
    context.progress().begin("tiles", slides.len());
    for (done, slide) in slides.iter().enumerate() {
        context.check_cancelled()?;
        let list = match read(project, slide, context)? {
            Some(list) => list,
            None => make(project, slide, context)?,
        };
        if list.corners_px.is_empty() {
            context.warn(format!(
                "no tissue was found, or none that a tile fits into: {}",
                slide.path.display()
            ));
        }
        found.slides += usize::from(!list.corners_px.is_empty());
        found.tiles += list.corners_px.len();
        context.progress().advance(done + 1, &format!("{} tiles", found.tiles));
    }
    context.progress().end();
    match found.tiles {
        0 => Err(Error::input("no slide has a tile with tissue").advise(
            "look at the slides: they may be blank, or smaller than a tile; --side and --least-tissue change what is taken",
        )),
        _ => Ok(found),
    }
}

/// The list of a slide, if it was made from the same.
///
/// # Errors
/// `Input` when it is damaged; `Io`.
pub fn read(project: &Project, slide: &ProjectSlide, context: &Context<'_>) -> Result<Option<TileList>> {
    let key = key_of(slide, &project.settings.tiles);
    let Some(group) = Group::open(&path(project, slide))? else { return Ok(None) };
    if group.text("key") != Some(&key) {
        return Ok(None);
    }
    let corners = group.read::<i64>("corners_px", context.budget)?.values;
    let corners_px = corners.as_chunks::<2>().0.to_vec();
    let settings = &project.settings.tiles;
    // Imported tiles have a side of their own, and are named as a whole.
    let own = group.attributes.get("side_px").and_then(Value::as_u64).map(|side| side as usize);
    let (side_px, named_px) = match (&settings.imported, own) {
        (Some(_), Some(side)) => (side, side),
        _ => (settings.side_px, settings.named_px),
    };
    Ok(Some(TileList { key, corners_px, side_px, named_px }))
}

/// The corners of a slide's tiles in pixels of level 0, as they were listed.
///
/// # Errors
/// `Input` when they are damaged; `Io`.
pub fn corners_in_level0(
    project: &Project,
    slide: &ProjectSlide,
    context: &Context<'_>,
) -> Result<Vec<[i64; 2]>> {
    let Some(group) = Group::open(&path(project, slide))? else { return Ok(Vec::new()) };
    let corners = group.read::<i64>("corners_in_level0_px", context.budget)?.values;
    Ok(corners.as_chunks::<2>().0.to_vec())
}

/// Puts tiles in place that were made elsewhere, in pixels of level 0; unless they are there.
///
/// # Errors
/// `Io` when the disk refuses.
pub(super) fn import(
    project: &Project,
    slide: &ProjectSlide,
    corners_px: Vec<[i64; 2]>,
    side_px: usize,
    context: &Context<'_>,
) -> Result<TileList> {
    if let Some(there) = read(project, slide, context)? {
        return Ok(there);
    }
    let key = key_of(slide, &project.settings.tiles);
    let list = TileList { key, corners_px, side_px, named_px: side_px };
    write(project, slide, &list, 1.0, slide.mpp)?;
    Ok(list)
}

fn path(project: &Project, slide: &ProjectSlide) -> PathBuf {
    project.array_of(KIND, &slide.name)
}

fn make(project: &Project, slide: &ProjectSlide, context: &Context<'_>) -> Result<TileList> {
    let settings = &project.settings.tiles;
    let open = slide.open(context)?;
    let view = view(&open, slide.mpp, settings)?;
    let list = TileList {
        key: key_of(slide, settings),
        corners_px: corners(&open, slide.mpp, &view, settings, context)?,
        side_px: settings.side_px,
        named_px: settings.named_px,
    };
    write(project, slide, &list, view.downsample, view.mpp)?;
    Ok(list)
}

/// Writes the list of a slide, whose view's pixels are `downsample` pixels of level 0 wide.
fn write(
    project: &Project,
    slide: &ProjectSlide,
    list: &TileList,
    downsample: f64,
    mpp: Option<MicronsPerPixel>,
) -> Result<()> {
    let in_level0 = |corner: &[i64; 2]| corner.map(|px| (px as f64 * downsample).round() as i64);
    let flat = |corners: &mut dyn Iterator<Item = [i64; 2]>| corners.flatten().collect::<Vec<i64>>();
    let path = path(project, slide);
    microtome_vault::disk::create_folder_all(path.parent().unwrap_or(&project.root))?;
    let group = GroupWriter::create(&path)?;
    let (shape, names) = ([list.corners_px.len(), 2], ["tile", "x_y"]);
    group.write("corners_px", &shape, &names, &flat(&mut list.corners_px.iter().copied()))?;
    group.write("corners_in_level0_px", &shape, &names, &flat(&mut list.corners_px.iter().map(in_level0)))?;
    group.finish(&json!({
        "key": list.key,
        "slide": slide.name,
        "side_px": list.side_px,
        "side_in_level0_px": list.side_px as f64 * downsample,
        "downsample": downsample,
        "mpp": mpp.map(MicronsPerPixel::microns),
    }))?;
    Ok(())
}

/// The corners of the tiles of a slide: a grid of whole tiles, those with tissue, spread evenly where there are too many.
///
/// # Errors
/// Those of reading.
pub fn corners(
    slide: &Slide,
    mpp: Option<MicronsPerPixel>,
    view: &View<'_>,
    settings: &Tiles,
    context: &Context<'_>,
) -> Result<Vec<[i64; 2]>> {
    let Tiles { side_px, step_px, .. } = *settings;
    let whole = Size::new(side_px, side_px);
    let along = |extent_px: usize| (0..(extent_px + 1).saturating_sub(side_px)).step_by(step_px);
    let grid: Vec<[i64; 2]> = along(view.size.height_px)
        .flat_map(|top| along(view.size.width_px).map(move |left| [left as i64, top as i64]))
        .collect();
    let wanted: Vec<[i64; 2]> = if slide.is_pyramid() {
        let tissue = TissueMask::of(slide, mpp.or(slide.mpp), context.budget)?.0;
        let share = |corner: &[i64; 2]| {
            tissue.shares(view.rectangle_in_level(*corner, whole), view.level_downsample()).tissue
        };
        grid.into_iter()
            .filter(|corner| share(corner) >= settings.least_tissue.max(f64::MIN_POSITIVE))
            .collect()
    } else {
        let stained = Stained::of(view, context)?;
        grid.into_iter()
            .filter(|corner| stained.share(*corner, side_px) >= settings.least_tissue.max(0.01))
            .collect()
    };
    let most = settings.most_a_slide;
    match wanted.len() <= most {
        true => Ok(wanted),
        false => Ok((0..most).map(|index| wanted[index * wanted.len() / most]).collect()),
    }
}

/// How many pixels above and to the left of each place of a picture are stained.
struct Stained {
    counts: Vec<u32>,
    width: usize,
}

impl Stained {
    fn of(view: &View<'_>, context: &Context<'_>) -> Result<Self> {
        let size = view.size;
        let picture = view.region([0, 0], size, context.budget)?;
        let width = size.width_px + 1;
        let mut counts = vec![0u32; width * (size.height_px + 1)];
        for (y, row) in picture.rgb.chunks_exact(3 * size.width_px).enumerate() {
            let mut sum = 0;
            for (x, pixel) in row.as_chunks::<3>().0.iter().enumerate() {
                let is_stained = pixel.iter().any(|value| optical_density(*value) >= LEAST_OPTICAL_DENSITY);
                sum += u32::from(is_stained);
                counts[(y + 1) * width + x + 1] = counts[y * width + x + 1] + sum;
            }
        }
        Ok(Self { counts, width })
    }

    fn share(&self, corner: [i64; 2], side_px: usize) -> f64 {
        let [left, top] = corner.map(|px| px as usize);
        let at = |x: usize, y: usize| i64::from(self.counts[y * self.width + x]);
        let (right, bottom) = (left + side_px, top + side_px);
        let count = at(right, bottom) - at(left, bottom) - at(right, top) + at(left, top);
        count as f64 / (side_px * side_px) as f64
    }
}
