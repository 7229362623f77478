//! A whole slide: what does not fit into memory. Its levels, their resolution, and the pictures that lie beside them.

mod file;
mod region;
mod tiff;

use std::fmt;
use std::path::{Path, PathBuf};

use microtome_vault::{Error, Result};

use crate::{MicronsPerPixel, Size};
use file::SlideFile;

/// What kind of file a slide is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlideFormat {
    /// Aperio (Leica) SVS.
    Aperio,
    /// OME-TIFF.
    Ome,
    /// Any other TIFF or BigTIFF.
    Tiff,
}

impl fmt::Display for SlideFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aperio => "Aperio SVS",
            Self::Ome => "OME-TIFF",
            Self::Tiff => "TIFF",
        })
    }
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
    pixels: tiff::Pixels,
}

impl Slide {
    /// Opens a slide: its directories are read, no pixel is.
    ///
    /// # Errors
    /// `Input` when the file is missing, no slide, damaged or of a kind that is not read; `Io` when it cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        tiff::open(SlideFile::open(path.as_ref())?)
    }
}

fn not_a_slide() -> Error {
    Error::input("this is not a slide that is read").advise(
        "slides are read from Aperio SVS, OME-TIFF and other TIFF files; export it from the scanner's or a viewer's \
         program as one of them",
    )
}
