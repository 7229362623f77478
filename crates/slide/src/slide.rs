//! A whole slide: what does not fit into memory. Its levels, their resolution, and the pictures that lie beside them.

mod cache;
pub(crate) mod dicom;
mod file;
mod openslide;
mod plain;
mod region;
mod source;
mod tiff;

use std::fmt;
use std::path::{Path, PathBuf};

use microtome_vault::{Budget, Error, Result};

use crate::{MicronsPerPixel, Picture, Size, find_pictures, formats};
use cache::TileCache;
use file::SlideFile;
pub(crate) use openslide::EXTENSIONS as OPENSLIDE_EXTENSIONS;
pub use openslide::location as openslide_location;
use source::TileSource;

/// What kind of file a slide is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlideFormat {
    /// Aperio (Leica) SVS.
    Aperio,
    /// OME-TIFF.
    Ome,
    /// Any other TIFF or BigTIFF.
    Tiff,
    /// DICOM: a series of whole-slide files.
    Dicom,
    /// What OpenSlide reads.
    OpenSlide,
    /// A picture, which is its own only level.
    Picture,
}

impl SlideFormat {
    /// Whether pictures that are no slides are stored so, too.
    pub fn is_of_pictures_too(self) -> bool {
        !matches!(self, Self::Dicom | Self::OpenSlide)
    }
}

impl fmt::Display for SlideFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aperio => "Aperio SVS",
            Self::Ome => "OME-TIFF",
            Self::Tiff => "TIFF",
            Self::Dicom => "DICOM",
            Self::OpenSlide => "read by OpenSlide",
            Self::Picture => "picture",
        })
    }
}

/// What a file's beginning says about whether it is a slide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlideLikeness {
    /// It is none.
    None,
    /// Pictures are stored so, too.
    Possible,
    /// Only slides are stored so.
    Certain,
}

/// One level of the pyramid.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// Extent, in pixels of this level.
    pub size: Size,
    /// How many pixels of level 0 one pixel is wide: the mean of both directions.
    pub downsample: f64,
    /// Extent of the tiles or strips that the level is stored in.
    pub tile: Size,
    /// How tiles are compressed, in words.
    pub compression: String,
}

impl Level {
    /// A level of extent `size` of a slide whose level 0 has the extent `base`.
    fn of(size: Size, base: Size, tile: Size, compression: String) -> Self {
        let ratio = |base: usize, own: usize| base as f64 / own as f64;
        let (across, down) = (ratio(base.width_px, size.width_px), ratio(base.height_px, size.height_px));
        Self { size, downsample: (across + down) / 2.0, tile, compression }
    }
}

/// How far a level's proportions may be from those of level 0, as a share.
const ASPECT_TOLERANCE: f64 = 0.05;

/// Whether two extents have the proportions of one picture.
fn are_alike(size: Size, base: Size) -> bool {
    let aspect = |size: Size| size.width_px as f64 / size.height_px as f64;
    (aspect(base) - aspect(size)).abs() <= ASPECT_TOLERANCE * aspect(base)
}

/// A picture beside the levels: label, macro, thumbnail.
#[derive(Clone, Debug, PartialEq)]
pub struct AssociatedImage {
    /// What it is.
    pub name: String,
    /// Extent, in pixels.
    pub size: Size,
}

/// A rectangle of a level.
#[derive(Clone, Debug)]
pub struct Region {
    /// Extent, in pixels of the level.
    pub size: Size,
    /// Red, green, blue of each pixel, white where the slide has none: `[height_px][width_px][3]`.
    pub rgb: Vec<u8>,
    /// How many tiles could not be read and are white, and the reason of the first.
    pub unreadable: Option<(usize, String)>,
}

impl Region {
    /// The pixels as a picture without a name, of a slide's file and of a resolution.
    pub fn into_picture(self, path: &Path, mpp: Option<MicronsPerPixel>) -> Picture {
        let (name, sha256, warnings) = (String::new(), String::new(), Vec::new());
        Picture { name, path: path.to_owned(), size: self.size, rgb: self.rgb, mpp, sha256, warnings }
    }
}

/// Unreadable tiles of two regions together: their number, and the reason of the first.
pub fn unreadable_of_both(
    first: Option<(usize, String)>,
    second: Option<(usize, String)>,
) -> Option<(usize, String)> {
    match (first, second) {
        (Some((before, reason)), Some((now, _))) => Some((before + now, reason)),
        (before, now) => before.or(now),
    }
}

/// An open slide.
#[derive(Debug)]
pub struct Slide {
    /// Where it lies.
    pub path: PathBuf,
    /// What kind of file it is.
    pub format: SlideFormat,
    /// The levels, the largest first; never empty.
    pub levels: Vec<Level>,
    /// The resolution of level 0, if the file states one that a microscope could have.
    pub mpp: Option<MicronsPerPixel>,
    /// The magnification of the objective, if the file states it.
    pub objective_power: Option<f64>,
    /// Label, macro, thumbnail and others, in the order of the file.
    pub associated: Vec<AssociatedImage>,
    /// What is not as it should be: a sentence each, without a full stop.
    pub warnings: Vec<String>,
    source: Box<dyn TileSource>,
    cache: TileCache,
}

impl Slide {
    /// Opens a slide: its directories are read, no pixel is. Of a file that is no pyramid (a picture, or a TIFF file whose
    /// tiles cannot be read one by one) all pixels are read, if they fit into the budget, and make one level. A folder is
    /// opened if one slide or picture is in it.
    ///
    /// # Errors
    /// `Input` when the file is missing, no slide, damaged or of a kind that is not read; `Limit` when a picture exceeds
    /// the budget; `Io` when it cannot be read.
    pub fn open(path: impl AsRef<Path>, budget: Budget) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            return Self::open(the_only_one_in(path)?, budget);
        }
        let file = SlideFile::open(path)?;
        let head = file.bytes(0, file.length().min(formats::HEAD_BYTES as u64))?.unwrap_or_default();
        if openslide::is_for_it(path) {
            return openslide::open(path);
        }
        if formats::is_dicom(&head) {
            return dicom::open(path);
        }
        if !formats::is_tiff(&head) {
            return match formats::is_picture(&head) {
                true => plain::open(path, budget),
                false => Err(not_a_slide(&head).at(path)),
            };
        }
        match tiff::open(file) {
            // What cannot be read tile by tile may be read whole.
            Ok(slide) if slide.levels.len() == 1 && !slide.source.can_read(0) => {
                plain::open(path, budget).or(Ok(slide))
            }
            outcome => outcome,
        }
    }

    /// Whether a file is of a format that is made for slides, or may be a slide's (TIFF); one that cannot be read is not.
    pub fn is_slide_file(path: impl AsRef<Path>) -> SlideLikeness {
        let path = path.as_ref();
        let length = formats::HEAD_BYTES as u64;
        let head = SlideFile::open(path).and_then(|file| file.bytes(0, file.length().min(length)));
        match head.ok().flatten() {
            Some(_) if openslide::is_for_it(path) => SlideLikeness::Certain,
            Some(head) if formats::is_dicom(&head) => SlideLikeness::Certain,
            Some(head) if formats::is_tiff(&head) => SlideLikeness::Possible,
            _ => SlideLikeness::None,
        }
    }

    /// Whether it holds more than a program that reads pictures would take for one: several levels, or a scanner's format.
    pub fn is_pyramid(&self) -> bool {
        use SlideFormat::{Aperio, Dicom, OpenSlide};
        self.levels.len() > 1 || matches!(self.format, Aperio | Dicom | OpenSlide)
    }

    /// A tile as the JPEG file that it is stored as, for who shows it and decodes it there; none where it is stored in
    /// another way, or left out. `place` is its column and row.
    ///
    /// # Errors
    /// `Input` when the file is damaged; `Io` when the disk refuses.
    pub fn jpeg_tile(&self, level: usize, place: TilePlace) -> Result<Option<Vec<u8>>> {
        let is_there = self.levels.get(level).is_some_and(|_| {
            let (_, (across, down)) = self.source.tiling(level);
            place.column < across && place.row < down
        });
        if !is_there {
            return Ok(None);
        }
        self.source.jpeg_tile(level, place).map_err(|error| error.at(&self.path))
    }
}

/// A tile of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePlace {
    /// Tiles to its left.
    pub column: usize,
    /// Tiles above it.
    pub row: usize,
}

/// The slide or picture in a folder.
fn the_only_one_in(folder: &Path) -> Result<PathBuf> {
    let mut found = find_pictures(&[folder.to_owned()])?;
    match (found.pop(), found.len()) {
        (Some(path), 0) => Ok(path),
        (_, others) => Err(Error::usage(format!("the folder holds {} slides or pictures", others + 1))
            .advise("name one of them")
            .at(folder)),
    }
}

fn not_a_slide(head: &[u8]) -> Error {
    let what = match formats::foreign_name(head) {
        Some(name) => format!("this is {name}, which is not read as a slide"),
        None => "this is not a slide that is read".to_owned(),
    };
    Error::input(what).advise(
        "slides are read from Aperio SVS, OME-TIFF and other TIFF files and from DICOM, pictures from PNG, JPEG and BMP \
         too; export it from the scanner's or a viewer's program as one of them",
    )
}
