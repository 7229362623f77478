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
use rayon::prelude::*;
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
    let colours: Vec<[u8; 3]> = classes.iter().map(Class::rgb).collect();
    let columns = size.width_px;
    painted.par_chunks_exact_mut(3 * columns).enumerate().for_each(|(y, row)| {
        for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let own = place(x, y);
            let Some(colour) = colours.get(usize::from(own)) else { continue };
            let is_edge = (x + 1 < columns && place(x + 1, y) != own)
                || (y + 1 < size.height_px && place(x, y + 1) != own);
            *pixel = if is_edge { *colour } else { blended(*pixel, *colour) };
        }
    });
    write_png(&file_in(&out.join("overlays"), &asked.name, "png")?, size, Samples::Rgb8(&painted))
}

/// A pixel with [`COLOUR_SHARE`] of a colour.
fn blended(pixel: [u8; 3], colour: [u8; 3]) -> [u8; 3] {
    std::array::from_fn(|c| {
        let value = f32::from(pixel[c]) * (1.0 - COLOUR_SHARE) + f32::from(colour[c]) * COLOUR_SHARE;
        // Half up, without a call into the library.
        (value + 0.5) as u8
    })
}
