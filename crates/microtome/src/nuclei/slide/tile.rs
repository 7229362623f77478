//! The nuclei of one tile of a slide.

use crate::nuclei::confidence::Part;
use crate::nuclei::instances::{Scale, instances};
use crate::nuclei::measure::{Nucleus, measure};
use crate::nuclei::segmenter::{Calibration, Segmenter};
use microtome_kernels::region::PixelBox;
use microtome_kernels::{Labels, Size};
use microtome_slide::{MicronsPerPixel, Picture, PointInLevel, RectangleInLevel, Slide, TissueMask};
use microtome_vault::{Budget, Result};

/// The widest thing that is kept whole across borders of tiles, in µm.
pub const LARGEST_UM: f64 = 28.0;
/// How far the neighbours of a nucleus, which decide about its outline, reach beyond it, in µm.
const NEIGHBOUR_UM: f64 = 16.0;

/// A nucleus and its pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlined {
    /// What was measured, in pixels of the level.
    pub nucleus: Nucleus,
    /// Which pixels of its bounds belong to it, row-major.
    pub mask: Vec<bool>,
}

/// What was found in a tile.
#[derive(Clone, Debug, PartialEq)]
pub struct TileFound {
    /// The nuclei that are its own, in the order of their first pixels.
    pub nuclei: Vec<Outlined>,
    /// Confidence in its core, 0 to 255.
    pub confidence: Vec<u8>,
    /// Tiles of the file that could not be read, and why the first could not.
    pub unreadable: Option<(usize, String)>,
    /// Pieces of things too wide to be nuclei.
    pub cut: usize,
}

/// What all tiles of a slide are done with.
pub struct TileWork<'a> {
    /// The slide.
    pub slide: &'a Slide,
    /// The level.
    pub level: usize,
    /// Resolution of the level.
    pub mpp: Option<MicronsPerPixel>,
    /// The method.
    pub segmenter: &'a Segmenter,
    /// What it read off the slide.
    pub calibration: &'a Calibration,
    /// Nuclei outside of this are none.
    pub tissue: &'a TissueMask,
    /// The most memory that a window may take.
    pub budget: Budget,
}

impl TileWork<'_> {
    /// Finds the nuclei of the tile with the given core.
    ///
    /// # Errors
    /// `Limit` and `Io`; a tile none of whose pixels can be read has no nuclei and says why.
    pub fn find(&self, core: RectangleInLevel) -> Result<TileFound> {
        let level = self.slide.levels[self.level].size;
        let scale = Scale::of(self.mpp);
        let largest_px = scale.length_px(LARGEST_UM).ceil() as usize;
        let border_px = largest_px + scale.length_px(NEIGHBOUR_UM).ceil() as usize;
        let decided = core.with_border(border_px).within(level);
        let window = decided.with_border(self.segmenter.reach_px(self.mpp)).within(level);
        let region = match self.slide.region_in_level(self.level, window, self.budget) {
            Err(error) if error.fault() == microtome_vault::Fault::Input => {
                let confidence = vec![0; core.size.area_px()];
                let unreadable = Some((1, error.to_string()));
                return Ok(TileFound { nuclei: Vec::new(), confidence, unreadable, cut: 0 });
            }
            outcome => outcome?,
        };
        let picture = Picture {
            name: String::new(),
            path: self.slide.path.clone(),
            size: region.size,
            rgb: region.rgb,
            mpp: self.mpp,
            sha256: String::new(),
            warnings: Vec::new(),
        };
        let part = part_of(decided, window);
        let confidence = self.segmenter.confidence(&picture, part, self.calibration);
        let rgb = part.cut(picture.rgb, picture.size, 3);
        let labels = instances(&confidence, self.mpp, self.segmenter.instances_config());
        let (labels, cut) = own(labels, decided, core, largest_px);
        let nuclei = measure(&labels, &rgb, &confidence.values, &self.calibration.stain().matrix);
        let downsample = self.slide.levels[self.level].downsample;
        let nuclei: Vec<Outlined> = nuclei
            .into_iter()
            .map(|nucleus| outlined(nucleus, &labels, decided.corner))
            .filter(|one| {
                let (x_px, y_px) = (one.nucleus.region.centroid_x_px, one.nucleus.region.centroid_y_px);
                self.tissue.holds((x_px + 0.5) * downsample, (y_px + 0.5) * downsample)
            })
            .collect();
        let inner = part_of(core, decided).cut(confidence.values, decided.size, 1);
        let confidence = crate::export::confidence::confidence_grey(&inner);
        Ok(TileFound { nuclei, confidence, unreadable: region.unreadable, cut })
    }
}

/// Where a rectangle lies in another that holds it.
fn part_of(inner: RectangleInLevel, outer: RectangleInLevel) -> Part {
    Part {
        left_px: (inner.corner.x_px - outer.corner.x_px) as usize,
        top_px: (inner.corner.y_px - outer.corner.y_px) as usize,
        size: inner.size,
    }
}

/// Those of the objects found in the rectangle `seen` that belong to a tile with the core `core`, renumbered: those whose
/// first pixel, by rows, lies in it; and of what is wider than `largest_px`, which no two tiles may see alike, the part in
/// it. Gives the number of such parts, too.
pub fn own(
    mut labels: Labels,
    seen: RectangleInLevel,
    core: RectangleInLevel,
    largest_px: usize,
) -> (Labels, usize) {
    let objects = outlines(&labels);
    let part = part_of(core, seen);
    let is_in_core = |x: usize, y: usize| {
        (part.left_px..part.left_px + part.size.width_px).contains(&x)
            && (part.top_px..part.top_px + part.size.height_px).contains(&y)
    };
    let mut cut = vec![false; objects.len()];
    for (y, row) in labels.ids.chunks_exact_mut(labels.size.width_px.max(1)).enumerate() {
        for (x, id) in row.iter_mut().enumerate().filter(|(_, id)| **id > 0) {
            let Some(object) = objects.get(*id as usize).copied().flatten() else { continue };
            let is_own = match object.is_wider_than(largest_px) {
                false => is_in_core(object.first_x, object.bounds.min_y_px),
                true => {
                    cut[*id as usize] |= is_in_core(x, y);
                    is_in_core(x, y)
                }
            };
            if !is_own {
                *id = 0;
            }
        }
    }
    labels.renumber();
    (labels, cut.into_iter().filter(|cut| *cut).count())
}

/// Where an object lies.
#[derive(Clone, Copy)]
struct Extent {
    bounds: PixelBox,
    /// Column of its first pixel, by rows.
    first_x: usize,
}

impl Extent {
    fn is_wider_than(&self, px: usize) -> bool {
        let bounds = self.bounds;
        (bounds.max_x_px - bounds.min_x_px).max(bounds.max_y_px - bounds.min_y_px) > px
    }
}

/// The extent of each object, by its id.
fn outlines(labels: &Labels) -> Vec<Option<Extent>> {
    let mut objects: Vec<Option<Extent>> = vec![None; labels.highest_id() as usize + 1];
    for (y, row) in labels.ids.chunks_exact(labels.size.width_px.max(1)).enumerate() {
        for (x, id) in row.iter().enumerate().filter(|(_, id)| **id > 0) {
            let one = PixelBox { min_x_px: x, min_y_px: y, max_x_px: x + 1, max_y_px: y + 1 };
            let object = objects[*id as usize].get_or_insert(Extent { bounds: one, first_x: x });
            object.bounds.min_x_px = object.bounds.min_x_px.min(x);
            object.bounds.max_x_px = object.bounds.max_x_px.max(x + 1);
            object.bounds.max_y_px = y + 1;
        }
    }
    objects
}

/// A nucleus with its pixels, moved from its map to the level.
fn outlined(mut nucleus: Nucleus, labels: &Labels, corner: PointInLevel) -> Outlined {
    let bounds = nucleus.region.bounds;
    let size = Size::new(bounds.max_x_px - bounds.min_x_px, bounds.max_y_px - bounds.min_y_px);
    let row =
        |y: usize| &labels.ids[labels.size.index(bounds.min_x_px, bounds.min_y_px + y)..][..size.width_px];
    let mask = (0..size.height_px).flat_map(row).map(|id| *id == nucleus.id).collect();
    let (right, down) = (corner.x_px as usize, corner.y_px as usize);
    let region = &mut nucleus.region;
    region.bounds = PixelBox {
        min_x_px: bounds.min_x_px + right,
        min_y_px: bounds.min_y_px + down,
        max_x_px: bounds.max_x_px + right,
        max_y_px: bounds.max_y_px + down,
    };
    region.centroid_x_px += right as f64;
    region.centroid_y_px += down as f64;
    Outlined { nucleus, mask }
}
