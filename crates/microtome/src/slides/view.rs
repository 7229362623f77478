//! A slide as it is seen at one resolution, whatever the resolutions that are stored.

use microtome_kernels::Size;
use microtome_kernels::resample::downsample_area;
use microtome_slide::slide::Region;
use microtome_slide::{MicronsPerPixel, PointInLevel, RectangleInLevel, Slide};
use microtome_vault::{Budget, Error, Result};

/// How much finer than asked for a level may be taken for the resolution itself.
const SAME_RESOLUTION: f64 = 1.01;

/// A slide at one resolution, made of the coarsest level that is fine enough.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    slide: &'a Slide,
    level: usize,
    /// Pixels of the level that a pixel of the view is wide.
    scale: f64,
    /// Extent, in pixels of the view.
    pub size: Size,
    /// Pixels of level 0 that a pixel of the view is wide.
    pub downsample: f64,
    /// Resolution, if it is known.
    pub mpp: Option<MicronsPerPixel>,
}

impl<'a> View<'a> {
    /// The slide at the resolution `wanted`, or as level 0 is; `known` is the resolution of level 0.
    ///
    /// # Errors
    /// `Usage` when a resolution is wanted and that of level 0 is not known, or coarser.
    pub fn of(
        slide: &'a Slide,
        known: Option<MicronsPerPixel>,
        wanted: Option<MicronsPerPixel>,
    ) -> Result<Self> {
        let (level, scale) = level_for(slide, known, wanted)?;
        let stored = &slide.levels[level];
        let side = |px: usize| ((px as f64 / scale).round() as usize).max(1);
        let downsample = stored.downsample * scale;
        Ok(Self {
            slide,
            level,
            scale,
            size: Size::new(side(stored.size.width_px), side(stored.size.height_px)),
            downsample,
            mpp: known.map(|known| known.of_level(downsample)),
        })
    }

    /// A pixel of the view is as wide as one of the level.
    pub fn is_as_stored(&self) -> bool {
        (self.scale - 1.0).abs() < SAME_RESOLUTION - 1.0
    }

    /// The part of the level that a rectangle of the view shows.
    pub fn rectangle_in_level(&self, [left_px, top_px]: [i64; 2], size: Size) -> RectangleInLevel {
        let at = |px: i64| (px as f64 * self.scale).round() as i64;
        let side = |px: usize| ((px as f64 * self.scale).round() as usize).max(1);
        RectangleInLevel {
            corner: PointInLevel::new(at(left_px), at(top_px)),
            size: Size::new(side(size.width_px), side(size.height_px)),
        }
    }

    /// The level's downsample, for what is asked of rectangles of it.
    pub fn level_downsample(&self) -> f64 {
        self.slide.levels[self.level].downsample
    }

    /// A rectangle, white beyond the slide's edges.
    ///
    /// # Errors
    /// Those of reading regions.
    pub fn region(&self, corner: [i64; 2], size: Size, budget: Budget) -> Result<Region> {
        let region = self.slide.region_in_level(self.level, self.rectangle_in_level(corner, size), budget)?;
        match region.size == size {
            true => Ok(region),
            false => Ok(Region { rgb: downsample_area(&region.rgb, region.size, size), size, ..region }),
        }
    }

    /// A rectangle that goes on as in a mirror beyond the slide's edges, for what looks at neighbourhoods.
    ///
    /// # Errors
    /// Those of reading regions.
    pub fn mirrored(&self, [left, top]: [i64; 2], size: Size, budget: Budget) -> Result<Region> {
        let (columns, rows) = (
            mirrored(left, size.width_px, self.size.width_px),
            mirrored(top, size.height_px, self.size.height_px),
        );
        let ends = |all: &[usize]| (all.iter().min().copied(), all.iter().max().copied());
        let ((Some(first_x), Some(last_x)), (Some(first_y), Some(last_y))) = (ends(&columns), ends(&rows))
        else {
            return Ok(Region { size, rgb: Vec::new(), unreadable: None });
        };
        let inner = Size::new(last_x - first_x + 1, last_y - first_y + 1);
        let region = self.region([first_x as i64, first_y as i64], inner, budget)?;
        if inner == size && left == first_x as i64 && top == first_y as i64 {
            return Ok(region);
        }
        let mut rgb = Vec::with_capacity(3 * size.area_px());
        for y in &rows {
            let row = &region.rgb[3 * inner.index(0, y - first_y)..][..3 * inner.width_px];
            columns.iter().for_each(|x| rgb.extend_from_slice(&row[3 * (x - first_x)..][..3]));
        }
        Ok(Region { size, rgb, unreadable: region.unreadable })
    }
}

/// Places `from..from + count` of a line of `length`, reflected at its ends, edge elements twice.
fn mirrored(from: i64, count: usize, length: usize) -> Vec<usize> {
    let period = 2 * length as i64;
    let fold = |at: i64| {
        let at = at.rem_euclid(period);
        (if at < length as i64 { at } else { period - 1 - at }) as usize
    };
    (from..from + count as i64).map(fold).collect()
}

/// The coarsest level that is fine enough, and how many of its pixels a pixel of the view is wide.
fn level_for(
    slide: &Slide,
    known: Option<MicronsPerPixel>,
    wanted: Option<MicronsPerPixel>,
) -> Result<(usize, f64)> {
    let Some(wanted) = wanted else { return Ok((0, 1.0)) };
    let Some(known) = known else {
        return Err(Error::usage("the slide does not state its resolution, so that none can be asked for")
            .advise("state that of level 0 with --mpp-of-level0")
            .at(&slide.path));
    };
    let scale = |index: usize| wanted.microns() / known.of_level(slide.levels[index].downsample).microns();
    let is_fine_enough = |index: &usize| scale(*index) * SAME_RESOLUTION >= 1.0;
    let level = (0..slide.levels.len()).rev().find(is_fine_enough).unwrap_or(0);
    if scale(level) < 1.0 / SAME_RESOLUTION {
        return Err(Error::usage(format!("the slide has {known}, not as fine as asked for")).at(&slide.path));
    }
    Ok((level, scale(level)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_reflected_at_their_ends_however_short() {
        assert_eq!(mirrored(-2, 7, 3), [1, 0, 0, 1, 2, 2, 1]);
        assert_eq!(mirrored(-3, 6, 1), [0; 6]);
        assert_eq!(mirrored(1, 2, 4), [1, 2]);
    }
}
