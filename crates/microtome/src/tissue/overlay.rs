//! The slide in small with the colours of its classes, and lines where they meet.

use super::asked::Asked;
use super::query::Places;
use crate::context::Context;
use crate::export::file_in;
use crate::export::png::{Samples, write_png};
use crate::project::settings::Class;
use crate::slides::view::View;
use microtome_slide::Slide;
use microtome_slide::overview::Overview;
use microtome_vault::Result;
use std::path::Path;

/// Longer side of the picture, in pixels.
const OVERLAY_PX: usize = 1600;
/// Share of the class's colour in it.
const COLOUR_SHARE: f32 = 0.35;

/// Writes `overlays/NAME.png`.
///
/// # Errors
/// Those of reading; `Io` when the disk refuses.
pub fn write(
    out: &Path,
    asked: &Asked,
    slide: &Slide,
    view: &View<'_>,
    places: &Places,
    classes: &[Class],
    context: &Context<'_>,
) -> Result<()> {
    let whole = slide.levels[0].size;
    let factor = whole.width_px.max(whole.height_px).div_ceil(OVERLAY_PX).max(1);
    let overview = Overview::of(slide, factor as f64, context.budget)?;
    let side = places.side_px as f64 * view.downsample / overview.downsample;
    let place = |x: usize, y: usize| {
        let cell = |px: usize, cells: usize| (((px as f64 + 0.5) / side) as usize).min(cells - 1);
        places.class[places.size.index(cell(x, places.size.width_px), cell(y, places.size.height_px))]
    };
    let (size, mut painted) = (overview.size, overview.rgb);
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
