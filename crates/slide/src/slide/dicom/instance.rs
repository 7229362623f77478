//! One DICOM file of a slide: a level, or a picture beside the levels (PS3.3, section C.8.12, VL whole slide microscopy).

use std::ops::ControlFlow;
use std::path::Path;

use microtome_vault::Result;

use super::super::file::SlideFile;
use super::elements::{Element, Encoding, End, Tag, u16_of, u32_of, walk};
use super::syntax::Syntax;
use super::{OPTICAL_PATHS, PER_FRAME, PIXEL_MEASURES, PLANE_POSITION, SHARED};
use crate::Size;
use crate::formats::{damaged, unsupported};

/// Where elements begin: after a preamble and the mark `DICM`.
const BEGINNING: u64 = 132;
/// The class of whole slides.
const WHOLE_SLIDE: &str = "1.2.840.10008.5.1.4.1.1.77.1.6";

mod tag {
    use super::Tag;
    pub(super) const TRANSFER_SYNTAX: Tag = 0x0002_0010;
    pub(super) const IMAGE_TYPE: Tag = 0x0008_0008;
    pub(super) const CLASS: Tag = 0x0008_0016;
    pub(super) const SERIES: Tag = 0x0020_000e;
    pub(super) const CONCATENATION: Tag = 0x0020_9161;
    pub(super) const SAMPLES_PER_PIXEL: Tag = 0x0028_0002;
    pub(super) const PHOTOMETRIC: Tag = 0x0028_0004;
    pub(super) const PLANAR: Tag = 0x0028_0006;
    pub(super) const FRAMES: Tag = 0x0028_0008;
    pub(super) const ROWS: Tag = 0x0028_0010;
    pub(super) const COLUMNS: Tag = 0x0028_0011;
    pub(super) const PIXEL_SPACING: Tag = 0x0028_0030;
    pub(super) const BITS_ALLOCATED: Tag = 0x0028_0100;
    pub(super) const BITS_STORED: Tag = 0x0028_0101;
    pub(super) const TOTAL_COLUMNS: Tag = 0x0048_0006;
    pub(super) const TOTAL_ROWS: Tag = 0x0048_0007;
    pub(super) const OBJECTIVE_POWER: Tag = 0x0048_0112;
    pub(super) const FOCAL_PLANES: Tag = 0x0048_0303;
    pub(super) const COLUMN_POSITION: Tag = 0x0048_021e;
    pub(super) const ROW_POSITION: Tag = 0x0048_021f;
    pub(super) const OFFSETS: Tag = 0x7fe0_0001;
}

/// What a file holds of the slide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Level,
    Beside(&'static str),
}

/// What is known of a file before its pixels.
#[derive(Clone, Debug, Default)]
pub(super) struct Header {
    pub(super) image_type: String,
    class: String,
    pub(super) series: String,
    is_part: bool,
    pub(super) samples_per_pixel: u16,
    pub(super) photometric: String,
    pub(super) is_planar: bool,
    pub(super) frames: u64,
    tile: [u16; 2],
    total: [u32; 2],
    pub(super) bits: [u16; 2],
    /// Down and across, in mm.
    pub(super) spacing_mm: Option<[f64; 2]>,
    pub(super) objective_power: Option<f64>,
    pub(super) focal_planes: u32,
    /// Left and top of each frame where the file says so, from 1 on.
    pub(super) positions: Vec<[u32; 2]>,
    column: u32,
    /// Where 64-bit offsets of the frames lie, and how many bytes.
    pub(super) offsets: Option<(u64, u64)>,
}

/// A file whose pixels can be found.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) file: SlideFile,
    pub(super) header: Header,
    pub(super) syntax: Syntax,
    /// Where the pixels begin, and how many bytes they have if they are no sequence of items.
    pub(super) pixels: (u64, Option<u64>),
}

/// The series that a file belongs to, if it is of a whole slide.
pub(super) fn series_of(path: &Path) -> Option<String> {
    let file = SlideFile::open(path).ok()?;
    let (encoding, start) = file_information(&file).ok()?.1;
    let mut header = Header::default();
    let visit = |element: Element<'_>| {
        header.take(&element);
        // Elements come in ascending order.
        if element.tag >= tag::SERIES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    walk(&file, start, encoding, None, visit).ok()?;
    (header.class == WHOLE_SLIDE && !header.series.is_empty()).then_some(header.series)
}

/// What the head of a file says: how pixels are stored, how elements are written and where they begin.
fn file_information(file: &SlideFile) -> Result<(String, (Encoding, u64))> {
    if file.bytes(0, BEGINNING)?.is_none_or(|head| !head.ends_with(b"DICM")) {
        return Err(damaged("DICOM", "its mark is missing"));
    }
    let mut syntax = String::new();
    let end = walk(file, BEGINNING, Encoding::Explicit, Some(2), |element| {
        if element.tag == tag::TRANSFER_SYNTAX {
            syntax = text(element.value);
        }
        ControlFlow::Continue(())
    })?;
    let End::Elsewhere(start) = end else { return Err(damaged("DICOM", "it has no head")) };
    let encoding = if syntax == "1.2.840.10008.1.2" { Encoding::Implicit } else { Encoding::Explicit };
    Ok((syntax, (encoding, start)))
}

impl Instance {
    /// Reads a file up to its pixels.
    ///
    /// # Errors
    /// `Input` when it is damaged, no whole slide or of a kind that is not read; `Io` when the disk refuses.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let file = SlideFile::open(path)?;
        Self::of(file).map_err(|error| error.at(path))
    }

    fn of(file: SlideFile) -> Result<Self> {
        let (syntax, (encoding, start)) = file_information(&file)?;
        let mut header =
            Header { frames: 1, samples_per_pixel: 1, bits: [8, 8], focal_planes: 1, ..Header::default() };
        let syntax = Syntax::of(&syntax)?;
        let end = walk(&file, start, encoding, None, |element| {
            header.take(&element);
            ControlFlow::Continue(())
        })?;
        if header.class != WHOLE_SLIDE {
            return Err(unsupported("DICOM", "is no whole-slide image"));
        }
        let End::Pixels { at, length } = end else { return Err(damaged("DICOM", "it has no pixels")) };
        if header.is_part {
            return Err(unsupported("DICOM", "is one part of a level that lies in several files"));
        }
        header.check()?;
        Ok(Self { file, header, syntax, pixels: (at, length) })
    }

    /// Extent, in pixels.
    pub(super) fn size(&self) -> Size {
        let Header { total: [width, height], tile: [tile_width, tile_height], .. } = self.header;
        match (width, height) {
            // Pictures beside the levels are often one frame.
            (0, _) | (_, 0) => Size::new(usize::from(tile_width), usize::from(tile_height)),
            _ => Size::new(width as usize, height as usize),
        }
    }

    /// Extent of a frame, in pixels.
    pub(super) fn tile(&self) -> Size {
        Size::new(usize::from(self.header.tile[0]), usize::from(self.header.tile[1]))
    }

    pub(super) fn role(&self) -> Role {
        match self.header.image_type.split('\\').nth(2).map(str::trim) {
            Some("LABEL") => Role::Beside("label"),
            Some("OVERVIEW") => Role::Beside("macro"),
            Some("THUMBNAIL") => Role::Beside("thumbnail"),
            _ => Role::Level,
        }
    }
}

impl Header {
    fn take(&mut self, element: &Element<'_>) {
        let value = element.value;
        let short = || value.get(..2).map(u16_of);
        let long = || value.get(..4).map(u32_of);
        match element.within {
            [] => match element.tag {
                tag::IMAGE_TYPE => self.image_type = text(value),
                tag::CLASS => self.class = text(value),
                tag::SERIES => self.series = text(value),
                tag::CONCATENATION => self.is_part = true,
                tag::SAMPLES_PER_PIXEL => self.samples_per_pixel = short().unwrap_or(0),
                tag::PHOTOMETRIC => self.photometric = text(value),
                tag::PLANAR => self.is_planar = short() == Some(1),
                tag::FRAMES => self.frames = text(value).parse().unwrap_or(0),
                tag::COLUMNS => self.tile[0] = short().unwrap_or(0),
                tag::ROWS => self.tile[1] = short().unwrap_or(0),
                tag::BITS_ALLOCATED => self.bits[0] = short().unwrap_or(0),
                tag::BITS_STORED => self.bits[1] = short().unwrap_or(0),
                tag::TOTAL_COLUMNS => self.total[0] = long().unwrap_or(0),
                tag::TOTAL_ROWS => self.total[1] = long().unwrap_or(0),
                tag::FOCAL_PLANES => self.focal_planes = long().unwrap_or(1),
                tag::OFFSETS => self.offsets = Some(element.place),
                _ => {}
            },
            [SHARED | PER_FRAME, PIXEL_MEASURES] if element.tag == tag::PIXEL_SPACING => {
                self.spacing_mm = self.spacing_mm.or_else(|| pair(&text(value)));
            }
            [OPTICAL_PATHS] if element.tag == tag::OBJECTIVE_POWER => {
                let power: Option<f64> = text(value).parse().ok();
                self.objective_power = self.objective_power.or(power.filter(|power| *power > 0.0));
            }
            [PER_FRAME, PLANE_POSITION] => match element.tag {
                tag::COLUMN_POSITION => self.column = long().unwrap_or(0),
                tag::ROW_POSITION => self.positions.push([self.column, long().unwrap_or(0)]),
                _ => {}
            },
            _ => {}
        }
    }

    fn check(&self) -> Result<()> {
        let [allocated, stored] = self.bits;
        let is_grey = self.samples_per_pixel == 1;
        if !(allocated == 8 && stored == 8 || is_grey && allocated == 16 && (1..=16).contains(&stored)) {
            let samples = self.samples_per_pixel;
            return Err(unsupported("DICOM", format!("has {samples} samples of {stored} bits a pixel")));
        }
        if !matches!(self.samples_per_pixel, 1 | 3) {
            return Err(unsupported("DICOM", format!("has {} samples a pixel", self.samples_per_pixel)));
        }
        // A picture of several frames says how they lie.
        if self.tile.contains(&0) || self.frames == 0 || (self.total.contains(&0) && self.frames > 1) {
            return Err(damaged("DICOM", "it states no extent"));
        }
        Ok(())
    }
}

/// Longer texts are cut.
const LONGEST_TEXT: usize = 128;

/// Text without the blanks and zeros that fill it up, and without what cannot be shown: texts end up in messages.
fn text(value: &[u8]) -> String {
    let value = &value[..value.len().min(LONGEST_TEXT)];
    let shown = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { ' ' };
    value.iter().map(shown).collect::<String>().trim().to_owned()
}

/// Two numbers with a backslash between them.
fn pair(text: &str) -> Option<[f64; 2]> {
    let (first, second) = text.split_once('\\')?;
    Some([first.trim().parse().ok()?, second.trim().parse().ok()?])
}
