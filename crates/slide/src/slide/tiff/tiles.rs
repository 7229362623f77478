//! The tiles or strips of a level, each decoded on its own.

use std::io::Read;
use std::sync::OnceLock;

use microtome_vault::{Budget, Error, Result};

use super::super::TilePlace;
use super::super::file::SlideFile;
use super::super::source::Tile;
use super::directory::{Directory, tag};
use crate::Size;
use crate::formats::colour::{Alpha, Model, to_rgb};
use crate::formats::jpeg::{self, Output};
use crate::formats::jpeg_2000::{self, Colours};
use crate::formats::tiff::layout::compression;
use crate::formats::{damaged, foreign, unsupported};

/// TIFF's number for red, green and blue.
const RGB: u64 = 2;
/// Longer tables of JPEG are not believed, in bytes.
const LONGEST_TABLES: u64 = 1 << 16;

/// How the pixels of a level are stored.
#[derive(Debug)]
pub(super) struct Tiles {
    pub(super) size: Size,
    /// Extent of a whole tile or strip.
    pub(super) tile: Size,
    pub(super) is_tiled: bool,
    pub(super) compression: u16,
    directory: Directory,
    places: OnceLock<Option<Places>>,
}

/// Where each tile lies, and what all have in common; read when the first is asked for.
#[derive(Debug)]
struct Places {
    offsets: Vec<u64>,
    lengths: Vec<u64>,
    /// Empty if each stream has its own.
    jpeg_tables: Vec<u8>,
    photometric: u64,
    channels: usize,
    alpha: Alpha,
    predictor: u64,
}

impl Tiles {
    pub(super) fn new(
        directory: Directory,
        size: Size,
        tile: Size,
        is_tiled: bool,
        compression: u16,
    ) -> Self {
        Self { size, tile, is_tiled, compression, directory, places: OnceLock::new() }
    }

    /// Tiles across and down.
    pub(super) fn grid(&self) -> (usize, usize) {
        (self.size.width_px.div_ceil(self.tile.width_px), self.size.height_px.div_ceil(self.tile.height_px))
    }

    /// Whether tiles can be read one by one.
    pub(super) fn can_read(&self, file: &SlideFile) -> bool {
        let number = |tag, default| self.directory.number(file, tag).ok().flatten().unwrap_or(default);
        let is_plain = |channels: u64| {
            model_of(number(tag::PHOTOMETRIC, RGB), channels as usize, Alpha::None).is_some()
                || self.compression == compression::JPEG
        };
        is_known(self.compression) && self.check_samples(file).is_ok_and(is_plain)
    }

    /// Samples a pixel, if samples are bytes side by side.
    fn check_samples(&self, file: &SlideFile) -> Result<u64> {
        let number = |tag, default| Ok::<u64, Error>(self.directory.number(file, tag)?.unwrap_or(default));
        let (channels, bits) = (number(tag::SAMPLES_PER_PIXEL, 1)?, number(tag::BITS_PER_SAMPLE, 1)?);
        if bits != 8 || !(1..=8).contains(&channels) || number(tag::PLANAR_CONFIGURATION, 1)? != 1 {
            return Err(unsupported("TIFF", format!("has {channels} planes or samples of {bits} bits")));
        }
        Ok(channels)
    }

    /// One tile; none where the file leaves it out.
    ///
    /// # Errors
    /// `Input` when the tile is damaged or of a kind that is not read; `Limit` when it exceeds the budget.
    pub(super) fn decoded(&self, file: &SlideFile, place: TilePlace, budget: Budget) -> Result<Option<Tile>> {
        let places = self.places(file)?;
        let Some(bytes) = self.stored(places, file, place, budget)? else { return Ok(None) };
        // A strip may be shorter at the end of the picture; a tile is whole.
        let left_px = self.size.height_px - place.row * self.tile.height_px;
        let height_px = if self.is_tiled { self.tile.height_px } else { self.tile.height_px.min(left_px) };
        let size = Size::new(self.tile.width_px, height_px);
        match self.compression {
            compression::JPEG => places.jpeg(&bytes, size, budget),
            compression::APERIO_JPEG_2000_YCBCR => jpeg_2000(&bytes, Colours::YCbCr, size, budget),
            compression::APERIO_JPEG_2000_RGB | compression::JPEG_2000 => {
                jpeg_2000(&bytes, Colours::AsStated, size, budget)
            }
            compression::APERIO_YUYV => yuyv(&bytes, size, budget),
            _ => places.plain(self.decompressed(bytes, places.channels, size, budget)?, size),
        }
        .map(Some)
    }

    /// A tile as a JPEG file of its own, where it is stored as JPEG.
    pub(super) fn jpeg_file(&self, file: &SlideFile, place: TilePlace) -> Result<Option<Vec<u8>>> {
        if self.compression != compression::JPEG {
            return Ok(None);
        }
        let places = self.places(file)?;
        let Some(stream) = self.stored(places, file, place, Budget::DEFAULT)? else { return Ok(None) };
        let stream = jpeg::with_tables(&places.jpeg_tables, &stream);
        Ok(Some(if places.photometric == RGB { jpeg::marked_as_rgb(stream) } else { stream }))
    }

    /// The bytes of a tile as they lie in the file; none where it leaves the tile out.
    fn stored(
        &self,
        places: &Places,
        file: &SlideFile,
        place: TilePlace,
        budget: Budget,
    ) -> Result<Option<Vec<u8>>> {
        let index = place.row * self.grid().0 + place.column;
        let cut_off = || damaged("TIFF", "it ends before its last tile or strip");
        let (offset, length) = match (places.offsets.get(index), places.lengths.get(index)) {
            (Some(&offset), Some(&length)) => (offset, length),
            _ => return Err(cut_off()),
        };
        if length == 0 {
            return Ok(None);
        }
        budget.grant("one tile of this slide", length, 1)?;
        file.bytes(offset, length)?.ok_or_else(cut_off).map(Some)
    }

    /// Reads where the tiles are, without which no tile can be read. A list as long as the extent needs bounds the work that
    /// a small file can ask for.
    ///
    /// # Errors
    /// `Input` when the list is missing or too short, or samples lie in a way that is not read.
    pub(super) fn prepare(&self, file: &SlideFile) -> Result<()> {
        self.places(file).map(|_| ())
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
        let channels = self.check_samples(file)?;
        let (Some(offsets), Some(lengths)) = (numbers(offsets, most)?, numbers(lengths, most)?) else {
            return Ok(None);
        };
        let (offsets, lengths) = match (offsets.len() as u64, lengths.len() as u64) {
            (some, others) if some >= most && others >= most => (offsets, lengths),
            _ => return Err(damaged("TIFF", "its list of tiles is shorter than its extent needs")),
        };
        let tables = numbers(tag::JPEG_TABLES, LONGEST_TABLES)?.unwrap_or_default();
        Ok(Some(Places {
            offsets,
            lengths,
            jpeg_tables: tables.into_iter().map(|byte| byte as u8).collect(),
            alpha: match number(tag::EXTRA_SAMPLES, 0)? {
                1 => Alpha::Premultiplied,
                2 => Alpha::Straight,
                _ => Alpha::None,
            },
            photometric: number(tag::PHOTOMETRIC, RGB)?,
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
            compression::NONE => bytes,
            compression::LZW => foreign("TIFF", || Ok::<_, String>(lzw(&bytes, length)))?,
            compression::DEFLATE | compression::OLD_DEFLATE => {
                let mut samples = Vec::new();
                let decoder = flate2::read::ZlibDecoder::new(bytes.as_slice());
                foreign("TIFF", || decoder.take(length as u64).read_to_end(&mut samples))?;
                samples
            }
            compression::ZSTANDARD => {
                let mut samples = Vec::new();
                let decoder = foreign("TIFF", || zstd::stream::read::Decoder::new(bytes.as_slice()))?;
                foreign("TIFF", || decoder.take(length as u64).read_to_end(&mut samples))?;
                samples
            }
            other => {
                return Err(unsupported("TIFF", format!("is compressed with {}", compression::name(other))));
            }
        };
        if samples.len() < length {
            return Err(damaged("TIFF", "a tile holds too few pixels"));
        }
        samples.truncate(length);
        Ok(samples)
    }
}

/// What the samples of tiles mean that are not compressed as pictures.
fn model_of(photometric: u64, channels: usize, alpha: Alpha) -> Option<Model> {
    Some(match (photometric, channels) {
        (0, _) => Model::InvertedGrey,
        // What Python writes when it is not told that an array is RGB.
        (1, 3) if alpha == Alpha::None => Model::Rgb,
        (1, _) => Model::Grey,
        (RGB, 3..) => Model::Rgb,
        _ => return None,
    })
}

/// Whether tiles that are compressed so are read.
fn is_known(number: u16) -> bool {
    use compression::*;
    let known = [NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, ZSTANDARD, JPEG_2000];
    let of_aperio = [APERIO_JPEG_2000_YCBCR, APERIO_JPEG_2000_RGB, APERIO_YUYV];
    known.contains(&number) || of_aperio.contains(&number)
}

fn jpeg_2000(stream: &[u8], colours: Colours, size: Size, budget: Budget) -> Result<Tile> {
    let frame = jpeg_2000::decode_stream(stream, colours, budget)?;
    if frame.size.width_px < size.width_px || frame.size.height_px < size.height_px {
        let found = frame.size;
        return Err(damaged("TIFF", format!("a tile has {found} pixels, its place {size}")));
    }
    Ok(Tile { size: frame.size, rgb: frame.rgb })
}

/// Pairs of pixels of a row: luma, blue difference, luma, red difference.
fn yuyv(bytes: &[u8], size: Size, budget: Budget) -> Result<Tile> {
    let area_px = (size.width_px as u64).saturating_mul(size.height_px as u64);
    let length = budget.grant("one tile of this slide", area_px, 3)?;
    let row_bytes = 4 * size.width_px.div_ceil(2);
    let Some(bytes) = bytes.get(..row_bytes.saturating_mul(size.height_px)) else {
        return Err(damaged("TIFF", "a tile holds too few pixels"));
    };
    let mut samples = Vec::with_capacity(length);
    for row in bytes.chunks_exact(row_bytes) {
        let pixels =
            row.chunks_exact(4).flat_map(|pair| [[pair[0], pair[1], pair[3]], [pair[2], pair[1], pair[3]]]);
        samples.extend(pixels.take(size.width_px).flatten());
    }
    Ok(Tile { size, rgb: to_rgb(samples, 3, &Model::YCbCr, Alpha::None).0 })
}

/// At most `length` bytes out of an LZW stream; fewer where it ends or is damaged.
fn lzw(mut stream: &[u8], length: usize) -> Vec<u8> {
    let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
    let (mut bytes, mut done) = (vec![0; length], 0);
    while done < length {
        // A call may stop early, with all of the stream in its buffers.
        let step = decoder.decode_bytes(stream, &mut bytes[done..]);
        stream = &stream[step.consumed_in..];
        done += step.consumed_out;
        if !matches!(step.status, Ok(weezl::LzwStatus::Ok)) {
            break;
        }
    }
    bytes.truncate(done);
    bytes
}

impl Places {
    fn jpeg(&self, stream: &[u8], size: Size, budget: Budget) -> Result<Tile> {
        // RGB may be there as it is, which the stream does not say (Aperio), or as YCbCr under a wrong tag, which it
        // does say.
        let output = if self.photometric == RGB { Output::RgbAsStated } else { Output::Rgb };
        let frame = jpeg::decode_stream(&jpeg::with_tables(&self.jpeg_tables, stream), output, budget)?;
        if frame.channels != 3 || frame.size.width_px < size.width_px || frame.size.height_px < size.height_px
        {
            let (found, channels) = (frame.size, frame.channels);
            let place = format!("a tile has {found} pixels of {channels} samples, its place {size}");
            return Err(damaged("TIFF", place));
        }
        Ok(Tile { size: frame.size, rgb: frame.samples })
    }

    fn plain(&self, mut samples: Vec<u8>, size: Size) -> Result<Tile> {
        if self.predictor == 2 {
            for row in samples.chunks_exact_mut(size.width_px * self.channels) {
                (self.channels..row.len())
                    .for_each(|at| row[at] = row[at].wrapping_add(row[at - self.channels]));
            }
        }
        let Some(model) = model_of(self.photometric, self.channels, self.alpha) else {
            let (kind, channels) = (self.photometric, self.channels);
            return Err(unsupported("TIFF", format!("has {channels} samples of kind {kind} a pixel")));
        };
        Ok(Tile { size, rgb: to_rgb(samples, self.channels, &model, self.alpha).0 })
    }
}
