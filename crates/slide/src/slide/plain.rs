//! A picture as a slide of one level.

use std::path::Path;

use microtome_vault::{Budget, Result};

use super::cache::TileCache;
use super::source::{Tile, TileSource};
use super::{Level, Slide, SlideFormat, TilePlace};
use crate::picture::ReadSettings;
use crate::{Picture, Size, read_picture};

/// Side of the tiles that the picture is handed out in.
const TILE_PX: usize = 256;

/// Reads a picture.
///
/// # Errors
/// Those of [`read_picture`].
pub(super) fn open(path: &Path, budget: Budget) -> Result<Slide> {
    let picture = read_picture(path, &ReadSettings { budget })?;
    let level = Level {
        size: picture.size,
        downsample: 1.0,
        tile: Size::new(TILE_PX, TILE_PX),
        compression: "in memory".to_owned(),
    };
    Ok(Slide {
        path: path.to_owned(),
        format: SlideFormat::Picture,
        levels: vec![level],
        mpp: picture.mpp,
        objective_power: None,
        associated: Vec::new(),
        warnings: picture.warnings.clone(),
        source: Box::new(InMemory(picture)),
        cache: TileCache::default(),
    })
}

#[derive(Debug)]
struct InMemory(Picture);

impl TileSource for InMemory {
    fn tiling(&self, _: usize) -> (Size, (usize, usize)) {
        let Size { width_px, height_px } = self.0.size;
        (Size::new(TILE_PX, TILE_PX), (width_px.div_ceil(TILE_PX), height_px.div_ceil(TILE_PX)))
    }

    fn can_read(&self, _: usize) -> bool {
        true
    }

    fn prepare(&self, _: usize) -> Result<()> {
        Ok(())
    }

    fn tile(&self, _: usize, place: TilePlace, _: Budget) -> Result<Option<Tile>> {
        let picture = &self.0;
        let (left, top) = (place.column * TILE_PX, place.row * TILE_PX);
        let size =
            Size::new(TILE_PX.min(picture.size.width_px - left), TILE_PX.min(picture.size.height_px - top));
        let row = |y: usize| &picture.rgb[3 * picture.size.index(left, top + y)..][..3 * size.width_px];
        Ok(Some(Tile { size, rgb: (0..size.height_px).flat_map(row).copied().collect() }))
    }

    fn jpeg_tile(&self, _: usize, _: TilePlace) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
}
