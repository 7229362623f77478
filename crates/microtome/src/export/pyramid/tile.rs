//! One tile of a pyramid: cut out of a band, and compressed.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use microtome_kernels::Size;
use microtome_vault::{Error, Result};

use super::{PixelKind, TILE_PX};

/// A compressed tile.
pub(super) struct Encoded {
    pub(super) bytes: Vec<u8>,
    /// Whether all its pixels are one: such tiles are stored once.
    pub(super) is_uniform: bool,
}

/// Cuts the tile that begins at column `left` out of a band (`[height_px][width_px][bytes]`), fills it up with its last
/// row and column, and compresses it.
pub(super) fn encode(kind: PixelKind, band: &[u8], size: Size, left: usize) -> Result<Encoded> {
    let pixels = cut(kind.bytes(), band, size, left);
    let is_uniform = pixels.chunks_exact(kind.bytes()).all(|pixel| *pixel == pixels[..kind.bytes()]);
    let bytes = match kind {
        PixelKind::RgbJpeg(quality) => jpeg(&pixels, quality)?,
        _ => zlib(&pixels)?,
    };
    Ok(Encoded { bytes, is_uniform })
}

fn cut(bytes: usize, band: &[u8], size: Size, left: usize) -> Vec<u8> {
    let width_px = TILE_PX.min(size.width_px - left);
    let mut pixels = Vec::with_capacity(TILE_PX * TILE_PX * bytes);
    for y in 0..TILE_PX {
        let start = size.index(left, y.min(size.height_px - 1)) * bytes;
        let row = &band[start..start + width_px * bytes];
        pixels.extend_from_slice(row);
        let last = &row[row.len() - bytes..];
        (width_px..TILE_PX).for_each(|_| pixels.extend_from_slice(last));
    }
    pixels
}

fn jpeg(pixels: &[u8], quality: u8) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, quality);
    encoder.set_sampling_factor(SamplingFactor::R_4_4_4);
    let side = TILE_PX as u16;
    let encoded = encoder.encode(pixels, side, side, ColorType::Rgb);
    encoded.map_err(|error| Error::bug(format!("a tile could not be made JPEG ({error})")))?;
    Ok(bytes)
}

fn zlib(pixels: &[u8]) -> Result<Vec<u8>> {
    let failed = |error| Error::io("compressing a tile", &error);
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(pixels).map_err(failed)?;
    encoder.finish().map_err(failed)
}
