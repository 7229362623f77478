//! Label and confidence maps of whole slides as OME-Zarr (version 0.5, on Zarr 3): every level, in chunks, of which those
//! that hold nothing but zero are left out.
//!
//! Read with `zarr.open("NAME.ome.zarr")["0"]` in Python, or dropped on napari. Chunks are written in any order and by
//! many threads; the folder is put in place when all are there. Format: <https://ngff.openmicroscopy.org/0.5/>.

use std::path::{Path, PathBuf};

use microtome_kernels::Size;
use microtome_slide::MicronsPerPixel;
use microtome_vault::disk::AtomicFolder;
use microtome_vault::{Budget, Error, Result};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::pyramid::{PixelKind, Pyramid, PyramidWriter, TILE_PX, halve, sizes};

/// Side of a chunk, in pixels.
pub const CHUNK_PX: usize = 1024;
/// Level of Zstandard.
const COMPRESSION: i32 = 1;
/// Largest chunk that is read, in bytes.
const LARGEST_CHUNK: Budget = Budget::of_bytes(64 << 20);

/// An array with its smaller levels, in the making.
pub struct ZarrWriter {
    folder: AtomicFolder<'static>,
    path: PathBuf,
    name: String,
    size: Size,
    kind: PixelKind,
    mpp: Option<MicronsPerPixel>,
    /// Rows of chunks of each level that are made; of the first, that will not be written any more.
    made: Vec<usize>,
}

impl ZarrWriter {
    /// Begins a folder that will replace `path`; `mpp` is the resolution of the first level.
    ///
    /// # Errors
    /// `Io` when the disk refuses; `Bug` for pixels of more than one channel.
    pub fn create(
        path: &Path,
        name: &str,
        size: Size,
        kind: PixelKind,
        mpp: Option<MicronsPerPixel>,
    ) -> Result<Self> {
        if !matches!(kind, PixelKind::Grey | PixelKind::Labels) {
            return Err(Error::bug("arrays have one channel"));
        }
        let folder = AtomicFolder::create(path)?;
        let made = vec![0; sizes(size).count()];
        Ok(Self { folder, path: path.to_owned(), name: name.to_owned(), size, kind, mpp, made })
    }

    /// Writes the chunks of a rectangle of the first level whose corner is a corner of chunks and which ends with chunks or
    /// with the level; `pixels` are those of the rectangle, `[height_px][width_px][bytes]`.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn write(&self, [left_px, top_px]: [usize; 2], size: Size, pixels: &[u8]) -> Result<()> {
        let bytes = self.kind.bytes();
        let across = size.width_px.div_ceil(CHUNK_PX);
        (0..across * size.height_px.div_ceil(CHUNK_PX)).into_par_iter().try_for_each(|index| {
            let (left, top) = (index % across * CHUNK_PX, index / across * CHUNK_PX);
            let width = CHUNK_PX.min(size.width_px - left);
            let mut chunk = vec![0; CHUNK_PX * CHUNK_PX * bytes];
            for (y, row) in chunk.chunks_exact_mut(CHUNK_PX * bytes).take(size.height_px - top).enumerate() {
                let start = size.index(left, top + y) * bytes;
                row[..width * bytes].copy_from_slice(&pixels[start..start + width * bytes]);
            }
            self.write_chunk(0, [(left_px + left) / CHUNK_PX, (top_px + top) / CHUNK_PX], &chunk)
        })
    }

    fn write_chunk(&self, level: usize, [column, row]: [usize; 2], pixels: &[u8]) -> Result<()> {
        if pixels.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let packed = zstd::bulk::compress(pixels, COMPRESSION)
            .map_err(|error| Error::io("compressing", &error).at(&self.path))?;
        self.folder.write(&format!("{level}/c/{row}/{column}"), &packed)
    }

    /// The pixels of a chunk; zero where none was written.
    fn read_chunk(&self, level: usize, [column, row]: [usize; 2]) -> Result<Option<Vec<u8>>> {
        let bytes = CHUNK_PX * CHUNK_PX * self.kind.bytes();
        let Some(packed) = self.folder.read(&format!("{level}/c/{row}/{column}"), LARGEST_CHUNK)? else {
            return Ok(None);
        };
        let unpacked = zstd::bulk::decompress(&packed, bytes)
            .map_err(|error| Error::io("reading back", &error).at(&self.path))?;
        Ok(Some(unpacked).filter(|pixels| pixels.len() == bytes))
    }

    /// Makes the smaller levels, writes what describes the array, and puts the folder in place.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn finish(mut self) -> Result<PathBuf> {
        self.make_smaller(self.size.height_px)?;
        let levels: Vec<Size> = sizes(self.size).collect();
        for (level, size) in levels.iter().enumerate() {
            self.folder.write(&format!("{level}/zarr.json"), &text(&self.array_json(*size))?)?;
        }
        self.folder.write("zarr.json", &text(&self.group_json(&levels))?)?;
        self.folder.commit()?;
        Ok(self.path)
    }

    /// Makes what can be made of the smaller levels now that nothing above row `end_px` of the first is written any more.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn make_smaller(&mut self, end_px: usize) -> Result<()> {
        let levels: Vec<Size> = sizes(self.size).collect();
        for (level, size) in levels.iter().enumerate() {
            let (across, down) = (size.width_px.div_ceil(CHUNK_PX), size.height_px.div_ceil(CHUNK_PX));
            let is_all = level.checked_sub(1).map_or(end_px >= self.size.height_px, |above| {
                self.made[above] == levels[above].height_px.div_ceil(CHUNK_PX)
            });
            let rows = match (is_all, level) {
                (true, _) => down,
                (false, 0) => end_px / CHUNK_PX,
                // Each row is made of two.
                (false, _) => self.made[level - 1] / 2,
            };
            if level > 0 {
                (self.made[level] * across..rows * across)
                    .into_par_iter()
                    .try_for_each(|index| self.make_chunk(level, [index % across, index / across]))?;
            }
            self.made[level] = self.made[level].max(rows);
        }
        Ok(())
    }

    /// Makes a chunk of a smaller level of the four of the level above.
    fn make_chunk(&self, level: usize, [column, row]: [usize; 2]) -> Result<()> {
        let bytes = self.kind.bytes();
        let half_px = CHUNK_PX / 2;
        let mut chunk = vec![0; CHUNK_PX * CHUNK_PX * bytes];
        for (right, down) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            let Some(above) = self.read_chunk(level - 1, [2 * column + right, 2 * row + down])? else {
                continue;
            };
            let halved = halve(&above, CHUNK_PX, self.kind);
            for (y, part) in halved.chunks_exact(half_px * bytes).enumerate() {
                let to = ((down * half_px + y) * CHUNK_PX + right * half_px) * bytes;
                chunk[to..to + part.len()].copy_from_slice(part);
            }
        }
        self.write_chunk(level, [column, row], &chunk)
    }

    /// Writes the array as a pyramid in one TIFF file instead, and leaves no folder.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn finish_as_tiff(self, path: &Path, layout: super::pyramid::Layout) -> Result<PathBuf> {
        let (size, kind) = (self.size, self.kind);
        let mut writer = PyramidWriter::create(path, Pyramid { size, kind, layout, mpp: self.mpp })?;
        let bytes = kind.bytes();
        for top in (0..size.height_px).step_by(CHUNK_PX) {
            let chunks: Vec<Option<Vec<u8>>> = (0..size.width_px.div_ceil(CHUNK_PX))
                .into_par_iter()
                .map(|column| self.read_chunk(0, [column, top / CHUNK_PX]))
                .collect::<Result<_>>()?;
            let height_px = CHUNK_PX.min(size.height_px - top);
            for first in (0..height_px).step_by(TILE_PX) {
                let mut rows = Vec::with_capacity(TILE_PX * size.width_px * bytes);
                for y in first..height_px.min(first + TILE_PX) {
                    for (column, chunk) in chunks.iter().enumerate() {
                        let width = CHUNK_PX.min(size.width_px - column * CHUNK_PX) * bytes;
                        match chunk {
                            Some(chunk) => {
                                rows.extend_from_slice(&chunk[y * CHUNK_PX * bytes..][..width]);
                            }
                            None => rows.resize(rows.len() + width, 0),
                        }
                    }
                }
                writer.push_rows(&rows)?;
            }
        }
        writer.finish()
    }

    fn array_json(&self, size: Size) -> Value {
        let kind = if self.kind == PixelKind::Labels { "uint32" } else { "uint8" };
        json!({
            "zarr_format": 3,
            "node_type": "array",
            "shape": [size.height_px, size.width_px],
            "data_type": kind,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [CHUNK_PX, CHUNK_PX]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "zstd", "configuration": {"level": COMPRESSION, "checksum": false}},
            ],
            "dimension_names": ["y", "x"],
            "attributes": {},
        })
    }

    fn group_json(&self, levels: &[Size]) -> Value {
        let unit = self.mpp.map_or(1.0, MicronsPerPixel::microns);
        let axis = |name: &str| match self.mpp {
            Some(_) => json!({"name": name, "type": "space", "unit": "micrometer"}),
            None => json!({"name": name, "type": "space"}),
        };
        let dataset = |level: usize| {
            let factor = (1usize << level) as f64;
            // The first pixel of a smaller level is the middle of those it stands for; of labels it is the first of them.
            let shift = if self.kind == PixelKind::Labels { 0.0 } else { (factor - 1.0) / 2.0 * unit };
            json!({"path": level.to_string(), "coordinateTransformations": [
                {"type": "scale", "scale": [factor * unit, factor * unit]},
                {"type": "translation", "translation": [shift, shift]},
            ]})
        };
        let datasets: Vec<Value> = (0..levels.len()).map(dataset).collect();
        let mut ome = json!({"version": "0.5", "multiscales": [
            {"name": self.name, "axes": [axis("y"), axis("x")], "datasets": datasets},
        ]});
        if self.kind == PixelKind::Labels {
            ome["image-label"] = json!({"version": "0.5"});
        }
        json!({"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}})
    }
}

fn text(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|error| Error::bug(format!("an array's description: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_slide::{PointInLevel0, Slide};

    fn labels(size: Size) -> Vec<u8> {
        (0..size.area_px()).flat_map(|at| ((at / 7 % 3 * (at % 5)) as u32).to_le_bytes()).collect()
    }

    #[test]
    fn chunks_hold_the_pixels_and_smaller_levels_every_other_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ome.zarr");
        let size = Size::new(2100, 1500);
        let pixels = labels(size);
        let writer =
            ZarrWriter::create(&path, "a", size, PixelKind::Labels, MicronsPerPixel::new(0.5).ok()).unwrap();
        writer.write([0, 0], size, &pixels).unwrap();
        writer.finish().unwrap();
        let value = |level: usize, x: usize, y: usize| {
            let file = path.join(format!("{level}/c/{}/{}", y / CHUNK_PX, x / CHUNK_PX));
            let chunk = zstd::bulk::decompress(&std::fs::read(file).unwrap(), 4 << 20).unwrap();
            let at = 4 * (y % CHUNK_PX * CHUNK_PX + x % CHUNK_PX);
            u32::from_le_bytes(chunk[at..at + 4].try_into().unwrap())
        };
        let expected =
            |x: usize, y: usize| u32::from_le_bytes(pixels[4 * size.index(x, y)..][..4].try_into().unwrap());
        for (x, y) in [(0, 0), (2099, 1499), (1024, 3), (1023, 1024), (500, 700)] {
            assert_eq!(value(0, x, y), expected(x, y), "{x} {y}");
            let (half_x, half_y) = ((x / 2).min(1049), y / 2);
            assert_eq!(value(1, half_x, half_y), expected(2 * half_x, 2 * half_y), "{x} {y}");
        }
        let group: Value = serde_json::from_slice(&std::fs::read(path.join("zarr.json")).unwrap()).unwrap();
        let datasets = group["attributes"]["ome"]["multiscales"][0]["datasets"].as_array().unwrap().clone();
        assert_eq!(datasets.len(), sizes(size).count());
        assert_eq!(datasets[1]["coordinateTransformations"][0]["scale"][0], 1.0);
    }

    #[test]
    fn a_tiff_holds_the_same_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let size = Size::new(1300, 1100);
        let grey: Vec<u8> = (0..size.area_px()).map(|at| (at % 251) as u8).collect();
        let zarr = folder.path().join("a.ome.zarr");
        let writer = ZarrWriter::create(&zarr, "a", size, PixelKind::Grey, None).unwrap();
        writer.write([0, 0], size, &grey).unwrap();
        let path = folder.path().join("a.ome.tif");
        writer.finish_as_tiff(&path, super::super::pyramid::Layout::Ome).unwrap();
        let slide = Slide::open(&path, Budget::DEFAULT).unwrap();
        let read = slide.region(0, PointInLevel0::new(0, 0), size, Budget::DEFAULT).unwrap().rgb;
        assert!(read.iter().step_by(3).eq(&grey));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
