//! Arrays of numbers as Zarr 3, which zarr-python opens: a group with its arrays and what they were made from.
//!
//! An array is cut along its first axis only, into chunks that are files of little-endian numbers, so that rows are
//! written as they come and read a chunk at a time. A group is whole or absent. Format: <https://zarr-specs.readthedocs.io>.

use microtome_vault::disk::{self, AtomicFolder};
use microtome_vault::{Budget, Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Bytes of a chunk, about.
const CHUNK_BYTES: usize = 8 << 20;
/// Largest description of an array that is read.
const LARGEST_DESCRIPTION: Budget = Budget::of_bytes(4 << 20);

/// A number that arrays hold.
pub trait Element: Copy {
    /// The name of its type in Zarr.
    const NAME: &'static str;
    /// Bytes it takes.
    const BYTES: usize;
    /// Appends its bytes, the lowest first.
    fn put(self, bytes: &mut Vec<u8>);
    /// The number in `bytes`, of which there are [`Self::BYTES`].
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! element {
    ($type:ty, $name:literal) => {
        impl Element for $type {
            const NAME: &'static str = $name;
            const BYTES: usize = size_of::<$type>();
            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }
            fn get(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<$type>()];
                own.copy_from_slice(bytes);
                Self::from_le_bytes(own)
            }
        }
    };
}

element!(f32, "float32");
element!(i64, "int64");
element!(u32, "uint32");

/// A group in the making.
pub struct GroupWriter {
    folder: AtomicFolder<'static>,
    path: PathBuf,
}

impl GroupWriter {
    /// Begins a group that will replace `path`.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self { folder: AtomicFolder::create(path)?, path: path.to_owned() })
    }

    /// Begins an array of `shape`, whose axes have `names`.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn array<'a, T: Element>(
        &'a self,
        name: &'a str,
        shape: &[usize],
        names: &[&str],
    ) -> Result<RowsWriter<'a, T>> {
        let row: usize = shape[1..].iter().product();
        let rows = rows_of_a_chunk(shape, T::BYTES);
        let description = json!({
            "zarr_format": 3,
            "node_type": "array",
            "shape": shape,
            "data_type": T::NAME,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": chunk_shape(shape, rows)},
            },
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "dimension_names": names,
        });
        self.folder.write(&format!("{name}/zarr.json"), &text(&description)?)?;
        let rest = shape.len() - 1;
        Ok(RowsWriter { group: self, name, row, rows, rest, chunk: 0, waiting: Vec::new() })
    }

    /// Writes a whole array.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn write<T: Element>(&self, name: &str, shape: &[usize], names: &[&str], values: &[T]) -> Result<()> {
        let mut rows = self.array(name, shape, names)?;
        rows.append(values)?;
        rows.finish()
    }

    /// Writes what describes the group, and puts it in place.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn finish(self, attributes: &Value) -> Result<PathBuf> {
        let group = json!({"zarr_format": 3, "node_type": "group", "attributes": attributes});
        self.folder.write("zarr.json", &text(&group)?)?;
        self.folder.commit()?;
        Ok(self.path)
    }
}

fn rows_of_a_chunk(shape: &[usize], bytes: usize) -> usize {
    let row = shape[1..].iter().product::<usize>().max(1) * bytes;
    (CHUNK_BYTES / row).clamp(1, shape[0].max(1))
}

fn chunk_shape(shape: &[usize], rows: usize) -> Vec<usize> {
    std::iter::once(rows).chain(shape[1..].iter().copied().map(|side| side.max(1))).collect()
}

fn text(value: &Value) -> Result<Vec<u8>> {
    let unwritable = |error| Error::bug(format!("an array's description cannot be written ({error})"));
    let mut text = serde_json::to_vec_pretty(value).map_err(unwritable)?;
    text.push(b'\n');
    Ok(text)
}

/// An array whose rows are written one after the other.
pub struct RowsWriter<'a, T> {
    group: &'a GroupWriter,
    name: &'a str,
    /// Numbers in a row.
    row: usize,
    /// Rows in a chunk.
    rows: usize,
    /// Axes after the first.
    rest: usize,
    chunk: usize,
    waiting: Vec<T>,
}

impl<T: Element> RowsWriter<'_, T> {
    /// Adds rows.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn append(&mut self, values: &[T]) -> Result<()> {
        self.waiting.extend_from_slice(values);
        let whole = self.rows * self.row;
        while whole > 0 && self.waiting.len() >= whole {
            let rest = self.waiting.split_off(whole);
            self.write()?;
            self.waiting = rest;
        }
        Ok(())
    }

    /// Writes the last chunk.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn finish(mut self) -> Result<()> {
        if self.waiting.is_empty() { Ok(()) } else { self.write() }
    }

    /// The rows that wait, as a chunk, which is filled up with zeros.
    fn write(&mut self) -> Result<()> {
        let mut bytes = Vec::with_capacity(self.rows * self.row * T::BYTES);
        self.waiting.drain(..).for_each(|value| value.put(&mut bytes));
        bytes.resize(self.rows * self.row * T::BYTES, 0);
        let place = "/0".repeat(self.rest);
        self.group.folder.write(&format!("{}/c/{}{place}", self.name, self.chunk), &bytes)?;
        self.chunk += 1;
        Ok(())
    }
}

/// A group that was written.
pub struct Group {
    path: PathBuf,
    /// What it says of itself.
    pub attributes: Value,
}

/// An array in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<T> {
    /// Its extent along each axis.
    pub shape: Vec<usize>,
    /// Its numbers, the last axis running fastest.
    pub values: Vec<T>,
}

impl Group {
    /// The group at `path`; none when there is none.
    ///
    /// # Errors
    /// `Input` when it is damaged; `Io` when it cannot be read.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let description = path.join("zarr.json");
        if !description.is_file() {
            return Ok(None);
        }
        let attributes = read_json(&description)?.get("attributes").cloned().unwrap_or(Value::Null);
        Ok(Some(Self { path: path.to_owned(), attributes }))
    }

    /// A text that the group says of itself.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).and_then(Value::as_str)
    }

    /// The extent of an array.
    ///
    /// # Errors
    /// `Input` when there is no such array, or of another type; `Io` when it cannot be read.
    pub fn shape<T: Element>(&self, name: &str) -> Result<Vec<usize>> {
        Ok(self.description::<T>(name)?.0)
    }

    fn description<T: Element>(&self, name: &str) -> Result<(Vec<usize>, usize)> {
        let path = self.path.join(name).join("zarr.json");
        let description = read_json(&path)?;
        let broken =
            |what: &str| Error::input(format!("the array's {what} is not what was written")).at(&path);
        let extents = |value: Option<&Value>| -> Option<Vec<usize>> {
            let all = value?.as_array()?.iter();
            all.map(|side| side.as_u64().and_then(|side| usize::try_from(side).ok())).collect()
        };
        let shape = extents(description.get("shape")).filter(|shape| !shape.is_empty());
        let shape = shape.ok_or_else(|| broken("extent"))?;
        if description.get("data_type").and_then(Value::as_str) != Some(T::NAME) {
            return Err(broken("type"));
        }
        let rows = rows_of_a_chunk(&shape, T::BYTES);
        let chunk = extents(description.pointer("/chunk_grid/configuration/chunk_shape"));
        if chunk != Some(chunk_shape(&shape, rows)) {
            return Err(broken("partition into chunks"));
        }
        Ok((shape, rows))
    }

    /// A whole array.
    ///
    /// # Errors
    /// `Input` when it is damaged or of another type; `Limit` when it exceeds the budget; `Io`.
    pub fn read<T: Element>(&self, name: &str, budget: Budget) -> Result<Array<T>> {
        let (shape, rows) = self.description::<T>(name)?;
        let all = shape.iter().try_fold(T::BYTES, |all, side| all.checked_mul(*side)).unwrap_or(usize::MAX);
        budget.grant(&format!("the array {name}"), all as u64, 1).map_err(|error| error.at(&self.path))?;
        let mut values = Vec::with_capacity(all / T::BYTES);
        self.each_chunk(name, &shape, rows, |chunk| values.extend(chunk.chunks_exact(T::BYTES).map(T::get)))?;
        Ok(Array { shape, values })
    }

    fn each_chunk(
        &self,
        name: &str,
        shape: &[usize],
        rows: usize,
        mut take: impl FnMut(&[u8]),
    ) -> Result<()> {
        let row: usize = shape[1..].iter().product();
        if row == 0 {
            return Ok(());
        }
        let place = "/0".repeat(shape.len() - 1);
        for chunk in 0..shape[0].div_ceil(rows) {
            let path = self.path.join(name).join(format!("c/{chunk}{place}"));
            let bytes = disk::read_file_bounded(&path, Budget::of_bytes(64 << 20))?;
            let wanted = rows.min(shape[0] - chunk * rows) * (bytes.len() / rows);
            if !bytes.len().is_multiple_of(rows * row) || bytes.is_empty() {
                return Err(Error::input("a part of an array is not whole")
                    .advise("run the stage that made it again; it makes what is missing")
                    .at(path));
            }
            take(&bytes[..wanted]);
        }
        Ok(())
    }
}

fn read_json(path: &Path) -> Result<Value> {
    let bytes = disk::read_file_bounded(path, LARGEST_DESCRIPTION)?;
    let broken = |error| {
        Error::input(format!("what describes an array is damaged ({error})"))
            .advise("remove its folder, and run the stage that made it again")
            .at(path)
    };
    serde_json::from_slice(&bytes).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_written_in_parts_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zarr");
        // Rows of 4 MB: two make a chunk, and the last chunk is half full.
        let (rows, row) = (5, 1 << 20);
        let values: Vec<f32> = (0..rows * row).map(|index| index as f32).collect();
        let writer = GroupWriter::create(&path).unwrap();
        let mut array = writer.array("x", &[rows, row], &["tile", "feature"]).unwrap();
        values.chunks(row * 3 / 2).for_each(|part| array.append(part).unwrap());
        array.finish().unwrap();
        writer.write::<u32>("none", &[0, 3], &["a", "b"], &[]).unwrap();
        assert!(Group::open(&path).unwrap().is_none(), "nothing is there before the end");
        writer.finish(&json!({"key": "k"})).unwrap();
        let group = Group::open(&path).unwrap().unwrap();
        assert_eq!(group.text("key"), Some("k"));
        let read: Array<f32> = group.read("x", Budget::DEFAULT).unwrap();
        assert!(read == Array { shape: vec![rows, row], values });
        assert!(group.read::<u32>("none", Budget::DEFAULT).unwrap().values.is_empty());
        assert!(group.read::<i64>("x", Budget::DEFAULT).is_err(), "another type");
        let error = group.read::<f32>("x", Budget::of_bytes(1 << 20)).unwrap_err();
        assert_eq!(error.fault(), microtome_vault::Fault::Limit);
    }

    #[test]
    fn a_damaged_chunk_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zarr");
        let writer = GroupWriter::create(&path).unwrap();
        writer.write("x", &[3, 2], &["a", "b"], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        writer.finish(&Value::Null).unwrap();
        disk::write_atomic(path.join("x/c/0/0"), &[0; 7]).unwrap();
        let error = Group::open(&path).unwrap().unwrap().read::<f32>("x", Budget::DEFAULT).unwrap_err();
        assert_eq!(error.fault(), microtome_vault::Fault::Input);
    }
}
