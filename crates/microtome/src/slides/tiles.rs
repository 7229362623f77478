//! The tissue of a slide as small pictures of one resolution, for programs that take those.

use std::io::Write;
use std::path::{Path, PathBuf};

use microtome_kernels::Size;
use microtome_slide::focus::is_out_of_focus;
use microtome_slide::tissue::Shares;
use microtome_slide::{MicronsPerPixel, Slide, TissueMask};
use microtome_vault::disk::{self, AtomicWriter};
use microtome_vault::{Error, Result};
use rayon::prelude::*;

use super::destination::check_folder;
use super::own_tissue::OwnTissue;
use super::view::View;
use crate::context::Context;
use crate::export::file_in;
use crate::export::png::{Samples, write_png};

/// Tiles that are read before they are noted.
const BATCH: usize = 256;

/// What tiles are asked for.
#[derive(Clone, Debug)]
pub struct TilesRequest {
    /// Side, in pixels of the tile.
    pub side_px: usize,
    /// Pixels that neighbours share.
    pub overlap_px: usize,
    /// Resolution; that of level 0 without it.
    pub mpp: Option<MicronsPerPixel>,
    /// Resolution of level 0, over what the slide states.
    pub mpp_of_level0: Option<MicronsPerPixel>,
    /// Share of tissue that a tile has at least, 0 to 1.
    pub least_tissue: f64,
    /// The file with the slide's tissue, or a folder with one for each slide; tissue is looked for without it.
    pub tissue: Option<PathBuf>,
}

/// Writes each tile as `NAME_x_y.png`, with its corner in pixels of level 0, and `tiles.csv`, into the folder `out`; gives
/// their number. Tiles beyond the edge are white there; those with unreadable parts are left out and warned of.
///
/// # Errors
/// `Usage` when tiles have no extent, or a resolution is asked for and not known; those of reading and writing.
pub fn write_tiles(
    slide: &Slide,
    out: &Path,
    request: &TilesRequest,
    context: &Context<'_>,
) -> Result<usize> {
    if request.side_px == 0
        || request.overlap_px >= request.side_px
        || !(0.0..=1.0).contains(&request.least_tissue)
    {
        return Err(Error::usage(
            "tiles need a side, less overlap than that, and a share of tissue from 0 to 1",
        ));
    }
    let known = request.mpp_of_level0.or(slide.mpp);
    let view = View::of(slide, known, request.mpp)?;
    let name = microtome_slide::find::name_of(&slide.path);
    let own = request.tissue.as_deref().map(|path| OwnTissue::find(path, &slide.path)).transpose()?;
    let tissue = TissueMask::of(slide, known, context.budget)?.0;
    let tissue = match own {
        Some(own) => own.instead_of(tissue, slide.levels[0].size, context.budget)?,
        None => tissue,
    };
    let whole = Size::new(request.side_px, request.side_px);
    let step = request.side_px - request.overlap_px;
    let corners = (0..view.size.height_px)
        .step_by(step)
        .flat_map(|top| (0..view.size.width_px).step_by(step).map(move |left| [left as i64, top as i64]));
    let shares = |corner| tissue.shares(view.rectangle_in_level(corner, whole), view.level_downsample());
    let wanted: Vec<([i64; 2], Shares)> = corners
        .map(|corner| (corner, shares(corner)))
        .filter(|(_, shares)| shares.tissue > 0.0 && shares.tissue >= request.least_tissue)
        .collect();
    check_folder(out, "tiles.csv")?;
    disk::create_folder_all(out)?;
    let list = file_in(out, "tiles", "csv")?;
    let mut csv = AtomicWriter::create(&list)?;
    let mut line =
        |text: &str| csv.write_all(text.as_bytes()).map_err(|error| Error::io("writing", &error).at(&list));
    line("file,x_in_level0_px,y_in_level0_px,side_in_level0_px,tissue,pen,fold,out_of_focus\n")?;
    let in_level0 = |at: i64| (at as f64 * view.downsample).round() as i64;
    let mut written = 0;
    context.progress().begin("writing tiles", wanted.len());
    for (batch, tiles) in wanted.chunks(BATCH).enumerate() {
        context.check_cancelled()?;
        let outcomes: Vec<Result<Option<&str>>> = tiles
            .par_iter()
            .map(|(corner, _)| {
                let region = view.region(*corner, whole, context.budget)?;
                let [x, y] = corner.map(in_level0);
                if region.unreadable.is_some() {
                    return Ok(None);
                }
                write_png(
                    &file_in(out, &format!("{name}_{x}_{y}"), "png")?,
                    whole,
                    Samples::Rgb8(&region.rgb),
                )?;
                let is_out = view.mpp.and_then(|mpp| is_out_of_focus(&region.rgb, whole, mpp));
                Ok(Some(is_out.map_or("", |is_out| if is_out { "1" } else { "0" })))
            })
            .collect();
        for ((corner, shares), outcome) in tiles.iter().zip(outcomes) {
            match outcome {
                Ok(Some(is_out)) => {
                    let [x, y] = corner.map(in_level0);
                    let side = in_level0(request.side_px as i64);
                    let shares = format!("{:.3},{:.3},{:.3}", shares.tissue, shares.pen, shares.fold);
                    line(&format!("{name}_{x}_{y}.png,{x},{y},{side},{shares},{is_out}\n"))?;
                    written += 1;
                }
                Err(error) if error.fault() != microtome_vault::Fault::Input => return Err(error),
                _ => {}
            }
        }
        context.progress().advance(batch * BATCH + tiles.len(), "");
    }
    context.progress().end();
    if written < wanted.len() {
        context.warn(format!("{} tiles could not be read and were left out", wanted.len() - written));
    }
    csv.commit()?;
    Ok(written)
}
