//! The tiles or strips of a level, each decoded on its own.

use std::io::Read;
use std::sync::OnceLock;

use microtome_vault::{Budget, Error, Result};

use super::super::file::SlideFile;
use super::directory::{Directory, tag};
use crate::Size;
use crate::formats::colour::{Alpha, Model, to_rgb};
use crate::formats::jpeg::{self, Output};
use crate::formats::{damaged, foreign, unsupported};

/// Longer tables of JPEG are not believed, in bytes.
const LONGEST_TABLES: u64 = 1 << 16;

/// How the pixels of a level are stored.
#[derive(Debug)]
pub(super) struct Tiles {
    pub(super) size: Size,
    /// Extent of a whole tile or strip.
    pub(super) tile: Size,
    pub(super) is_tiled: bool,
    pub(super) compression: u64,
    directory: Directory,
    places: OnceLock<Option<Places>>,
}

/// Where each tile lies, and what all have in common; read when the first is asked for.
#[derive(Debug)]
struct Places {
    offsets: Vec<u64>,
    lengths: Vec<u64>,
    /// From the start-of-image marker to before the end-of-image marker; empty if each stream has its own.
    jpeg_tables: Vec<u8>,
    photometric: u64,
    channels: usize,
    predictor: u64,
}

impl Tiles {
    pub(super) fn new(
        directory: Directory,
        size: Size,
        tile: Size,
        is_tiled: bool,
        compression: u64,
    ) -> Self {
        Self { size, tile, is_tiled, compression, directory, places: OnceLock::new() }
    }

    /// Tiles across and down.
    pub(super) fn grid(&self) -> (usize, usize) {
        (self.size.width_px.div_ceil(self.tile.width_px), self.size.height_px.div_ceil(self.tile.height_px))
    }

    /// Red, green and blue of one tile and its extent; none where the file leaves the tile out.
    ///
    /// # Errors
    /// `Input` when the tile is damaged or of a kind that is not read; `Limit` when it exceeds the budget.
    pub(super) fn rgb(
        &self,
        file: &SlideFile,
        (column, row): (usize, usize),
        budget: Budget,
    ) -> Result<Option<(Size, Vec<u8>)>> {
        let places = self.places(file)?;
        let index = row * self.grid().0 + column;
        let cut_off = || damaged("TIFF", "it ends before its last tile or strip");
        let (offset, length) = match (places.offsets.get(index), places.lengths.get(index)) {
            (Some(&offset), Some(&length)) => (offset, length),
            _ => return Err(cut_off()),
        };
        if length == 0 {
            return Ok(None);
        }
        budget.grant("one tile of this slide", length, 1)?;
        let bytes = file.bytes(offset, length)?.ok_or_else(cut_off)?;
        // A strip may be shorter at the end of the picture; a tile is whole.
        let left_px = self.size.height_px - row * self.tile.height_px;
        let height_px = if self.is_tiled { self.tile.height_px } else { self.tile.height_px.min(left_px) };
        let size = Size::new(self.tile.width_px, height_px);
        match self.compression {
            7 => places.jpeg(&bytes, size, budget),
            _ => places.plain(&self.decompressed(bytes, places.channels, size, budget)?, size),
        }
        .map(Some)
    }

    fn places(&self, file: &SlideFile) -> Result<&Places> {
        if self.places.get().is_none() {
            // Another thread may be faster; both read the same.
            let _ = self.places.set(self.read_places(file)?);
        }
        let places = self.places.get().and_then(Option::as_ref);
        places.ok_or_else(|| damaged("TIFF", "it does not say where its tiles are"))
    }

    fn read_places(&self, file: &SlideFile) -> Result<Option<Places>> {
        let (across, down) = self.grid();
        let most = (across as u64).saturating_mul(down as u64);
        let (offsets, lengths) = match self.is_tiled {
            true => (tag::TILE_OFFSETS, tag::TILE_BYTE_COUNTS),
            false => (tag::STRIP_OFFSETS, tag::STRIP_BYTE_COUNTS),
        };
        let numbers = |tag, most| self.directory.numbers(file, tag, most);
        let number = |tag, default| Ok::<u64, Error>(self.directory.number(file, tag)?.unwrap_or(default));
        let (Some(offsets), Some(lengths)) = (numbers(offsets, most)?, numbers(lengths, most)?) else {
            return Ok(None);
        };
        let (channels, bits) = (number(tag::SAMPLES_PER_PIXEL, 1)?, number(tag::BITS_PER_SAMPLE, 1)?);
        if bits != 8 || !(1..=8).contains(&channels) || number(tag::PLANAR_CONFIGURATION, 1)? != 1 {
            return Err(unsupported("TIFF", format!("has {channels} planes or samples of {bits} bits")));
        }
        let tables = numbers(tag::JPEG_TABLES, LONGEST_TABLES)?.unwrap_or_default();
        let tables: Vec<u8> = tables.into_iter().map(|byte| byte as u8).collect();
        Ok(Some(Places {
            offsets,
            lengths,
            jpeg_tables: tables.strip_suffix(b"\xff\xd9").map(<[u8]>::to_vec).unwrap_or(tables),
            photometric: number(tag::PHOTOMETRIC, 2)?,
            channels: channels as usize,
            predictor: number(tag::PREDICTOR, 1)?,
        }))
    }

    /// The samples of a tile, `[height_px][width_px][channels]`; missing ones are white.
    fn decompressed(&self, bytes: Vec<u8>, channels: usize, size: Size, budget: Budget) -> Result<Vec<u8>> {
        let area_px = (size.width_px as u64).saturating_mul(size.height_px as u64);
        let length =
            budget.grant(&format!("one tile of this slide, {size} pixels,"), area_px, channels as u64)?;
        let mut samples = match self.compression {
            1 => bytes,
            5 => {
                let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
                let mut samples = vec![0; length];
                let done = foreign("TIFF", || Ok::<_, String>(decoder.decode_bytes(&bytes, &mut samples)))?;
                samples.truncate(done.consumed_out);
                samples
            }
            8 | 32_946 => {
                let mut samples = Vec::new();
                let decoder = flate2::read::ZlibDecoder::new(bytes.as_slice());
                foreign("TIFF", || decoder.take(length as u64).read_to_end(&mut samples))?;
                samples
            }
            other => {
                let name = super::compression_name(other);
                return Err(unsupported("TIFF", format!("is compressed by {name}")));
            }
        };
        if samples.len() < length {
            return Err(damaged("TIFF", "a tile holds too few pixels"));
        }
        samples.truncate(length);
        Ok(samples)
    }
}

impl Places {
    fn jpeg(&self, stream: &[u8], size: Size, budget: Budget) -> Result<(Size, Vec<u8>)> {
        let whole = match self.jpeg_tables.is_empty() {
            true => stream.to_vec(),
            false => [&self.jpeg_tables, stream.strip_prefix(b"\xff\xd8").unwrap_or(stream)].concat(),
        };
        // RGB may be there as it is, which the stream does not say (Aperio), or as YCbCr under a wrong tag, which it
        // does say.
        let output = if self.photometric == 2 { Output::RgbAsStated } else { Output::Rgb };
        let frame = jpeg::decode_stream(&whole, output, budget)?;
        if frame.channels != 3 || frame.size.width_px < size.width_px || frame.size.height_px < size.height_px
        {
            let (found, channels) = (frame.size, frame.channels);
            let place = format!("a tile has {found} pixels of {channels} samples, its place {size}");
            return Err(damaged("TIFF", place));
        }
        Ok((frame.size, frame.samples))
    }

    fn plain(&self, samples: &[u8], size: Size) -> Result<(Size, Vec<u8>)> {
        let mut samples = samples.to_vec();
        if self.predictor == 2 {
            for row in samples.chunks_exact_mut(size.width_px * self.channels) {
                (self.channels..row.len())
                    .for_each(|at| row[at] = row[at].wrapping_add(row[at - self.channels]));
            }
        }
        let model = match (self.photometric, self.channels) {
            (0, _) => Model::InvertedGrey,
            (1, _) => Model::Grey,
            (2, 3..) => Model::Rgb,
            (other, channels) => {
                return Err(unsupported("TIFF", format!("has {channels} samples of kind {other} a pixel")));
            }
        };
        let alpha = if self.channels == model.channels() + 1 { Alpha::Straight } else { Alpha::None };
        Ok((size, to_rgb(samples, self.channels, &model, alpha).0))
    }
}
