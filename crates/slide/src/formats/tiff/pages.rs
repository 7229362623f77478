//! The pages of a TIFF file: walks the chain of directories, chooses one, and makes it the only one.
//!
//! The crate's decoder begins with the first directory, under limits that cannot be set before it has read
//! it, and refuses a file in which that one is not a picture that it knows. So directories are walked here,
//! and the chosen one is put behind a stub that any decoder reads.

use std::collections::BTreeSet;
use std::io::{self, Read, Seek, SeekFrom};

use crate::Size;

/// More directories than these are not looked at: a file can chain a million within a few megabytes.
const MOST_PAGES: usize = 2_000;

/// And not more entries in all of them.
const MOST_ENTRIES: u64 = 200_000;

/// One directory with a picture in it.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) size: Size,
    /// TIFF's number for what samples mean.
    pub(super) photometric: Option<u16>,
    photometric_at: Option<usize>,
    offset: u64,
    next_at: usize,
    /// A thumbnail, a level of a pyramid, or a mask.
    is_auxiliary: bool,
    others: usize,
    /// Whether every directory of the file was looked at.
    is_chain_whole: bool,
}

impl Page {
    pub(super) fn warnings(&self) -> Vec<String> {
        let others = match self.others {
            0 => None,
            1 => Some("the file has another page, which was not read".to_owned()),
            others => Some(format!("the file has {others} other pages, which were not read")),
        };
        let broken = (!self.is_chain_whole).then(|| "the list of pages is damaged or too long".to_owned());
        others.into_iter().chain(broken).collect()
    }
}

/// The largest page, the first of those that are equally large; thumbnails and masks only if there is nothing
/// else. Of a list that breaks off after thumbnails, none.
pub(super) fn largest(bytes: &[u8]) -> Option<Page> {
    let (pages, is_chain_whole) = walk(bytes);
    let rank = |page: &Page| (!page.is_auxiliary, page.size.width_px.saturating_mul(page.size.height_px));
    let others = pages.len().checked_sub(1)?;
    // Of several maxima the last wins: backwards, that is the first.
    let largest = pages.into_iter().rev().max_by_key(rank)?;
    let is_certain = is_chain_whole || !largest.is_auxiliary;
    is_certain.then_some(Page { others, is_chain_whole, ..largest })
}

/// The pages up to the first that cannot be read, and whether there is none such.
fn walk(bytes: &[u8]) -> (Vec<Page>, bool) {
    let mut pages = Vec::new();
    let Some(numbers) = Numbers::of(bytes) else { return (pages, false) };
    let mut seen = BTreeSet::new();
    let mut entries = 0;
    let mut offset = numbers.offset_at(numbers.first_offset_at()).unwrap_or(0);
    while offset != 0 {
        if !seen.insert(offset) || seen.len() > MOST_PAGES {
            return (pages, false);
        }
        let Some((page, next)) = numbers.page_at(offset, &mut entries) else { return (pages, false) };
        pages.extend(page);
        offset = next;
    }
    (pages, true)
}

/// A TIFF file in memory with one page, behind a stub that lies beyond the end of the file. What reads on
/// from within the file meets its end, as it would without the stub.
#[derive(Debug)]
pub(super) struct IsolatedPage {
    bytes: Vec<u8>,
    file_length: usize,
    position: usize,
}

impl IsolatedPage {
    /// Makes `page` the only picture that a decoder finds after the stub, and its samples grey ones without
    /// meaning, which the crate hands out as they are. `None` if it does not lie within the file.
    pub(super) fn new(mut bytes: Vec<u8>, page: &Page) -> Option<Self> {
        let file_length = bytes.len();
        isolate(&mut bytes, page)?;
        Some(Self { bytes, file_length, position: 0 })
    }

    /// The bytes of the file.
    pub(super) fn file(&self) -> &[u8] {
        &self.bytes[..self.file_length]
    }
}

impl Read for IsolatedPage {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Between the two lie bytes that belong to neither.
        let end = if self.position < self.file_length.saturating_add(GAP_BYTES) {
            self.file_length
        } else {
            self.bytes.len()
        };
        let count = self.bytes.get(self.position..end).unwrap_or_default().read(buffer)?;
        self.position += count;
        Ok(count)
    }
}

impl Seek for IsolatedPage {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "a position outside of the file");
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(step) => (self.position as u64).checked_add_signed(step),
            SeekFrom::End(step) => (self.file_length as u64).checked_add_signed(step),
        };
        self.position = position.and_then(|position| usize::try_from(position).ok()).ok_or_else(outside)?;
        Ok(self.position as u64)
    }
}

/// Bytes between the end of the file and the stub, at least.
const GAP_BYTES: usize = 8;

fn isolate(bytes: &mut Vec<u8>, page: &Page) -> Option<()> {
    let numbers = Numbers::of(bytes)?;
    let (is_big, is_little_endian) = (numbers.is_big, numbers.is_little_endian);
    let first_offset_at = numbers.first_offset_at();
    let put = |bytes: &mut [u8], at: usize, value: u64, width: usize| {
        let mut digits = value.to_le_bytes();
        let digits = digits.get_mut(..width)?;
        if !is_little_endian {
            digits.reverse();
        }
        bytes.get_mut(at..at + width)?.copy_from_slice(digits);
        Some(())
    };
    let offset_width = if is_big { 8 } else { 4 };
    if let Some(at) = page.photometric_at {
        put(bytes, at, u64::from(BLACK_IS_ZERO), 2)?;
    }
    put(bytes, page.next_at, 0, offset_width)?;

    let stub = (bytes.len() + GAP_BYTES).next_multiple_of(8);
    if !is_big && u32::try_from(stub).is_err() {
        return None;
    }
    let (count_width, entry_width) = if is_big { (8, 20) } else { (2, 12) };
    bytes.resize(stub + count_width + STUB.len() * entry_width + offset_width, 0);
    put(bytes, stub, STUB.len() as u64, count_width)?;
    for (index, (tag, value)) in STUB.into_iter().enumerate() {
        let at = stub + count_width + index * entry_width;
        put(bytes, at, u64::from(tag), 2)?;
        put(bytes, at + 2, u64::from(LONG), 2)?;
        put(bytes, at + 4, 1, offset_width)?;
        put(bytes, at + 4 + offset_width, value, 4)?;
    }
    put(bytes, stub + count_width + STUB.len() * entry_width, page.offset, offset_width)?;
    put(bytes, first_offset_at, stub as u64, offset_width)
}

const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
const NEW_SUBFILE_TYPE: u16 = 254;
const PHOTOMETRIC: u16 = 262;
const STRIP_OFFSETS: u16 = 273;
const STRIP_BYTE_COUNTS: u16 = 279;

const BLACK_IS_ZERO: u16 = 1;

const SHORT: u16 = 3;
const LONG: u16 = 4;
const LONG8: u16 = 16;

/// A picture of one pixel of one bit.
const STUB: [(u16, u64); 5] =
    [(IMAGE_WIDTH, 1), (IMAGE_LENGTH, 1), (PHOTOMETRIC, 1), (STRIP_OFFSETS, 0), (STRIP_BYTE_COUNTS, 1)];

/// The numbers of a file in its own byte order and width of offsets. A position outside gives `None`.
#[derive(Clone, Copy)]
struct Numbers<'a> {
    bytes: &'a [u8],
    is_little_endian: bool,
    is_big: bool,
}

impl<'a> Numbers<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let is_little_endian = bytes.starts_with(b"II");
        let numbers = Self { bytes, is_little_endian, is_big: false };
        let is_big = numbers.number_at(2, 2)? == 43;
        Some(Self { is_big, ..numbers })
    }

    fn first_offset_at(self) -> usize {
        if self.is_big { 8 } else { 4 }
    }

    fn number_at(self, at: usize, width: usize) -> Option<u64> {
        let digits = self.bytes.get(at..at.checked_add(width)?)?;
        let fold = |number: u64, digit: &u8| number << 8 | u64::from(*digit);
        Some(if self.is_little_endian {
            digits.iter().rev().fold(0, fold)
        } else {
            digits.iter().fold(0, fold)
        })
    }

    fn offset_at(self, at: usize) -> Option<u64> {
        self.number_at(at, if self.is_big { 8 } else { 4 })
    }

    /// The directory at `offset`, if it is a page, and the offset of the next; counts the entries it looks
    /// at.
    fn page_at(self, offset: u64, entries_seen: &mut u64) -> Option<(Option<Page>, u64)> {
        let at = usize::try_from(offset).ok()?;
        let (count_width, entry_width) = if self.is_big { (8, 20) } else { (2, 12) };
        let count = self.number_at(at, count_width)?;
        *entries_seen = entries_seen.saturating_add(count);
        if *entries_seen > MOST_ENTRIES {
            return None;
        }
        let first = at.checked_add(count_width)?;
        let next_at = first + usize::try_from(count).ok()? * entry_width;
        let next = self.offset_at(next_at)?;

        let mut page = Page {
            size: Size::new(0, 0),
            photometric: None,
            photometric_at: None,
            offset,
            next_at,
            is_auxiliary: false,
            others: 0,
            is_chain_whole: true,
        };
        let mut is_picture = false;
        for entry in (first..next_at).step_by(entry_width) {
            is_picture |= self.note_entry(entry, &mut page).is_some();
        }
        Some((is_picture.then_some(page), next))
    }

    /// Takes from one entry what choosing a page needs; something when it is the width, which makes it a
    /// picture.
    fn note_entry(self, entry: usize, page: &mut Page) -> Option<()> {
        let (value, at) = self.value_of(entry)?;
        match u16::try_from(self.number_at(entry, 2)?).ok()? {
            IMAGE_WIDTH => page.size.width_px = usize::try_from(value).ok()?,
            IMAGE_LENGTH => {
                page.size.height_px = usize::try_from(value).ok()?;
                return None;
            }
            NEW_SUBFILE_TYPE => {
                page.is_auxiliary = value & 0b101 != 0;
                return None;
            }
            PHOTOMETRIC => {
                page.photometric = u16::try_from(value).ok();
                // The low half of a LONG comes last in a big-endian file.
                let is_long = self.number_at(entry + 2, 2)? == u64::from(LONG);
                page.photometric_at = Some(if is_long && !self.is_little_endian { at + 2 } else { at });
                return None;
            }
            _ => return None,
        }
        Some(())
    }

    /// The number in an entry that holds one, and where it stands.
    fn value_of(self, entry: usize) -> Option<(u64, usize)> {
        let at = entry + if self.is_big { 12 } else { 8 };
        let width = match u16::try_from(self.number_at(entry + 2, 2)?).ok()? {
            SHORT => 2,
            LONG => 4,
            LONG8 if self.is_big => 8,
            _ => return None,
        };
        Some((self.number_at(at, width)?, at))
    }
}
