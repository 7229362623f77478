//! Where the tissue of a slide is, what is pen, and what is folded.
//!
//! What stains absorb is judged, in optical density over the slide's own glass. Haematoxylin and eosin absorb green most;
//! glass, dust and black ink absorb all colours alike, green ink absorbs red and blue, blue ink red, red ink green and
//! blue. The share of green over the least absorbed colour is therefore high in tissue only, and inks that share it are
//! told apart by their hue. Fat is a net of thin walls: gaps of the size of its cells are closed.

use microtome_kernels::gaussian::gaussian_blur_of;
use microtome_kernels::morphology::{close_disk, dilate_disk, fill_small_holes, remove_small};
use microtome_kernels::threshold::otsu;
use microtome_vault::{Budget, Result};
use rayon::prelude::*;
use std::sync::Arc;

use crate::geometry::RectangleInLevel;
use crate::overview::Overview;
use crate::{MicronsPerPixel, Size, Slide};

/// Width of a pixel of the mask, in µm, about.
const PIXEL_UM: f64 = 8.0;
/// The same in pixels of level 0, where no resolution is known: that of an objective of 40×.
const PIXEL_IN_LEVEL0: f64 = 32.0;
/// How much more than the least absorbed colour green must be absorbed, in optical density; Otsu decides in between.
const STAINED: [f32; 2] = [0.015, 0.03];
/// Standard deviation of the Gaussian before that, in pixels of the mask.
const SMOOTHING_PX: f32 = 1.0;
/// Radius of the closing, in µm.
const CLOSING_UM: f64 = 24.0;
/// Holes up to this size are tissue: cells of fat, vessels, in mm².
const LARGEST_HOLE_MM2: f64 = 0.03;
/// Smaller pieces are no tissue, in mm².
const SMALLEST_PIECE_MM2: f64 = 0.01;
/// Red over green from which on a colour is blue ink and no haematoxylin; and optical density of red.
const BLUE_INK: [f32; 2] = [1.3, 0.2];
/// Blue over green from which on a colour is red ink and no blood; optical density of green, and of red at most.
const RED_INK: [f32; 3] = [0.8, 0.5, 0.12];
/// What green ink absorbs less of green than of the least absorbed other colour, in optical density.
const GREEN_INK: f32 = 0.06;
/// Optical density in every colour above which a place is black ink or folded.
const BLACK: f32 = 0.9;
/// Optical density of green above which stained tissue lies in two layers or more.
const FOLDED: f32 = 1.1;

/// What is wrong with a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Artefact {
    /// Ink of a pen.
    Pen,
    /// Tissue in several layers, or too dark to see through.
    Fold,
}

/// Which part of a slide is tissue.
#[derive(Clone, Debug)]
pub struct TissueMask {
    /// Extent.
    pub size: Size,
    /// Tissue or not, row-major.
    pub mask: Vec<bool>,
    /// Pixels of level 0 that a pixel is wide.
    pub downsample: f64,
    artefacts: Arc<[Option<Artefact>]>,
}

impl TissueMask {
    /// Looks for tissue; gives the overview that it was looked for in, too. `mpp` is the resolution of level 0.
    ///
    /// # Errors
    /// Those of [`Overview::of`].
    pub fn of(slide: &Slide, mpp: Option<MicronsPerPixel>, budget: Budget) -> Result<(Self, Overview)> {
        let downsample = mpp.map_or(PIXEL_IN_LEVEL0, |mpp| (PIXEL_UM / mpp.microns()).max(1.0));
        let overview = Overview::of(slide, downsample, budget)?;
        let pixel_um =
            mpp.map_or(PIXEL_UM, MicronsPerPixel::microns) * mpp.map_or(1.0, |_| overview.downsample);
        Ok((Self::of_overview(&overview, pixel_um), overview))
    }

    /// Everything, for pictures that were cut out of tissue.
    pub fn everything(size_in_level0: Size) -> Self {
        let downsample = PIXEL_IN_LEVEL0;
        let cells = |length: usize| (length as f64 / downsample).ceil() as usize;
        let size = Size::new(cells(size_in_level0.width_px), cells(size_in_level0.height_px));
        Self {
            size,
            mask: vec![true; size.area_px()],
            downsample,
            artefacts: vec![None; size.area_px()].into(),
        }
    }

    /// Looks for tissue in an overview whose pixels are `pixel_um` wide.
    pub fn of_overview(overview: &Overview, pixel_um: f64) -> Self {
        let size = overview.size;
        let glass = glass(&overview.rgb);
        let density = |pixel: &[u8; 3]| {
            [0, 1, 2].map(|c| (f32::from(glass[c]).max(1.0) / f32::from(pixel[c]).max(1.0)).log10().max(0.0))
        };
        let densities: Vec<[f32; 3]> = overview.rgb.as_chunks().0.par_iter().map(density).collect();
        let artefacts: Arc<[Option<Artefact>]> =
            densities.par_iter().map(|density| artefact(*density)).collect();
        let stained: Vec<f32> = densities
            .par_iter()
            .zip(&*artefacts)
            .map(|(&[red, green, blue], artefact)| match artefact {
                Some(Artefact::Pen) => 0.0,
                _ => green - red.min(blue),
            })
            .collect();
        let stained = gaussian_blur_of(stained, size, SMOOTHING_PX);
        let [low, high] = STAINED;
        let threshold = otsu(&stained).map_or(high, |threshold| threshold.clamp(low, high));
        let mask: Vec<bool> = stained.iter().map(|stained| *stained > threshold).collect();
        let area_px = |mm2: f64| (mm2 * 1e6 / (pixel_um * pixel_um)).round() as usize;
        let mask = close_disk(&mask, size, (CLOSING_UM / pixel_um).round() as usize);
        let mask = fill_small_holes(&mask, size, area_px(LARGEST_HOLE_MM2));
        let mask = remove_small(&mask, size, area_px(SMALLEST_PIECE_MM2));
        Self { size, mask, downsample: overview.downsample, artefacts }
    }

    /// With another mask of the same extent, row-major; what is known of pen and folds is kept.
    ///
    /// # Panics
    /// If the extent is another.
    pub fn with_mask(self, mask: Vec<bool>) -> Self {
        assert_eq!(mask.len(), self.size.area_px(), "a mask of the same extent");
        Self { mask, ..self }
    }

    /// Tissue, in pixels of the mask.
    pub fn area_px(&self) -> usize {
        self.mask.iter().filter(|tissue| **tissue).count()
    }

    /// The mask with a border of `border_px` of its pixels added around tissue.
    pub fn widened(&self, border_px: usize) -> Self {
        Self { mask: dilate_disk(&self.mask, self.size, border_px), ..self.clone() }
    }

    /// Whether tissue is at a place, in pixels of level 0.
    pub fn holds(&self, x_in_level0: f64, y_in_level0: f64) -> bool {
        let at = |position: f64, length: usize| {
            let cell = (position / self.downsample).floor();
            (cell >= 0.0 && cell < length as f64).then_some(cell as usize)
        };
        let place = at(x_in_level0, self.size.width_px).zip(at(y_in_level0, self.size.height_px));
        place.is_some_and(|(x, y)| self.mask[self.size.index(x, y)])
    }

    /// Share of a rectangle that is tissue, and shares of its tissue that are pen and fold; the rectangle is of a level whose
    /// pixels are `downsample` pixels of level 0 wide.
    pub fn shares(&self, rectangle: RectangleInLevel, downsample: f64) -> Shares {
        let scale = downsample / self.downsample;
        let cells = |start: i64, length: usize, most: usize| {
            let first = (start as f64 * scale).floor().clamp(0.0, most as f64) as usize;
            let last = ((start + length as i64) as f64 * scale).ceil().clamp(0.0, most as f64) as usize;
            first..last
        };
        let columns = cells(rectangle.corner.x_px, rectangle.size.width_px, self.size.width_px);
        let rows = cells(rectangle.corner.y_px, rectangle.size.height_px, self.size.height_px);
        let places = || rows.clone().flat_map(|y| columns.clone().map(move |x| self.size.index(x, y)));
        let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
        let tissue = places().filter(|&at| self.mask[at]).count();
        let of = |wanted| places().filter(|&at| self.artefacts[at] == Some(wanted)).count();
        let all = columns.len() * rows.len();
        Shares {
            tissue: share(tissue, all),
            pen: share(of(Artefact::Pen), all),
            fold: share(of(Artefact::Fold), all),
        }
    }
}

/// What a rectangle consists of, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Tissue.
    pub tissue: f64,
    /// Ink.
    pub pen: f64,
    /// Tissue in several layers.
    pub fold: f64,
}

/// The colour of the glass: in each channel the value that a hundredth of the pixels exceed, which dust and reflections do
/// not move. A slide that is all tissue has no glass, and its palest places stand for it.
fn glass(rgb: &[u8]) -> [u8; 3] {
    let mut counts = [[0usize; 256]; 3];
    for pixel in rgb.as_chunks::<3>().0 {
        pixel.iter().zip(&mut counts).for_each(|(value, counts)| counts[usize::from(*value)] += 1);
    }
    let most = rgb.len() / 3 / 100;
    counts.map(|counts| {
        let mut above = 0;
        let brightest = (0..=255u8).rev().find(|value| {
            above += counts[usize::from(*value)];
            above > most
        });
        brightest.unwrap_or(255)
    })
}

fn artefact([red, green, blue]: [f32; 3]) -> Option<Artefact> {
    let is_blue_ink = red > BLUE_INK[0] * green && red > BLUE_INK[1];
    let is_red_ink = blue > RED_INK[0] * green && green > RED_INK[1] && red < RED_INK[2];
    let is_green_ink = red.min(blue) - green > GREEN_INK;
    let is_black = red.min(green).min(blue) > BLACK;
    match (is_blue_ink || is_red_ink || is_green_ink || is_black, green > FOLDED) {
        (true, _) => Some(Artefact::Pen),
        (_, true) => Some(Artefact::Fold),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::PointInLevel;

    /// A slide of 4 × 3 mm: glass, with rectangles (left, top, width, height in 8 µm) of colours on it.
    fn overview(rectangles: &[([usize; 4], [u8; 3])]) -> Overview {
        let size = Size::new(500, 375);
        let mut rgb = [243u8, 243, 241].repeat(size.area_px());
        for ([left, top, width, height], colour) in rectangles {
            for y in *top..top + height {
                for x in *left..left + width {
                    rgb[3 * size.index(x, y)..][..3].copy_from_slice(colour);
                }
            }
        }
        Overview { size, rgb, downsample: 32.0, unreadable: None }
    }

    fn share(mask: &TissueMask, [left, top, width, height]: [usize; 4]) -> Shares {
        let corner = PointInLevel::new(32 * left as i64, 32 * top as i64);
        mask.shares(RectangleInLevel { corner, size: Size::new(32 * width, 32 * height) }, 1.0)
    }

    #[test]
    fn pale_and_dark_tissue_are_found_and_inks_and_dust_are_not() {
        let place = |i: usize| [10 + 60 * i, 40, 40, 200];
        let colours = [
            ("pale eosin", [235, 218, 230], true),
            ("eosin", [225, 150, 190], true),
            ("haematoxylin", [110, 80, 160], true),
            ("dark haematoxylin", [70, 45, 110], true),
            ("blue ink", [40, 70, 170], false),
            ("green ink", [40, 140, 70], false),
            ("black ink", [20, 20, 22], false),
            ("shade", [200, 200, 199], false),
        ];
        let rectangles: Vec<_> = colours.iter().enumerate().map(|(i, (_, c, _))| (place(i), *c)).collect();
        let mask = TissueMask::of_overview(&overview(&rectangles), 8.0);
        for (i, (name, _, is_tissue)) in colours.iter().enumerate() {
            let [left, top, width, height] = place(i);
            let inner = share(&mask, [left + 4, top + 4, width - 8, height - 8]);
            assert_eq!(inner.tissue, if *is_tissue { 1.0 } else { 0.0 }, "{name}");
            assert_eq!(inner.pen > 0.9, name.ends_with("ink"), "{name}");
        }
        assert_eq!(share(&mask, [0, 300, 500, 75]), Shares::default());
    }

    #[test]
    fn fat_is_filled_and_specks_are_dropped() {
        // A net of walls 16 µm thick around cells of 96 µm, and a speck of 64 µm.
        let mut rectangles: Vec<([usize; 4], [u8; 3])> = Vec::new();
        for i in 0..13 {
            rectangles.push(([20, 20 + 14 * i, 170, 2], [225, 170, 200]));
            rectangles.push(([20 + 14 * i, 20, 2, 170], [225, 170, 200]));
        }
        rectangles.push(([400, 300, 8, 8], [225, 150, 190]));
        let mask = TissueMask::of_overview(&overview(&rectangles), 8.0);
        assert_eq!(share(&mask, [24, 24, 160, 160]).tissue, 1.0);
        assert_eq!(share(&mask, [380, 280, 50, 50]).tissue, 0.0);
        assert!(mask.holds(32.0 * 50.0, 32.0 * 50.0) && !mask.holds(32.0 * 300.0, 32.0 * 50.0));
        assert!(!mask.holds(-1.0, 5.0) && !mask.holds(1e9, 5.0));
        assert!(mask.widened(3).area_px() > mask.area_px());
    }

    #[test]
    fn nothing_and_everything_are_answered() {
        let empty = TissueMask::of_overview(&overview(&[]), 8.0);
        assert_eq!(empty.area_px(), 0);
        let all = TissueMask::everything(Size::new(1000, 33));
        assert_eq!((all.size, all.area_px()), (Size::new(32, 2), 64));
        let nothing = Overview { size: Size::new(0, 0), rgb: Vec::new(), downsample: 1.0, unreadable: None };
        assert_eq!(TissueMask::of_overview(&nothing, 8.0).area_px(), 0);
    }
}
