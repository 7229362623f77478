//! The tiles or strips of a level, each decoded on its own.

use std::sync::OnceLock;

use microtome_vault::{Budget, Error, Result};

use super::super::TilePlace;
use super::super::cache::LARGEST_KEPT;
use super::super::file::SlideFile;
use super::super::source::Tile;
use super::directory::{Directory, tag};
use super::samples::{Layout, decompressed, model_of};
use crate::Size;
use crate::formats::colour::{Alpha, Model, to_rgb};
use crate::formats::jpeg::{self, Output};
use crate::formats::jpeg_2000::{self, Colours};
use crate::formats::tiff::layout::{compression, warnings};
use crate::formats::{damaged, unsupported};

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
    layout: Layout,
    alpha: Alpha,
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
        let is_plain = |layout: Layout| {
            model_of(number(tag::PHOTOMETRIC, RGB), layout.channels, Alpha::None).is_some()
                || self.compression == compression::JPEG
        };
        is_known(self.compression) && self.layout(file).is_ok_and(is_plain)
    }

    /// What of the samples is not taken as it is.
    pub(super) fn warnings(&self, file: &SlideFile) -> Vec<String> {
        let number = |tag, default| self.directory.number(file, tag).ok().flatten().unwrap_or(default);
        let Some(layout) = self.layout(file).ok().filter(|_| is_plain(self.compression)) else {
            return Vec::new();
        };
        let (photometric, alpha) = (number(tag::PHOTOMETRIC, RGB), alpha_of(number(tag::EXTRA_SAMPLES, 0)));
        let model = model_of(photometric, layout.channels, alpha);
        model
            .map_or_else(Vec::new, |model| warnings(&model, alpha, photometric, layout.channels, layout.bits))
    }

    /// How samples lie: bytes side by side, or, where they are not compressed as pictures, in 16 bits or in a tile for each
    /// channel.
    fn layout(&self, file: &SlideFile) -> Result<Layout> {
        let number = |tag, default| Ok::<u64, Error>(self.directory.number(file, tag)?.unwrap_or(default));
        let (channels, bits) = (number(tag::SAMPLES_PER_PIXEL, 1)?, number(tag::BITS_PER_SAMPLE, 1)?);
        let planes = number(tag::PLANAR_CONFIGURATION, 1)?;
        let is_as_pictures_are = bits == 8 && planes == 1;
        let is_known = is_as_pictures_are
            || [8, 16].contains(&bits) && [1, 2].contains(&planes) && self.is_put_together(file, bits)?;
        if !(1..=8).contains(&channels) || !is_known {
            return Err(unsupported("TIFF", format!("has {channels} planes or samples of {bits} bits")));
        }
        Ok(Layout {
            channels: channels as usize,
            bits: bits as usize,
            is_planar: planes == 2 && channels > 1,
            is_little_endian: self.directory.is_little_endian(),
            has_differences: number(tag::PREDICTOR, 1)? == 2,
        })
    }

    /// Whether samples of planes or of 16 bits can be put together: whole numbers, all of `bits` bits, in tiles that are
    /// kept once they are read. (A strip that is a whole picture would be decoded for each region; the picture is read
    /// as a whole then.)
    fn is_put_together(&self, file: &SlideFile, bits: u64) -> Result<bool> {
        let number = |tag, default| Ok::<u64, Error>(self.directory.number(file, tag)?.unwrap_or(default));
        let all_are = |tag, value| {
            let values = self.directory.numbers(file, tag, 8)?;
            Ok::<bool, Error>(values.is_none_or(|values| values.iter().all(|other| *other == value)))
        };
        let tile_bytes = self.tile.width_px.saturating_mul(self.tile.height_px).saturating_mul(3);
        Ok(is_plain(self.compression)
            && tile_bytes <= LARGEST_KEPT
            && all_are(tag::BITS_PER_SAMPLE, bits)?
            && all_are(tag::SAMPLE_FORMAT, 1)?
            && [1, 2].contains(&number(tag::PREDICTOR, 1)?)
            && number(tag::FILL_ORDER, 1)? == 1)
    }

    /// One tile; none where the file leaves it out.
    ///
    /// # Errors
    /// `Input` when the tile is damaged or of a kind that is not read; `Limit` when it exceeds the budget.
    pub(super) fn decoded(&self, file: &SlideFile, place: TilePlace, budget: Budget) -> Result<Option<Tile>> {
        let places = self.places(file)?;
        let Some(planes) = self.stored_planes(places, file, place, budget)? else { return Ok(None) };
        // A strip may be shorter at the end of the picture; a tile is whole.
        let left_px = self.size.height_px - place.row * self.tile.height_px;
        let height_px = if self.is_tiled { self.tile.height_px } else { self.tile.height_px.min(left_px) };
        let size = Size::new(self.tile.width_px, height_px);
        match (self.compression, planes.as_slice()) {
            (compression::JPEG, [bytes]) => places.jpeg(bytes, size, budget),
            (compression::APERIO_JPEG_2000_YCBCR, [bytes]) => jpeg_2000(bytes, Colours::YCbCr, size, budget),
            (compression::APERIO_JPEG_2000_RGB | compression::JPEG_2000, [bytes]) => {
                jpeg_2000(bytes, Colours::AsStated, size, budget)
            }
            (compression::APERIO_YUYV, [bytes]) => yuyv(bytes, size, budget),
            _ => {
                let samples = |bytes| decompressed(self.compression, bytes, places.layout, size, budget);
                let planes: Result<Vec<Vec<u8>>> = planes.into_iter().map(samples).collect();
                places.plain(places.layout.side_by_side(planes?), size)
            }
        }
        .map(Some)
    }

    /// The bytes of all planes of a tile; none where the file leaves it out.
    fn stored_planes(
        &self,
        places: &Places,
        file: &SlideFile,
        place: TilePlace,
        budget: Budget,
    ) -> Result<Option<Vec<Vec<u8>>>> {
        let mut planes = Vec::new();
        for plane in 0..places.layout.planes() {
            planes.push(self.stored(places, file, (place, plane), budget)?);
        }
        if planes.iter().all(Option::is_none) {
            return Ok(None);
        }
        let whole: Option<Vec<Vec<u8>>> = planes.into_iter().collect();
        whole.ok_or_else(|| damaged("TIFF", "one plane of a tile is left out")).map(Some)
    }

    /// A tile as a JPEG file of its own, where it is stored as JPEG.
    pub(super) fn jpeg_file(&self, file: &SlideFile, place: TilePlace) -> Result<Option<Vec<u8>>> {
        if self.compression != compression::JPEG {
            return Ok(None);
        }
        let places = self.places(file)?;
        let Some(stream) = self.stored(places, file, (place, 0), Budget::DEFAULT)? else { return Ok(None) };
        let stream = jpeg::with_tables(&places.jpeg_tables, &stream);
        Ok(Some(if places.photometric == RGB { jpeg::marked_as_rgb(stream) } else { stream }))
    }

    /// The bytes of a tile, or of one plane of it, as they lie in the file; none where it leaves the tile out.
    fn stored(
        &self,
        places: &Places,
        file: &SlideFile,
        (place, plane): (TilePlace, usize),
        budget: Budget,
    ) -> Result<Option<Vec<u8>>> {
        let (across, down) = self.grid();
        let index = (plane * down + place.row) * across + place.column;
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
        let layout = self.layout(file)?;
        let most = (across as u64).saturating_mul(down as u64).saturating_mul(layout.planes() as u64);
        let (offsets, lengths) = match self.is_tiled {
            true => (tag::TILE_OFFSETS, tag::TILE_BYTE_COUNTS),
            false => (tag::STRIP_OFFSETS, tag::STRIP_BYTE_COUNTS),
        };
        let numbers = |tag, most| self.directory.numbers(file, tag, most);
        let number = |tag, default| Ok::<u64, Error>(self.directory.number(file, tag)?.unwrap_or(default));
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
            alpha: alpha_of(number(tag::EXTRA_SAMPLES, 0)?),
            photometric: number(tag::PHOTOMETRIC, RGB)?,
            layout,
        }))
    }
}

/// What a sample beyond the colours is.
fn alpha_of(extra_samples: u64) -> Alpha {
    match extra_samples {
        1 => Alpha::Premultiplied,
        2 => Alpha::Straight,
        _ => Alpha::None,
    }
}

/// Whether tiles that are compressed so are read.
fn is_known(number: u16) -> bool {
    use compression::*;
    let pictures = [JPEG, JPEG_2000, APERIO_JPEG_2000_YCBCR, APERIO_JPEG_2000_RGB, APERIO_YUYV];
    is_plain(number) || pictures.contains(&number)
}

/// Whether tiles that are compressed so are numbers one after the other.
fn is_plain(number: u16) -> bool {
    use compression::*;
    [NONE, LZW, DEFLATE, OLD_DEFLATE, ZSTANDARD].contains(&number)
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

    fn plain(&self, samples: Vec<u8>, size: Size) -> Result<Tile> {
        let (kind, channels) = (self.photometric, self.layout.channels);
        let Some(model) = model_of(kind, channels, self.alpha) else {
            return Err(unsupported("TIFF", format!("has {channels} samples of kind {kind} a pixel")));
        };
        Ok(Tile { size, rgb: to_rgb(samples, channels, &model, self.alpha).0 })
    }
}
