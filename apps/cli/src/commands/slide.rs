//! `microtome slide`.

use crate::arguments::SlideCommands;
use crate::output::{say, say_line, tell};
use microtome::slides::convert::convert;
use microtome::slides::synth::{SynthRequest, mosaic_path, synthesise};
use microtome::slides::tiles::{TilesRequest, write_tiles};
use microtome::slides::{info, picture};
use microtome::{Budget, MicronsPerPixel, PointInLevel0, Result, Size, Slide};
use std::process::ExitCode;

pub(super) fn slide(command: SlideCommands, budget: Budget) -> Result<ExitCode> {
    let warnings = match command {
        SlideCommands::Info { slide, json: true } => {
            say_line!("{}", info::to_json(&Slide::open(slide, budget)?)?);
            Vec::new()
        }
        SlideCommands::Info { slide, json: false } => {
            let slide = Slide::open(slide, budget)?;
            say!("{}", info::to_text(&slide));
            slide.warnings
        }
        SlideCommands::Region { slide, level, x, y, width, height, out } => {
            let size = Size::new(width as usize, height as usize);
            let warning = picture::write_region(
                &Slide::open(slide, budget)?,
                level,
                PointInLevel0::new(x, y),
                size,
                &out,
                budget,
            )?;
            say_line!("{size} px in {}", out.display());
            warning.into_iter().collect()
        }
        SlideCommands::Thumbnail { slide, longest, out } => {
            let (size, warning) =
                picture::write_thumbnail(&Slide::open(slide, budget)?, longest, &out, budget)?;
            say_line!("{size} px in {}", out.display());
            warning.into_iter().collect()
        }
        SlideCommands::Associated { slide, name, out } => {
            let (size, warning) =
                picture::write_associated(&Slide::open(slide, budget)?, &name, &out, budget)?;
            say_line!("{size} px in {}", out.display());
            warning.into_iter().collect()
        }
        SlideCommands::Tiles { slide, out, side, overlap, mpp, mpp_of_level0, tissue, own } => {
            let slide = Slide::open(slide, budget)?;
            let request = TilesRequest {
                side_px: side,
                overlap_px: overlap,
                mpp: mpp.map(MicronsPerPixel::new).transpose()?,
                mpp_of_level0: mpp_of_level0.map(MicronsPerPixel::new).transpose()?,
                least_tissue: tissue,
                tissue: own.tissue_mask,
            };
            let count =
                super::with_context(0, budget, |context| write_tiles(&slide, &out, &request, context))?;
            say_line!("{count} tiles in {}", out.display());
            slide.warnings
        }
        SlideCommands::Convert { slide, out, mpp, quality } => {
            let slide = Slide::open(slide, budget)?;
            let mpp = mpp.map(MicronsPerPixel::new).transpose()?;
            super::with_context(0, budget, |context| convert(&slide, &out, quality.kind(), mpp, context))?;
            say_line!("{} px in {}", slide.levels[0].size, out.display());
            slide.warnings
        }
        SlideCommands::Synth { pictures, out, width, height, filled, mpp, seed, quality } => {
            let request = SynthRequest {
                pictures: super::expand(&pictures)?,
                size: Size::new(width as usize, height as usize),
                filled,
                kind: quality.kind(),
                mpp: mpp.map(MicronsPerPixel::new).transpose()?,
            };
            let mosaic = super::with_context(seed, budget, |context| synthesise(&request, &out, context))?;
            say_line!("{} pictures in {}", mosaic.placed.len(), out.display());
            say_line!("where each lies: {}", mosaic_path(&out).display());
            Vec::new()
        }
    };
    warnings.iter().for_each(|warning| tell!("warning: {warning}"));
    Ok(ExitCode::SUCCESS)
}
