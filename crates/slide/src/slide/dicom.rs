//! Whole slides in DICOM files: each level is a file of its own, and a series holds the slide together.
//!
//! Only the elements that levels need are read, by a reader of our own: the `dicom` crates reserve the memory that a file
//! states before it is known to be there, and do not tell where the pixels lie.

mod elements;
mod frames;
mod instance;
mod syntax;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use microtome_vault::{Budget, Error, Result};

use super::cache::TileCache;
use super::source::{Tile, TileSource};
use super::{AssociatedImage, Level, Slide, SlideFormat, TilePlace, are_alike};
use crate::{MicronsPerPixel, Size};
use elements::Tag;
use frames::Frames;
use instance::{Instance, Role};
use syntax::Syntax;

const SHARED: Tag = 0x5200_9229;
const PER_FRAME: Tag = 0x5200_9230;
const PIXEL_MEASURES: Tag = 0x0028_9110;
const PLANE_POSITION: Tag = 0x0048_021a;
const OPTICAL_PATHS: Tag = 0x0048_0105;
/// Sequences that are looked into.
const SEQUENCES: [Tag; 5] = [SHARED, PER_FRAME, PIXEL_MEASURES, PLANE_POSITION, OPTICAL_PATHS];

/// Millimetres in µm.
const MM: f64 = 1000.0;

/// For each of `files` that is part of a whole slide, the file with the largest level of that slide.
pub(crate) fn slides_of(files: &[PathBuf]) -> BTreeMap<PathBuf, PathBuf> {
    let mut slides: BTreeMap<(PathBuf, String), Vec<(u64, &PathBuf)>> = BTreeMap::new();
    for path in files {
        let Some(series) = instance::series_of(path) else { continue };
        let level = Instance::read(path).ok().filter(|instance| instance.role() == Role::Level);
        let area_px = level.map_or(0, |instance| instance.size().area_px() as u64);
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        slides.entry((folder, series)).or_default().push((area_px, path));
    }
    let mut stands_for = BTreeMap::new();
    for files in slides.into_values() {
        // Of equally large ones the first.
        let largest = files.iter().rev().max_by_key(|(area_px, _)| *area_px).map(|(_, path)| *path);
        let Some(largest) = largest else { continue };
        stands_for.extend(files.iter().map(|(_, path)| ((*path).clone(), largest.clone())));
    }
    stands_for
}

/// Opens the slide that a DICOM file belongs to: with it, the files of the same series in its folder.
///
/// # Errors
/// `Input` when the file is damaged or of a kind that is not read; `Io` when the disk refuses.
pub(super) fn open(path: &Path) -> Result<Slide> {
    let named = Instance::read(path)?;
    let mut warnings = Vec::new();
    let mut instances = Vec::new();
    for other in siblings(path, &named.header.series)? {
        match Instance::read(&other) {
            Ok(instance) => instances.push(instance),
            Err(error) => warnings.push(format!("{} is left out: {error}", other.display())),
        }
    }
    instances.push(named);
    let (mut levels, mut beside): (Vec<_>, Vec<_>) =
        instances.into_iter().partition(|instance| instance.role() == Role::Level);
    if levels.is_empty() {
        // A label that is looked at by itself.
        levels = std::mem::take(&mut beside);
    }
    levels.sort_by(|a, b| (b.size().area_px(), a.file.path()).cmp(&(a.size().area_px(), b.file.path())));
    drop_others(&mut levels, &mut warnings);
    beside.sort_by(|a, b| a.file.path().cmp(b.file.path()));
    let Some(base) = levels.first() else {
        return Err(Error::bug("a DICOM slide without a level").at(path));
    };
    let (header, size) = (&base.header, base.size());
    if header.focal_planes > 1 {
        warnings.push(format!("of {} focal planes the first is read", header.focal_planes));
    }
    let mpp = header
        .spacing_mm
        .and_then(|[down, across]| MicronsPerPixel::plausible_square(across * MM, down * MM));
    Ok(Slide {
        path: path.to_owned(),
        format: SlideFormat::Dicom,
        levels: levels.iter().map(|instance| level(instance, size)).collect(),
        mpp,
        objective_power: header.objective_power,
        associated: beside.iter().map(associated).collect(),
        warnings,
        source: Box::new(Series {
            instances: levels
                .into_iter()
                .chain(beside)
                .map(|instance| (instance, Frames::default()))
                .collect(),
        }),
        cache: TileCache::default(),
    })
}

/// The other files of a series in the folder of one of them, by name.
fn siblings(path: &Path, series: &str) -> Result<Vec<PathBuf>> {
    if series.is_empty() {
        return Ok(Vec::new());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |error: std::io::Error| Error::io("listing the folder", &error).at(folder);
    let own = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut others = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let other = entry.map_err(failed)?.path();
        let is_own = || other.canonicalize().is_ok_and(|other| other == own);
        if other.is_file() && !is_own() && instance::series_of(&other).as_deref() == Some(series) {
            others.push(other);
        }
    }
    others.sort();
    Ok(others)
}

/// Levels of a slide are the same picture: of those equally large the first is kept, and none of another shape.
fn drop_others(levels: &mut Vec<Instance>, warnings: &mut Vec<String>) {
    let Some(base) = levels.first().map(Instance::size) else { return };
    let mut last = None;
    levels.retain(|instance| {
        let size = instance.size();
        let is_level = last != Some(size) && are_alike(size, base);
        last = Some(size);
        if !is_level {
            let path = instance.file.path().display();
            warnings.push(format!("{path} is left out: it is another picture than the largest level"));
        }
        is_level
    });
}

fn level(instance: &Instance, base: Size) -> Level {
    Level::of(instance.size(), base, instance.tile(), instance.syntax.name().to_owned())
}

fn associated(instance: &Instance) -> AssociatedImage {
    let name = match instance.role() {
        Role::Beside(name) => name,
        Role::Level => "level",
    };
    AssociatedImage { name: name.to_owned(), size: instance.size() }
}

impl Instance {
    /// Frames across and down.
    fn grid(&self) -> (usize, usize) {
        let (size, tile) = (self.size(), self.tile());
        (size.width_px.div_ceil(tile.width_px), size.height_px.div_ceil(tile.height_px))
    }
}

/// The files of a series: the levels, and the pictures beside them.
#[derive(Debug)]
struct Series {
    instances: Vec<(Instance, Frames)>,
}

impl TileSource for Series {
    fn tiling(&self, level: usize) -> (Size, (usize, usize)) {
        let (instance, _) = &self.instances[level];
        (instance.tile(), instance.grid())
    }

    fn can_read(&self, _: usize) -> bool {
        true
    }

    fn prepare(&self, level: usize) -> Result<()> {
        let (instance, frames) = &self.instances[level];
        frames.prepare(instance).map_err(|error| error.at(instance.file.path()))
    }

    fn tile(&self, level: usize, place: TilePlace, budget: Budget) -> Result<Option<Tile>> {
        let (instance, frames) = &self.instances[level];
        let tile = || {
            let Some(bytes) = frames.bytes(instance, place, budget)? else { return Ok(None) };
            instance.syntax.decode(bytes, &instance.header, instance.tile(), budget).map(Some)
        };
        tile().map_err(|error: Error| error.at(instance.file.path()))
    }

    fn jpeg_tile(&self, level: usize, place: TilePlace) -> Result<Option<Vec<u8>>> {
        let (instance, frames) = &self.instances[level];
        if instance.syntax != Syntax::Jpeg {
            return Ok(None);
        }
        let stream = frames.bytes(instance, place, Budget::DEFAULT);
        let is_rgb = instance.header.photometric == "RGB";
        let mark = |stream| if is_rgb { crate::formats::jpeg::marked_as_rgb(stream) } else { stream };
        Ok(stream.map_err(|error| error.at(instance.file.path()))?.map(mark))
    }
}
