//! The pictures that a run worked on, for scoring that looks at them again: drawn errors, the oracle's channel.

use crate::export::run_json::RunJson;
use crate::truth::Pair;
use microtome_slide::{Picture, ReadSettings, read_picture};
use microtome_vault::{Budget, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Largest record of a run that is read.
const LARGEST_RECORD: Budget = Budget::of_bytes(256 << 20);

/// Where the pictures of a run lie.
pub(super) struct RunPictures {
    /// The run's folder.
    pub(super) folder: PathBuf,
    files: BTreeMap<String, (PathBuf, String)>,
}

impl RunPictures {
    /// The pictures of the run whose folder, or whose folder of label maps, `predicted` is; none where it is of no run.
    pub(super) fn of(predicted: &Path) -> Option<Self> {
        let parent = predicted.parent().map(Path::to_owned);
        let folders = std::iter::once(predicted.to_owned()).chain(parent);
        let (folder, record) = folders
            .map(|folder| (RunJson::read(&folder.join("run.json"), LARGEST_RECORD), folder))
            .find_map(|(record, folder)| Some((folder, record.ok()?)))?;
        let file =
            |input: crate::export::run_json::InputJson| (input.name, (input.path.into(), input.sha256));
        Some(Self { folder, files: record.inputs.into_iter().map(file).collect() })
    }

    /// The picture of a pair, if it still is where it was and what it was.
    ///
    /// # Errors
    /// Those of reading a picture that is there.
    pub(super) fn read(&self, pair: &Pair, budget: Budget) -> Result<Option<Picture>> {
        let Some((path, sha256)) = self.files.get(&pair.name).filter(|(path, _)| path.is_file()) else {
            return Ok(None);
        };
        let picture = read_picture(path, &ReadSettings { budget })?;
        Ok((picture.sha256 == *sha256).then_some(picture))
    }
}
