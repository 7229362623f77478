//! Tiles and their vectors as HDF5, in the layout of TRIDENT and CLAM: `coords`, the upper left corners in pixels of level 0, and
//! `features`, a row for each.
//!
//! How wide a tile is stands in the attributes of `coords`: `patch_size_level0` (TRIDENT), or `patch_size`, `patch_level` and
//! maybe `custom_downsample` (CLAM).

use microtome_slide::Slide;
use microtome_vault::{Budget, Error, Result, disk, foreign};
use rust_hdf5::{H5Dataset, H5File};
use std::path::Path;

/// Rows in a chunk of what is written.
const ROWS: usize = 256;

/// Tiles of one slide.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Upper left corners `[x, y]`, in pixels of level 0.
    pub corners_in_level0: Vec<[i64; 2]>,
    /// Side of a tile, in pixels of level 0.
    pub side_in_level0_px: usize,
    /// Values of a vector.
    pub dimensions: usize,
    /// `[tiles][dimensions]`.
    pub vectors: Vec<f32>,
}

impl Features {
    /// Reads a file that belongs to `slide`; `side_in_level0_px` says how wide tiles are, over what the file says.
    ///
    /// # Errors
    /// `Input` when the file is damaged, or of another layout, or its tiles are not of this slide; `Limit`.
    pub fn read(
        path: &Path,
        slide: &Slide,
        side_in_level0_px: Option<usize>,
        budget: Budget,
    ) -> Result<Self> {
        let read = || -> Result<Self> {
            let file = H5File::open(path).map_err(|error| damaged(&error.to_string()))?;
            let coords = dataset(&file, "coords")?;
            let features = dataset(&file, "features")?;
            let (tiles, dimensions) = extents(&coords.shape(), &features.shape())?;
            // As it lies in the file, and once more in our numbers.
            budget.grant(
                "the vectors of this file",
                tiles as u64,
                20u64.saturating_mul(dimensions as u64 + 4),
            )?;
            let side = side_in_level0_px.map_or_else(|| side_of(&coords, slide), Ok)?;
            let corners = integers(&coords)?.as_chunks::<2>().0.to_vec();
            let vectors = floats(&features)?;
            if corners.len() != tiles || vectors.len() != tiles * dimensions {
                return Err(damaged("it has fewer values than it says"));
            }
            Ok(Self { corners_in_level0: corners, side_in_level0_px: side, dimensions, vectors })
        };
        let gave_up = || Err(damaged("its decoder gave up"));
        let found = foreign::call(read).unwrap_or_else(gave_up).map_err(|error| error.at(path))?;
        found.check(slide).map_err(|error| error.at(path))?;
        Ok(found)
    }

    /// Writes a file that TRIDENT's and CLAM's readers open.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn write(&self, path: &Path, name: &str, slide: &Slide) -> Result<()> {
        disk::write_by_path(path, |temporary| {
            self.write_new(temporary, name, slide).map_err(|error| {
                Error::io("writing", &std::io::Error::other(error.to_string()))
                    .advise("free space, or name another folder")
                    .at(path)
            })
        })
    }

    fn write_new(&self, path: &Path, name: &str, slide: &Slide) -> rust_hdf5::Result<()> {
        let file = H5File::create(path)?;
        let tiles = self.corners_in_level0.len();
        let coords = file
            .new_dataset::<i64>()
            .shape([tiles, 2])
            .chunk(&[ROWS, 2])
            .max_shape(&[None, Some(2)])
            .create("coords")?;
        coords.write_raw(self.corners_in_level0.as_flattened())?;
        let number =
            |key: &str, value: usize| coords.new_attr::<i64>().create(key)?.write_numeric(&(value as i64));
        // Tiles are as large as at level 0 for whoever reads them by these.
        number("patch_size", self.side_in_level0_px)?;
        number("patch_size_level0", self.side_in_level0_px)?;
        number("patch_level", 0)?;
        number("level0_width", slide.levels[0].size.width_px)?;
        number("level0_height", slide.levels[0].size.height_px)?;
        coords.new_attr::<rust_hdf5::types::VarLenUnicode>().create("name")?.write_string(name)?;
        let features = file
            .new_dataset::<f32>()
            .shape([tiles, self.dimensions])
            .chunk(&[ROWS, self.dimensions])
            .max_shape(&[None, Some(self.dimensions)])
            .create("features")?;
        features.write_raw(&self.vectors)?;
        file.close()
    }

    /// Whether these can be tiles of a slide, and numbers.
    fn check(&self, slide: &Slide) -> Result<()> {
        let size = slide.levels[0].size;
        let side = self.side_in_level0_px;
        if side == 0 || side > size.width_px.max(size.height_px) {
            return Err(Error::input(format!("tiles of {side} px do not fit this slide of {size} pixels")));
        }
        let is_within = |at: i64, extent_px: usize| at > -(side as i64) && at < extent_px as i64;
        for [x, y] in &self.corners_in_level0 {
            if !is_within(*x, size.width_px) || !is_within(*y, size.height_px) {
                return Err(Error::input(format!(
                    "the tile at {x}, {y} is not on the slide of {size} pixels"
                ))
                .advise("coords are pixels of level 0; is the file another slide's?"));
            }
        }
        match self.vectors.iter().all(|value| value.is_finite()) {
            true => Ok(()),
            false => Err(Error::input("features hold values that are no numbers")),
        }
    }
}

fn damaged(reason: &str) -> Error {
    Error::input(format!("this HDF5 file cannot be read ({reason})"))
        .advise("it may be damaged: copy it again from its source, or look at it with h5ls")
}

fn dataset(file: &H5File, name: &str) -> Result<H5Dataset> {
    file.dataset(name).map_err(|error| {
        let mut there = file.dataset_names();
        there.truncate(8);
        match there.iter().any(|own| own == name) {
            true => damaged(&error.to_string()),
            false => Error::input(format!("the file has no dataset “{name}”, but {}", there.join(", ")))
                .advise("TRIDENT and CLAM write the datasets coords and features"),
        }
    })
}

/// Tiles and dimensions.
fn extents(coords: &[usize], features: &[usize]) -> Result<(usize, usize)> {
    // Some write a batch of one in front.
    let features = features.strip_prefix(&[1]).filter(|rest| rest.len() == 2).unwrap_or(features);
    match (coords, features) {
        ([tiles, 2], [rows, dimensions]) if tiles == rows && *dimensions > 0 => Ok((*tiles, *dimensions)),
        _ => Err(Error::input(format!(
            "coords of extent {coords:?} and features of extent {features:?} do not belong together"
        ))
        .advise("they are tiles × 2 and tiles × dimensions")),
    }
}

fn integers(dataset: &H5Dataset) -> Result<Vec<i64>> {
    dataset.read_numeric_as::<i64>().map_err(|error| damaged(&error.to_string()))
}

/// Numbers of 16, 32 or 64 bits.
fn floats(dataset: &H5Dataset) -> Result<Vec<f32>> {
    match dataset.element_size() {
        8 => {
            let wide = dataset.read_numeric_as::<f64>().map_err(|error| damaged(&error.to_string()))?;
            Ok(wide.into_iter().map(|value| value as f32).collect())
        }
        _ => dataset.read_numeric_as::<f32>().map_err(|error| damaged(&error.to_string())),
    }
}

/// Side of a tile in pixels of level 0, as the attributes say.
fn side_of(coords: &H5Dataset, slide: &Slide) -> Result<usize> {
    let number = |name: &str| -> Option<f64> {
        let attribute = coords.attr(name).ok()?;
        let integers =
            attribute.read_numeric_as::<i64>().ok().map(|all| all.into_iter().map(|n| n as f64).collect());
        let all: Vec<f64> = integers.or_else(|| attribute.read_numeric_as::<f64>().ok())?;
        all.first().copied()
    };
    let side = number("patch_size_level0").or_else(|| {
        let level = slide.levels.get(number("patch_level")? as usize)?;
        Some(number("patch_size")? * level.downsample * number("custom_downsample").unwrap_or(1.0))
    });
    match side.filter(|side| side.is_finite() && *side >= 1.0) {
        Some(side) => Ok(side.round() as usize),
        None => Err(Error::input("the file does not say how wide its tiles are")
            .advise("say it in pixels of level 0 with --side")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_kernels::Size;

    fn slide(folder: &Path) -> Slide {
        let path = folder.join("a.png");
        crate::export::png::write_png(
            &path,
            Size::new(300, 200),
            crate::export::png::Samples::Rgb8(&[200; 3 * 300 * 200]),
        )
        .unwrap();
        Slide::open(&path, Budget::DEFAULT).unwrap()
    }

    fn features() -> Features {
        let corners_in_level0: Vec<[i64; 2]> = (0..700).map(|n| [n % 29 * 10, n / 29 * 8]).collect();
        let vectors = (0..700 * 5).map(|n| n as f32 / 7.0).collect();
        Features { corners_in_level0, side_in_level0_px: 64, dimensions: 5, vectors }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let (slide, path) = (slide(folder.path()), folder.path().join("a.h5"));
        features().write(&path, "a", &slide).unwrap();
        assert_eq!(Features::read(&path, &slide, None, Budget::DEFAULT).unwrap(), features());
        let other = Features::read(&path, &slide, Some(32), Budget::DEFAULT).unwrap();
        assert_eq!(other.side_in_level0_px, 32);
        let limit = Features::read(&path, &slide, None, Budget::of_bytes(1000)).unwrap_err();
        assert_eq!(limit.fault(), microtome_vault::Fault::Limit);
    }

    #[test]
    fn tiles_that_are_not_on_the_slide_and_what_are_no_numbers_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (slide, path) = (slide(folder.path()), folder.path().join("a.h5"));
        let mut beside = features();
        beside.corners_in_level0[3] = [300, 0];
        let mut broken = features();
        broken.vectors[9] = f32::NAN;
        let wide = Features { side_in_level0_px: 4000, ..features() };
        for (wrong, phrase) in [(beside, "300, 0"), (broken, "no numbers"), (wide, "4000 px")] {
            wrong.write(&path, "a", &slide).unwrap();
            let error = Features::read(&path, &slide, None, Budget::DEFAULT).unwrap_err().to_string();
            assert!(error.contains(phrase), "{error}");
        }
    }

    #[test]
    fn damaged_files_are_refused_or_read_and_nothing_worse() {
        let folder = tempfile::tempdir().unwrap();
        let (slide, path) = (slide(folder.path()), folder.path().join("a.h5"));
        features().write(&path, "a", &slide).unwrap();
        let whole = disk::read_file_bounded(&path, Budget::DEFAULT).unwrap();
        let (mut state, mut refused) = (1u32, 0);
        let mut draw = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % below
        };
        for round in 0..300 {
            let mut bytes = whole.clone();
            match round % 3 {
                0 => bytes.truncate(draw(whole.len())),
                // Descriptions are in the first bytes and after the data.
                1 => (0..4).for_each(|_| bytes[draw(2048.min(whole.len()))] = draw(256) as u8),
                _ => (0..4).for_each(|_| {
                    let at = whole.len() - 1 - draw(4096.min(whole.len()));
                    bytes[at] = draw(256) as u8;
                }),
            }
            disk::write_atomic(&path, &bytes).unwrap();
            refused += usize::from(Features::read(&path, &slide, None, Budget::of_bytes(64 << 20)).is_err());
        }
        assert!(refused >= 100, "{refused} of 300 were refused");
    }
}
