//! What turns pixels into numbers: a backbone that gives a vector for each cell of a picture, and a projection that makes
//! vectors comparable by their cosine.
//!
//! A [`Backbone`] is a trait, so that another one is another file: [`texture`] has 36 numbers made by hand, [`network`] the
//! residual networks, [`onnx`] whatever network others made, and [`imported`] has none. Which numbers belong to a tile is its [`Reading`].

pub mod file;
pub mod imported;
pub mod network;
pub mod onnx;
pub mod projection;
pub mod texture;

use super::look::Look;
use crate::context::Context;
use crate::slides::view::View;
use microtome_kernels::Size;
use microtome_vault::{Error, Result};
use projection::Projection;
use std::collections::BTreeMap;

/// Pixels on a side of what is encoded at a time, about.
const WINDOW_PX: usize = 1536;

/// Gives cells of a picture vectors. Levels are numbered as in ResNet, the deepest is the coarsest.
pub trait Backbone: Send + Sync {
    /// Levels that vectors can be taken from, the one that is meant without saying so last.
    fn levels(&self) -> Vec<usize>;
    /// Values of a vector.
    fn dimensions(&self, level: usize) -> usize;
    /// Pixels from one cell to the next.
    fn stride_px(&self, level: usize) -> usize;
    /// Pixels around a cell that it depends on, on each side.
    fn halo_px(&self, level: usize) -> usize;
    /// Whether it can be shown pixels; vectors that were made elsewhere have nothing that sees.
    fn sees_pixels(&self) -> bool {
        true
    }
    /// The cells of a picture whose sides are whole strides, `[rows][columns][dimensions]`.
    fn cells(&self, rgb: &[u8], size: Size, look: &Look, level: usize) -> Vec<f32>;
    /// The mean over the cells of each of some square tiles, `[tiles][dimensions]`, each tile seen alone.
    fn tiles(&self, rgb: &[u8], side_px: usize, look: &Look, level: usize) -> Vec<f32>;
}

/// Which cells a tile's vector is the mean of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All of the tile's, the tile seen alone: as in the paper.
    Tile,
    /// Those of its named middle, seen with what is around it.
    Middle,
}

/// Vectors of a rectangle of cells.
#[derive(Clone, Debug, PartialEq)]
pub struct CellMap {
    /// Columns and rows.
    pub size: Size,
    /// Pixels of the view from one cell to the next.
    pub stride_px: usize,
    /// Values of a vector.
    pub dimensions: usize,
    /// `[rows][columns][dimensions]`.
    pub values: Vec<f32>,
}

/// A backbone with what makes its vectors comparable.
pub struct Encoder {
    /// What it is called.
    pub kind: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Which cells a tile's vector is the mean of.
    pub reading: Reading,
    backbone: Box<dyn Backbone>,
    /// By level; a level without one takes vectors as they are.
    projections: BTreeMap<usize, Projection>,
}

impl Encoder {
    /// The level that is meant without saying so.
    pub fn level(&self) -> usize {
        self.backbone.levels().last().copied().unwrap_or_default()
    }

    /// Levels that vectors can be taken from.
    pub fn levels(&self) -> Vec<usize> {
        self.backbone.levels()
    }

    /// Values of a vector.
    pub fn dimensions(&self, level: usize) -> usize {
        self.backbone.dimensions(level)
    }

    /// Pixels from one cell to the next.
    pub fn stride_px(&self, level: usize) -> usize {
        self.backbone.stride_px(level)
    }

    /// Vectors of length 1 out of a backbone's, `[cells][dimensions]`.
    pub fn project(&self, level: usize, vectors: &mut [f32]) {
        let dimensions = self.dimensions(level);
        match self.projections.get(&level) {
            Some(projection) => projection.apply(vectors),
            None => projection::normalise(vectors, dimensions),
        }
    }

    /// The backbone's vectors of a rectangle of a view, whose corner and sides are whole strides, with `border` cells more
    /// on each side; moved by `shift_px` to the right and down. Beyond the slide's edges it goes on as in a mirror.
    ///
    /// # Errors
    /// Those of reading.
    pub fn cells(
        &self,
        view: &View<'_>,
        look: &Look,
        place: CellPlace,
        context: &Context<'_>,
    ) -> Result<CellMap> {
        self.check_sees()?;
        let CellPlace { level, corner_px: [left, top], size, border, shift_px } = place;
        let stride = self.stride_px(level);
        let halo = self.backbone.halo_px(level).div_ceil(stride);
        let around = border + halo;
        let wide = Size::new(size.width_px + 2 * around, size.height_px + 2 * around);
        let pixels = Size::new(wide.width_px * stride, wide.height_px * stride);
        let corner = [left + shift_px[0], top + shift_px[1]].map(|px| px - (around * stride) as i64);
        let region = view.mirrored(corner, pixels, context.budget)?;
        let all = self.backbone.cells(&region.rgb, pixels, look, level);
        let dimensions = self.dimensions(level);
        let kept = Size::new(size.width_px + 2 * border, size.height_px + 2 * border);
        let mut values = Vec::with_capacity(kept.area_px() * dimensions);
        for row in halo..halo + kept.height_px {
            let start = wide.index(halo, row) * dimensions;
            values.extend_from_slice(&all[start..start + kept.width_px * dimensions]);
        }
        Ok(CellMap { size: kept, stride_px: stride, dimensions, values })
    }

    /// The backbone's vectors of tiles that are each seen alone.
    ///
    /// # Errors
    /// `Usage` when vectors were made elsewhere.
    pub fn tiles(&self, rgb: &[u8], side_px: usize, look: &Look, level: usize) -> Result<Vec<f32>> {
        self.check_sees()?;
        Ok(self.backbone.tiles(rgb, side_px, look, level))
    }

    /// Whether its vectors were made elsewhere, so that it knows the tiles of one project alone.
    pub fn is_imported(&self) -> bool {
        !self.backbone.sees_pixels()
    }

    /// # Errors
    /// `Usage` when vectors were made elsewhere.
    pub fn check_sees(&self) -> Result<()> {
        match self.is_imported() {
            false => Ok(()),
            true => {
                Err(Error::usage("the vectors were imported: there is no network that sees other pixels")
                    .advise("query the project that they were imported into, with --method direct or fine"))
            }
        }
    }

    /// Which of [`Self::windows`] holds a place of the view.
    pub fn window_of(&self, view: &View<'_>, level: usize, place_px: [i64; 2]) -> usize {
        let stride = self.stride_px(level);
        let side_px = (WINDOW_PX / stride).max(1) * stride;
        let along = |at: i64, extent_px: usize| {
            let windows = extent_px.div_ceil(stride).div_ceil(side_px / stride);
            (at.max(0) as usize / side_px).min(windows.saturating_sub(1))
        };
        let across = view.size.width_px.div_ceil(stride).div_ceil(side_px / stride);
        along(place_px[1], view.size.height_px) * across + along(place_px[0], view.size.width_px)
    }

    /// The rectangles that a view is encoded in: corner in pixels, extent in cells, by rows.
    pub fn windows(&self, view: &View<'_>, level: usize) -> Vec<([i64; 2], Size)> {
        let stride = self.stride_px(level);
        let side = (WINDOW_PX / stride).max(1);
        let (columns, rows) = (view.size.width_px.div_ceil(stride), view.size.height_px.div_ceil(stride));
        let at = |cell: usize| (cell * stride) as i64;
        let tops = (0..rows).step_by(side);
        tops.flat_map(|top| (0..columns).step_by(side).map(move |left| (left, top)))
            .map(|(left, top)| {
                ([at(left), at(top)], Size::new(side.min(columns - left), side.min(rows - top)))
            })
            .collect()
    }
}

/// Which cells are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellPlace {
    /// Level of the backbone.
    pub level: usize,
    /// Upper left corner in the view, in pixels.
    pub corner_px: [i64; 2],
    /// Columns and rows.
    pub size: Size,
    /// Cells more on each side.
    pub border: usize,
    /// How far all is moved, in pixels: cells between the cells.
    pub shift_px: [i64; 2],
}
