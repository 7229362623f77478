//! Which files are slides, and how they are worked on.

use crate::context::Context;
use crate::nuclei::inputs::{Input, Stated};
use crate::slides::fingerprint::fingerprint;
use crate::slides::own_tissue::OwnTissue;
use microtome_slide::find::name_of;
use microtome_slide::plan::nearest_level;
use microtome_slide::slide::SlideLikeness;
use microtome_slide::{MicronsPerPixel, Slide};
use microtome_vault::{Error, Result};
use std::path::Path;

/// The resolution that nuclei are sought at, where a slide is finer: that of an objective of 40×.
const FINEST_MPP: f64 = 0.25;
/// Larger pictures in TIFF files are worked on tile by tile, as slides.
const LARGEST_PICTURE_PX: usize = 64_000_000;

/// How a slide is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlideWork {
    /// The level that nuclei are sought in.
    pub level: usize,
}

/// The input that a file is, if it is a slide: it has levels, is a scanner's, or is too large for a picture.
///
/// # Errors
/// `Input` when it is a slide whose resolution is not stated anywhere.
pub fn survey(path: &Path, stated: Stated<'_>, context: &Context<'_>) -> Result<Option<Input>> {
    // What is no slide is for the reader of pictures to judge; other pictures than TIFF would be decoded here in vain.
    let slide = match (Slide::is_slide_file(path), || Slide::open(path, context.budget)) {
        (SlideLikeness::None, _) => return Ok(None),
        (SlideLikeness::Certain, open) => open()?,
        (SlideLikeness::Possible, open) => match open() {
            Ok(slide) => slide,
            Err(_) => return Ok(None),
        },
    };
    let is_large = slide.levels[0].size.area_px() > LARGEST_PICTURE_PX;
    if !is_large && !slide.is_pyramid() {
        return Ok(None);
    }
    let Some(of_level0) = stated.mpp.or(slide.mpp) else {
        if !is_large && slide.format.is_of_pictures_too() {
            return Ok(None);
        }
        return Err(Error::input("the slide does not state how many µm a pixel is wide")
            .advise("state it with --mpp: about 0.25 for an objective of 40×, 0.5 for 20×")
            .at(path));
    };
    let wanted = MicronsPerPixel::new(FINEST_MPP.max(of_level0.microns()))?;
    let level = nearest_level(&slide, of_level0, wanted);
    let name = name_of(path);
    Ok(Some(Input {
        tissue: stated.tissue.map(|own| OwnTissue::find(own, path)).transpose()?,
        name,
        path: path.to_owned(),
        sha256: fingerprint(path)?,
        size: slide.levels[0].size,
        mpp: Some(of_level0),
        warnings: slide.warnings.clone(),
        slide: Some(SlideWork { level }),
    }))
}
