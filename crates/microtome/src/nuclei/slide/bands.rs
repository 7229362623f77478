//! Confidence that two tiles need: computed for one, handed to the other.
//!
//! To decide about the nuclei of its core a tile looks at a border around it, which is its neighbours' core. Tiles are begun
//! row by row (`super::order`); each is handed by the tile to its left and the one above it what they have computed, and
//! computes what is missing: with both, a rectangle as large as its core.
//!
//! Which tile computes a place follows from the plan alone, and what is handed on is kept on disk, too: a run that goes on
//! has the bytes of one that was not stopped. The tile to the right comes soon, the one below a row later: what that one
//! needs is read from disk again, so that no row of a wide slide is held in memory. It is handed on as whole numbers, and
//! the tile that gives it goes on with these itself, so that both see the same values.

use super::sealed::{self, Mark, Reader, Writer};
use crate::nuclei::confidence::{ConfidenceMap, nearest};
use microtome_slide::{PointInLevel, RectangleInLevel, Size, TilePlan};
use microtome_vault::{Error, Result};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

const MARK: &Mark = b"MTBAND\0\x01";
/// Level of Zstandard.
const COMPRESSION: i32 = 1;
/// What stands for a confidence of 1.
const ONE: f32 = 65_535.0;

/// A rectangle of confidence, in parts of [`ONE`].
#[derive(Clone, Debug, PartialEq)]
struct Band {
    rectangle: RectangleInLevel,
    values: Vec<u16>,
}

/// Column and row of a tile's core.
type Place = (i64, i64);

/// To whom a tile hands something on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    Right,
    Below,
}

/// What a tile hands to the one on its right and to the one below.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Handed {
    right: Option<Band>,
    below: Option<Band>,
}

/// What tiles of this run have handed on. What is not here is on disk.
#[derive(Debug, Default)]
struct InMemory {
    /// Below until it is taken or on disk; to the right until it is taken or the tile is none of the last any more.
    bands: BTreeMap<(Place, Direction), Option<Band>>,
    /// The last tiles that came to disk.
    last_kept: VecDeque<Place>,
}

/// The bands between the tiles of a slide.
#[derive(Debug)]
pub struct Bands<'a> {
    core_px: usize,
    /// The tiles, and the file of what each hands on.
    files: BTreeMap<Place, PathBuf>,
    in_memory: Mutex<InMemory>,
    /// Tiles whose bands to the right stay in memory, at most.
    most_in_memory: usize,
    /// Identifies the run.
    key: &'a str,
}

impl<'a> Bands<'a> {
    /// Those between the tiles of a plan, in `files`, one a tile, for the run `key`. What the last tiles, twice as many as there
    /// are `threads`, have handed to the right is held in memory.
    pub fn between(plan: &TilePlan, files: Vec<PathBuf>, key: &'a str, threads: usize) -> Self {
        let mut bands = Self {
            core_px: plan.core_px,
            files: BTreeMap::new(),
            in_memory: Mutex::default(),
            most_in_memory: 2 * threads,
            key,
        };
        bands.files =
            plan.tiles.iter().zip(files).map(|(tile, file)| (bands.place(tile.core), file)).collect();
        bands
    }

    fn place(&self, core: RectangleInLevel) -> Place {
        let side = self.core_px as i64;
        (core.corner.x_px / side, core.corner.y_px / side)
    }

    /// The confidence of `decided`, the core with a border: what its neighbours hand on, and of the rectangle that is missing
    /// what `compute` gives. Hands on, and gives what [`Self::keep`] is to write.
    ///
    /// # Errors
    /// `Io` when what a tile of an earlier run has handed on was removed or changed.
    pub fn complete(
        &self,
        core: RectangleInLevel,
        decided: RectangleInLevel,
        compute: impl FnOnce(RectangleInLevel) -> ConfidenceMap,
    ) -> Result<(ConfidenceMap, Handed)> {
        let (column, row) = self.place(core);
        let left = self.take((column - 1, row), Direction::Right)?;
        let above = self.take((column, row - 1), Direction::Below)?;
        let start_x = left.as_ref().map_or(decided.corner.x_px, |band| end(band.rectangle).0);
        let start_y = above.as_ref().map_or(decided.corner.y_px, |band| end(band.rectangle).1);
        let missing = between((start_x, start_y), end(decided));
        // Room for the whole only when what was computed is there: computing it takes several times as much itself.
        let computed = compute(missing);
        let mut map = ConfidenceMap { size: decided.size, values: vec![0.0; decided.size.area_px()] };
        let rows = computed.values.chunks_exact(missing.size.width_px.max(1));
        for (y, values) in rows.enumerate() {
            let start = start_in(missing, decided.corner, map.size, y);
            map.values[start..start + values.len()].copy_from_slice(values);
        }
        drop(computed);
        [left, above].iter().flatten().for_each(|band| band.draw(decided.corner, &mut map));
        let handed = self.hand_on((column, row), core, decided, &mut map);
        self.hold((column, row), handed.clone());
        Ok((map, handed))
    }

    /// A tile that cannot be read hands on nothing.
    pub fn nothing(&self, core: RectangleInLevel) -> Handed {
        self.hold(self.place(core), Handed::default());
        Handed::default()
    }

    fn hold(&self, place: Place, Handed { right, below }: Handed) {
        let ((column, row), mut in_memory) = (place, self.lock());
        let is_there = |place| self.files.contains_key(&place);
        let each =
            [((column + 1, row), Direction::Right, right), ((column, row + 1), Direction::Below, below)];
        for (_, direction, band) in each.into_iter().filter(|(neighbour, ..)| is_there(*neighbour)) {
            in_memory.bands.insert((place, direction), band);
        }
    }

    /// Writes what a tile hands on, for the tile below and for a run that goes on later.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn keep(&self, core: RectangleInLevel, handed: &Handed) -> Result<()> {
        let place = self.place(core);
        let path = self.files.get(&place).ok_or_else(|| Error::bug("a tile that is not of the plan"))?;
        write(path, self.key, handed)?;
        let mut in_memory = self.lock();
        in_memory.bands.remove(&(place, Direction::Below));
        in_memory.last_kept.push_back(place);
        if in_memory.last_kept.len() > self.most_in_memory
            && let Some(first) = in_memory.last_kept.pop_front()
        {
            in_memory.bands.remove(&(first, Direction::Right));
        }
        Ok(())
    }

    /// What the tile at a place hands on in one direction; nothing if there is no such tile.
    fn take(&self, from: Place, to: Direction) -> Result<Option<Band>> {
        let Some(path) = self.files.get(&from) else { return Ok(None) };
        if let Some(band) = self.lock().bands.remove(&(from, to)) {
            return Ok(band);
        }
        let handed = read(path, self.key).ok_or_else(|| {
            Error::new(
                microtome_vault::Fault::Io,
                "what a tile hands to its neighbours was removed or changed",
            )
            .at(path)
            .advise("delete the file: the same command does that tile again")
        })?;
        Ok(match to {
            Direction::Right => handed.right,
            Direction::Below => handed.below,
        })
    }

    /// Cuts out of a map what the tiles to the right and below need, and rounds the map there as they see it.
    fn hand_on(
        &self,
        (column, row): Place,
        core: RectangleInLevel,
        decided: RectangleInLevel,
        map: &mut ConfidenceMap,
    ) -> Handed {
        let ((right, bottom), (core_right, core_bottom)) = (end(decided), end(core));
        let origin = decided.corner;
        let mut cut = |corner: (i64, i64)| {
            let band = Band::cut(between(corner, (right, bottom)), origin, map);
            band.draw(origin, map);
            band
        };
        // A neighbour's border is as wide as this tile's.
        let border_px =
            |start: i64, core_start: i64, end: i64, core_end: i64| (core_start - start).max(end - core_end);
        let across = border_px(origin.x_px, core.corner.x_px, right, core_right);
        let down = border_px(origin.y_px, core.corner.y_px, bottom, core_bottom);
        let border_px = across.max(down);
        let is_there = |place| self.files.contains_key(&place);
        Handed {
            right: is_there((column + 1, row)).then(|| cut((core_right - border_px, origin.y_px))),
            below: is_there((column, row + 1)).then(|| cut((origin.x_px, core_bottom - border_px))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, InMemory> {
        self.in_memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right and lower end of a rectangle.
fn end(rectangle: RectangleInLevel) -> (i64, i64) {
    let RectangleInLevel { corner, size } = rectangle;
    (corner.x_px + size.width_px as i64, corner.y_px + size.height_px as i64)
}

/// The rectangle from a corner to another; empty if that lies before it.
fn between((left, top): (i64, i64), (right, bottom): (i64, i64)) -> RectangleInLevel {
    let size = Size::new((right - left).max(0) as usize, (bottom - top).max(0) as usize);
    RectangleInLevel { corner: PointInLevel::new(left, top), size }
}

impl Band {
    /// The part of a map, whose corner is at `origin`, that is needed.
    fn cut(rectangle: RectangleInLevel, origin: PointInLevel, map: &ConfidenceMap) -> Self {
        let mut values = Vec::with_capacity(rectangle.size.area_px());
        for y in 0..rectangle.size.height_px {
            let start = start_in(rectangle, origin, map.size, y);
            let row = &map.values[start..start + rectangle.size.width_px];
            values.extend(row.iter().map(|value| nearest(value * ONE)));
        }
        Self { rectangle, values }
    }

    /// Puts it into a map whose corner is at `origin`.
    fn draw(&self, origin: PointInLevel, map: &mut ConfidenceMap) {
        for (y, row) in self.values.chunks_exact(self.rectangle.size.width_px.max(1)).enumerate() {
            let start = start_in(self.rectangle, origin, map.size, y);
            let places = map.values[start..start + row.len()].iter_mut();
            places.zip(row).for_each(|(place, value)| *place = f32::from(*value) / ONE);
        }
    }
}

/// Whether what a tile hands on is on disk.
pub fn is_kept(path: &Path) -> bool {
    path.is_file()
}

fn write(path: &Path, key: &str, handed: &Handed) -> Result<()> {
    let mut writer = Writer::new(MARK, key, 0);
    for band in [&handed.right, &handed.below] {
        writer.number(u64::from(band.is_some()));
        let Some(Band { rectangle: RectangleInLevel { corner, size }, values }) = band else { continue };
        [corner.x_px as u64, corner.y_px as u64, size.width_px as u64, size.height_px as u64]
            .into_iter()
            .for_each(|number| writer.number(number));
        let plain: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer.compressed(&plain, COMPRESSION).map_err(|error| error.at(path))?;
    }
    writer.finish(path)
}

fn read(path: &Path, key: &str) -> Option<Handed> {
    sealed::read(path, MARK, key, |rest| Some(Handed { right: read_band(rest)?, below: read_band(rest)? }))
}

/// A band, or that there is none.
fn read_band(rest: &mut Reader<'_>) -> Option<Option<Band>> {
    if rest.number()? == 0 {
        return Some(None);
    }
    let corner = PointInLevel::new(rest.number()? as i64, rest.number()? as i64);
    let size = Size::new(rest.size()?, rest.size()?);
    let length = size.width_px.checked_mul(size.height_px)?.checked_mul(2)?;
    let plain = rest.decompressed(length)?;
    let values = plain.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    Some(Some(Band { rectangle: RectangleInLevel { corner, size }, values }))
}

/// Where row `y` of a rectangle begins in a map that holds it, whose corner is at `origin`.
fn start_in(rectangle: RectangleInLevel, origin: PointInLevel, map: Size, y: usize) -> usize {
    let (right, down) = (rectangle.corner.x_px - origin.x_px, rectangle.corner.y_px - origin.y_px);
    map.index(right as usize, down as usize + y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_slide::plan::PlannedTile;
    use microtome_slide::tissue::Shares;
    use microtome_vault::disk;

    const SIZE: Size = Size::new(95, 74);
    const CORE_PX: usize = 20;
    const BORDER_PX: usize = 6;
    const THREADS: usize = 1;

    /// A number for each place of a level, which differs with the tile that computes it.
    fn value(x_px: i64, y_px: i64, tile: usize) -> f32 {
        ((x_px * 7919 + y_px * 104_729).rem_euclid(60_001) as f32 + tile as f32 / 64.0) / 65_535.0
    }

    fn map(RectangleInLevel { corner, size }: RectangleInLevel, tile: usize) -> ConfidenceMap {
        let at = |i: usize| {
            value(corner.x_px + (i % size.width_px) as i64, corner.y_px + (i / size.width_px) as i64, tile)
        };
        ConfidenceMap { size, values: (0..size.area_px()).map(at).collect() }
    }

    fn plan(is_there: impl Fn(usize) -> bool) -> TilePlan {
        let core = |index: usize| {
            let corner = PointInLevel::new((index % 5 * CORE_PX) as i64, (index / 5 * CORE_PX) as i64);
            RectangleInLevel { corner, size: Size::new(CORE_PX, CORE_PX) }.within(SIZE)
        };
        let tile = |index: usize| PlannedTile { core: core(index), shares: Shares::default() };
        let tiles = (0..20).filter(|index| is_there(*index)).map(tile).collect();
        TilePlan { level: 0, size: SIZE, downsample: 1.0, core_px: CORE_PX, tiles }
    }

    /// Does tiles of a plan one after the other; gives the map of each, and how many pixels were computed.
    fn maps_of(
        plan: &TilePlan,
        tiles: std::ops::Range<usize>,
        folder: &Path,
        unreadable: Option<usize>,
    ) -> (Vec<Option<ConfidenceMap>>, usize) {
        let files = (0..plan.tiles.len()).map(|index| folder.join(format!("bands-{index}"))).collect();
        let is_all = tiles == (0..plan.tiles.len());
        let bands = Bands::between(plan, files, "key", THREADS);
        let mut computed_px = 0;
        let one = |index: usize| {
            let core = plan.tiles[index].core;
            let decided = core.with_border(BORDER_PX).within(SIZE);
            if unreadable == Some(index) {
                bands.keep(core, &bands.nothing(core)).unwrap();
                return None;
            }
            let compute = |missing: RectangleInLevel| {
                computed_px += missing.size.area_px();
                map(missing, index)
            };
            let (whole, handed) = bands.complete(core, decided, compute).unwrap();
            bands.keep(core, &handed).unwrap();
            Some(whole)
        };
        let maps = tiles.map(one).collect();
        let in_memory = bands.lock();
        let held =
            |direction: Direction| in_memory.bands.keys().filter(move |key| key.1 == direction).count();
        assert_eq!(held(Direction::Below), 0, "what is on disk is not held in memory");
        assert!(held(Direction::Right) <= 2 * THREADS, "no more than what the last tiles hand to the right");
        if is_all {
            assert_eq!(held(Direction::Right), 0, "what was taken is not held any more");
        }
        drop(in_memory);
        (maps, computed_px)
    }

    #[test]
    fn tiles_see_the_same_values_and_nothing_is_computed_twice() {
        let folder = tempfile::tempdir().unwrap();
        let mut cases = 0;
        for pattern in 0..14usize {
            let plan = plan(|index| pattern == 0 || !(index * 7 + pattern).is_multiple_of(5));
            let count = plan.tiles.len();
            let unreadable = (pattern % 3 == 1).then_some(pattern % count);
            let (whole, computed_px) = maps_of(&plan, 0..count, folder.path(), unreadable);
            if pattern == 0 {
                assert_eq!(computed_px, SIZE.area_px());
            }
            // What neighbours see of a place, in the border of one and the core of the other, is one value.
            for (index, tile) in plan.tiles.iter().enumerate() {
                for (other, neighbour) in plan.tiles.iter().enumerate().filter(|(other, _)| *other != index) {
                    let steps = [
                        tile.core.corner.x_px - neighbour.core.corner.x_px,
                        tile.core.corner.y_px - neighbour.core.corner.y_px,
                    ];
                    let is_beside = steps == [CORE_PX as i64, 0] || steps == [0, CORE_PX as i64];
                    let (Some(one), Some(two), true) = (&whole[index], &whole[other], is_beside) else {
                        continue;
                    };
                    let [seen, theirs] =
                        [tile, neighbour].map(|tile| tile.core.with_border(BORDER_PX).within(SIZE));
                    for (x, y) in (0..95).flat_map(|x| (0..74).map(move |y| (x, y))) {
                        let point = PointInLevel::new(x, y);
                        if seen.holds(point) && theirs.holds(point) {
                            let at = |map: &ConfidenceMap, of: RectangleInLevel| {
                                map.values[start_in(
                                    RectangleInLevel { corner: point, size: Size::new(1, 1) },
                                    of.corner,
                                    map.size,
                                    0,
                                )]
                            };
                            assert_eq!(
                                at(one, seen),
                                at(two, theirs),
                                "{pattern}: {index} {other} at {x} {y}"
                            );
                            cases += 1;
                        }
                    }
                }
            }
            // Stopped anywhere and gone on with, the same.
            for stop in 0..count {
                let other = tempfile::tempdir().unwrap();
                let (mut parts, _) = maps_of(&plan, 0..stop, other.path(), unreadable);
                parts.extend(maps_of(&plan, stop..count, other.path(), unreadable).0);
                assert!(parts == whole, "{pattern} stopped at {stop}");
            }
        }
        assert!(cases > 30_000, "{cases}");
    }

    /// As at the end of a run: down the columns. What is not in memory any more is read from disk.
    #[test]
    fn tiles_across_rows_see_the_same() {
        let plan = plan(|_| true);
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (by_rows, _) = maps_of(&plan, 0..20, folders[0].path(), None);
        let files = (0..20).map(|index| folders[1].path().join(format!("bands-{index}"))).collect();
        let bands = Bands::between(&plan, files, "key", THREADS);
        let mut most_held = 0;
        for index in (0..5).flat_map(|column| (0..4).map(move |row| 5 * row + column)) {
            let core = plan.tiles[index].core;
            let decided = core.with_border(BORDER_PX).within(SIZE);
            let (whole, handed) = bands.complete(core, decided, |missing| map(missing, index)).unwrap();
            bands.keep(core, &handed).unwrap();
            assert_eq!(by_rows[index].as_ref(), Some(&whole), "tile {index}");
            most_held = most_held.max(bands.lock().bands.len());
        }
        assert_eq!(most_held, 2 * THREADS, "four rows hand on, and the last of them are held");
    }

    #[test]
    fn what_is_kept_is_read_back_and_any_other_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bands");
        let rectangle = between((-3, 70_000), (9, 70_004));
        let band = Band { rectangle, values: (0..48).map(|value| value * 1361).collect() };
        for handed in [
            Handed::default(),
            Handed { right: Some(band.clone()), below: None },
            Handed { right: Some(band.clone()), below: Some(band) },
        ] {
            write(&path, "key", &handed).unwrap();
            assert!(is_kept(&path));
            assert_eq!(read(&path, "key"), Some(handed));
            assert_eq!(read(&path, "other"), None);
        }
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            disk::write_atomic(&path, &damaged).unwrap();
            assert_eq!(read(&path, "key"), None, "byte {at}");
        }
        let plan = plan(|_| true);
        let files = vec![path; plan.tiles.len()];
        let bands = Bands::between(&plan, files, "key", THREADS);
        let core = plan.tiles[7].core;
        let error = bands.complete(core, core, |missing| map(missing, 7)).unwrap_err();
        assert!(error.advice().is_some_and(|advice| advice.contains("delete the file")), "{error}");
    }
}
