//! Where the frames of a file lie, and which tile each is.

use std::collections::HashMap;
use std::sync::OnceLock;

use microtome_vault::{Budget, Result};

use super::super::TilePlace;
use super::super::file::SlideFile;
use super::elements::{UNDEFINED, u32_of};
use super::instance::Instance;
use super::syntax::Syntax;
use crate::formats::{damaged, unsupported};

/// How an item begins.
const ITEM_MARK: [u8; 4] = [0xfe, 0xff, 0x00, 0xe0];

/// Where frames begin, and the end of the last.
#[derive(Debug)]
enum Places {
    /// One after the other, each of so many bytes.
    Raw { at: u64, bytes: u64 },
    /// As items, the pieces of a frame one after the other.
    Items(Vec<u64>),
}

/// The frames of a file; read when the first is asked for.
#[derive(Debug, Default)]
pub(super) struct Frames {
    places: OnceLock<(Places, Option<HashMap<TilePlace, u64>>)>,
}

impl Frames {
    /// Finds the frames.
    ///
    /// # Errors
    /// `Input` when they cannot be found.
    pub(super) fn prepare(&self, instance: &Instance) -> Result<()> {
        self.places(instance).map(|_| ())
    }

    fn places(&self, instance: &Instance) -> Result<&(Places, Option<HashMap<TilePlace, u64>>)> {
        if let Some(places) = self.places.get() {
            return Ok(places);
        }
        let read = (places_of(instance)?, tiles_of(instance)?);
        // Another thread may be faster; both read the same.
        Ok(self.places.get_or_init(|| read))
    }

    /// The bytes of the frame that is a tile; none where the file leaves it out.
    ///
    /// # Errors
    /// `Input` when the file is damaged; `Limit` when the frame exceeds the budget; `Io` when the disk refuses.
    pub(super) fn bytes(
        &self,
        instance: &Instance,
        place: TilePlace,
        budget: Budget,
    ) -> Result<Option<Vec<u8>>> {
        let (places, tiles) = self.places(instance)?;
        let (across, _) = instance.grid();
        let index = match tiles {
            Some(tiles) => match tiles.get(&place) {
                Some(index) => *index,
                None => return Ok(None),
            },
            None => (place.row * across + place.column) as u64,
        };
        match places {
            Places::Raw { at, bytes } => {
                budget.grant("one frame of this slide", *bytes, 1)?;
                let start = index.checked_mul(*bytes).and_then(|offset| at.checked_add(offset));
                let found = start.map(|start| instance.file.bytes(start, *bytes)).transpose()?.flatten();
                found.ok_or_else(cut_off).map(Some)
            }
            Places::Items(starts) => {
                let index = index as usize;
                let (Some(&start), Some(&end)) = (starts.get(index), starts.get(index + 1)) else {
                    return Err(cut_off());
                };
                frame(&instance.file, start, end, budget).map(Some)
            }
        }
    }
}

fn cut_off() -> microtome_vault::Error {
    damaged("DICOM", "it ends before its last frame")
}

/// The pieces of a frame between two positions, put together.
fn frame(file: &SlideFile, start: u64, end: u64, budget: Budget) -> Result<Vec<u8>> {
    budget.grant("one frame of this slide", end.saturating_sub(start), 1)?;
    let mut bytes = Vec::new();
    let mut at = start;
    while at < end {
        let Some(length) = item(file, at)? else { break };
        let piece = file.bytes(at + 8, u64::from(length))?.ok_or_else(cut_off)?;
        at += 8 + u64::from(length);
        bytes.extend(piece);
    }
    Ok(bytes)
}

/// The length of the item at a position; none if another mark is there.
fn item(file: &SlideFile, at: u64) -> Result<Option<u32>> {
    let head = file.bytes(at, 8)?.ok_or_else(cut_off)?;
    let is_item = head[..4] == ITEM_MARK;
    match u32_of(&head[4..]) {
        UNDEFINED if is_item => Err(damaged("DICOM", "a frame has no length")),
        length => Ok(is_item.then_some(length)),
    }
}

fn places_of(instance: &Instance) -> Result<Places> {
    let (at, length) = instance.pixels;
    let header = &instance.header;
    if let Some(length) = length {
        if instance.syntax != Syntax::Raw {
            return Err(damaged("DICOM", "its frames are compressed and are no items"));
        }
        let bytes = instance.tile().area_px() as u64
            * u64::from(header.samples_per_pixel)
            * u64::from(header.bits[0] / 8);
        if header.frames.checked_mul(bytes).is_none_or(|needed| needed > length) {
            return Err(damaged("DICOM", "its pixels are fewer than it states"));
        }
        return Ok(Places::Raw { at, bytes });
    }
    if instance.syntax == Syntax::Raw {
        return Err(unsupported("DICOM", "has raw frames as items"));
    }
    // Each frame needs the head of an item: more than that are not there.
    if header.frames > instance.file.length() / 8 {
        return Err(damaged("DICOM", "it states more frames than it has room for"));
    }
    let file = &instance.file;
    let table = item(file, at)?.ok_or_else(|| damaged("DICOM", "its table of frames is missing"))?;
    let first = at + 8 + u64::from(table);
    let starts = match (offsets(instance)?, table) {
        (Some(offsets), _) => offsets,
        (None, 0) => return walk_items(instance, first).map(Places::Items),
        (None, _) => {
            let table = file.bytes(at + 8, u64::from(table))?.ok_or_else(cut_off)?;
            table.as_chunks().0.iter().map(|offset| u64::from(u32::from_le_bytes(*offset))).collect()
        }
    };
    if (starts.len() as u64) < header.frames {
        return Err(damaged("DICOM", "its table of frames is shorter than it states"));
    }
    let mut starts: Vec<u64> = starts.into_iter().map(|offset| first.saturating_add(offset)).collect();
    // The last frame ends where another mark than an item's is.
    starts.truncate(header.frames as usize);
    starts.push(file.length());
    match starts.is_sorted() {
        true => Ok(Places::Items(starts)),
        false => Err(unsupported("DICOM", "has frames in another order than its table")),
    }
}

/// The 64-bit offsets of frames, where a file has them.
fn offsets(instance: &Instance) -> Result<Option<Vec<u64>>> {
    let Some((at, length)) = instance.header.offsets else { return Ok(None) };
    let bytes = instance.file.bytes(at, length)?.ok_or_else(cut_off)?;
    Ok(Some(bytes.as_chunks().0.iter().map(|offset| u64::from_le_bytes(*offset)).collect()))
}

/// Where the frames begin in a file without a table: each is one item.
fn walk_items(instance: &Instance, first: u64) -> Result<Vec<u64>> {
    let (file, frames) = (&instance.file, instance.header.frames as usize);
    let (mut starts, mut at) = (Vec::with_capacity(frames + 1), first);
    while starts.len() <= frames {
        let Some(length) = item(file, at)? else { break };
        starts.push(at);
        at += 8 + u64::from(length);
    }
    match starts.len() {
        // Whatever pieces there are, they are all of the only frame.
        count if count > 0 && frames == 1 => Ok(vec![first, file.length()]),
        count if count == frames => {
            starts.push(at);
            Ok(starts)
        }
        count if count < frames => Err(damaged("DICOM", format!("it has {count} of {frames} frames"))),
        _ => Err(unsupported("DICOM", "has frames in several pieces and no table of them")),
    }
}

/// Which frame is which tile, where the file says so of each; none where all tiles follow each other by rows.
fn tiles_of(instance: &Instance) -> Result<Option<HashMap<TilePlace, u64>>> {
    let (positions, tile) = (&instance.header.positions, instance.tile());
    let ((across, down), frames) = (instance.grid(), instance.header.frames);
    if positions.is_empty() {
        let needed = (across as u64).saturating_mul(down as u64);
        return match frames >= needed {
            true => Ok(None),
            false => Err(damaged("DICOM", format!("it has {frames} frames, its extent needs {needed}"))),
        };
    }
    // A bound of the work that a small file can ask for.
    if (across as u64).saturating_mul(down as u64) > instance.file.length() {
        return Err(damaged("DICOM", "its extent is far beyond its frames"));
    }
    let mut tiles = HashMap::with_capacity(positions.len());
    for (index, [left, top]) in positions.iter().enumerate().take(frames as usize) {
        let (left, top) = (left.wrapping_sub(1) as usize, top.wrapping_sub(1) as usize);
        if left % tile.width_px != 0 || top % tile.height_px != 0 {
            return Err(unsupported("DICOM", "has frames that lie on no grid"));
        }
        // Of several focal planes or optical paths, the first.
        tiles
            .entry(TilePlace { column: left / tile.width_px, row: top / tile.height_px })
            .or_insert(index as u64);
    }
    Ok(Some(tiles))
}
