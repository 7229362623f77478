//! From tiles to a backbone's vectors: each tile seen alone, or its middle seen with what is around it.

use super::parts::Parts;
use crate::context::Context;
use crate::slides::view::View;
use crate::tissue::encoder::{CellMap, CellPlace, Encoder, Reading};
use crate::tissue::look::Look;
use microtome_kernels::Size;
use microtome_vault::Result;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Tiles that are read at a time where each is seen alone.
const BATCH: usize = 256;

/// What is read of a slide's tiles: which, and what a name is about.
#[derive(Clone, Copy, Debug)]
pub struct TileReading<'a> {
    /// Upper left corners, in pixels of the view.
    pub corners_px: &'a [[i64; 2]],
    /// Side, in pixels of the view.
    pub side_px: usize,
    /// Side of the named middle.
    pub named_px: usize,
}

/// Tiles, and what sees them.
#[derive(Clone, Copy)]
pub struct Seeing<'a> {
    /// What turns pixels into vectors.
    pub encoder: &'a Encoder,
    /// The slide.
    pub view: &'a View<'a>,
    /// How it looks.
    pub look: &'a Look,
    /// The tiles.
    pub reading: TileReading<'a>,
    /// Level of the encoder.
    pub level: usize,
}

impl Seeing<'_> {
    /// The backbone's vectors, `[tiles][dimensions]`; of a large slide part by part, of which some may be kept.
    ///
    /// # Errors
    /// Those of reading; `Cancelled`.
    pub fn vectors(&self, parts: Option<&Parts>, context: &Context<'_>) -> Result<Vec<f32>> {
        match self.encoder.reading {
            Reading::Tile => alone(self, parts, context),
            Reading::Middle => within(self, parts, context),
        }
    }
}

/// Each tile seen alone.
fn alone(seeing: &Seeing<'_>, parts: Option<&Parts>, context: &Context<'_>) -> Result<Vec<f32>> {
    let Seeing { encoder, view, look, reading, level } = *seeing;
    let size = Size::new(reading.side_px, reading.side_px);
    let parts = parts.filter(|_| reading.corners_px.len() > BATCH);
    let mut all = Vec::new();
    for (number, corners) in reading.corners_px.chunks(BATCH).enumerate() {
        context.check_cancelled()?;
        let make = || {
            let read = |corner: &[i64; 2]| Ok(view.region(*corner, size, context.budget)?.rgb);
            let tiles: Vec<Vec<u8>> = corners.par_iter().map(read).collect::<Result<_>>()?;
            encoder.tiles(&tiles.concat(), reading.side_px, look, level)
        };
        all.extend(keep(parts, level, number, corners.len() * encoder.dimensions(level), make)?);
    }
    Ok(all)
}

/// A part that is kept, or that is made now.
fn keep(
    parts: Option<&Parts>,
    level: usize,
    number: usize,
    length: usize,
    make: impl FnOnce() -> Result<Vec<f32>>,
) -> Result<Vec<f32>> {
    match parts {
        None => make(),
        Some(parts) => parts.keep(level, number, length, make),
    }
}

/// The middle of each tile, seen with what is around it: the slide is encoded window by window.
fn within(seeing: &Seeing<'_>, parts: Option<&Parts>, context: &Context<'_>) -> Result<Vec<f32>> {
    let Seeing { encoder, view, look, reading, level } = *seeing;
    let (dimensions, stride) = (encoder.dimensions(level), encoder.stride_px(level));
    let windows = encoder.windows(view, level);
    let middle = (reading.side_px / 2) as i64;
    let mut of_window: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (tile, corner) in reading.corners_px.iter().enumerate() {
        let place = corner.map(|px| px + middle);
        of_window.entry(encoder.window_of(view, level, place)).or_default().push(tile);
    }
    let mut all = vec![0.0; reading.corners_px.len() * dimensions];
    let border = reading.named_px.div_ceil(2 * stride) + 1;
    let parts = parts.filter(|_| of_window.len() > 1);
    for (window, tiles) in of_window {
        context.check_cancelled()?;
        let make = || {
            let (corner_px, size) = windows[window];
            let place = CellPlace { level, corner_px, size, border, shift_px: [0; 2] };
            let cells = encoder.cells(view, look, place, context)?;
            let origin = corner_px.map(|px| px - (border * stride) as i64);
            let mut own = vec![0.0; tiles.len() * dimensions];
            for (tile, mean) in tiles.iter().zip(own.chunks_exact_mut(dimensions)) {
                let centre = reading.corners_px[*tile].map(|px| px + middle);
                mean_around(&cells, [centre[0] - origin[0], centre[1] - origin[1]], reading.named_px, mean);
            }
            Ok(own)
        };
        let own = keep(parts, level, window, tiles.len() * dimensions, make)?;
        for (tile, mean) in tiles.iter().zip(own.chunks_exact(dimensions)) {
            all[tile * dimensions..][..dimensions].copy_from_slice(mean);
        }
    }
    Ok(all)
}

/// The mean of the cells whose middles lie in a square around a place, at least of the one that holds the place.
fn mean_around(cells: &CellMap, place_px: [i64; 2], side_px: usize, mean: &mut [f32]) {
    let stride = cells.stride_px as i64;
    let range = |at: i64, length: usize| {
        let nearest = at.div_euclid(stride);
        let half = side_px as i64 / 2;
        // Cells whose middles, at stride · cell + stride / 2, are within half a side.
        let first = (at - half - stride / 2 + stride - 1).div_euclid(stride).min(nearest);
        let last = (at + half - stride / 2 - 1).div_euclid(stride).max(nearest);
        first.max(0) as usize..((last + 1).max(1) as usize).min(length)
    };
    let mut count = 0.0f32;
    for row in range(place_px[1], cells.size.height_px) {
        for column in range(place_px[0], cells.size.width_px) {
            let from = &cells.values[cells.size.index(column, row) * cells.dimensions..][..cells.dimensions];
            mean.iter_mut().zip(from).for_each(|(sum, value)| *sum += value);
            count += 1.0;
        }
    }
    mean.iter_mut().for_each(|sum| *sum /= count.max(1.0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_of_the_cells_in_the_middle() {
        let size = Size::new(8, 8);
        let values = (0..64).map(|at| at as f32).collect();
        let cells = CellMap { size, stride_px: 8, dimensions: 1, values };
        let mean = |place, side| {
            let mut mean = [0.0];
            mean_around(&cells, place, side, &mut mean);
            mean[0]
        };
        // Around (32, 32): middles at 20, 28, 36, 44 are within 16; columns and rows 2 to 5.
        assert_eq!(
            mean([32, 32], 32),
            (2..6).flat_map(|y| (2..6).map(move |x| (8 * y + x) as f32)).sum::<f32>() / 16.0
        );
        assert_eq!(mean([33, 33], 1), 4.0 * 8.0 + 4.0);
        assert_eq!(mean([0, 0], 16), 0.0);
    }
}
