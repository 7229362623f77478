//! Rectangles of a level, put together from its tiles.

use std::sync::Arc;

use microtome_vault::{Budget, Error, Fault, Result};
use rayon::prelude::*;

use super::source::Tile;
use super::{Region, Slide, TilePlace};
use crate::Size;
use crate::geometry::{PointInLevel, PointInLevel0, RectangleInLevel};

const WHITE: u8 = 255;

/// Tiles that are decoded before they are put into their places: enough for all threads, and a bound of the memory.
const BATCH: usize = 64;

impl Slide {
    /// The rectangle of `size` pixels of a level whose upper left corner is at `corner`. It may lie across the edges or
    /// outside of the slide, where it is white; so are tiles that cannot be read, which are counted.
    ///
    /// # Errors
    /// `Usage` when there is no such level; `Input` when no tile of the rectangle can be read; `Limit` when the rectangle
    /// or a tile exceeds the budget; `Io` when the disk refuses.
    pub fn region(&self, level: usize, corner: PointInLevel0, size: Size, budget: Budget) -> Result<Region> {
        let Some(found) = self.levels.get(level) else {
            let last = self.levels.len() - 1;
            return Err(Error::usage(format!("there is no level {level}"))
                .advise(format!("levels are 0 to {last}: `microtome slide info` lists them"))
                .at(&self.path));
        };
        // The nearest pixel: corners that were computed from the level come back to it.
        let in_level = |at: i64| (at as f64 / found.downsample).round() as i64;
        let corner = PointInLevel::new(in_level(corner.x_px), in_level(corner.y_px));
        self.region_in_level(level, RectangleInLevel { corner, size }, budget)
    }

    /// [`Self::region`], the rectangle in pixels of the level.
    ///
    /// # Errors
    /// Those of [`Self::region`]; `Bug` when there is no such level.
    pub fn region_in_level(
        &self,
        level: usize,
        RectangleInLevel { corner, size }: RectangleInLevel,
        budget: Budget,
    ) -> Result<Region> {
        if level >= self.levels.len() {
            return Err(Error::bug(format!("there is no level {level}")).at(&self.path));
        }
        self.read(level, self.levels[level].size, RectangleInLevel { corner, size }, budget)
    }

    /// The pixels of a picture beside the levels, by its name: label, macro, thumbnail.
    ///
    /// # Errors
    /// `Usage` when there is none of that name; those of [`Self::region`].
    pub fn associated_image(&self, name: &str, budget: Budget) -> Result<Region> {
        let Some(index) = self.associated.iter().position(|image| image.name == name) else {
            let names: Vec<&str> = self.associated.iter().map(|image| image.name.as_str()).collect();
            let advice = if names.is_empty() {
                "it has none".to_owned()
            } else {
                format!("it has {}", names.join(", "))
            };
            return Err(Error::usage(format!("the slide has no picture “{name}” beside its levels"))
                .advise(advice)
                .at(&self.path));
        };
        let size = self.associated[index].size;
        let whole = RectangleInLevel { corner: PointInLevel::new(0, 0), size };
        // Sources count them after the levels.
        self.read(self.levels.len() + index, size, whole, budget)
    }

    /// A rectangle of a level, or of a picture beside them, of extent `whole`.
    fn read(
        &self,
        level: usize,
        whole: Size,
        RectangleInLevel { corner, size }: RectangleInLevel,
        budget: Budget,
    ) -> Result<Region> {
        let (left, top) = (corner.x_px, corner.y_px);
        self.source.prepare(level).map_err(|error| error.at(&self.path))?;
        let area_px = (size.width_px as u64).saturating_mul(size.height_px as u64);
        let bytes = budget.grant(&format!("a region of {size} pixels"), area_px, 3)?;
        let mut region = Region { size, rgb: vec![WHITE; bytes], unreadable: None };
        let (tile, (across, down)) = self.source.tiling(level);
        let columns = touched(left, size.width_px, tile.width_px, across);
        let rows = touched(top, size.height_px, tile.height_px, down);
        let width = columns.len();
        let count = width.saturating_mul(rows.len());
        let place = |index: usize| TilePlace {
            column: columns.start + index % width,
            row: rows.start + index / width,
        };
        let (mut read, mut unreadable, mut first) = (0, 0, None);
        for start in (0..count).step_by(BATCH) {
            let batch = (start..count.min(start + BATCH)).into_par_iter();
            let decoded: Vec<(TilePlace, Result<Option<Arc<Tile>>>)> =
                batch.map(|index| (place(index), self.tile(level, place(index), budget))).collect();
            for (place, decoded) in decoded {
                match decoded {
                    Ok(Some(decoded)) => {
                        put(&mut region, [left, top], whole, tile, place, &decoded);
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

    fn tile(&self, level: usize, place: TilePlace, budget: Budget) -> Result<Option<Arc<Tile>>> {
        if let Some(tile) = self.cache.get(level, place) {
            return Ok(Some(tile));
        }
        let tile = self.source.tile(level, place, budget)?.map(Arc::new);
        if let Some(tile) = &tile {
            self.cache.put(level, place, Arc::clone(tile));
        }
        Ok(tile)
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

/// Copies what a tile at `place` of tiles of extent `tile` and a region with the corner (`left`, `top`) share. What the tile
/// holds beyond its place or the level is padding.
fn put(
    region: &mut Region,
    [left, top]: [i64; 2],
    level: Size,
    tile: Size,
    place: TilePlace,
    decoded: &Tile,
) {
    let (tile_left, tile_top) = (place.column * tile.width_px, place.row * tile.height_px);
    let inside =
        [tile.width_px.min(level.width_px - tile_left), tile.height_px.min(level.height_px - tile_top)];
    let offset = [tile_left as i64 - left, tile_top as i64 - top];
    let skip = |offset: i64| usize::try_from(-offset.min(0)).unwrap_or(usize::MAX);
    let to = |offset: i64| usize::try_from(offset.max(0)).unwrap_or(usize::MAX);
    let ([skip_x, skip_y], [to_x, to_y]) = (offset.map(skip), offset.map(to));
    let width_px = inside[0].saturating_sub(skip_x).min(region.size.width_px.saturating_sub(to_x));
    let height_px = inside[1].saturating_sub(skip_y).min(region.size.height_px.saturating_sub(to_y));
    if width_px == 0 {
        return;
    }
    for y in 0..height_px {
        let from = 3 * ((skip_y + y) * decoded.size.width_px + skip_x);
        let to = 3 * region.size.index(to_x, to_y + y);
        region.rgb[to..to + 3 * width_px].copy_from_slice(&decoded.rgb[from..from + 3 * width_px]);
    }
}
