//! Readings on disk, so that a run that goes on reads no stain again.

use crate::nuclei::reading::Reading;
use microtome_slide::Size;
use microtome_vault::checksum::sha256_hex;
use microtome_vault::{Budget, Error, Result, disk};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Largest file of readings that is read.
const LARGEST: Budget = Budget::of_bytes(1 << 30);

/// Readings, and which of them each place of a slide has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Places {
    /// In any order.
    pub readings: Vec<Reading>,
    /// Numbers of readings, row by row.
    pub places: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct FieldFile {
    key: String,
    width: usize,
    height: usize,
    field: Places,
    /// Of the field: a damaged reading would make wrong nuclei of right pixels.
    sha256: String,
}

/// What was kept; none if it is of another run or damaged.
pub fn read(path: &Path, key: &str, grid: Size) -> Option<Places> {
    parsed(&disk::read_file_bounded(path, LARGEST).ok()?, key, grid)
}

fn parsed(bytes: &[u8], key: &str, grid: Size) -> Option<Places> {
    let file: FieldFile = serde_json::from_slice(bytes).ok()?;
    let readings = file.field.readings.len();
    let fits = file.key == key
        && (file.width, file.height) == (grid.width_px, grid.height_px)
        && file.field.places.len() == grid.area_px()
        && file.field.places.iter().all(|place| (*place as usize) < readings)
        && checksum_of(&file.field).is_ok_and(|sha256| sha256 == file.sha256);
    fits.then_some(file.field)
}

/// Keeps readings for the run `key`.
///
/// # Errors
/// `Io`.
pub fn write(path: &Path, key: &str, grid: Size, field: &Places) -> Result<()> {
    let (width, height) = (grid.width_px, grid.height_px);
    let sha256 = checksum_of(field)?;
    let file = FieldFile { key: key.to_owned(), width, height, field: field.clone(), sha256 };
    disk::write_atomic(path, &json(&file)?)
}

fn checksum_of(field: &Places) -> Result<String> {
    Ok(sha256_hex(&json(field)?))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::bug(format!("readings as JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nuclei::stain::Slope;

    fn field() -> Places {
        let reading = |i: usize| {
            let value = 0.1 + i as f32 / 7.0;
            let slope = Slope { threshold: value, width: value };
            Reading { inverse: [[value; 3]; 3], high_ends: [value; 2], slopes: [slope; 2] }
        };
        Places { readings: (0..4).map(reading).collect(), places: vec![0, 3, 1, 1, 0, 2] }
    }

    #[test]
    fn readings_come_back_for_their_run_only() {
        let folder = tempfile::tempdir().unwrap();
        let (path, grid) = (folder.path().join("field.json"), Size::new(3, 2));
        assert_eq!(read(&path, "run", grid), None);
        write(&path, "run", grid, &field()).unwrap();
        assert_eq!(read(&path, "run", grid), Some(field()));
        assert_eq!(read(&path, "another", grid), None);
        assert_eq!(read(&path, "run", Size::new(2, 3)), None);
    }

    #[test]
    fn places_without_a_reading_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, grid) = (folder.path().join("field.json"), Size::new(3, 2));
        let field = Places { places: vec![0, 3, 1, 1, 0, 4], ..field() };
        write(&path, "run", grid, &field).unwrap();
        assert_eq!(read(&path, "run", grid), None);
    }

    #[test]
    fn no_flipped_bit_makes_another_reading() {
        let folder = tempfile::tempdir().unwrap();
        let (path, grid) = (folder.path().join("field.json"), Size::new(3, 2));
        write(&path, "run", grid, &field()).unwrap();
        let whole = disk::read_file_bounded(&path, LARGEST).unwrap();
        let mut refused = 0;
        for (at, bit) in (0..whole.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            match parsed(&bytes, "run", grid) {
                // What the JSON says is the same.
                Some(found) => assert_eq!(found, field(), "bit {bit} of byte {at}"),
                None => refused += 1,
            }
        }
        assert!(refused > 7 * whole.len(), "{refused} refused of {}", 8 * whole.len());
    }
}
