//! Rectangles of a level, put together from its tiles.

use microtome_vault::{Budget, Error, Fault, Result};

use super::{Region, Slide};
use crate::Size;

const WHITE: u8 = 255;

impl Slide {
    /// The rectangle of `size` pixels of a level whose upper left corner is at (`left`, `top`) in pixels of level 0. It
    /// may lie across the edges or outside of the slide, where it is white; so are tiles that cannot be read, which are
    /// counted.
    ///
    /// # Errors
    /// `Usage` when there is no such level; `Input` when no tile of the rectangle can be read; `Limit` when the rectangle
    /// or a tile exceeds the budget; `Io` when the disk refuses.
    pub fn region(
        &self,
        level: usize,
        [left_in_level0, top_in_level0]: [i64; 2],
        size: Size,
        budget: Budget,
    ) -> Result<Region> {
        let Some(found) = self.levels.get(level) else {
            let last = self.levels.len() - 1;
            return Err(Error::usage(format!("there is no level {level}"))
                .advise(format!("levels are 0 to {last}: `microtome slide info` lists them"))
                .at(&self.path));
        };
        self.pixels.prepare(level).map_err(|error| error.at(&self.path))?;
        let area_px = (size.width_px as u64).saturating_mul(size.height_px as u64);
        let bytes = budget.grant(&format!("a region of {size} pixels"), area_px, 3)?;
        let mut region = Region { size, rgb: vec![WHITE; bytes], unreadable: None };
        // The nearest pixel: corners that were computed from the level come back to it.
        let in_level = |at: i64| (at as f64 / found.downsample).round() as i64;
        let (left, top) = (in_level(left_in_level0), in_level(top_in_level0));
        let (tile, (across, down)) = self.pixels.tiling(level);
        let (mut read, mut unreadable, mut first) = (0, 0, None);
        for row in touched(top, size.height_px, tile.height_px, down) {
            for column in touched(left, size.width_px, tile.width_px, across) {
                match self.pixels.tile(level, (column, row), budget) {
                    Ok(Some((extent, rgb))) => {
                        let offset =
                            [(column * tile.width_px) as i64 - left, (row * tile.height_px) as i64 - top];
                        // What a tile holds beyond its place or the level is padding.
                        let inside = Size::new(
                            tile.width_px.min(found.size.width_px - column * tile.width_px),
                            tile.height_px.min(found.size.height_px - row * tile.height_px),
                        );
                        put(&mut region, offset, inside, extent.width_px, &rgb);
                        read += 1;
                    }
                    Ok(None) => read += 1,
                    Err(error) if error.fault() == Fault::Input => {
                        unreadable += 1;
                        first = first.or(Some(error));
                    }
                    Err(error) => return Err(error.at(&self.path)),
                }
            }
        }
        match first {
            Some(error) if read == 0 => Err(error.at(&self.path)),
            Some(error) => {
                region.unreadable = Some((unreadable, error.to_string()));
                Ok(region)
            }
            None => Ok(region),
        }
    }
}

/// The tiles, of `count` of `tile_px` each, that a stretch of `length_px` from `start` on touches.
fn touched(start: i64, length_px: usize, tile_px: usize, count: usize) -> std::ops::Range<usize> {
    let index = |at: i64| usize::try_from(at.max(0)).unwrap_or(usize::MAX) / tile_px;
    let end = start.saturating_add(i64::try_from(length_px).unwrap_or(i64::MAX));
    if end <= 0 {
        return 0..0;
    }
    index(start).min(count)..(index(end - 1).saturating_add(1)).min(count)
}

/// Copies the part `inside` of a tile, whose rows are `stride_px` long, to `offset` in the region.
fn put(region: &mut Region, [left, top]: [i64; 2], inside: Size, stride_px: usize, rgb: &[u8]) {
    let skip = |offset: i64| usize::try_from(-offset.min(0)).unwrap_or(usize::MAX);
    let to = |offset: i64| usize::try_from(offset.max(0)).unwrap_or(usize::MAX);
    let (skip_x, skip_y, to_x, to_y) = (skip(left), skip(top), to(left), to(top));
    let width_px = inside.width_px.saturating_sub(skip_x).min(region.size.width_px.saturating_sub(to_x));
    let height_px = inside.height_px.saturating_sub(skip_y).min(region.size.height_px.saturating_sub(to_y));
    if width_px == 0 {
        return;
    }
    for y in 0..height_px {
        let from = 3 * ((skip_y + y) * stride_px + skip_x);
        let to = 3 * region.size.index(to_x, to_y + y);
        region.rgb[to..to + 3 * width_px].copy_from_slice(&rgb[from..from + 3 * width_px]);
    }
}
