//! The nuclei of one tile of a slide.

use super::bands::Bands;
use super::order::Dealt;
use crate::nuclei::confidence::{ConfidenceMap, Part};
use crate::nuclei::instances::{Scale, instances_in_any_order};
use crate::nuclei::measure::{Nucleus, measure};
use crate::nuclei::segmenter::{Calibration, Segmenter};
use microtome_kernels::components::{Extent, extents};
use microtome_kernels::region::PixelBox;
use microtome_kernels::runs::end_of_run;
use microtome_kernels::{Labels, Size};
use microtome_slide::focus::is_out_of_focus;
use microtome_slide::{MicronsPerPixel, Picture, PointInLevel, RectangleInLevel, Slide, TissueMask};
use microtome_vault::{Budget, Result};

/// The widest thing that is kept whole across borders of tiles, in µm.
pub const LARGEST_UM: f64 = 28.0;
/// Side of the fields whose focus is judged, in µm.
const FIELD_UM: f64 = 100.0;
/// Such fields in a row or column of a tile, at most.
const MOST_FIELDS_ACROSS: usize = 3;
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
    /// Fields of tissue whose focus was judged, and those that are out of it.
    pub fields: [usize; 2],
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
    /// What tiles hand to each other.
    pub bands: &'a Bands<'a>,
    /// The most memory that a window may take.
    pub budget: Budget,
}

impl TileWork<'_> {
    /// Side of what is read for a tile whose core is `core_px` wide, away from the slide's edges, in pixels.
    pub fn window_px(&self, core_px: usize) -> usize {
        let reach_px = self.segmenter.reach_px(self.mpp) + self.segmenter.grid_px(self.mpp);
        core_px + 2 * (border_px(self.mpp) + reach_px)
    }

    /// Finds the nuclei of the tile with the given core, and lets those that wait for it begin as soon as they can.
    ///
    /// # Errors
    /// `Limit` and `Io`; a tile none of whose pixels can be read has no nuclei and says why.
    pub fn find(&self, core: RectangleInLevel, dealt: Dealt<'_>) -> Result<TileFound> {
        let level = self.slide.levels[self.level].size;
        let decided = core.with_border(border_px(self.mpp)).within(level);
        let window = decided.with_border(self.segmenter.reach_px(self.mpp)).within(level);
        let window = with_corner_on_grid(window, self.segmenter.grid_px(self.mpp));
        let region = match self.slide.region_in_level(self.level, window, self.budget) {
            Err(error) if error.fault() == microtome_vault::Fault::Input => {
                self.bands.keep(core, &self.bands.nothing(core))?;
                dealt.hand_on();
                let confidence = vec![0; core.size.area_px()];
                let unreadable = Some((1, error.to_string()));
                return Ok(TileFound { nuclei: Vec::new(), confidence, unreadable, cut: 0, fields: [0; 2] });
            }
            outcome => outcome?,
        };
        let unreadable = region.unreadable.clone();
        let picture = region.into_picture(&self.slide.path, self.mpp);
        let fields = self.focus(core, window, &picture);
        let (confidence, handed) =
            self.bands.complete(core, decided, |missing| self.confidence(&picture, window, missing))?;
        dealt.hand_on();
        self.bands.keep(core, &handed)?;
        let rgb = part_of(decided, window).cut(picture.rgb, picture.size, 3);
        let labels = instances_in_any_order(&confidence, self.mpp, self.segmenter.instances_config());
        let (labels, cut) = own(labels, decided, core, largest_px(self.mpp));
        let nuclei = measure(&labels, &rgb, &confidence.values, &self.calibration.stain().matrix);
        drop(rgb);
        let downsample = self.slide.levels[self.level].downsample;
        let nuclei: Vec<Outlined> = nuclei
            .into_iter()
            .map(|nucleus| outlined(nucleus, &labels, decided.corner))
            .filter(|one| {
                let (x_px, y_px) = (one.nucleus.region.centroid_x_px, one.nucleus.region.centroid_y_px);
                self.tissue.holds((x_px + 0.5) * downsample, (y_px + 0.5) * downsample)
            })
            .collect();
        drop(labels);
        let inner = part_of(core, decided).cut(confidence.values, decided.size, 1);
        let confidence = crate::export::confidence::confidence_grey(&inner);
        Ok(TileFound { nuclei, confidence, unreadable, cut, fields })
    }

    /// The confidence of a rectangle, all around which `picture` holds the pixels of `window`.
    fn confidence(
        &self,
        picture: &Picture,
        window: RectangleInLevel,
        wanted: RectangleInLevel,
    ) -> ConfidenceMap {
        let level = self.slide.levels[self.level].size;
        let around = wanted.with_border(self.segmenter.reach_px(self.mpp)).within(level);
        let around = with_corner_on_grid(around, self.segmenter.grid_px(self.mpp));
        let (left, top) = (around.corner.x_px as usize, around.corner.y_px as usize);
        let calibration = self.calibration.seen_from(left, top);
        let part = part_of(wanted, around);
        if around == window {
            return self.segmenter.confidence(picture, part, &calibration);
        }
        let rgb = part_of(around, window).cut_of(&picture.rgb, picture.size, 3);
        let picture = Picture {
            name: String::new(),
            path: picture.path.clone(),
            size: around.size,
            rgb,
            mpp: picture.mpp,
            sha256: String::new(),
            warnings: Vec::new(),
        };
        self.segmenter.confidence(&picture, part, &calibration)
    }

    /// How many fields in the core of a tile could be judged, and how many of these are out of focus; `picture` holds the
    /// pixels of `window`.
    fn focus(&self, core: RectangleInLevel, window: RectangleInLevel, picture: &Picture) -> [usize; 2] {
        let Some(mpp) = self.mpp else { return [0; 2] };
        let downsample = self.slide.levels[self.level].downsample;
        let side = Scale::of(self.mpp).length_px(FIELD_UM).round().max(1.0) as usize;
        let Size { width_px, height_px } = core.size;
        let [columns, rows] = [width_px, height_px].map(|length| (length / side).min(MOST_FIELDS_ACROSS));
        let mut fields = [0; 2];
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
            // In the middle of as many equal parts.
            let start = |length: usize, parts: usize, index: usize| {
                (length / parts * index + (length / parts - side) / 2) as i64
            };
            let left = core.corner.x_px + start(width_px, columns, column);
            let top = core.corner.y_px + start(height_px, rows, row);
            let field =
                RectangleInLevel { corner: PointInLevel::new(left, top), size: Size::new(side, side) };
            let shares = self.tissue.shares(field, downsample);
            if shares.tissue < 1.0 || shares.pen + shares.fold > 0.0 {
                continue;
            }
            let rgb = part_of(field, window).cut_of(&picture.rgb, picture.size, 3);
            if let Some(is_out) = is_out_of_focus(&rgb, field.size, mpp) {
                fields[0] += 1;
                fields[1] += usize::from(is_out);
            }
        }
        fields
    }
}

fn largest_px(mpp: Option<MicronsPerPixel>) -> usize {
    Scale::of(mpp).length_px(LARGEST_UM).ceil() as usize
}

/// How far around its core a tile decides about nuclei, in pixels.
fn border_px(mpp: Option<MicronsPerPixel>) -> usize {
    largest_px(mpp) + Scale::of(mpp).length_px(NEIGHBOUR_UM).ceil() as usize
}

/// The rectangle with its upper left corner moved out to whole multiples of `grid_px`; it lies in the level.
fn with_corner_on_grid(rectangle: RectangleInLevel, grid_px: usize) -> RectangleInLevel {
    let beyond = |at: i64| at.rem_euclid(grid_px as i64) as usize;
    let (right, down) = (beyond(rectangle.corner.x_px), beyond(rectangle.corner.y_px));
    RectangleInLevel {
        corner: PointInLevel::new(rectangle.corner.x_px - right as i64, rectangle.corner.y_px - down as i64),
        size: Size::new(rectangle.size.width_px + right, rectangle.size.height_px + down),
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
    let part = part_of(core, seen);
    let (columns, rows) =
        (part.left_px..part.left_px + part.size.width_px, part.top_px..part.top_px + part.size.height_px);
    let owner = |extent: &Extent| {
        let bounds = extent.bounds;
        let side = (bounds.max_x_px - bounds.min_x_px).max(bounds.max_y_px - bounds.min_y_px);
        match side > largest_px {
            true => Owner::Core,
            false if columns.contains(&extent.first_x_px) && rows.contains(&bounds.min_y_px) => Owner::This,
            false => Owner::Other,
        }
    };
    let owners: Vec<Owner> =
        extents(&labels).iter().map(|extent| extent.as_ref().map_or(Owner::This, owner)).collect();
    let mut cut = vec![false; owners.len()];
    for (y, row) in labels.ids.chunks_exact_mut(labels.size.width_px.max(1)).enumerate() {
        let in_rows = rows.contains(&y);
        let mut end = 0;
        while end < row.len() {
            let (start, id) = (end, row[end] as usize);
            end = end_of_run(row, start);
            match owners[id] {
                Owner::This => {}
                Owner::Other => row[start..end].fill(0),
                Owner::Core => {
                    for (x, pixel) in (start..).zip(&mut row[start..end]) {
                        let is_own = in_rows && columns.contains(&x);
                        cut[id] |= is_own;
                        *pixel = if is_own { *pixel } else { 0 };
                    }
                }
            }
        }
    }
    labels.renumber();
    (labels, cut.into_iter().filter(|cut| *cut).count())
}

/// To which tile an object belongs.
#[derive(Clone, Copy)]
enum Owner {
    /// This one.
    This,
    /// Another.
    Other,
    /// To each tile what lies in its core.
    Core,
}

/// A nucleus with its pixels, moved from its map to the level.
fn outlined(mut nucleus: Nucleus, labels: &Labels, corner: PointInLevel) -> Outlined {
    let bounds = nucleus.region.bounds;
    let size = Size::new(bounds.max_x_px - bounds.min_x_px, bounds.max_y_px - bounds.min_y_px);
    let mut mask = Vec::with_capacity(size.area_px());
    for y in bounds.min_y_px..bounds.max_y_px {
        let row = &labels.ids[labels.size.index(bounds.min_x_px, y)..][..size.width_px];
        mask.extend(row.iter().map(|id| *id == nucleus.id));
    }
    let (right, down) = (corner.x_px as usize, corner.y_px as usize);
    let region = &mut nucleus.region;
    region.bounds = PixelBox {
        min_x_px: bounds.min_x_px + right,
        min_y_px: bounds.min_y_px + down,
        max_x_px: bounds.max_x_px + right,
        max_y_px: bounds.max_y_px + down,
    };
    region.centroid_x_px = moved(region.centroid_x_px, region.area_px, right);
    region.centroid_y_px = moved(region.centroid_y_px, region.area_px, down);
    Outlined { nucleus, mask }
}

/// A mean of `count` whole numbers, each larger by `by`: rounded once, from their sum, so that it is the same number in whatever
/// window it was computed (halves are common among means, and tables round them).
fn moved(mean: f64, count: usize, by: usize) -> f64 {
    ((mean * count as f64).round() + (by * count) as f64) / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nuclei::confidence::ConfidenceMap;
    use crate::nuclei::config::ConfigFile;
    use crate::nuclei::instances::instances;
    use std::collections::BTreeSet;

    /// A number after the other that looks random.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % end
        }
    }

    /// Round things, many of which touch.
    fn confidence(size: Size, chance: &mut Chance) -> ConfidenceMap {
        let mut values = vec![0.0f32; size.area_px()];
        for _ in 0..size.area_px() / 150 {
            let (x, y) = (chance.below(size.width_px) as i64, chance.below(size.height_px) as i64);
            let radius = 3.0 + chance.below(40) as f32 / 10.0;
            for dy in -14..=14i64 {
                for dx in -14..=14i64 {
                    let (x, y) = (x + dx, y + dy);
                    let inside = x >= 0 && y >= 0 && x < size.width_px as i64 && y < size.height_px as i64;
                    if inside {
                        let value = &mut values[size.index(x as usize, y as usize)];
                        *value = value.max(1.0 - ((dx * dx + dy * dy) as f32).sqrt() / (2.0 * radius));
                    }
                }
            }
        }
        ConfidenceMap { size, values }
    }

    /// The pixels of each object, in the whole map.
    fn objects(labels: &Labels, corner: PointInLevel, whole: Size) -> Vec<BTreeSet<usize>> {
        let mut objects = vec![BTreeSet::new(); labels.highest_id() as usize];
        for (at, id) in labels.ids.iter().enumerate().filter(|(_, id)| **id > 0) {
            let (x, y) = (at % labels.size.width_px, at / labels.size.width_px);
            objects[*id as usize - 1].insert(whole.index(x + corner.x_px as usize, y + corner.y_px as usize));
        }
        objects
    }

    fn is_wide(object: &BTreeSet<usize>, whole: Size, largest_px: usize) -> bool {
        let span = |of: fn(usize, usize) -> usize| {
            let places = object.iter().map(|at| of(*at, whole.width_px));
            places.clone().max().unwrap_or(0) - places.min().unwrap_or(0) + 1
        };
        span(|at, width| at % width).max(span(|at, width| at / width)) > largest_px
    }

    #[test]
    fn means_do_not_depend_on_the_window_that_they_were_computed_in() {
        let mut chance = Chance(5);
        let mut naive = 0;
        for _ in 0..20_000 {
            let (count, sum, by) = (1 + chance.below(900), chance.below(90_000), chance.below(200_000));
            let whole = (sum + by * count) as f64 / count as f64;
            let start = (sum / count) as f64;
            let mean = start + (sum as f64 - start * count as f64) / count as f64;
            assert_eq!(moved(mean, count, by), whole, "{sum} / {count} + {by}");
            naive += usize::from(mean + by as f64 != whole);
        }
        assert!(naive > 0, "sums alone would do");
    }

    #[test]
    fn tiles_give_the_nuclei_of_the_whole_each_once_and_whole() {
        let mpp = MicronsPerPixel::new(1.0).ok();
        let config = ConfigFile::default().instances();
        let largest_px = LARGEST_UM as usize;
        let border_px = largest_px + NEIGHBOUR_UM as usize;
        let (mut layouts, mut at_borders, mut wide) = (0, 0, 0);
        for seed in 0..60 {
            let mut chance = Chance(seed * 7919 + 1);
            let size = Size::new(120 + chance.below(120), 90 + chance.below(120));
            let map = confidence(size, &mut chance);
            let origin = PointInLevel::new(0, 0);
            let expected = objects(&instances(&map, mpp, &config), origin, size);
            for _ in 0..9 {
                let side = 25 + chance.below(110);
                let mut found = Vec::new();
                for top in (0..size.height_px).step_by(side) {
                    for left in (0..size.width_px).step_by(side) {
                        let core = RectangleInLevel {
                            corner: PointInLevel::new(left as i64, top as i64),
                            size: Size::new(side, side),
                        };
                        let core = core.within(size);
                        let seen = core.with_border(border_px).within(size);
                        let part = part_of(seen, RectangleInLevel { corner: origin, size });
                        let seen_map =
                            ConfidenceMap { size: seen.size, values: part.cut(map.values.clone(), size, 1) };
                        let all = instances_in_any_order(&seen_map, mpp, &config);
                        let (labels, _) = own(all, seen, core, largest_px);
                        let own = objects(&labels, seen.corner, size);
                        at_borders += own
                            .iter()
                            .filter(|object| {
                                object.iter().any(|at| {
                                    let point = [at % size.width_px, at / size.width_px].map(|at| at as i64);
                                    !core.holds(PointInLevel::new(point[0], point[1]))
                                })
                            })
                            .count();
                        found.extend(own);
                    }
                }
                // Of what is too wide, tiles hold the pieces.
                let pixels = |all: &[BTreeSet<usize>]| all.iter().flatten().copied().collect::<Vec<_>>();
                let mut every = pixels(&found);
                every.sort_unstable();
                let mut all = pixels(&expected);
                all.sort_unstable();
                assert_eq!(every, all, "seed {seed}, side {side}: each pixel once");
                for object in &expected {
                    match is_wide(object, size, largest_px) {
                        true => wide += 1,
                        false => assert!(found.contains(object), "seed {seed}, side {side}"),
                    }
                }
                layouts += 1;
            }
        }
        assert_eq!(layouts, 540);
        assert!(at_borders > 5_000 && wide < layouts * 3, "{at_borders} at borders, {wide} wide");
    }
}
