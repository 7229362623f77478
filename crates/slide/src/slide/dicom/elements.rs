//! The elements of a DICOM file (PS3.5, section 7), one after the other, up to its pixels.
//!
//! Values are handed out as they are met and none is kept, so that the positions of a million frames cost no more memory
//! than their reader keeps of them, and no length that a file states is allocated before it is known to be there.

use std::ops::ControlFlow;

use microtome_vault::Result;

use super::super::file::SlideFile;
use crate::formats::damaged;

/// Group and element.
pub(super) type Tag = u32;

pub(super) const PIXEL_DATA: Tag = 0x7fe0_0010;
const ITEM: Tag = 0xfffe_e000;
const END_OF_ITEM: Tag = 0xfffe_e00d;
const END_OF_SEQUENCE: Tag = 0xfffe_e0dd;

/// The length of what ends with a mark.
pub(super) const UNDEFINED: u32 = u32::MAX;
/// Values up to this many bytes are read, of longer ones only their place is told.
const LONGEST_VALUE: u64 = 1 << 16;
/// Bytes that are read at a time.
const BLOCK: u64 = 1 << 16;
/// Sequences and items within one another.
const DEEPEST: usize = 64;

/// Where the transfer syntax is stated, and how elements are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Each element says of what kind its value is; little-endian.
    Explicit,
    /// Kinds are to be looked up; little-endian.
    Implicit,
}

/// An element with a value, and where it lies in the file.
pub(super) struct Element<'a> {
    /// The tags of the sequences that it lies in, the outermost first.
    pub(super) within: &'a [Tag],
    pub(super) tag: Tag,
    /// Empty if it is longer than [`LONGEST_VALUE`].
    pub(super) value: &'a [u8],
    /// Where the value begins, and how many bytes it has.
    pub(super) place: (u64, u64),
}

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At the pixels: where they begin, and how many bytes they have if they are no sequence of items.
    Pixels { at: u64, length: Option<u64> },
    /// At an element of another group, the end of the file, or where the visitor stopped.
    Elsewhere(u64),
}

/// A sequence or an item that was begun, and where it ends if it says so.
struct Open {
    is_sequence: bool,
    end: Option<u64>,
}

/// Hands the elements from a position on to `visit`, until it breaks off, the pixels come or the file ends. With a `group`,
/// the first element of another one ends the walk.
///
/// # Errors
/// `Input` when the elements make no sense; `Io` when the disk refuses.
pub(super) fn walk(
    file: &SlideFile,
    start: u64,
    encoding: Encoding,
    group: Option<u32>,
    mut visit: impl FnMut(Element<'_>) -> ControlFlow<()>,
) -> Result<End> {
    let mut reader = Reader { file, block: Vec::new(), block_at: 0 };
    let mut open: Vec<Open> = Vec::new();
    let mut within: Vec<Tag> = Vec::new();
    let mut at = start;
    loop {
        while open.last().is_some_and(|open| open.end.is_some_and(|end| at >= end)) {
            close(&mut open, &mut within);
        }
        let Some(tag) = reader.tag(at)? else { return Ok(End::Elsewhere(at)) };
        if group.is_some_and(|group| tag >> 16 != group) {
            return Ok(End::Elsewhere(at));
        }
        if tag >> 16 == ITEM >> 16 {
            let length = reader.number(at + 4)?;
            at += 8;
            match tag {
                ITEM if open.last().is_some_and(|open| open.is_sequence) => {
                    open.push(Open { is_sequence: false, end: end_of(at, length) });
                }
                END_OF_ITEM if open.last().is_some_and(|open| !open.is_sequence) => {
                    close(&mut open, &mut within);
                }
                END_OF_SEQUENCE if open.last().is_some_and(|open| open.is_sequence) => {
                    close(&mut open, &mut within);
                }
                _ => return Err(damaged("DICOM", "an item ends or begins where none should")),
            }
            continue;
        }
        let header = reader.header(at, tag, encoding)?;
        at += header.bytes;
        if tag == PIXEL_DATA && open.is_empty() {
            let length = (header.length != UNDEFINED).then(|| u64::from(header.length));
            return Ok(End::Pixels { at, length });
        }
        if header.is_sequence {
            if open.len() >= DEEPEST {
                return Err(damaged("DICOM", "its sequences lie too deep in one another"));
            }
            open.push(Open { is_sequence: true, end: end_of(at, header.length) });
            within.push(tag);
            continue;
        }
        if header.length == UNDEFINED {
            return Err(damaged("DICOM", "a value has no length"));
        }
        let length = u64::from(header.length);
        let value = if length <= LONGEST_VALUE { reader.bytes(at, length)? } else { &[] };
        let element = Element { within: &within, tag, value, place: (at, length) };
        at += length;
        if visit(element).is_break() {
            return Ok(End::Elsewhere(at));
        }
    }
}

fn end_of(at: u64, length: u32) -> Option<u64> {
    (length != UNDEFINED).then(|| at + u64::from(length))
}

fn close(open: &mut Vec<Open>, within: &mut Vec<Tag>) {
    if open.pop().is_some_and(|open| open.is_sequence) {
        within.pop();
    }
}

/// What stands before a value.
struct Header {
    /// Its own bytes.
    bytes: u64,
    is_sequence: bool,
    length: u32,
}

/// Reads a file in blocks.
struct Reader<'a> {
    file: &'a SlideFile,
    block: Vec<u8>,
    block_at: u64,
}

impl Reader<'_> {
    /// Bytes that must be there.
    fn bytes(&mut self, at: u64, count: u64) -> Result<&[u8]> {
        let is_within = at >= self.block_at && at + count <= self.block_at + self.block.len() as u64;
        if !is_within {
            let most = self.file.length().saturating_sub(at).min(BLOCK.max(count));
            self.block = self.file.bytes(at, most)?.unwrap_or_default();
            self.block_at = at;
        }
        let start = (at - self.block_at) as usize;
        let bytes = self.block.get(start..start + count as usize);
        bytes.ok_or_else(|| damaged("DICOM", "it ends within an element"))
    }

    /// The tag at a position; none at the end of the file.
    fn tag(&mut self, at: u64) -> Result<Option<Tag>> {
        if at >= self.file.length() {
            return Ok(None);
        }
        let bytes = self.bytes(at, 4)?;
        Ok(Some(u32::from(u16_of(&bytes[..2])) << 16 | u32::from(u16_of(&bytes[2..]))))
    }

    fn number(&mut self, at: u64) -> Result<u32> {
        Ok(u32_of(self.bytes(at, 4)?))
    }

    fn header(&mut self, at: u64, tag: Tag, encoding: Encoding) -> Result<Header> {
        if encoding == Encoding::Implicit {
            let length = self.number(at + 4)?;
            let is_sequence = tag != PIXEL_DATA && (length == UNDEFINED || super::SEQUENCES.contains(&tag));
            return Ok(Header { bytes: 8, is_sequence, length });
        }
        let kind = [self.bytes(at + 4, 2)?[0], self.bytes(at + 4, 2)?[1]];
        if !kind.iter().all(u8::is_ascii_uppercase) {
            return Err(damaged("DICOM", "an element is of no known kind"));
        }
        let is_long = matches!(
            &kind,
            b"OB"
                | b"OD"
                | b"OF"
                | b"OL"
                | b"OV"
                | b"OW"
                | b"SQ"
                | b"SV"
                | b"UC"
                | b"UN"
                | b"UR"
                | b"UT"
                | b"UV"
        );
        if !is_long {
            return Ok(Header {
                bytes: 8,
                is_sequence: false,
                length: u32::from(u16_of(self.bytes(at + 6, 2)?)),
            });
        }
        let length = self.number(at + 8)?;
        let is_sequence = &kind == b"SQ" || (&kind == b"UN" && length == UNDEFINED);
        Ok(Header { bytes: 12, is_sequence, length })
    }
}

/// Two bytes, little-endian.
pub(super) fn u16_of(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

/// Four bytes, little-endian.
pub(super) fn u32_of(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
