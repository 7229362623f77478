//! Parts of a slide as pictures.

use super::destination::check_png;
use crate::export::png::{Samples, write_png};
use microtome_kernels::Size;
use microtome_kernels::resample::downsample_area;
use microtome_slide::slide::Region;
use microtome_slide::{PointInLevel0, Slide};
use microtome_vault::{Budget, Error, Result};
use std::path::Path;

/// Longest side of a thumbnail that can be asked for, in pixels.
const LARGEST_THUMBNAIL_PX: usize = 16_384;

/// Writes a rectangle of a level as PNG; `corner` is its upper left one. Gives a warning if tiles
/// could not be read.
///
/// # Errors
/// Those of [`Slide::region`] and of [`write_png`]; `Usage` for a rectangle without pixels, or where something else than a PNG is there.
pub fn write_region(
    slide: &Slide,
    level: usize,
    corner: PointInLevel0,
    size: Size,
    to: &Path,
    budget: Budget,
) -> Result<Option<String>> {
    if size.area_px() == 0 {
        return Err(Error::usage("a region needs a width and a height of at least 1 pixel"));
    }
    check_png(to, &slide.path)?;
    let region = slide.region(level, corner, size, budget)?;
    write_png(to, region.size, Samples::Rgb8(&region.rgb))?;
    Ok(warning(&region))
}

/// Writes the whole slide as a PNG whose longer side is `longest_px` (or less, if the slide is smaller), averaged from
/// the smallest level that is as large. Gives its extent, and a warning if tiles could not be read.
///
/// # Errors
/// As for [`write_region`].
pub fn write_thumbnail(
    slide: &Slide,
    longest_px: usize,
    to: &Path,
    budget: Budget,
) -> Result<(Size, Option<String>)> {
    if !(1..=LARGEST_THUMBNAIL_PX).contains(&longest_px) {
        return Err(Error::usage(format!(
            "a thumbnail has 1 to {LARGEST_THUMBNAIL_PX} pixels, not {longest_px}"
        )));
    }
    check_png(to, &slide.path)?;
    let longest = |size: Size| size.width_px.max(size.height_px);
    let is_enough = |index: &usize| longest(slide.levels[*index].size) >= longest_px;
    let index = (0..slide.levels.len()).rev().find(is_enough).unwrap_or(0);
    let size = slide.levels[index].size;
    let region = slide.region(index, PointInLevel0::new(0, 0), size, budget)?;
    let part = (longest_px as f64 / longest(size) as f64).min(1.0);
    let scaled = |length: usize| ((length as f64 * part).round() as usize).max(1);
    let small = Size::new(scaled(size.width_px), scaled(size.height_px));
    let rgb = if small == size { region.rgb.clone() } else { downsample_area(&region.rgb, size, small) };
    write_png(to, small, Samples::Rgb8(&rgb))?;
    Ok((small, warning(&region)))
}

/// Writes a picture beside the levels (label, macro, thumbnail) as PNG. Gives its extent, and a warning if tiles could not be
/// read.
///
/// # Errors
/// Those of [`Slide::associated_image`] and of [`write_png`].
pub fn write_associated(
    slide: &Slide,
    name: &str,
    to: &Path,
    budget: Budget,
) -> Result<(Size, Option<String>)> {
    check_png(to, &slide.path)?;
    let picture = slide.associated_image(name, budget)?;
    write_png(to, picture.size, Samples::Rgb8(&picture.rgb))?;
    Ok((picture.size, warning(&picture)))
}

fn warning(region: &Region) -> Option<String> {
    let (count, reason) = region.unreadable.as_ref()?;
    let tiles = if *count == 1 { "1 tile".to_owned() } else { format!("{count} tiles") };
    Some(format!("{tiles} could not be read and are white ({reason})"))
}
