//! Slides in TIFF and BigTIFF files: which directories are levels, and which are pictures beside them.

mod directory;
mod samples;
mod tiles;

use microtome_vault::{Budget, Error, Result};

use super::cache::TileCache;
use super::file::SlideFile;
use super::source::{Tile, TileSource};
use super::{AssociatedImage, Level, Slide, SlideFormat, TilePlace, are_alike, not_a_slide};
use crate::Size;
use crate::formats::tiff::layout::compression;
use crate::formats::tiff::resolution;
use directory::{Chain, Directory, tag};
use tiles::Tiles;

/// The bit of `NewSubfileType` that says: a smaller version of another picture.
const IS_REDUCED: u64 = 1;

/// Opens a TIFF file as a slide.
pub(super) fn open(file: SlideFile) -> Result<Slide> {
    let Some(chain) = Chain::read(&file)? else { return Err(not_a_slide(&[]).at(file.path())) };
    let refuse = |what: &str| Error::input(what).at(file.path());
    let Some(first) = chain.directories.first() else {
        return Err(refuse("this TIFF file is damaged: its first directory cannot be read")
            .advise("copy it again from its source"));
    };
    let format = format_of(&first.text(&file, tag::IMAGE_DESCRIPTION)?);
    let mut pictures = Vec::new();
    for (index, directory) in chain.directories.iter().enumerate() {
        pictures.extend(Stored::read(&file, directory)?.map(|stored| (index, stored)));
    }
    let base = base(format, &pictures).unwrap_or(0);
    let first = &chain.directories[base];
    let description = first.text(&file, tag::IMAGE_DESCRIPTION)?;
    let size = pictures.iter().find(|(index, _)| *index == base).map(|(_, stored)| stored.tiles.size);
    let mut found = Found::default();
    for (index, stored) in pictures {
        let is_level = index == base || is_level(format, &stored, size);
        found.take(&file, format, index, &chain.directories[index], stored, is_level)?;
    }
    for directory in chain.below(&file, first)? {
        found.levels.extend(Stored::read(&file, &directory)?);
    }
    found.sort();
    let Some(largest) = found.levels.first() else {
        return Err(refuse("this TIFF file has no picture in it").advise("is it the right file?"));
    };
    let warnings = largest.tiles.warnings(&file);
    let largest = largest.tiles.size;
    let levels = found.levels.iter().map(|stored| stored.level(largest)).collect();
    let broken = (!chain.is_whole).then(|| "the list of directories is damaged or too long".to_owned());
    let mpp = resolution::of_slide(&description, densities(&file, first)?, unit(&file, first)?);
    Ok(Slide {
        path: file.path().to_owned(),
        format,
        levels,
        mpp,
        objective_power: resolution::objective_power(&description),
        associated: found.associated,
        warnings: broken.into_iter().chain(warnings).collect(),
        source: Box::new(Pixels {
            file,
            levels: found.levels.into_iter().chain(found.beside).map(|stored| stored.tiles).collect(),
        }),
        cache: TileCache::default(),
    })
}

fn format_of(description: &str) -> SlideFormat {
    match description {
        text if text.starts_with("Aperio") => SlideFormat::Aperio,
        text if text.contains("<OME") => SlideFormat::Ome,
        _ => SlideFormat::Tiff,
    }
}

fn densities(file: &SlideFile, directory: &Directory) -> Result<[Option<f64>; 2]> {
    Ok([directory.ratio(file, tag::X_RESOLUTION)?, directory.ratio(file, tag::Y_RESOLUTION)?])
}

fn unit(file: &SlideFile, directory: &Directory) -> Result<u16> {
    let unit = directory.number(file, tag::RESOLUTION_UNIT)?;
    Ok(unit.map_or(resolution::INCH, |unit| u16::try_from(unit).unwrap_or(0)))
}

/// The tiles of the levels' directories, and of those beside them.
#[derive(Debug)]
struct Pixels {
    file: SlideFile,
    levels: Vec<Tiles>,
}

impl TileSource for Pixels {
    fn tiling(&self, level: usize) -> (Size, (usize, usize)) {
        (self.levels[level].tile, self.levels[level].grid())
    }

    fn can_read(&self, level: usize) -> bool {
        self.levels[level].can_read(&self.file)
    }

    fn prepare(&self, level: usize) -> Result<()> {
        self.levels[level].prepare(&self.file)
    }

    fn tile(&self, level: usize, place: TilePlace, budget: Budget) -> Result<Option<Tile>> {
        self.levels[level].decoded(&self.file, place, budget)
    }

    fn jpeg_tile(&self, level: usize, place: TilePlace) -> Result<Option<Vec<u8>>> {
        self.levels[level].jpeg_file(&self.file, place)
    }
}

/// Which directory is level 0: the first where scanners put it there, else the largest that is no smaller version of
/// another.
fn base(format: SlideFormat, pictures: &[(usize, Stored)]) -> Option<usize> {
    let first = pictures.first().map(|(index, _)| *index);
    if format != SlideFormat::Tiff {
        return first;
    }
    let rank = |(_, stored): &&(usize, Stored)| {
        (!stored.is_reduced, stored.tiles.size.width_px.saturating_mul(stored.tiles.size.height_px))
    };
    // Of several maxima the last wins: backwards, that is the first.
    pictures.iter().rev().max_by_key(rank).map(|(index, _)| *index)
}

/// Whether a picture is another level, beside level 0 of extent `base`.
fn is_level(format: SlideFormat, stored: &Stored, base: Option<Size>) -> bool {
    match format {
        // Aperio: what is tiled is a level, what lies in strips a picture beside them.
        SlideFormat::Aperio => stored.tiles.is_tiled,
        // OME-TIFF: smaller levels are below their directory, others are other pictures.
        SlideFormat::Ome => false,
        _ => stored.is_reduced && base.is_some_and(|base| are_alike(stored.tiles.size, base)),
    }
}

/// What the directories of a chain turned out to be.
#[derive(Default)]
struct Found {
    levels: Vec<Stored>,
    associated: Vec<AssociatedImage>,
    /// The associated images' own.
    beside: Vec<Stored>,
}

impl Found {
    fn take(
        &mut self,
        file: &SlideFile,
        format: SlideFormat,
        index: usize,
        directory: &Directory,
        stored: Stored,
        is_level: bool,
    ) -> Result<()> {
        if is_level {
            self.levels.push(stored);
            return Ok(());
        }
        let name = match format {
            SlideFormat::Aperio => aperio_name(file, index, directory)?,
            _ => format!("page {}", index + 1),
        };
        self.associated.push(AssociatedImage { name, size: stored.tiles.size });
        self.beside.push(stored);
        Ok(())
    }

    /// The largest first; of equally large ones, the first of the file.
    fn sort(&mut self) {
        self.levels.sort_by_key(|stored| {
            std::cmp::Reverse(stored.tiles.size.width_px.saturating_mul(stored.tiles.size.height_px))
        });
    }
}

/// Aperio's name of a picture beside the levels: the thumbnail comes second, the others say who they are at the
/// beginning of the second line of their description, or by their kind.
fn aperio_name(file: &SlideFile, index: usize, directory: &Directory) -> Result<String> {
    let description = directory.text(file, tag::IMAGE_DESCRIPTION)?;
    let stated = description.lines().nth(1).and_then(|line| line.split_whitespace().next());
    let kind = directory.number(file, tag::NEW_SUBFILE_TYPE)?.unwrap_or(0);
    Ok(match (stated, kind) {
        (Some(name @ ("label" | "macro")), _) => name.to_owned(),
        (_, 1) => "label".to_owned(),
        (_, 9) => "macro".to_owned(),
        _ if index == 1 => "thumbnail".to_owned(),
        _ => format!("page {}", index + 1),
    })
}

/// A picture as a directory states it.
struct Stored {
    tiles: Tiles,
    is_reduced: bool,
}

impl Stored {
    /// None if the directory states no extent, or one of no pixels.
    fn read(file: &SlideFile, directory: &Directory) -> Result<Option<Self>> {
        let extent = |tag| -> Result<Option<usize>> {
            let number = directory.number(file, tag)?;
            Ok(number.and_then(|number| u32::try_from(number).ok()).map(|n| n as usize).filter(|&n| n > 0))
        };
        let (Some(width_px), Some(height_px)) = (extent(tag::IMAGE_WIDTH)?, extent(tag::IMAGE_LENGTH)?)
        else {
            return Ok(None);
        };
        let is_tiled = directory.has(tag::TILE_WIDTH);
        let tile = match is_tiled {
            true => (extent(tag::TILE_WIDTH)?, extent(tag::TILE_LENGTH)?),
            false => (Some(width_px), Some(extent(tag::ROWS_PER_STRIP)?.unwrap_or(height_px).min(height_px))),
        };
        let (Some(tile_width_px), Some(tile_height_px)) = tile else { return Ok(None) };
        let (size, tile) = (Size::new(width_px, height_px), Size::new(tile_width_px, tile_height_px));
        let compression = directory.number(file, tag::COMPRESSION)?;
        let compression = compression.map_or(compression::NONE, |n| u16::try_from(n).unwrap_or(0));
        Ok(Some(Self {
            tiles: Tiles::new(directory.clone(), size, tile, is_tiled, compression),
            is_reduced: directory.number(file, tag::NEW_SUBFILE_TYPE)?.unwrap_or(0) & IS_REDUCED != 0,
        }))
    }

    fn level(&self, base: Size) -> Level {
        let Tiles { size, tile, .. } = self.tiles;
        Level::of(size, base, tile, compression::name(self.tiles.compression))
    }
}
