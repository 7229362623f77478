//! `microtome slide`.

use crate::arguments::SlideCommands;
use microtome::slides::{info, picture};
use microtome::{Budget, Result, Size, Slide};
use std::process::ExitCode;

pub(super) fn slide(command: SlideCommands, budget: Budget) -> Result<ExitCode> {
    let warnings = match command {
        SlideCommands::Info { slide, json: true } => {
            println!("{}", info::to_json(&Slide::open(slide)?)?);
            Vec::new()
        }
        SlideCommands::Info { slide, json: false } => {
            let slide = Slide::open(slide)?;
            print!("{}", info::to_text(&slide));
            slide.warnings
        }
        SlideCommands::Region { slide, level, x, y, width, height, out } => {
            let size = Size::new(width as usize, height as usize);
            let warning = picture::write_region(&Slide::open(slide)?, level, [x, y], size, &out, budget)?;
            println!("{size} px in {}", out.display());
            warning.into_iter().collect()
        }
        SlideCommands::Thumbnail { slide, longest, out } => {
            let (size, warning) = picture::write_thumbnail(&Slide::open(slide)?, longest, &out, budget)?;
            println!("{size} px in {}", out.display());
            warning.into_iter().collect()
        }
    };
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    Ok(ExitCode::SUCCESS)
}
