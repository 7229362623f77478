//! Label and confidence maps of a slide, tile by tile.

use super::tile::{Outlined, TileFound};
use crate::export::pyramid::{Layout, PixelKind};
use crate::export::zarr::ZarrWriter;
use microtome_kernels::region::PixelBox;
use microtome_kernels::{Labels, Size};
use microtome_slide::{MicronsPerPixel, RectangleInLevel};
use microtome_vault::Result;
use std::path::Path;

/// As what maps are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapFormat {
    /// Folders of chunks: Python, napari.
    Zarr,
    /// Pyramids in OME-TIFF: QuPath, Fiji.
    Tiff,
    /// Not at all.
    None,
}

impl MapFormat {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zarr => "zarr",
            Self::Tiff => "tiff",
            Self::None => "none",
        }
    }

    /// What the names of its files end in.
    pub fn extension(self) -> Option<&'static str> {
        match self {
            Self::Zarr => Some("ome.zarr"),
            Self::Tiff => Some("ome.tif"),
            Self::None => None,
        }
    }
}

/// The maps of a slide in the making. Tiles come row by row; a nucleus reaches beyond the core of its tile to both sides and
/// down, so that a tile is drawn when its neighbour to the right is known.
pub struct Maps {
    labels: ZarrWriter,
    confidence: ZarrWriter,
    format: MapFormat,
    /// Nuclei that reach beyond the core of their tile.
    beyond: Vec<Outlined>,
    waiting: Option<(TileFound, RectangleInLevel)>,
}

impl Maps {
    /// Maps of a level of extent `size`, in the run's folder `out`; none if they are not asked for.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn create(
        out: &Path,
        name: &str,
        format: MapFormat,
        size: Size,
        mpp: Option<MicronsPerPixel>,
    ) -> Result<Option<Self>> {
        if format == MapFormat::None {
            return Ok(None);
        }
        let create = |folder: &str, kind| {
            let path = out.join(folder).join(format!("{name}.ome.zarr"));
            ZarrWriter::create(&path, name, size, kind, mpp)
        };
        let (labels, confidence) =
            (create("labels", PixelKind::Labels)?, create("confidence", PixelKind::Grey)?);
        Ok(Some(Self { labels, confidence, format, beyond: Vec::new(), waiting: None }))
    }

    /// Adds the next tile; its nuclei have the numbers that the map shows.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn add(&mut self, found: TileFound, core: RectangleInLevel) -> Result<()> {
        // Above this row of tiles nothing is drawn any more.
        self.beyond.retain(|one| one.nucleus.region.bounds.max_y_px as i64 > core.corner.y_px);
        self.beyond.extend(found.nuclei.iter().filter(|one| !is_within(one, core)).cloned());
        let before = self.waiting.replace((found, core));
        before.map_or(Ok(()), |(found, core)| self.draw(&found, core))
    }

    fn draw(&mut self, found: &TileFound, core: RectangleInLevel) -> Result<()> {
        // Tiles come row by row: above this one's row all is drawn.
        if self.format == MapFormat::Zarr {
            self.labels.make_smaller(core.corner.y_px as usize)?;
            self.confidence.make_smaller(core.corner.y_px as usize)?;
        }
        let corner = [core.corner.x_px as usize, core.corner.y_px as usize];
        let mut labels = Labels::background(core.size);
        found.nuclei.iter().chain(&self.beyond).for_each(|one| paint(&mut labels, corner, one));
        let bytes: Vec<u8> = labels.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        drop(labels);
        self.labels.write(corner, core.size, &bytes)?;
        self.confidence.write(corner, core.size, &found.confidence)
    }

    /// Completes the maps and puts them in place.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn finish(mut self, out: &Path, name: &str) -> Result<()> {
        if let Some((found, core)) = self.waiting.take() {
            self.draw(&found, core)?;
        }
        let (labels, confidence) = (self.labels, self.confidence);
        for (folder, map) in [("labels", labels), ("confidence", confidence)] {
            match self.format {
                MapFormat::Tiff => {
                    map.finish_as_tiff(&out.join(folder).join(format!("{name}.ome.tif")), Layout::Ome)?;
                }
                _ => {
                    map.finish()?;
                }
            }
        }
        Ok(())
    }
}

fn is_within(one: &Outlined, core: RectangleInLevel) -> bool {
    let PixelBox { min_x_px, max_x_px, max_y_px, .. } = one.nucleus.region.bounds;
    let (left, top) = (core.corner.x_px as usize, core.corner.y_px as usize);
    min_x_px >= left && max_x_px <= left + core.size.width_px && max_y_px <= top + core.size.height_px
}

/// Paints what of a nucleus lies in a map whose upper left corner is `corner`.
fn paint(labels: &mut Labels, [left, top]: [usize; 2], one: &Outlined) {
    let bounds = one.nucleus.region.bounds;
    let width_px = bounds.max_x_px - bounds.min_x_px;
    for (y, row) in (bounds.min_y_px..bounds.max_y_px).zip(one.mask.chunks_exact(width_px.max(1))) {
        let Some(y) = y.checked_sub(top).filter(|y| *y < labels.size.height_px) else { continue };
        for (x, _) in (bounds.min_x_px..).zip(row).filter(|(_, is)| **is) {
            if let Some(x) = x.checked_sub(left).filter(|x| *x < labels.size.width_px) {
                let at = labels.size.index(x, y);
                labels.ids[at] = one.nucleus.id;
            }
        }
    }
}
