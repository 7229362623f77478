//! Small pictures for the page, each pixel the mean of those it stands for.

use microtome_kernels::resample::downsample_area;
use microtome_kernels::{Labels, Size};
use microtome_vault::{Error, Result};

use crate::export::confidence::confidence_grey;
use crate::export::overlay::draw_outlines;
use crate::export::png::{Samples, png_bytes};

/// How wide thumbnails in the report are, at most: three fill a page, with pixels to spare on fine screens.
pub const WIDTH_PX: usize = 480;

/// A PNG of the picture, at most `max_width_px` wide; never enlarged.
///
/// # Errors
/// `Bug` when `rgb` does not fill `size`; `Input` when the picture has no pixels.
pub fn thumbnail_png(rgb: &[u8], size: Size, max_width_px: usize) -> Result<Vec<u8>> {
    if rgb.len() != 3 * size.area_px() {
        return Err(Error::bug(format!("the picture does not fill {size} RGB pixels")));
    }
    let small = reduced(size, max_width_px);
    if small == size {
        return png_bytes(size, Samples::Rgb8(rgb));
    }
    png_bytes(small, Samples::Rgb8(&downsample_area(rgb, size, small)))
}

/// A grey PNG of a confidence map (0 to 1), black 0 and white 1, at most `max_width_px` wide.
///
/// # Errors
/// As [`thumbnail_png`].
pub fn confidence_thumbnail_png(confidence: &[f32], size: Size, max_width_px: usize) -> Result<Vec<u8>> {
    grey_thumbnail_png(&confidence_grey(confidence), size, max_width_px)
}

/// A grey PNG of grey values, at most `max_width_px` wide.
///
/// # Errors
/// As [`thumbnail_png`].
pub fn grey_thumbnail_png(grey: &[u8], size: Size, max_width_px: usize) -> Result<Vec<u8>> {
    if grey.len() != size.area_px() {
        return Err(Error::bug(format!("the grey values do not fill {size} pixels")));
    }
    let small = reduced(size, max_width_px);
    let rgb: Vec<u8> = grey.iter().flat_map(|grey| [*grey; 3]).collect();
    let grey: Vec<u8> = downsample_area(&rgb, size, small).into_iter().step_by(3).collect();
    png_bytes(small, Samples::Grey8(&grey))
}

/// A PNG of the picture with outlines that are still about one pixel wide when it is reduced.
///
/// # Errors
/// As [`thumbnail_png`].
pub fn overlay_thumbnail_png(rgb: &[u8], labels: &Labels, max_width_px: usize) -> Result<Vec<u8>> {
    let small = reduced(labels.size, max_width_px);
    // Rounded down: a line that is a little too thin looks light, one too thick hides small nuclei.
    let line_px = (labels.size.width_px / small.width_px.max(1)).max(1);
    let drawn = draw_outlines(rgb, labels, u8::try_from(line_px).unwrap_or(u8::MAX))?;
    thumbnail_png(&drawn, labels.size, max_width_px)
}

/// The size with at most the width asked for and the same proportions, at least one pixel high. A picture
/// that is higher than wide gets at most that height instead.
fn reduced(size: Size, max_px: usize) -> Size {
    let longest = size.width_px.max(size.height_px);
    let max_px = max_px.max(1);
    if longest <= max_px {
        return size;
    }
    let side = |side_px: usize| ((side_px * max_px + longest / 2) / longest).clamp(1, max_px);
    Size::new(side(size.width_px), side(size.height_px))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::overlay::OUTLINE;

    fn decoded(png: &[u8]) -> image::RgbImage {
        image::load_from_memory(png).unwrap().into_rgb8()
    }

    #[test]
    fn proportions_are_kept_and_nothing_is_enlarged() {
        assert_eq!(reduced(Size::new(1000, 500), 480), Size::new(480, 240));
        assert_eq!(reduced(Size::new(500, 1000), 480), Size::new(240, 480));
        assert_eq!(reduced(Size::new(100, 50), 480), Size::new(100, 50));
        assert_eq!(reduced(Size::new(100_000, 1), 480), Size::new(480, 1));
        assert_eq!(reduced(Size::new(10, 5), 0), Size::new(1, 1));
    }

    #[test]
    fn pixels_are_means() {
        let rgb = [0, 0, 0, 100, 50, 20, 10, 10, 10, 30, 30, 30];
        let small = decoded(&thumbnail_png(&rgb, Size::new(4, 1), 2).unwrap());
        assert_eq!(small.into_raw(), [50, 25, 10, 20, 20, 20]);
        let grey = decoded(&confidence_thumbnail_png(&[0.0, 1.0, 1.0, 1.0], Size::new(4, 1), 2).unwrap());
        assert_eq!(grey.into_raw(), [128, 128, 128, 255, 255, 255]);
    }

    #[test]
    fn lines_survive_the_reduction() {
        let size = Size::new(400, 400);
        let labels = Labels { size, ids: (0..160_000).map(|at| u32::from(at / 400 >= 100)).collect() };
        let small = decoded(&overlay_thumbnail_png(&vec![0; 480_000], &labels, 100).unwrap());
        assert_eq!(small.get_pixel(50, 25).0, OUTLINE);
        assert_eq!(small.get_pixel(50, 60).0, [0, 0, 0]);
    }

    #[test]
    fn wrong_sizes_are_refused() {
        assert!(thumbnail_png(&[0; 5], Size::new(2, 1), 9).is_err());
        assert!(thumbnail_png(&[], Size::new(0, 0), 9).is_err());
        assert!(confidence_thumbnail_png(&[], Size::new(2, 1), 9).is_err());
        assert!(overlay_thumbnail_png(&[], &Labels::background(Size::new(2, 1)), 9).is_err());
    }
}
