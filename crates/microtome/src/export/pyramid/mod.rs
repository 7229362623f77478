//! Pyramids in BigTIFF files: pictures, label maps and confidence maps of any size, in tiles, with every smaller level.
//!
//! Rows come in from the top and are never needed again: a band of tiles of each level is all that is kept, so that
//! memory grows with the width of a slide only. As OME-TIFF the smaller levels hang below the first
//! (<https://docs.openmicroscopy.org/ome-model/latest/ome-tiff/specification.html>), which is what QuPath, napari and
//! Bio-Formats read; else they follow one another, which is what OpenSlide and libvips read.

mod bigtiff;
mod tile;

use std::path::{Path, PathBuf};

use microtome_kernels::Size;
use microtome_slide::MicronsPerPixel;
use microtome_vault::{Error, Result};
use rayon::prelude::*;

use bigtiff::{BigTiff, StoredLevel};

/// Side of the tiles.
pub const TILE_PX: usize = 256;
/// No smaller level is made of one whose longer side is no longer than this.
const SMALLEST_PX: usize = 512;

/// What the pixels are, and how they are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelKind {
    /// Red, green, blue; JPEG of this quality, 1 to 100, no colours left out.
    RgbJpeg(u8),
    /// Red, green, blue; zlib, without loss.
    Rgb,
    /// One byte; zlib. Smaller levels are means.
    Grey,
    /// Ids of objects, four bytes, little endian; zlib. Smaller levels take every other pixel.
    Labels,
}

impl PixelKind {
    /// Bytes a pixel.
    pub fn bytes(self) -> usize {
        match self {
            Self::RgbJpeg(_) | Self::Rgb => 3,
            Self::Grey => 1,
            Self::Labels => 4,
        }
    }
}

/// Who is to open the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// OME-TIFF.
    Ome,
    /// Levels in a row, as libvips writes them.
    Generic,
}

impl Layout {
    /// OME-TIFF for names that end in `.ome.tif` or `.ome.tiff`.
    pub fn of_name(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if name.ends_with(".ome.tif") || name.ends_with(".ome.tiff") { Self::Ome } else { Self::Generic }
    }
}

/// What a pyramid is to be.
#[derive(Clone, Copy, Debug)]
pub struct Pyramid {
    /// Extent of the first level.
    pub size: Size,
    /// What the pixels are.
    pub kind: PixelKind,
    /// Who is to open it.
    pub layout: Layout,
    /// Resolution of the first level, if known.
    pub mpp: Option<MicronsPerPixel>,
}

/// A pyramid in the making; see the module.
pub struct PyramidWriter {
    pyramid: Pyramid,
    file: BigTiff,
    levels: Vec<Growing>,
}

/// A level that has come down to some row.
struct Growing {
    size: Size,
    rows_done: usize,
    /// Rows that do not make a band of tiles yet.
    band: Vec<u8>,
    stored: StoredLevel,
}

impl PyramidWriter {
    /// Begins a file that will replace `path`.
    ///
    /// # Errors
    /// `Usage` for a pyramid without pixels or of more than 2³¹ − 1 in a row; `Io` when the file cannot be made.
    pub fn create(path: &Path, pyramid: Pyramid) -> Result<Self> {
        let sides = [pyramid.size.width_px, pyramid.size.height_px];
        if sides.iter().any(|side| *side == 0 || i32::try_from(*side).is_err()) {
            return Err(
                Error::usage(format!("a slide of {} pixels cannot be written", pyramid.size)).at(path)
            );
        }
        let levels = sizes(pyramid.size).map(|size| Growing {
            size,
            rows_done: 0,
            band: Vec::new(),
            stored: StoredLevel::new(size),
        });
        Ok(Self { pyramid, file: BigTiff::create(path)?, levels: levels.collect() })
    }

    /// The next rows of the first level, `[rows][width_px][bytes]`: as many as there are.
    ///
    /// # Errors
    /// `Io` when the disk refuses; `Bug` when they are no whole rows, or too many.
    pub fn push_rows(&mut self, rows: &[u8]) -> Result<()> {
        if !rows.len().is_multiple_of(self.pyramid.size.width_px * self.pyramid.kind.bytes()) {
            return Err(Error::bug("these are no whole rows of the pyramid"));
        }
        self.push(0, rows)
    }

    fn push(&mut self, index: usize, mut rows: &[u8]) -> Result<()> {
        let Some(level) = self.levels.get(index) else { return Ok(()) };
        let row_bytes = level.size.width_px * self.pyramid.kind.bytes();
        while !rows.is_empty() {
            let level = &mut self.levels[index];
            let height_px = TILE_PX.min(level.size.height_px - level.rows_done);
            let missing = height_px * row_bytes - level.band.len();
            if missing == 0 {
                // An odd row too many, of the level above, has no place in this one.
                return if index > 0 { Ok(()) } else { Err(Error::bug("the pyramid has fewer rows")) };
            }
            let (now, later) = rows.split_at(missing.min(rows.len()));
            level.band.extend_from_slice(now);
            rows = later;
            if level.band.len() == height_px * row_bytes {
                level.rows_done += height_px;
                let band = std::mem::take(&mut level.band);
                self.store(index, &band, height_px)?;
                let halved = halve(&band, self.levels[index].size.width_px, self.pyramid.kind);
                self.push(index + 1, &halved)?;
                // The memory of the band serves the next one.
                self.levels[index].band = band;
                self.levels[index].band.clear();
            }
        }
        Ok(())
    }

    fn store(&mut self, index: usize, band: &[u8], height_px: usize) -> Result<()> {
        let (kind, level) = (self.pyramid.kind, &mut self.levels[index]);
        let width_px = level.size.width_px;
        let lefts: Vec<usize> = (0..width_px).step_by(TILE_PX).collect();
        let tiles: Vec<tile::Encoded> = lefts
            .into_par_iter()
            .map(|left| tile::encode(kind, band, Size::new(width_px, height_px), left))
            .collect::<Result<_>>()?;
        tiles.into_iter().try_for_each(|tile| self.file.append(&mut level.stored, tile))
    }

    /// Completes the file and puts it in place; gives its path.
    ///
    /// # Errors
    /// `Io` when the disk refuses; `Bug` when rows are missing.
    pub fn finish(self) -> Result<PathBuf> {
        if self.levels.iter().any(|level| level.rows_done < level.size.height_px) {
            return Err(Error::bug("rows of the pyramid are missing"));
        }
        let levels: Vec<StoredLevel> = self.levels.into_iter().map(|level| level.stored).collect();
        self.file.finish(&self.pyramid, &levels)
    }
}

/// Extents of the levels: each half of the one before, rounded down.
pub(super) fn sizes(first: Size) -> impl Iterator<Item = Size> {
    let half = |size: &Size| {
        let is_large = size.width_px.max(size.height_px) > SMALLEST_PX;
        is_large.then(|| Size::new((size.width_px / 2).max(1), (size.height_px / 2).max(1)))
    };
    std::iter::successors(Some(first), half)
}

/// Rows of the level below: each pixel is made of four; an odd row or column at the end has no part in it, unless it is the
/// only one.
pub(super) fn halve(rows: &[u8], width_px: usize, kind: PixelKind) -> Vec<u8> {
    let bytes = kind.bytes();
    let row_bytes = width_px * bytes;
    let half_bytes = (width_px / 2).max(1) * bytes;
    let pairs: Vec<&[u8]> = match rows.len() / row_bytes {
        1 => vec![rows],
        _ => rows.chunks_exact(2 * row_bytes).collect(),
    };
    let mut halved = vec![0; pairs.len() * half_bytes];
    halved.par_chunks_exact_mut(half_bytes).zip(pairs).for_each(|(out, pair)| {
        let (upper, lower) = pair.split_at(row_bytes);
        let lower = if lower.is_empty() { upper } else { lower };
        for (x, out) in out.chunks_exact_mut(bytes).enumerate() {
            let left = 2 * x * bytes;
            let right = if width_px > 1 { left + bytes } else { left };
            if kind == PixelKind::Labels {
                out.copy_from_slice(&upper[left..left + bytes]);
                continue;
            }
            for (channel, out) in out.iter_mut().enumerate() {
                let four = [
                    upper[left + channel],
                    upper[right + channel],
                    lower[left + channel],
                    lower[right + channel],
                ];
                *out = ((four.into_iter().map(u16::from).sum::<u16>() + 2) / 4) as u8;
            }
        }
    });
    halved
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_slide::{PointInLevel0, Slide};
    use microtome_vault::Budget;

    fn written(
        size: Size,
        kind: PixelKind,
        name: &str,
        rows: &[u8],
        at_once: usize,
    ) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let mpp = Some(MicronsPerPixel::new(0.25).unwrap());
        let pyramid = Pyramid { size, kind, layout: Layout::of_name(&path), mpp };
        let mut writer = PyramidWriter::create(&path, pyramid).unwrap();
        for rows in rows.chunks(at_once * size.width_px * kind.bytes()) {
            writer.push_rows(rows).unwrap();
        }
        let path = writer.finish().unwrap();
        (folder, path)
    }

    fn picture(size: Size) -> Vec<u8> {
        let value = |at: usize, c: usize| ((at % size.width_px / 3 + at / size.width_px / 5) * (c + 1)) as u8;
        (0..size.area_px()).flat_map(|at| [0, 1, 2].map(|c| value(at, c))).collect()
    }

    #[test]
    fn what_is_written_is_read_back_at_every_level() {
        for (size, at_once) in [(Size::new(1201, 700), 1), (Size::new(530, 1100), 333), (Size::new(1, 3), 3)]
        {
            let rows = picture(size);
            for name in ["a.tif", "a.ome.tif"] {
                let (_folder, path) = written(size, PixelKind::Rgb, name, &rows, at_once);
                let slide = Slide::open(path, Budget::DEFAULT).unwrap();
                assert_eq!(slide.mpp.map(MicronsPerPixel::microns), Some(0.25));
                let expected: Vec<Size> = sizes(size).collect();
                assert_eq!(slide.levels.iter().map(|level| level.size).collect::<Vec<_>>(), expected);
                let mut pixels = rows.clone();
                for (level, &size) in expected.iter().enumerate() {
                    let read = slide.region(level, PointInLevel0::new(0, 0), size, Budget::DEFAULT).unwrap();
                    assert!(read.rgb == pixels, "{name} {size}");
                    pixels = halve(&pixels, size.width_px, PixelKind::Rgb);
                }
            }
        }
    }

    #[test]
    fn jpeg_is_near_and_rows_are_counted() {
        let size = Size::new(600, 300);
        let rows = picture(size);
        let (_folder, path) = written(size, PixelKind::RgbJpeg(95), "a.tif", &rows, 300);
        let slide = Slide::open(&path, Budget::DEFAULT).unwrap();
        assert_eq!(slide.levels[0].compression, "JPEG");
        let read = slide.region(0, PointInLevel0::new(0, 0), size, Budget::DEFAULT).unwrap().rgb;
        let error: u64 = read.iter().zip(&rows).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        assert!(error < 3 * rows.len() as u64, "mean error {}", error as f64 / rows.len() as f64);
        let pyramid = Pyramid { size, kind: PixelKind::Rgb, layout: Layout::Ome, mpp: None };
        let mut short = PyramidWriter::create(&path, pyramid).unwrap();
        assert!(short.push_rows(&[0; 5]).is_err());
        assert!(short.finish().is_err());
        assert!(Slide::open(&path, Budget::DEFAULT).is_ok(), "the file that was there still is");
        let nothing = Pyramid { size: Size::new(0, 3), ..pyramid };
        assert!(PyramidWriter::create(&path, nothing).is_err());
    }
}
