//! PNG (ISO/IEC 15948), by the `png` crate: every colour type and depth; of an animation the first image.

use std::io::Cursor;

use microtome_vault::{Budget, Result};
use png::{BitDepth, ColorType, Decoder, Info, Limits, Reader, Transformations, Unit};

use super::colour::{Alpha, Model, bytes_per_pixel, sample_from_16_bits, to_rgb};
use super::{Decoded, damaged, foreign, grant_pixels};
use crate::{MicronsPerPixel, Size};

/// Decodes the content of a PNG file.
pub(super) fn decode(bytes: &[u8], budget: Budget) -> Result<Decoded> {
    let (mut reader, size) = open(bytes, budget)?;
    let mpp = mpp_of(reader.info());
    let (colour, depth) = reader.output_color_type();
    let is_deep = depth == BitDepth::Sixteen;
    let mut samples = read_samples(&mut reader, size, budget)?;
    let mut warnings = Vec::new();
    if is_deep {
        to_8_bits(&mut samples);
        warnings.push("16-bit samples were scaled to 8 bits".to_owned());
    }
    let (model, alpha) = match colour {
        ColorType::Grayscale | ColorType::Indexed => (Model::Grey, Alpha::None),
        ColorType::GrayscaleAlpha => (Model::Grey, Alpha::Straight),
        ColorType::Rgb => (Model::Rgb, Alpha::None),
        ColorType::Rgba => (Model::Rgb, Alpha::Straight),
    };
    let (rgb, is_transparent) = to_rgb(samples, colour.samples(), &model, alpha);
    if is_transparent {
        warnings.push("transparent pixels were put on white".to_owned());
    }
    Ok(Decoded { size, rgb, mpp, warnings })
}

type PngReader<'bytes> = Reader<Cursor<&'bytes [u8]>>;

/// Reads what stands before the pixels; palettes and fewer bits will be expanded.
fn open(bytes: &[u8], budget: Budget) -> Result<(PngReader<'_>, Size)> {
    let limits = Limits { bytes: usize::try_from(budget.bytes()).unwrap_or(usize::MAX) };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    let size = foreign("PNG", || decoder.read_header_info().map(size_of))?;
    // The least that any picture needs, before the decoder makes room for a row.
    grant_pixels(budget, size, 3)?;
    Ok((foreign("PNG", || decoder.read_info())?, size))
}

/// The interleaved samples, 16-bit ones in big-endian order.
fn read_samples(reader: &mut PngReader<'_>, size: Size, budget: Budget) -> Result<Vec<u8>> {
    let (colour, depth) = reader.output_color_type();
    let channels = colour.samples();
    let bytes_per_sample = if depth == BitDepth::Sixteen { 2 } else { 1 };
    grant_pixels(budget, size, bytes_per_pixel(channels).max(channels * bytes_per_sample))?;
    let expected = size.area_px() * channels * bytes_per_sample;
    let length = reader.output_buffer_size().filter(|&length| length == expected);
    let mut samples = vec![0; length.ok_or_else(|| damaged("PNG", "its sizes disagree"))?];
    foreign("PNG", || reader.next_frame(&mut samples))?;
    foreign("PNG", || reader.finish())?;
    Ok(samples)
}

fn size_of(info: &Info<'_>) -> Size {
    Size::new(info.width as usize, info.height as usize)
}

fn mpp_of(info: &Info<'_>) -> Option<MicronsPerPixel> {
    let density = info.pixel_dims.filter(|density| density.unit == Unit::Meter)?;
    let [mpp_x, mpp_y] = [density.xppu, density.yppu].map(|per_metre| 1e6 / f64::from(per_metre));
    MicronsPerPixel::plausible_square(mpp_x, mpp_y)
}

/// Big-endian 16-bit samples to 8 bits, in place.
fn to_8_bits(samples: &mut Vec<u8>) {
    let count = samples.len() / 2;
    for index in 0..count {
        samples[index] =
            sample_from_16_bits(u16::from_be_bytes([samples[2 * index], samples[2 * index + 1]]));
    }
    samples.truncate(count);
}
