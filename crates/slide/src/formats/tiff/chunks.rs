//! Strips and tiles, decoded and put in their places.

use microtome_vault::{Budget, Result};
use tiff::tags::Tag;

use super::super::colour::{Model, sample_from_16_bits};
use super::super::jpeg::{self, Output};
use super::super::{damaged, foreign};
use super::TiffDecoder;
use super::layout::{Layout, compression};
use crate::Size;

/// The samples of a page.
pub(super) struct Samples {
    /// 8-bit samples, `[height_px][width_px][channels]`.
    pub(super) samples: Vec<u8>,
    /// Whether the first three channels are red, green and blue already, whatever the layout says.
    pub(super) is_rgb: bool,
    /// How much of the page is damaged, if any of it is.
    pub(super) warning: Option<String>,
}

/// One strip or tile.
struct Chunk {
    /// At least as many columns and rows as lie within the page.
    size: Size,
    /// 8-bit samples, `[height_px][width_px][chunk_channels]`.
    samples: Vec<u8>,
}

/// Decodes all strips or tiles of the decoder's current image.
pub(super) fn decode(decoder: &mut TiffDecoder, layout: &Layout, budget: Budget) -> Result<Samples> {
    let mut samples = vec![0; layout.size.area_px() * layout.channels];
    let across = layout.size.width_px.div_ceil(layout.chunk.width_px);
    let down = layout.size.height_px.div_ceil(layout.chunk.height_px);
    let planes = if layout.is_planar { layout.channels } else { 1 };
    let mut source = Source::of(decoder, layout, budget)?;
    for index in 0..planes * across * down {
        let (plane, place) = (index / (across * down), index % (across * down));
        let (left_px, top_px) =
            (place % across * layout.chunk.width_px, place / across * layout.chunk.height_px);
        let chunk = source.chunk(index)?;
        put(&chunk, &mut samples, layout, plane, left_px, top_px);
    }
    let is_rgb = source.jpeg.is_some() && layout.model == Model::YCbCr;
    Ok(Samples { samples, is_rgb, warning: source.warning(planes * across * down) })
}

/// Copies what of a strip or tile lies within the page.
fn put(chunk: &Chunk, samples: &mut [u8], layout: &Layout, plane: usize, left_px: usize, top_px: usize) {
    let (channels, chunk_channels) = (layout.channels, layout.chunk_channels());
    let width_px = chunk.size.width_px.min(layout.size.width_px - left_px);
    let rows = chunk.samples.chunks_exact(chunk.size.width_px * chunk_channels);
    let page_rows = samples.chunks_exact_mut(layout.size.width_px * channels).skip(top_px);
    for (row, page_row) in rows.zip(page_rows).take(layout.chunk.height_px) {
        let (row, page_row) = (&row[..width_px * chunk_channels], &mut page_row[left_px * channels..]);
        if chunk_channels == channels {
            page_row[..row.len()].copy_from_slice(row);
        } else {
            page_row.iter_mut().skip(plane).step_by(channels).zip(row).for_each(|(to, from)| *to = *from);
        }
    }
}

/// Where strips or tiles come from.
struct Source<'decoder> {
    decoder: &'decoder mut TiffDecoder,
    layout: &'decoder Layout,
    budget: Budget,
    jpeg: Option<JpegStreams>,
    /// How many JPEG streams were damaged, and the reason of the first.
    damaged: usize,
    reason: String,
}

impl<'decoder> Source<'decoder> {
    fn of(decoder: &'decoder mut TiffDecoder, layout: &'decoder Layout, budget: Budget) -> Result<Self> {
        let is_jpeg = layout.compression == compression::JPEG;
        let jpeg = if is_jpeg { Some(JpegStreams::read(decoder, layout)?) } else { None };
        Ok(Self { decoder, layout, budget, jpeg, damaged: 0, reason: String::new() })
    }

    fn chunk(&mut self, index: usize) -> Result<Chunk> {
        match &self.jpeg {
            Some(streams) => {
                let frame = jpeg::decode_stream(
                    &streams.stream(index, self.decoder.inner().file())?,
                    self.output(),
                    self.budget,
                )?;
                if let Some(reason) = frame.damage {
                    self.damaged += 1;
                    self.reason = reason;
                }
                self.check_frame(index, frame.size, frame.channels)?;
                Ok(Chunk { size: frame.size, samples: frame.samples })
            }
            None => self.plain_chunk(index),
        }
    }

    /// JPEG converts its own YCbCr. RGB may be there as it is, which the stream does not say (Aperio), or as
    /// YCbCr under a wrong tag, which the stream does say (Bio-Formats).
    fn output(&self) -> Output {
        match self.layout.model {
            Model::YCbCr if !self.layout.is_planar => Output::Rgb,
            Model::Rgb if !self.layout.is_planar => Output::RgbAsStated,
            _ => Output::Components,
        }
    }

    fn check_frame(&mut self, index: usize, frame: Size, channels: usize) -> Result<()> {
        let (width_px, height_px) = self.data_size(index)?;
        let fits = frame.width_px >= width_px
            && frame.height_px >= height_px
            && frame.width_px <= self.layout.chunk.width_px.next_multiple_of(64)
            && channels == self.layout.chunk_channels();
        let what = || {
            format!(
                "a JPEG stream has {frame} pixels of {channels} samples, its place {width_px}×{height_px}"
            )
        };
        if fits { Ok(()) } else { Err(damaged("TIFF", what())) }
    }

    /// The extent of what a strip or tile holds of the page, as the crate reckons it: for planes after the
    /// first it takes the last row of tiles for whole ones.
    fn data_size(&mut self, index: usize) -> Result<(usize, usize)> {
        let per_plane = self.chunks_per_plane();
        let index =
            u32::try_from(index % per_plane).map_err(|_| damaged("TIFF", "it has too many strips"))?;
        let (width, height) = foreign("TIFF", || Ok::<_, String>(self.decoder.chunk_data_dimensions(index)))?;
        Ok((width as usize, height as usize))
    }

    fn chunks_per_plane(&self) -> usize {
        let (page, chunk) = (self.layout.size, self.layout.chunk);
        page.width_px.div_ceil(chunk.width_px) * page.height_px.div_ceil(chunk.height_px)
    }

    /// A strip or tile that the crate decompresses.
    fn plain_chunk(&mut self, index: usize) -> Result<Chunk> {
        let index = u32::try_from(index).map_err(|_| damaged("TIFF", "it has too many strips"))?;
        let layout = self.layout;
        let (width, height) = foreign("TIFF", || Ok::<_, String>(self.decoder.chunk_data_dimensions(index)))?;
        let size = Size::new(width as usize, height as usize);
        let samples_per_row = size.width_px * layout.chunk_channels();
        let row_bytes = (samples_per_row * layout.bits).div_ceil(8);
        let mut raw = vec![0; row_bytes * size.height_px];
        foreign("TIFF", || self.decoder.read_chunk_bytes(index, &mut raw))?;
        let samples = match layout.bits {
            8 => raw,
            _ => raw
                .chunks_exact(row_bytes.max(1))
                .flat_map(|row| to_8_bits(row, layout, samples_per_row))
                .collect(),
        };
        Ok(Chunk { size, samples })
    }

    fn warning(&self, total: usize) -> Option<String> {
        let (damaged, reason) = (self.damaged, &self.reason);
        (damaged > 0).then(|| {
            format!("the JPEG data of {damaged} in {total} tiles are damaged, parts may be wrong ({reason})")
        })
    }
}

/// The samples of one row in 8 bits: indices into a palette as they are, all others scaled to the full range.
fn to_8_bits(row: &[u8], layout: &Layout, count: usize) -> Vec<u8> {
    if layout.bits == 16 {
        return row
            .chunks_exact(2)
            .map(|pair| sample_from_16_bits(u16::from_ne_bytes([pair[0], pair[1]])))
            .collect();
    }
    let highest = (1u8 << layout.bits) - 1;
    let scale = if matches!(layout.model, Model::Palette(_)) { 1 } else { 255 / highest };
    let per_byte = 8 / layout.bits;
    let sample =
        |index: usize| row[index / per_byte] >> (8 - layout.bits - index % per_byte * layout.bits) & highest;
    (0..count).map(|index| sample(index) * scale).collect()
}

/// The JPEG streams of a page: tables that all share, and where each stream lies.
struct JpegStreams {
    /// Empty if each stream has its own.
    tables: Vec<u8>,
    offsets: Vec<u64>,
    lengths: Vec<u64>,
}

impl JpegStreams {
    fn read(decoder: &mut TiffDecoder, layout: &Layout) -> Result<Self> {
        let (offsets, lengths) = match layout.is_tiled {
            true => (Tag::TileOffsets, Tag::TileByteCounts),
            false => (Tag::StripOffsets, Tag::StripByteCounts),
        };
        let mut numbers =
            |tag| foreign("TIFF", || decoder.find_tag_unsigned_vec(tag)).map(Option::unwrap_or_default);
        let (offsets, lengths) = (numbers(offsets)?, numbers(lengths)?);
        let tables = foreign("TIFF", || decoder.find_tag_unsigned_vec(Tag::JPEGTables))?.unwrap_or_default();
        Ok(Self { tables, offsets, lengths })
    }

    /// The stream of one strip or tile of `file`, with its tables.
    fn stream(&self, index: usize, file: &[u8]) -> Result<Vec<u8>> {
        let stream = self
            .slice(index, file)
            .ok_or_else(|| damaged("TIFF", "it ends before its last tile or strip"))?;
        Ok(jpeg::with_tables(&self.tables, stream))
    }

    fn slice<'file>(&self, index: usize, file: &'file [u8]) -> Option<&'file [u8]> {
        let start = usize::try_from(*self.offsets.get(index)?).ok()?;
        let length = usize::try_from(*self.lengths.get(index)?).ok()?;
        file.get(start..start.checked_add(length)?)
    }
}
