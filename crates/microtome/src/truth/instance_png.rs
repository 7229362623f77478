//! Label maps in PNG files: grey of 1 to 16 bits, palette indices, and grey that was saved as colour.

use std::io::Cursor;

use microtome_kernels::Labels;
use microtome_vault::{Budget, Error, Result};
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};

use super::label_map::{granted_size, labels_of, unpacked};

/// The ids in the bytes of a PNG file: raw sample values, never scaled.
///
/// # Errors
/// `Input` for a damaged file or one in colour, `Limit` for one that is too large.
pub(crate) fn decode(bytes: &[u8], budget: Budget) -> Result<Labels> {
    let limits = Limits { bytes: usize::try_from(budget.bytes()).unwrap_or(usize::MAX) };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (width, height) = reader.info().size();
    let (colour, depth) = reader.output_color_type();
    let sample_bytes = if depth == BitDepth::Sixteen { 2 } else { 1 };
    // Samples are held packed and unpacked for a moment.
    let bytes_a_pixel = colour.samples() as u64 * (sample_bytes + 4);
    let size = granted_size(width.into(), height.into(), bytes_a_pixel, budget)?;
    let raw_bytes = reader.output_buffer_size().ok_or_else(|| Error::limit("this PNG is too large"))?;
    let mut raw = vec![0; raw_bytes];
    reader.next_frame(&mut raw).map_err(damaged)?;
    let samples = match depth {
        BitDepth::Sixteen => {
            raw.chunks_exact(2).map(|pair| u32::from_be_bytes([0, 0, pair[0], pair[1]])).collect()
        }
        _ => unpacked(&raw, size.width_px * colour.samples(), depth as u8),
    };
    labels_of(size, one_a_pixel(samples, colour)?)
}

/// One id a pixel: the samples of grey and palette pictures, and of colour pictures whose channels are all
/// equal. Alpha is ignored.
fn one_a_pixel(samples: Vec<u32>, colour: ColorType) -> Result<Vec<u32>> {
    let grey = |pixels: &[u32], step: usize| {
        pixels.chunks_exact(step).filter_map(|pixel| pixel.first().copied()).collect()
    };
    match colour {
        ColorType::Grayscale | ColorType::Indexed => Ok(samples),
        ColorType::GrayscaleAlpha => Ok(grey(&samples, 2)),
        ColorType::Rgb | ColorType::Rgba => {
            let step = colour.samples();
            let is_grey =
                |pixel: &[u32]| matches!(pixel, [red, green, blue, ..] if red == green && green == blue);
            if !samples.chunks_exact(step).all(is_grey) {
                let help = "save ids as grey values or palette indices";
                return Err(Error::input("a picture in colour, not a label map").advise(help));
            }
            Ok(grey(&samples, step))
        }
    }
}

fn damaged(error: png::DecodingError) -> Error {
    match error {
        png::DecodingError::LimitsExceeded => Error::limit("this PNG needs more memory than the budget"),
        other => Error::input(format!("a damaged PNG ({other})")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use microtome_kernels::Size;

    fn encoded(width: u32, height: u32, colour: ColorType, depth: BitDepth, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if colour == ColorType::Indexed {
            encoder.set_palette(vec![0; 3 * 16]);
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    pub(crate) fn grey_png(width: u32, height: u32, ids: &[u8]) -> Vec<u8> {
        encoded(width, height, ColorType::Grayscale, BitDepth::Eight, ids)
    }

    fn ids_of(png: &[u8]) -> Vec<u32> {
        decode(png, Budget::DEFAULT).unwrap().ids
    }

    #[test]
    fn values_are_ids_at_every_depth() {
        use BitDepth::{Eight, Four, One, Sixteen};
        use ColorType::{Grayscale, Indexed};
        assert_eq!(ids_of(&encoded(2, 1, Grayscale, Sixteen, &[0x12, 0x34, 0, 9])), [0x1234, 9]);
        assert_eq!(ids_of(&encoded(2, 1, Grayscale, Eight, &[200, 3])), [200, 3]);
        assert_eq!(ids_of(&encoded(3, 2, Grayscale, One, &[0b1010_0000, 0b0100_0000])), [1, 0, 1, 0, 1, 0]);
        assert_eq!(ids_of(&encoded(3, 1, Indexed, Four, &[0x1f, 0x20])), [1, 15, 2]);
        assert_eq!(decode(&grey_png(2, 3, &[0; 6]), Budget::DEFAULT).unwrap().size, Size::new(2, 3));
    }

    #[test]
    fn grey_saved_as_colour_is_read_and_colour_is_refused() {
        let grey = encoded(2, 1, ColorType::Rgba, BitDepth::Eight, &[5, 5, 5, 255, 6, 6, 6, 0]);
        assert_eq!(ids_of(&grey), [5, 6]);
        assert_eq!(
            ids_of(&encoded(2, 1, ColorType::GrayscaleAlpha, BitDepth::Eight, &[5, 255, 6, 255])),
            [5, 6]
        );
        let colour = encoded(1, 1, ColorType::Rgb, BitDepth::Eight, &[5, 5, 6]);
        assert!(decode(&colour, Budget::DEFAULT).unwrap_err().to_string().contains("a picture in colour"));
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_survived() {
        let png = grey_png(16, 16, &(0..=255).collect::<Vec<u8>>());
        assert!((0..png.len() - 16).all(|length| decode(&png[..length], Budget::DEFAULT).is_err()));
        for at in 0..png.len() {
            let mut broken = png.clone();
            broken[at] ^= 0x55;
            let _ = decode(&broken, Budget::of_bytes(1 << 20));
        }
    }

    #[test]
    fn a_size_beyond_the_budget_is_a_limit_error() {
        let error = decode(&grey_png(64, 64, &[0; 4096]), Budget::of_bytes(4096)).unwrap_err();
        assert_eq!(error.fault(), microtome_vault::Fault::Limit);
    }
}
