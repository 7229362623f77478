//! The bytes of a BigTIFF file: tiles as they come, directories at the end.

use std::io::Write;
use std::path::{Path, PathBuf};

use microtome_kernels::Size;
use microtome_slide::MicronsPerPixel;
use microtome_vault::disk::AtomicWriter;
use microtome_vault::{Error, Result};

use super::tile::Encoded;
use super::{Layout, PixelKind, Pyramid, TILE_PX};

/// Where the tiles of a level were put.
pub(super) struct StoredLevel {
    size: Size,
    offsets: Vec<u64>,
    lengths: Vec<u64>,
    /// The last tile whose pixels are all one, and where it lies.
    uniform: Option<(Vec<u8>, u64)>,
}

impl StoredLevel {
    pub(super) fn new(size: Size) -> Self {
        Self { size, offsets: Vec::new(), lengths: Vec::new(), uniform: None }
    }
}

/// A file in the making.
pub(super) struct BigTiff {
    writer: AtomicWriter<'static>,
    path: PathBuf,
    length: u64,
}

/// Where the header keeps the offset of the first directory.
const FIRST_DIRECTORY_AT: u64 = 8;

impl BigTiff {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let mut file = Self { writer: AtomicWriter::create(path)?, path: path.to_owned(), length: 0 };
        // Little endian, BigTIFF, offsets of eight bytes; the last eight are known at the end.
        file.write(b"II\x2b\0\x08\0\0\0\0\0\0\0\0\0\0\0")?;
        Ok(file)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.length;
        self.writer.write_all(bytes).map_err(|error| Error::io("writing", &error).at(&self.path))?;
        self.length += bytes.len() as u64;
        Ok(at)
    }

    /// Adds the next tile of a level, row by row from the left.
    pub(super) fn append(&mut self, level: &mut StoredLevel, tile: Encoded) -> Result<()> {
        let before = level.uniform.as_ref().filter(|(bytes, _)| tile.is_uniform && *bytes == tile.bytes);
        let offset = match before {
            Some((_, offset)) => *offset,
            None => self.write(&tile.bytes)?,
        };
        level.offsets.push(offset);
        level.lengths.push(tile.bytes.len() as u64);
        if tile.is_uniform {
            level.uniform = Some((tile.bytes, offset));
        }
        Ok(())
    }

    /// Writes the directories and puts the file in place.
    pub(super) fn finish(mut self, pyramid: &Pyramid, levels: &[StoredLevel]) -> Result<PathBuf> {
        let first = match pyramid.layout {
            Layout::Generic => {
                // From the last: each says where the next one is.
                let mut next = 0;
                for (index, level) in levels.iter().enumerate().rev() {
                    next = self.directory(pyramid, level, index, &[], next)?;
                }
                next
            }
            Layout::Ome => {
                let below: Vec<u64> = levels
                    .iter()
                    .enumerate()
                    .skip(1)
                    .map(|(index, level)| self.directory(pyramid, level, index, &[], 0))
                    .collect::<Result<_>>()?;
                self.directory(pyramid, &levels[0], 0, &below, 0)?
            }
        };
        self.writer.overwrite(FIRST_DIRECTORY_AT, &first.to_le_bytes())?;
        self.writer.commit()?;
        Ok(self.path)
    }

    /// Writes a directory; gives its offset.
    fn directory(
        &mut self,
        pyramid: &Pyramid,
        level: &StoredLevel,
        index: usize,
        below: &[u64],
        next: u64,
    ) -> Result<u64> {
        let mut bytes = Vec::new();
        let entries = entries(pyramid, level, index, below);
        bytes.extend((entries.len() as u64).to_le_bytes());
        for Entry { tag, kind, count, value } in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend((count as u64).to_le_bytes());
            let mut field = match value.len() {
                0..=8 => value,
                _ => self.write(&value)?.to_le_bytes().to_vec(),
            };
            field.resize(8, 0);
            bytes.extend(field);
        }
        bytes.extend(next.to_le_bytes());
        self.write(&bytes)
    }
}

struct Entry {
    tag: u16,
    kind: u16,
    count: usize,
    value: Vec<u8>,
}

fn shorts(tag: u16, values: &[u16]) -> Entry {
    Entry { tag, kind: 3, count: values.len(), value: values.iter().flat_map(|v| v.to_le_bytes()).collect() }
}

fn long(tag: u16, value: usize) -> Entry {
    Entry { tag, kind: 4, count: 1, value: (value as u32).to_le_bytes().to_vec() }
}

fn long8s(tag: u16, kind: u16, values: &[u64]) -> Entry {
    Entry { tag, kind, count: values.len(), value: values.iter().flat_map(|v| v.to_le_bytes()).collect() }
}

fn text(tag: u16, text: &str) -> Entry {
    Entry { tag, kind: 2, count: text.len() + 1, value: [text.as_bytes(), b"\0"].concat() }
}

/// Pixels a centimetre, as a ratio of whole numbers.
fn density(tag: u16, mpp: f64) -> Entry {
    const PARTS: f64 = 1_000.0;
    let pixels = (10_000.0 / mpp * PARTS).round() as u32;
    let value = [pixels.to_le_bytes(), (PARTS as u32).to_le_bytes()].concat();
    Entry { tag, kind: 5, count: 1, value }
}

/// The tags of a level, by their numbers.
fn entries(pyramid: &Pyramid, level: &StoredLevel, index: usize, below: &[u64]) -> Vec<Entry> {
    let (samples, bits, photometric, compression) = match pyramid.kind {
        PixelKind::RgbJpeg(_) => (3, 8, 6, 7),
        PixelKind::Rgb => (3, 8, 2, 8),
        PixelKind::Grey => (1, 8, 1, 8),
        PixelKind::Labels => (1, 32, 1, 8),
    };
    let mut entries = vec![
        long(254, usize::from(index > 0)),
        long(256, level.size.width_px),
        long(257, level.size.height_px),
        shorts(258, &vec![bits; samples]),
        shorts(259, &[compression]),
        shorts(262, &[photometric]),
    ];
    if index == 0 && pyramid.layout == Layout::Ome {
        entries.push(text(270, &ome_xml(pyramid)));
    }
    entries.push(shorts(277, &[samples as u16]));
    if let Some(mpp) = pyramid.mpp.map(MicronsPerPixel::microns) {
        let across = pyramid.size.width_px as f64 / level.size.width_px as f64;
        let down = pyramid.size.height_px as f64 / level.size.height_px as f64;
        entries.extend([density(282, mpp * across), density(283, mpp * down)]);
    }
    entries.push(shorts(284, &[1]));
    if pyramid.mpp.is_some() {
        entries.push(shorts(296, &[3]));
    }
    entries.extend([
        text(305, concat!("Microtome ", env!("CARGO_PKG_VERSION"))),
        long(322, TILE_PX),
        long(323, TILE_PX),
        long8s(324, 16, &level.offsets),
        long8s(325, 16, &level.lengths),
    ]);
    if !below.is_empty() {
        entries.push(long8s(330, 18, below));
    }
    entries.push(shorts(339, &vec![1; samples]));
    if matches!(pyramid.kind, PixelKind::RgbJpeg(_)) {
        entries.push(shorts(530, &[1, 1]));
    }
    entries
}

/// What OME-TIFF wants to be said in XML.
fn ome_xml(pyramid: &Pyramid) -> String {
    let Size { width_px, height_px } = pyramid.size;
    let (kind, channels) = match pyramid.kind {
        PixelKind::RgbJpeg(_) | PixelKind::Rgb => ("uint8", 3),
        PixelKind::Grey => ("uint8", 1),
        PixelKind::Labels => ("uint32", 1),
    };
    let physical = pyramid.mpp.map_or(String::new(), |mpp| {
        let um = mpp.microns();
        format!(
            " PhysicalSizeX=\"{um}\" PhysicalSizeXUnit=\"µm\" PhysicalSizeY=\"{um}\" PhysicalSizeYUnit=\"µm\""
        )
    });
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <OME xmlns=\"http://www.openmicroscopy.org/Schemas/OME/2016-06\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xsi:schemaLocation=\"http://www.openmicroscopy.org/Schemas/OME/2016-06 \
         http://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd\">\
         <Image ID=\"Image:0\"><Pixels ID=\"Pixels:0\" DimensionOrder=\"XYCZT\" Type=\"{kind}\" \
         SizeX=\"{width_px}\" SizeY=\"{height_px}\" SizeC=\"{channels}\" SizeZ=\"1\" SizeT=\"1\" \
         Interleaved=\"true\"{physical}>\
         <Channel ID=\"Channel:0:0\" SamplesPerPixel=\"{channels}\"/>\
         <TiffData IFD=\"0\" PlaneCount=\"1\"/></Pixels></Image></OME>"
    )
}
