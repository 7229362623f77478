//! How the places of a picture or slide are read: which way its stains absorb, how strong they get, and where nuclei part
//! from the rest.
//!
//! A picture is read alike everywhere. A slide is not: sections are thicker here than there, stains fade, and tissues
//! differ. Each of its places has a reading, and in between they are interpolated linearly, so that nothing jumps anywhere.

use super::stain::Slope;
use microtome_kernels::Size;
use microtome_kernels::stain::optical_density;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// How a place is read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// From optical densities (rows: red, green, blue) to concentrations (columns: haematoxylin, eosin, residual).
    pub inverse: [[f32; 3]; 3],
    /// Strong haematoxylin and eosin, in optical density.
    pub high_ends: [f32; 2],
    /// What parts nuclei from the rest, at both scales of contrast.
    pub slopes: [Slope; 2],
}

impl Reading {
    /// Concentrations of haematoxylin, eosin and residual in a block of pixels, each times a scale; beyond the block's end they
    /// mean nothing. Arithmetic is on whole blocks, which processors do at once.
    #[inline]
    pub fn concentrations<const STAINS: usize>(
        &self,
        pixels: &[[u8; 3]],
        scales: [f32; STAINS],
    ) -> [[f32; BLOCK_PX]; STAINS] {
        let mut densities = [[0.0; BLOCK_PX]; 3];
        for (at, pixel) in pixels.iter().enumerate().take(BLOCK_PX) {
            (0..3).for_each(|colour| densities[colour][at] = optical_density(pixel[colour]));
        }
        let [red, green, blue] = &densities;
        std::array::from_fn(|stain| {
            let [of_red, of_green, of_blue] = self.inverse.map(|of_stains| of_stains[stain] * scales[stain]);
            std::array::from_fn(|at| red[at] * of_red + green[at] * of_green + blue[at] * of_blue)
        })
    }

    /// The reading between this one (`part` 0) and the other (1).
    fn towards(&self, other: &Self, part: f32) -> Self {
        let mix = |a: f32, b: f32| a + part * (b - a);
        let slope = |i: usize| self.slopes[i].towards(other.slopes[i], part);
        Self {
            inverse: std::array::from_fn(|i| {
                std::array::from_fn(|j| mix(self.inverse[i][j], other.inverse[i][j]))
            }),
            high_ends: std::array::from_fn(|i| mix(self.high_ends[i], other.high_ends[i])),
            slopes: [slope(0), slope(1)],
        }
    }
}

/// Pixels of a row that are read alike; blocks begin at multiples of it in the slide, wherever windows begin.
pub const BLOCK_PX: usize = 16;

/// Readings of the places of a grid, at the middles of squares.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    grid: Size,
    /// Side of the squares, in pixels.
    spacing_px: usize,
    readings: Arc<[Reading]>,
    /// Which reading each square has, row by row.
    places: Arc<[u32]>,
    /// Where the upper left corner of what is looked at lies, in pixels right and down.
    corner_px: [usize; 2],
}

impl Field {
    /// One reading for all places.
    pub fn everywhere(reading: Reading) -> Self {
        Self::of_squares(Size::new(1, 1), 1, vec![reading], vec![0])
    }

    /// Readings, and which of them each square of a grid has, row by row.
    ///
    /// # Panics
    /// If there is not one for each.
    pub fn of_squares(grid: Size, spacing_px: usize, readings: Vec<Reading>, places: Vec<u32>) -> Self {
        assert_eq!(places.len(), grid.area_px(), "a reading for each square");
        assert!(places.iter().all(|place| (*place as usize) < readings.len()), "readings that there are");
        Self { grid, spacing_px, readings: readings.into(), places: places.into(), corner_px: [0, 0] }
    }

    /// The field as it is seen from a window whose upper left corner is `x_px` to the right and `y_px` down.
    pub fn seen_from(&self, x_px: usize, y_px: usize) -> Self {
        Self { corner_px: [self.corner_px[0] + x_px, self.corner_px[1] + y_px], ..self.clone() }
    }

    /// For each pixel of a picture, what `map` makes of it: of a block of up to [`BLOCK_PX`] pixels in a row, and of the
    /// reading at their place.
    pub fn map<T: Copy + Default + Send>(
        &self,
        rgb: &[u8],
        size: Size,
        map: impl Fn(&Reading, &[[u8; 3]], &mut [T]) + Sync,
    ) -> Vec<T> {
        let mut mapped = vec![T::default(); size.area_px()];
        let rows = mapped
            .par_chunks_mut(size.width_px.max(1))
            .zip(rgb.as_chunks::<3>().0.par_chunks(size.width_px.max(1)));
        rows.enumerate().with_min_len(16).for_each(|(y, (mapped, pixels))| {
            self.for_blocks(y, size.width_px, |block, reading| {
                let blocks = mapped[block.clone()].chunks_mut(BLOCK_PX).zip(pixels[block].chunks(BLOCK_PX));
                blocks.for_each(|(mapped, pixels)| map(reading, pixels, mapped));
            });
        });
        mapped
    }

    /// Calls `work` with the columns of each block of row `y` of a picture `width_px` wide, and with its reading.
    pub fn for_blocks(&self, y: usize, width_px: usize, mut work: impl FnMut(Range<usize>, &Reading)) {
        if let [only] = &self.readings[..] {
            return work(0..width_px, only);
        }
        let [left_px, top_px] = self.corner_px;
        let (above, below, part) = self.between((top_px + y) as f32 + 0.5, self.grid.height_px);
        // The middle of the first block may lie left of the window.
        let (first, ..) = self.between((left_px / BLOCK_PX * BLOCK_PX) as f32, self.grid.width_px);
        let (_, last, _) = self.between((left_px + width_px + BLOCK_PX) as f32, self.grid.width_px);
        let of_row = |row: usize| &self.places[row * self.grid.width_px..][first..=last];
        let reading = |place: &u32| &self.readings[*place as usize];
        let line: Vec<Reading> = of_row(above)
            .iter()
            .zip(of_row(below))
            .map(|(above, below)| reading(above).towards(reading(below), part))
            .collect();
        let mut start = 0;
        while start < width_px {
            let block = (left_px + start) / BLOCK_PX;
            let end = ((block + 1) * BLOCK_PX - left_px).min(width_px);
            let middle = (block * BLOCK_PX + BLOCK_PX / 2) as f32;
            let (before, after, part) = self.between(middle, self.grid.width_px);
            work(start..end, &line[before - first].towards(&line[after - first], part));
            start = end;
        }
    }

    /// The squares before and after a place, and how near it is to the second.
    fn between(&self, place_px: f32, count: usize) -> (usize, usize, f32) {
        let place = (place_px / self.spacing_px as f32 - 0.5).clamp(0.0, (count - 1) as f32);
        let first = (place as usize).min(count - 1);
        (first, (first + 1).min(count - 1), place - first as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(value: f32) -> Reading {
        let slope = Slope { threshold: value, width: 1.0 };
        Reading { inverse: [[value; 3]; 3], high_ends: [value; 2], slopes: [slope; 2] }
    }

    /// The high end at each column of a row.
    fn row(field: &Field, y: usize, width_px: usize) -> Vec<f32> {
        let mut row = Vec::new();
        field.for_blocks(y, width_px, |block, reading| {
            assert_eq!(block.start, row.len());
            row.resize(block.end, reading.high_ends[0]);
        });
        row
    }

    #[test]
    fn between_places_readings_change_evenly_and_windows_see_what_the_whole_sees() {
        let readings = (0..6).map(|i| reading(5.0 - i as f32)).collect();
        let field = Field::of_squares(Size::new(3, 2), 160, readings, vec![5, 4, 3, 2, 1, 0]);
        let first = row(&field, 0, 480);
        assert_eq!((first[0], first[479], first.len()), (0.0, 2.0, 480));
        assert!((first[14 * 16] - (14.0 * 16.0 + 8.0) / 160.0 + 0.5).abs() < 1e-6);
        let down = (159.5 / 160.0 - 0.5) * 3.0;
        assert!((row(&field, 159, 16)[0] - down).abs() < 1e-5);
        for (x, y) in [(160, 48), (163, 1), (15, 17), (400, 90)] {
            assert_eq!(row(&field.seen_from(x, y), 7, 64), row(&field, y + 7, 480)[x..x + 64]);
        }
        let many = Field::of_squares(
            Size::new(20, 1),
            24,
            (0..20).map(|i| reading(i as f32)).collect(),
            (0..20).collect(),
        );
        for x in 0..400 {
            assert_eq!(row(&many.seen_from(x, 0), 0, 64), row(&many, 0, 480)[x..x + 64], "from {x}");
        }
        let one = Field::everywhere(reading(3.0));
        assert_eq!(row(&one.seen_from(500, 7), 1000, 33), [3.0; 33]);
    }
}
