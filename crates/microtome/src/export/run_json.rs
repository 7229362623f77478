//! `run.json`: how a result was made, for people and programs that come later.
//!
//! These types are the file's format, apart from the types that the program works with. A file says which
//! version of the format it has; every version that was released stays readable. Fields that are unknown are
//! passed over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use microtome_vault::{Budget, Error, Result, disk};
use serde::{Deserialize, Serialize};

use super::file_in;

/// The version of the format that is written.
pub const FORMAT_VERSION: u32 = 1;

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunJson {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Version of the program.
    pub microtome_version: String,
    /// The command line as it was given.
    pub command: String,
    /// Name of the method.
    pub method: String,
    /// Seed of all random numbers.
    pub seed: u64,
    /// When the run began: [`microtome_vault::clock::rfc3339_utc`].
    pub started: String,
    /// When it ended.
    pub finished: String,
    /// Time by the clock, stage by stage, in the order in which they ran.
    pub stages: Vec<StageJson>,
    /// Threads that worked.
    pub threads: usize,
    /// The vector instructions that the arithmetic used: `avx2`, `neon`, …
    pub vector_path: String,
    /// The most memory in use, in bytes, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// All settings, defaults too.
    pub config: serde_json::Value,
    /// The trained model, for methods that have one.
    pub model: Option<ModelJson>,
    /// Pictures that were worked on.
    pub inputs: Vec<InputJson>,
    /// Pictures that were not.
    pub skipped: Vec<SkippedJson>,
    /// What was chosen without labels, for methods that choose.
    pub choice: Option<ChoiceJson>,
    /// Warnings about the run as a whole.
    pub warnings: Vec<String>,
}

/// How long a stage took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageJson {
    /// Its name.
    pub name: String,
    /// Seconds by the clock.
    pub wall_seconds: f64,
}

/// A file of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelJson {
    /// Its path: from the folder of `run.json` if it lies there, else from the root.
    pub file: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// A picture that was worked on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputJson {
    /// Its name, which its files carry.
    pub name: String,
    /// Its path as it was given.
    pub path: String,
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    /// Columns.
    pub width_px: usize,
    /// Rows.
    pub height_px: usize,
    /// Microns per pixel, if known.
    pub mpp: Option<f64>,
    /// Nuclei found.
    pub nuclei: usize,
    /// What was not taken as it is in the file.
    pub warnings: Vec<String>,
}

/// A picture that was left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SkippedJson {
    /// Its path as it was given.
    pub path: String,
    /// Why.
    pub error: String,
}

/// What was chosen without labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChoiceJson {
    /// Channel of the network's output, from 0.
    pub channel: usize,
    /// Whether nuclei are where the channel is low.
    pub inverted: bool,
    /// Epoch of training, from 1, for methods that train.
    pub epoch: Option<usize>,
    /// The values that decided, by name; null where one could not be computed.
    pub criteria: BTreeMap<String, Option<f64>>,
}

impl RunJson {
    /// Writes `FOLDER/run.json`, indented, and returns its path.
    ///
    /// # Errors
    /// `Io` when the disk refuses; `Bug` when it cannot be written as JSON, which none should.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = file_in(folder, "run", "json")?;
        let failed = |error| Error::bug(format!("the run could not be written as JSON ({error})")).at(&path);
        let mut text = serde_json::to_vec_pretty(self).map_err(failed)?;
        text.push(b'\n');
        disk::write_atomic(&path, &text)?;
        Ok(path)
    }

    /// Reads a file of this or an earlier version.
    ///
    /// # Errors
    /// `Input` when it is missing, not such a file, or of a later version; `Limit` when it exceeds the
    /// budget.
    pub fn read(path: &Path, budget: Budget) -> Result<Self> {
        let bytes = disk::read_file_bounded(path, budget)?;
        Self::parse(&bytes).map_err(|error| error.at(path))
    }

    /// As [`read`](Self::read), from bytes.
    ///
    /// # Errors
    /// `Input` when they are not such a file, or of a later version.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let failed = |error| Error::input(format!("not a record of a run ({error})"));
        let Version { format_version } = serde_json::from_slice(bytes).map_err(failed)?;
        if format_version == 0 || format_version > FORMAT_VERSION {
            return Err(Error::input(format!("a record of a run in format {format_version}"))
                .advise(format!("this program reads up to format {FORMAT_VERSION}; update it")));
        }
        serde_json::from_slice(bytes).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_vault::Fault;

    const OF_FORMAT_1: &str = include_str!("../../tests/export_fixtures/run_format_1.json");

    #[test]
    fn format_1_stays_readable_and_is_what_is_written() {
        let run = RunJson::parse(OF_FORMAT_1.as_bytes()).unwrap();
        assert_eq!(run.inputs[0].mpp, Some(0.25));
        assert_eq!(run.choice.as_ref().unwrap().criteria["stability"], None);
        let folder = tempfile::tempdir().unwrap();
        let path = run.write(folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), OF_FORMAT_1);
        assert_eq!(RunJson::read(&path, Budget::DEFAULT).unwrap(), run);
    }

    #[test]
    fn later_formats_and_other_files_are_refused() {
        let later = OF_FORMAT_1.replacen("\"format_version\": 1", "\"format_version\": 2", 1);
        let error = RunJson::parse(later.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("format 2") && error.advice().unwrap().contains("update"));
        for text in ["", "[]", "{}", "{\"format_version\": 1}"] {
            assert_eq!(RunJson::parse(text.as_bytes()).unwrap_err().fault(), Fault::Input);
        }
    }

    #[test]
    fn numbers_that_are_none_become_null() {
        let mut run = RunJson::parse(OF_FORMAT_1.as_bytes()).unwrap();
        run.choice.as_mut().unwrap().criteria.insert("entropy".into(), Some(f64::NAN));
        let again = RunJson::parse(&serde_json::to_vec(&run).unwrap()).unwrap();
        assert_eq!(again.choice.unwrap().criteria["entropy"], None);
    }
}
