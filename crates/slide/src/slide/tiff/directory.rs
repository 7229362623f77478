//! The directories of a TIFF or BigTIFF file, read at their positions: never the whole file, never more of a tag than
//! its geometry can need.
//!
//! The `tiff` crate, which reads pictures here, begins with the first directory under limits that it sets itself, and
//! refuses a file in which that one is compressed in a way it does not know, as slides are.

use std::collections::{BTreeMap, BTreeSet};

use microtome_vault::Result;

use super::super::file::SlideFile;

/// More directories than these are not looked at: a file can chain a million within a few megabytes.
const MOST_DIRECTORIES: usize = 2_000;
/// More entries than these are not looked at in one directory.
const MOST_ENTRIES: u64 = 4_096;
/// Longer texts (descriptions in XML) are cut off, in bytes.
const LONGEST_TEXT: u64 = 16 << 20;

/// Tags that slides are read by.
pub(super) mod tag {
    pub(crate) const NEW_SUBFILE_TYPE: u16 = 254;
    pub(crate) const IMAGE_WIDTH: u16 = 256;
    pub(crate) const IMAGE_LENGTH: u16 = 257;
    pub(crate) const BITS_PER_SAMPLE: u16 = 258;
    pub(crate) const COMPRESSION: u16 = 259;
    pub(crate) const PHOTOMETRIC: u16 = 262;
    pub(crate) const FILL_ORDER: u16 = 266;
    pub(crate) const IMAGE_DESCRIPTION: u16 = 270;
    pub(crate) const STRIP_OFFSETS: u16 = 273;
    pub(crate) const SAMPLES_PER_PIXEL: u16 = 277;
    pub(crate) const ROWS_PER_STRIP: u16 = 278;
    pub(crate) const STRIP_BYTE_COUNTS: u16 = 279;
    pub(crate) const X_RESOLUTION: u16 = 282;
    pub(crate) const Y_RESOLUTION: u16 = 283;
    pub(crate) const PLANAR_CONFIGURATION: u16 = 284;
    pub(crate) const RESOLUTION_UNIT: u16 = 296;
    pub(crate) const PREDICTOR: u16 = 317;
    pub(crate) const TILE_WIDTH: u16 = 322;
    pub(crate) const TILE_LENGTH: u16 = 323;
    pub(crate) const TILE_OFFSETS: u16 = 324;
    pub(crate) const TILE_BYTE_COUNTS: u16 = 325;
    pub(crate) const SUB_DIRECTORIES: u16 = 330;
    pub(crate) const EXTRA_SAMPLES: u16 = 338;
    pub(crate) const SAMPLE_FORMAT: u16 = 339;
    pub(crate) const JPEG_TABLES: u16 = 347;
}

/// How the numbers of a file are written.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    is_little_endian: bool,
    is_big: bool,
}

impl Numbers {
    /// The number that bytes (at most eight) stand for.
    fn number(self, bytes: &[u8]) -> u64 {
        let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        if self.is_little_endian { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) }
    }

    fn count_width(self) -> usize {
        if self.is_big { 8 } else { 2 }
    }

    fn offset_width(self) -> usize {
        if self.is_big { 8 } else { 4 }
    }

    fn entry_width(self) -> usize {
        4 + 2 * self.offset_width()
    }
}

/// Where the value of a tag is.
#[derive(Clone, Debug)]
struct Entry {
    kind: u16,
    count: u64,
    /// The bytes of the value, or the offset that they lie at.
    inline: Vec<u8>,
}

/// The kinds of values.
const BYTE: u16 = 1;
const ASCII: u16 = 2;
const SHORT: u16 = 3;
const LONG: u16 = 4;
const RATIONAL: u16 = 5;
const UNDEFINED: u16 = 7;
const FLOAT: u16 = 11;
const DOUBLE: u16 = 12;
const IFD: u16 = 13;
const LONG8: u16 = 16;
const IFD8: u16 = 18;

impl Entry {
    /// Bytes of one value; none for kinds that no tag here has.
    fn width(&self) -> Option<u64> {
        Some(match self.kind {
            BYTE | ASCII | UNDEFINED => 1,
            SHORT => 2,
            LONG | FLOAT | IFD => 4,
            RATIONAL | DOUBLE | LONG8 | IFD8 => 8,
            _ => return None,
        })
    }
}

/// One directory: its tags, whose values are read when they are asked for.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    numbers: Numbers,
    entries: BTreeMap<u16, Entry>,
}

impl Directory {
    /// Whether numbers begin with their lowest byte.
    pub(super) fn is_little_endian(&self) -> bool {
        self.numbers.is_little_endian
    }

    /// Up to `most` values of a tag as numbers; none if it is absent, of a kind that is no number, longer, or not
    /// within the file.
    pub(super) fn numbers(&self, file: &SlideFile, tag: u16, most: u64) -> Result<Option<Vec<u64>>> {
        let is_number = |entry: &&Entry| !matches!(entry.kind, ASCII | RATIONAL | FLOAT | DOUBLE);
        let Some(entry) = self.entries.get(&tag).filter(is_number) else { return Ok(None) };
        let (Some(width), true) = (entry.width(), entry.count <= most) else { return Ok(None) };
        let values = self.value(file, entry)?;
        Ok(values.map(|bytes| bytes.chunks_exact(width as usize).map(|v| self.numbers.number(v)).collect()))
    }

    /// The one number of a tag.
    pub(super) fn number(&self, file: &SlideFile, tag: u16) -> Result<Option<u64>> {
        Ok(self.numbers(file, tag, 16)?.and_then(|numbers| numbers.first().copied()))
    }

    /// The text of a tag up to its first zero; empty if there is none.
    pub(super) fn text(&self, file: &SlideFile, tag: u16) -> Result<String> {
        let is_text = |entry: &&Entry| entry.kind == ASCII && entry.count <= LONGEST_TEXT;
        let Some(entry) = self.entries.get(&tag).filter(is_text) else { return Ok(String::new()) };
        let bytes = self.value(file, entry)?.unwrap_or_default();
        let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// The ratio of a tag.
    pub(super) fn ratio(&self, file: &SlideFile, tag: u16) -> Result<Option<f64>> {
        let Some(entry) = self.entries.get(&tag).filter(|entry| entry.count == 1) else { return Ok(None) };
        let Some(bytes) = self.value(file, entry)? else { return Ok(None) };
        let number = |bytes: &[u8]| self.numbers.number(bytes);
        Ok(match entry.kind {
            RATIONAL => Some(number(&bytes[..4]) as f64 / number(&bytes[4..]) as f64),
            FLOAT => Some(f64::from(f32::from_bits(number(&bytes) as u32))),
            DOUBLE => Some(f64::from_bits(number(&bytes))),
            _ => None,
        })
    }

    /// Whether there is such a tag.
    pub(super) fn has(&self, tag: u16) -> bool {
        self.entries.contains_key(&tag)
    }

    fn value(&self, file: &SlideFile, entry: &Entry) -> Result<Option<Vec<u8>>> {
        let Some(length) = entry.width().and_then(|width| width.checked_mul(entry.count)) else {
            return Ok(None);
        };
        match entry.inline.get(..usize::try_from(length).unwrap_or(usize::MAX)) {
            Some(bytes) => Ok(Some(bytes.to_vec())),
            None => file.bytes(self.numbers.number(&entry.inline), length),
        }
    }
}

/// The directories that follow one another from the first on.
#[derive(Debug)]
pub(super) struct Chain {
    numbers: Numbers,
    pub(super) directories: Vec<Directory>,
    /// Whether the chain ends as it should.
    pub(super) is_whole: bool,
}

impl Chain {
    /// Reads the chain of a file; none if it does not begin as a TIFF file.
    pub(super) fn read(file: &SlideFile) -> Result<Option<Self>> {
        let head = file.bytes(0, file.length().min(16))?.unwrap_or_default();
        let Some(numbers) = beginning(&head) else { return Ok(None) };
        let first = head.get(numbers.offset_width()..2 * numbers.offset_width()).unwrap_or_default();
        let mut chain = Self { numbers, directories: Vec::new(), is_whole: true };
        let (mut offset, mut seen) = (numbers.number(first), BTreeSet::new());
        while offset != 0 {
            let is_new = seen.insert(offset) && seen.len() <= MOST_DIRECTORIES;
            match if is_new { chain.directory(file, offset)? } else { None } {
                Some((directory, next)) => {
                    chain.directories.push(directory);
                    offset = next;
                }
                None => {
                    chain.is_whole = false;
                    break;
                }
            }
        }
        Ok(Some(chain))
    }

    /// The directories that a directory names as its own: the smaller levels, in OME-TIFF.
    pub(super) fn below(&self, file: &SlideFile, directory: &Directory) -> Result<Vec<Directory>> {
        let offsets = directory.numbers(file, tag::SUB_DIRECTORIES, MOST_DIRECTORIES as u64)?;
        let mut below = Vec::new();
        for offset in offsets.unwrap_or_default() {
            below.extend(self.directory(file, offset)?.map(|(directory, _)| directory));
        }
        Ok(below)
    }

    /// The directory at `offset` and the offset of the next, unless it lies outside of the file or claims too much.
    fn directory(&self, file: &SlideFile, offset: u64) -> Result<Option<(Directory, u64)>> {
        let numbers = self.numbers;
        let (count_width, offset_width) = (numbers.count_width(), numbers.offset_width());
        let Some(count) = file.bytes(offset, count_width as u64)?.map(|bytes| numbers.number(&bytes)) else {
            return Ok(None);
        };
        if count > MOST_ENTRIES {
            return Ok(None);
        }
        let entries_bytes = count as usize * numbers.entry_width();
        // `offset` and what follows it lie within a file, far below the end of the numbers.
        let rest = file.bytes(offset + count_width as u64, (entries_bytes + offset_width) as u64)?;
        let Some(rest) = rest else { return Ok(None) };
        let (entries, next) = rest.split_at(entries_bytes);
        let entry = |bytes: &[u8]| {
            let tag = numbers.number(&bytes[..2]) as u16;
            let kind = numbers.number(&bytes[2..4]) as u16;
            let count = numbers.number(&bytes[4..4 + offset_width]);
            (tag, Entry { kind, count, inline: bytes[4 + offset_width..].to_vec() })
        };
        let entries = entries.chunks_exact(numbers.entry_width()).map(entry).collect();
        Ok(Some((Directory { numbers, entries }, numbers.number(next))))
    }
}

/// The byte order and width of a file that begins as TIFF (42) or BigTIFF (43, offsets of eight bytes).
fn beginning(head: &[u8]) -> Option<Numbers> {
    let is_little_endian = match head.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let numbers = Numbers { is_little_endian, is_big: false };
    match numbers.number(head.get(2..4)?) {
        42 if head.len() >= 8 => Some(numbers),
        43 if head.len() == 16 && numbers.number(&head[4..6]) == 8 => {
            Some(Numbers { is_big: true, ..numbers })
        }
        _ => None,
    }
}
