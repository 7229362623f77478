//! Where the pixels of a slide come from: what each format has to give.

use std::fmt::Debug;

use microtome_vault::{Budget, Result};

use super::TilePlace;
use crate::Size;

/// A decoded tile.
#[derive(Debug)]
pub(super) struct Tile {
    /// Its extent, which may reach beyond the level.
    pub(super) size: Size,
    /// `[height_px][width_px][3]`
    pub(super) rgb: Vec<u8>,
}

/// The tiles of all levels, and after these of the pictures beside them. What is asked for exists, and so do places.
pub(super) trait TileSource: Debug + Send + Sync {
    /// Extent of a level's tiles, and how many there are across and down.
    fn tiling(&self, level: usize) -> (Size, (usize, usize));

    /// Whether tiles of a level are of a kind that is read.
    fn can_read(&self, level: usize) -> bool;

    /// Reads what all tiles of a level need.
    ///
    /// # Errors
    /// `Input` when no tile of the level can be found.
    fn prepare(&self, level: usize) -> Result<()>;

    /// Decodes a tile; none where the file leaves it out.
    ///
    /// # Errors
    /// `Input` when the tile is damaged; `Limit` when it exceeds the budget; `Io` when the disk refuses.
    fn tile(&self, level: usize, place: TilePlace, budget: Budget) -> Result<Option<Tile>>;

    /// A tile as a JPEG file of its own, where it is stored as JPEG.
    ///
    /// # Errors
    /// `Input` when the file is damaged; `Io` when the disk refuses.
    fn jpeg_tile(&self, level: usize, place: TilePlace) -> Result<Option<Vec<u8>>>;
}
