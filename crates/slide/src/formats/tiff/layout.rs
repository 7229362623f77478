//! How the samples of a page lie in its strips or tiles, and what they mean.

use microtome_vault::{Budget, Result};
use tiff::decoder::ChunkType;
use tiff::tags::Tag;

use super::super::colour::{Alpha, Model, bytes_per_pixel};
use super::super::{damaged, foreign, grant_pixels, unsupported};
use super::TiffDecoder;
use super::pages::Page;
use crate::Size;

/// TIFF's numbers for compressions.
pub(crate) mod compression {
    /// Bytes as they are.
    pub(crate) const NONE: u16 = 1;
    /// CCITT group 4.
    pub(crate) const FAX4: u16 = 4;
    /// Lempel, Ziv, Welch.
    pub(crate) const LZW: u16 = 5;
    /// JPEG streams, with their tables apart.
    pub(crate) const JPEG: u16 = 7;
    /// zlib.
    pub(crate) const DEFLATE: u16 = 8;
    /// Run lengths.
    pub(crate) const PACK_BITS: u16 = 32_773;
    /// zlib, under the number it had first.
    pub(crate) const OLD_DEFLATE: u16 = 32_946;

    /// JPEG 2000 of Aperio: luma and two colour differences, often at half the width.
    pub(crate) const APERIO_JPEG_2000_YCBCR: u16 = 33_003;
    /// JPEG 2000 of Aperio: red, green, blue.
    pub(crate) const APERIO_JPEG_2000_RGB: u16 = 33_005;
    /// Aperio's raw pairs of pixels: luma, blue difference, luma, red difference.
    pub(crate) const APERIO_YUYV: u16 = 33_007;
    /// JPEG 2000, whose streams say what they hold.
    pub(crate) const JPEG_2000: u16 = 34_712;
    /// Zstandard.
    pub(crate) const ZSTANDARD: u16 = 50_000;

    /// What people call a compression.
    pub(crate) fn name(number: u16) -> String {
        let name = match number {
            NONE => "none",
            2 | 3 => "a fax code of group 3",
            FAX4 => "a fax code of group 4",
            LZW => "LZW",
            6 => "JPEG in the old style of 1992",
            JPEG => "JPEG",
            DEFLATE | OLD_DEFLATE => "deflate",
            PACK_BITS => "PackBits",
            APERIO_JPEG_2000_YCBCR | APERIO_JPEG_2000_RGB | JPEG_2000 => "JPEG 2000",
            APERIO_YUYV => "raw YUYV",
            34_887 => "LERC",
            34_925 => "LZMA",
            ZSTANDARD => "Zstandard",
            50_001 => "WebP",
            50_002 | 52_546 => "JPEG XL",
            other => return format!("method {other}"),
        };
        name.to_owned()
    }
}

/// How the samples of a page lie, and what they mean.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) size: Size,
    /// Samples a pixel.
    pub(super) channels: usize,
    pub(super) bits: usize,
    /// Whether each channel has its own strips or tiles.
    pub(super) is_planar: bool,
    pub(super) compression: u16,
    /// The extent of a whole strip or tile. The last ones may be filled up beyond the page.
    pub(super) chunk: Size,
    pub(super) is_tiled: bool,
    pub(super) model: Model,
    pub(super) alpha: Alpha,
    /// The number that the file has for what samples mean.
    pub(super) photometric: u16,
}

impl Layout {
    /// Reads the tags of the decoder's current image, which is `page`.
    pub(super) fn read(decoder: &mut TiffDecoder, page: &Page) -> Result<Self> {
        let (width, height) = foreign("TIFF", || decoder.dimensions())?;
        if (width as usize, height as usize) != (page.size.width_px, page.size.height_px) {
            return Err(damaged("TIFF", "it states its size twice"));
        }
        let compression = number(decoder, Tag::Compression, compression::NONE)?;
        refuse_compression(compression)?;
        refuse_formats(decoder)?;
        let channels = usize::from(number(decoder, Tag::SamplesPerPixel, 1)?);
        let bits = numbers(decoder, Tag::BitsPerSample)?.first().copied().unwrap_or(1);
        let photometric = page.photometric.unwrap_or(u16::MAX);
        let model = read_model(decoder, photometric, channels, bits, compression)?;
        let (chunk_width, chunk_height) = foreign("TIFF", || Ok::<_, String>(decoder.chunk_dimensions()))?;
        let is_tiled = decoder.get_chunk_type() == ChunkType::Tile;
        let chunk_height_px =
            if is_tiled { chunk_height as usize } else { page.size.height_px.min(chunk_height as usize) };
        let layout = Self {
            size: page.size,
            channels,
            bits: usize::from(bits),
            is_planar: number(decoder, Tag::PlanarConfiguration, 1)? == 2,
            compression,
            chunk: Size::new(chunk_width as usize, chunk_height_px),
            is_tiled,
            alpha: read_alpha(decoder, &model)?,
            model,
            photometric,
        };
        layout.check_channels()?;
        Ok(layout)
    }

    fn check_channels(&self) -> Result<()> {
        if self.channels < self.model.channels() {
            let (needed, found) = (self.model.channels(), self.channels);
            return Err(damaged(
                "TIFF",
                format!("its colours need {needed} samples a pixel, it has {found}"),
            ));
        }
        match self.bits {
            8 | 16 => Ok(()),
            1 | 2 | 4 if self.model.channels() == 1 => Ok(()),
            bits => Err(unsupported("TIFF", format!("has {bits} bits a sample"))),
        }
    }

    /// Samples a pixel within one strip or tile.
    pub(super) fn chunk_channels(&self) -> usize {
        if self.is_planar { 1 } else { self.channels }
    }

    /// Memory for all samples and their RGB, and for one strip or tile in the file's depth and in 8 bits.
    pub(super) fn grant(&self, budget: Budget) -> Result<()> {
        grant_pixels(budget, self.size, bytes_per_pixel(self.channels))?;
        let bytes_per_sample = 1 + self.bits.div_ceil(8);
        let chunk = if self.is_tiled { "one tile" } else { "one strip" };
        let area_px = (self.chunk.width_px as u64).saturating_mul(self.chunk.height_px as u64);
        let bytes = (self.chunk_channels() * bytes_per_sample) as u64;
        budget.grant(&format!("{chunk} of this picture, {} pixels,", self.chunk), area_px, bytes).map(|_| ())
    }

    /// What is not taken as it is.
    pub(super) fn warnings(&self) -> Vec<String> {
        let Self { channels, bits, photometric, alpha, .. } = *self;
        warnings(&self.model, alpha, photometric.into(), channels, bits)
    }
}

/// What of samples is not taken as it is.
pub(crate) fn warnings(
    model: &Model,
    alpha: Alpha,
    photometric: u64,
    channels: usize,
    bits: usize,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if bits == 16 {
        warnings.push("16-bit samples were scaled to 8 bits".to_owned());
    }
    if *model == Model::Cmyk {
        warnings.push("CMYK inks were turned into RGB without a colour profile".to_owned());
    }
    if photometric == 1 && *model == Model::Rgb {
        warnings.push("three grey channels were taken for red, green and blue".to_owned());
    }
    let used = model.channels() + usize::from(alpha != Alpha::None);
    if channels > used {
        warnings.push(format!("of {channels} channels the first {used} were read"));
    }
    warnings
}

/// The one number of a tag, or what its absence means.
fn number(decoder: &mut TiffDecoder, tag: Tag, default: u16) -> Result<u16> {
    Ok(foreign("TIFF", || decoder.find_tag_unsigned(tag))?.unwrap_or(default))
}

/// The numbers of a tag; none if it is absent.
fn numbers(decoder: &mut TiffDecoder, tag: Tag) -> Result<Vec<u16>> {
    Ok(foreign("TIFF", || decoder.find_tag_unsigned_vec(tag))?.unwrap_or_default())
}

fn refuse_compression(number: u16) -> Result<()> {
    use compression::{DEFLATE, FAX4, JPEG, LZW, NONE, OLD_DEFLATE, PACK_BITS, name};
    match number {
        NONE | FAX4 | LZW | JPEG | DEFLATE | PACK_BITS | OLD_DEFLATE => Ok(()),
        other => Err(unsupported("TIFF", format!("is compressed with {}", name(other)))),
    }
}

fn refuse_formats(decoder: &mut TiffDecoder) -> Result<()> {
    let formats = numbers(decoder, Tag::SampleFormat)?;
    if formats.iter().any(|format| !matches!(format, 1 | 4)) {
        return Err(unsupported("TIFF", "holds signed or floating-point numbers"));
    }
    if number(decoder, Tag::FillOrder, 1)? != 1 {
        return Err(unsupported("TIFF", "has its bits in reverse order"));
    }
    Ok(())
}

fn read_model(
    decoder: &mut TiffDecoder,
    photometric: u16,
    channels: usize,
    bits: u16,
    compression: u16,
) -> Result<Model> {
    match photometric {
        // What Python writes when it is not told that an array is RGB.
        1 if channels == 3
            && bits >= 8
            && numbers(decoder, Tag::ExtraSamples)?.iter().all(|&kind| kind == 0) =>
        {
            Ok(Model::Rgb)
        }
        0 => Ok(Model::InvertedGrey),
        1 => Ok(Model::Grey),
        2 => Ok(Model::Rgb),
        3 => read_palette(decoder, bits).map(Model::Palette),
        5 => Ok(Model::Cmyk),
        6 => {
            // JPEG streams say themselves how their colour is subsampled.
            let subsampling = numbers(decoder, Tag::ChromaSubsampling)?;
            if compression != compression::JPEG && subsampling != [1, 1] {
                return Err(unsupported("TIFF", "has subsampled colour outside of JPEG"));
            }
            Ok(Model::YCbCr)
        }
        4 => Err(unsupported("TIFF", "is a mask")),
        8..=10 => Err(unsupported("TIFF", "has Lab colours")),
        u16::MAX => Err(damaged("TIFF", "it does not say what its samples mean")),
        other => Err(unsupported("TIFF", format!("has colours of kind {other}"))),
    }
}

/// The table of colours: all reds, all greens, all blues, in 16 bits.
fn read_palette(decoder: &mut TiffDecoder, bits: u16) -> Result<Vec<[u8; 3]>> {
    if bits > 8 {
        return Err(unsupported("TIFF", format!("has a palette of {bits} bits")));
    }
    let map = numbers(decoder, Tag::ColorMap)?;
    let count = 1 << bits;
    if map.len() != 3 * count {
        return Err(damaged("TIFF", format!("its palette has {} numbers, not {}", map.len(), 3 * count)));
    }
    // Some writers put 8 bits into the low half.
    let shift = if map.iter().all(|&value| value < 256) { 0 } else { 8 };
    Ok((0..count).map(|index| [0, 1, 2].map(|plane| (map[plane * count + index] >> shift) as u8)).collect())
}

fn read_alpha(decoder: &mut TiffDecoder, model: &Model) -> Result<Alpha> {
    let extra = numbers(decoder, Tag::ExtraSamples)?;
    Ok(match (model, extra.first()) {
        (Model::Palette(_), _) => Alpha::None,
        (_, Some(1)) => Alpha::Premultiplied,
        (_, Some(2)) => Alpha::Straight,
        _ => Alpha::None,
    })
}
