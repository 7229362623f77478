//! A slide written anew as a pyramid that other programs open.

use std::path::Path;

use microtome_kernels::Size;
use microtome_slide::{MicronsPerPixel, PointInLevel, RectangleInLevel, Slide};
use microtome_vault::Result;

use super::destination::check_new;
use crate::context::Context;
use crate::export::pyramid::{Layout, PixelKind, Pyramid, PyramidWriter, TILE_PX};

/// Writes level 0 of a slide, and smaller levels made of it, to `out`: OME-TIFF if its name ends in `.ome.tif`. `mpp` counts
/// over what the slide states.
///
/// # Errors
/// `Usage` when something is there; those of reading regions and of [`PyramidWriter`]; `Cancelled`. Tiles that cannot be read are white and warned of.
pub fn convert(
    slide: &Slide,
    out: &Path,
    kind: PixelKind,
    mpp: Option<MicronsPerPixel>,
    context: &Context<'_>,
) -> Result<()> {
    check_new(out)?;
    let size = slide.levels[0].size;
    let pyramid = Pyramid { size, kind, layout: Layout::of_name(out), mpp: mpp.or(slide.mpp) };
    let mut writer = PyramidWriter::create(out, pyramid)?;
    let mut unreadable = 0;
    context.progress().begin("converting", size.height_px.div_ceil(TILE_PX));
    for (band, top) in (0..size.height_px).step_by(TILE_PX).enumerate() {
        context.check_cancelled()?;
        let rows = Size::new(size.width_px, TILE_PX.min(size.height_px - top));
        let rectangle = RectangleInLevel { corner: PointInLevel::new(0, top as i64), size: rows };
        let region = slide.region_in_level(0, rectangle, context.budget)?;
        unreadable += region.unreadable.map_or(0, |(count, _)| count);
        writer.push_rows(&region.rgb)?;
        context.progress().advance(band + 1, "");
    }
    context.progress().end();
    if unreadable > 0 {
        context.warn(format!("{unreadable} reads of tiles failed; those tiles are white"));
    }
    writer.finish().map(|_| ())
}
