//! BMP, by the `image` crate: every depth and compression of Windows' bitmaps.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::{ColorType, ImageDecoder};
use microtome_vault::{Budget, Result};

use super::colour::{Alpha, Model, to_rgb};
use super::{Decoded, damaged, foreign, grant_pixels};
use crate::{MicronsPerPixel, Size};

/// Decodes the content of a BMP file.
pub(super) fn decode(bytes: &[u8], budget: Budget) -> Result<Decoded> {
    let decoder = foreign("BMP", || BmpDecoder::new(Cursor::new(bytes)))?;
    let (width, height) = decoder.dimensions();
    let size = Size::new(width as usize, height as usize);
    if width == 0 || height == 0 {
        return Err(damaged("BMP", format!("it has {size} pixels")));
    }
    let (channels, alpha) = match decoder.color_type() {
        ColorType::Rgba8 => (4, Alpha::Straight),
        _ => (3, Alpha::None),
    };
    grant_pixels(budget, size, channels)?;
    let mut samples = vec![0; size.area_px() * channels];
    if decoder.total_bytes() != samples.len() as u64 {
        return Err(damaged("BMP", "its sizes disagree"));
    }
    foreign("BMP", || decoder.read_image(&mut samples))?;
    let (rgb, is_transparent) = to_rgb(samples, channels, &Model::Rgb, alpha);
    let warning = is_transparent.then(|| "transparent pixels were put on white".to_owned());
    Ok(Decoded { size, rgb, mpp: mpp_of(bytes), warnings: warning.into_iter().collect() })
}

/// Pixels per metre stand in every header but the oldest.
fn mpp_of(bytes: &[u8]) -> Option<MicronsPerPixel> {
    let number_at = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(i32::from_le_bytes);
    number_at(14).filter(|&header_bytes| header_bytes >= 40)?;
    MicronsPerPixel::plausible_square(1e6 / f64::from(number_at(38)?), 1e6 / f64::from(number_at(42)?))
}
