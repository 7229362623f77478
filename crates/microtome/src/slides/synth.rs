//! A slide of any size whose truth is known: a mosaic of pictures, as a pyramid, for tests and measurements.

use std::path::{Path, PathBuf};

use microtome_kernels::Size;
use microtome_nets::random::{Purpose, stream};
use microtome_slide::picture::ReadSettings;
use microtome_slide::{MicronsPerPixel, Picture, PointInLevel0, find_pictures, read_picture};
use microtome_vault::{Error, Result, disk};
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::destination::check_new;
use crate::context::Context;
use crate::export::pyramid::{Layout, PixelKind, Pyramid, PyramidWriter};

/// Version of the file that says where each picture lies.
const FORMAT_VERSION: u32 = 1;
/// The glass between the pictures.
const GLASS: [u8; 3] = [243, 243, 241];
/// Rows that are handed on at a time.
const ROWS: usize = 64;

/// What a slide is to be made of.
#[derive(Clone, Debug)]
pub struct SynthRequest {
    /// Files and folders.
    pub pictures: Vec<PathBuf>,
    /// Extent of the slide.
    pub size: Size,
    /// Share of the places that hold a picture, 0 to 1; the others are glass.
    pub filled: f64,
    /// How pixels are kept.
    pub kind: PixelKind,
    /// Resolution, where the user states it; else that of the pictures, where all have the same.
    pub mpp: Option<MicronsPerPixel>,
}

/// A picture in the mosaic (on disk, version [`FORMAT_VERSION`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Name of the picture.
    pub picture: String,
    /// Its left edge, in pixels of level 0.
    pub x_px: i64,
    /// Its upper edge, in pixels of level 0.
    pub y_px: i64,
    /// How much of it there is, from its upper left corner.
    pub width_px: usize,
    /// How much of it there is, from its upper left corner.
    pub height_px: usize,
}

impl Placed {
    /// Its upper left corner.
    pub fn corner(&self) -> PointInLevel0 {
        PointInLevel0::new(self.x_px, self.y_px)
    }
}

/// Where each picture lies (on disk, version [`FORMAT_VERSION`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mosaic {
    /// Version of this file.
    pub format_version: u32,
    /// Pictures, row by row.
    pub placed: Vec<Placed>,
}

/// Where the mosaic of a slide is written: beside it, with `.mosaic.json` in place of its extension.
pub fn mosaic_path(slide: &Path) -> PathBuf {
    slide.with_extension("mosaic.json")
}

/// Makes the slide and writes where each picture lies.
///
/// Places are as large as the smallest picture, of which larger ones show their upper left part. Which picture comes where is
/// decided by the seed.
///
/// # Errors
/// Those of reading pictures; `Usage` for a share that is none; `Io` when the disk refuses; `Cancelled`.
pub fn synthesise(request: &SynthRequest, out: &Path, context: &Context<'_>) -> Result<Mosaic> {
    if !(0.0..=1.0).contains(&request.filled) {
        return Err(Error::usage("the share of places that hold a picture is a number from 0 to 1"));
    }
    check_new(out)?;
    let pictures = read_all(&request.pictures, context)?;
    let side = |of: fn(&Picture) -> usize| pictures.iter().map(of).min().unwrap_or(0);
    let cell = Size::new(side(|p| p.size.width_px), side(|p| p.size.height_px));
    if cell.area_px() == 0 {
        return Err(Error::usage("there is no picture to make a slide of"));
    }
    let common = pictures[0].mpp.filter(|mpp| pictures.iter().all(|picture| picture.mpp == Some(*mpp)));
    let (size, mpp) = (request.size, request.mpp.or(common));
    let pyramid = Pyramid { size, kind: request.kind, layout: Layout::of_name(out), mpp };
    let mut writer = PyramidWriter::create(out, pyramid)?;
    let mut placed = Vec::new();
    let mut random = stream(context.seed, Purpose::Mosaic, 0);
    context.progress().begin("writing the slide", size.height_px.div_ceil(cell.height_px));
    for (row, top) in (0..size.height_px).step_by(cell.height_px).enumerate() {
        context.check_cancelled()?;
        let chosen: Vec<Option<usize>> = (0..size.width_px.div_ceil(cell.width_px))
            .map(|_| (random.random_range(0..pictures.len()), random.random::<f64>()))
            .map(|(picture, chance)| (chance < request.filled).then_some(picture))
            .collect();
        let height_px = cell.height_px.min(size.height_px - top);
        for first in (0..height_px).step_by(ROWS) {
            let rows = first..height_px.min(first + ROWS);
            let rows = rows.into_par_iter().map(|y| mosaic_row(&pictures, &chosen, cell, size.width_px, y));
            writer.push_rows(&rows.collect::<Vec<_>>().concat())?;
        }
        for (column, picture) in chosen.iter().enumerate() {
            let left = column * cell.width_px;
            placed.extend(picture.map(|picture| Placed {
                picture: pictures[picture].name.clone(),
                x_px: left as i64,
                y_px: top as i64,
                width_px: cell.width_px.min(size.width_px - left),
                height_px,
            }));
        }
        context.progress().advance(row + 1, "");
    }
    context.progress().end();
    writer.finish()?;
    let mosaic = Mosaic { format_version: FORMAT_VERSION, placed };
    let json =
        serde_json::to_vec_pretty(&mosaic).map_err(|error| Error::bug(format!("a mosaic: {error}")))?;
    disk::write_atomic(mosaic_path(out), &json)?;
    Ok(mosaic)
}

fn read_all(paths: &[PathBuf], context: &Context<'_>) -> Result<Vec<Picture>> {
    let settings = ReadSettings { budget: context.budget };
    let pictures: Vec<Picture> =
        find_pictures(paths)?.par_iter().map(|path| read_picture(path, &settings)).collect::<Result<_>>()?;
    let bytes: u64 = pictures.iter().map(|picture| picture.rgb.len() as u64).sum();
    context.budget.grant("all pictures of the mosaic together", bytes, 1)?;
    Ok(pictures)
}

/// Row `y` of the places of a row, side by side.
fn mosaic_row(
    pictures: &[Picture],
    chosen: &[Option<usize>],
    cell: Size,
    width_px: usize,
    y: usize,
) -> Vec<u8> {
    let mut row = Vec::with_capacity(3 * (width_px + cell.width_px));
    for picture in chosen {
        match picture.map(|picture| &pictures[picture]) {
            Some(picture) => {
                row.extend_from_slice(&picture.rgb[3 * picture.size.index(0, y)..][..3 * cell.width_px]);
            }
            None => (0..cell.width_px).for_each(|_| row.extend_from_slice(&GLASS)),
        }
    }
    row.truncate(3 * width_px);
    row
}
