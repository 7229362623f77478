//! A slide in small: as large as its tissue is looked for in.

use microtome_kernels::resample::downsample_area;
use microtome_vault::{Budget, Result};

use crate::geometry::{PointInLevel, RectangleInLevel};
use crate::slide::unreadable_of_both;
use crate::{Size, Slide};

/// Rows of a level that are read at a time, about.
const STRIP_PX: usize = 1024;

/// The whole slide, each pixel the mean of a square of whole pixels of a level.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Extent.
    pub size: Size,
    /// Red, green, blue: `[height_px][width_px][3]`.
    pub rgb: Vec<u8>,
    /// Pixels of level 0 that a pixel is wide.
    pub downsample: f64,
    /// How many tiles could not be read, and why the first could not.
    pub unreadable: Option<(usize, String)>,
}

impl Overview {
    /// The slide with pixels about `downsample` pixels of level 0 wide. It is made of the smallest level that is large
    /// enough, strip by strip, so that a slide of one level is read once and never kept.
    ///
    /// # Errors
    /// Those of reading regions; unreadable tiles are white and counted, unless none can be read.
    pub fn of(slide: &Slide, downsample: f64, budget: Budget) -> Result<Self> {
        let is_large_enough = |index: &usize| slide.levels[*index].downsample <= downsample * 1.001;
        let index = (0..slide.levels.len()).rev().find(is_large_enough).unwrap_or(0);
        let level = &slide.levels[index];
        let factor = ((downsample / level.downsample).round() as usize).max(1);
        let size = Size::new(level.size.width_px.div_ceil(factor), level.size.height_px.div_ceil(factor));
        let area_px = (size.width_px as u64).saturating_mul(size.height_px as u64);
        let bytes = budget.grant("an overview of this slide", area_px, 3)?;
        let mut overview = Self {
            size,
            rgb: Vec::with_capacity(bytes),
            downsample: level.downsample * factor as f64,
            unreadable: None,
        };
        let rows = STRIP_PX.div_ceil(factor);
        let mut failed = None;
        for top in (0..size.height_px).step_by(rows) {
            let strip = Size::new(size.width_px, rows.min(size.height_px - top));
            let rectangle = RectangleInLevel {
                corner: PointInLevel::new(0, (top * factor) as i64),
                size: Size::new(strip.width_px * factor, strip.height_px * factor),
            };
            match slide.region_in_level(index, rectangle, budget) {
                Ok(region) => {
                    overview.note(region.unreadable);
                    overview.rgb.extend(match factor {
                        1 => region.rgb,
                        _ => downsample_area(&region.rgb, region.size, strip),
                    });
                }
                // A strip none of whose tiles can be read is white, if another can.
                Err(error) if error.fault() == microtome_vault::Fault::Input => {
                    overview.note(Some((1, error.to_string())));
                    overview.rgb.resize(overview.rgb.len() + 3 * strip.area_px(), 255);
                    failed = failed.or(Some(error));
                    continue;
                }
                Err(error) => return Err(error),
            }
        }
        match failed {
            Some(error) if overview.rgb.iter().all(|value| *value == 255) => Err(error),
            _ => Ok(overview),
        }
    }

    fn note(&mut self, unreadable: Option<(usize, String)>) {
        self.unreadable = unreadable_of_both(self.unreadable.take(), unreadable);
    }
}
