//! Vectors of a slide that is not done yet: after a kill, windows that are there are not encoded again.

use microtome_vault::{Budget, Result, disk};
use std::path::PathBuf;

/// Largest part that is read.
const LARGEST: Budget = Budget::of_bytes(1 << 30);
/// The file that says what the parts are of.
const KEY: &str = "key.txt";

/// A folder with a file for each part that is done.
pub struct Parts {
    folder: PathBuf,
    key: String,
}

impl Parts {
    /// The parts in a folder, none where they are of something else.
    pub(super) fn open(folder: PathBuf, key: &str) -> Result<Self> {
        let path = folder.join(KEY);
        let is_own =
            path.is_file() && disk::read_file_bounded(&path, Budget::of_bytes(1 << 10))? == key.as_bytes();
        match is_own {
            true => drop(disk::remove_leftovers(&folder)?),
            false => disk::remove_folder_all(&folder)?,
        }
        Ok(Self { folder, key: key.to_owned() })
    }

    /// A part of `length` values that is there, or what `make` makes.
    pub(super) fn keep(
        &self,
        level: usize,
        part: usize,
        length: usize,
        make: impl FnOnce() -> Result<Vec<f32>>,
    ) -> Result<Vec<f32>> {
        let path = self.folder.join(format!("{level}_{part:06}.f32"));
        if path.is_file() {
            let bytes = disk::read_file_bounded(&path, LARGEST)?;
            if bytes.len() == 4 * length {
                return Ok(bytes.as_chunks::<4>().0.iter().map(|own| f32::from_le_bytes(*own)).collect());
            }
        }
        if !self.folder.is_dir() {
            disk::create_folder_all(&self.folder)?;
            disk::write_atomic(self.folder.join(KEY), self.key.as_bytes())?;
        }
        let vectors = make()?;
        let bytes: Vec<u8> = vectors.iter().flat_map(|value| value.to_le_bytes()).collect();
        disk::write_atomic(path, &bytes)?;
        Ok(vectors)
    }

    /// Removes them, once all is in place.
    pub(super) fn remove(self) -> Result<()> {
        disk::remove_folder_all(&self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_made_once_and_only_under_their_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parts");
        let made = std::cell::Cell::new(0);
        let vectors = |key: &str, level, part| {
            let make = || {
                made.set(made.get() + 1);
                Ok(vec![part as f32, 0.5])
            };
            Parts::open(path.clone(), key).unwrap().keep(level, part, 2, make).unwrap()
        };
        assert_eq!((vectors("k", 3, 7), vectors("k", 3, 7), made.get()), (vec![7.0, 0.5], vec![7.0, 0.5], 1));
        vectors("k", 4, 7);
        vectors("k", 3, 8);
        assert_eq!(made.get(), 3, "another level and another part");
        vectors("other", 3, 7);
        assert_eq!(made.get(), 4, "of another encoder");
        vectors("k", 3, 7);
        assert_eq!(made.get(), 5, "those of before are gone");
        Parts::open(path.clone(), "k").unwrap().remove().unwrap();
        assert!(!path.exists());
    }
}
