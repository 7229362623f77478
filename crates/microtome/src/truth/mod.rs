//! Ground truth: label maps that people drew, in the formats in which the field publishes them.
//!
//! **Invariant: labels never reach training or model choice.** A [`Truth`] is made only here and opened only
//! by [`crate::metrics`], which alone can make the [`ScoringKey`] that opens it.
//!
//! Reading order: [`label_map`], the formats `instance_png`, `instance_tiff`, `aperio_xml` and `matlab`,
//! [`class_mask`] for tissue, then [`layout`], which pairs predictions with truths.

pub(crate) mod aperio_xml;
pub mod class_mask;
pub(crate) mod instance_png;
pub(crate) mod instance_tiff;
pub mod label_map;
pub mod layout;
pub(crate) mod matlab;

use std::path::Path;

use microtome_kernels::{Labels, Size};
use microtome_vault::{Budget, Error, Result, disk};

pub use label_map::{Interpretation, LabelMap, read_prediction};
pub use layout::{Pair, TruthFile, find_truths, pair};

use crate::metrics::ScoringKey;

/// What people drew on one picture.
///
/// **Invariant:** it never reaches training or model choice. It is made only by [`read_truth`], and its label
/// map is given out only against a [`ScoringKey`], which only [`crate::metrics`] can make.
#[derive(Clone, Debug)]
pub struct Truth {
    name: String,
    map: LabelMap,
}

impl Truth {
    /// The picture's name: the file's, without folder and extension.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Extent of the picture.
    pub fn size(&self) -> Size {
        self.map.labels.size
    }

    /// How the file was understood.
    pub fn interpretation(&self) -> Interpretation {
        self.map.interpretation
    }

    /// The label map, for who holds the key.
    pub fn labels(&self, _: &ScoringKey) -> &Labels {
        &self.map.labels
    }

    #[cfg(test)]
    pub(crate) fn for_tests(name: &str, labels: Labels) -> Self {
        Self { name: name.to_owned(), map: LabelMap { labels, interpretation: Interpretation::Instances } }
    }
}

/// Reads the truth of one picture: an instance PNG or TIFF, a MATLAB file with `inst_map`, or Aperio
/// ImageScope XML. `size` is the picture's: polygons are filled in it, and a label map must have it.
///
/// # Errors
/// `Usage` for polygons without a size, `Input` for a file that is not what its extension says or has another
/// size, `Limit` for one that is too large, `Io`.
pub fn read_truth(path: impl AsRef<Path>, size: Option<Size>) -> Result<Truth> {
    let path = path.as_ref();
    let map = read_map(path, size).map_err(|error| error.at(path))?;
    match size {
        Some(size) if size != map.labels.size => {
            let what = format!("the truth is {} pixels, the picture is {size}", map.labels.size);
            Err(Error::input(what).at(path).advise("give the truth of this very picture, at its resolution"))
        }
        _ => Ok(Truth { name: layout::stem_of(path), map }),
    }
}

fn read_map(path: &Path, size: Option<Size>) -> Result<LabelMap> {
    let budget = Budget::DEFAULT;
    let bytes = disk::read_file_bounded(path, budget)?;
    match layout::extension_of(path).as_str() {
        "xml" => {
            let no_size = || {
                Error::usage("polygons have no picture size of their own").advise("give the picture's size")
            };
            aperio_xml::read(&bytes, size.ok_or_else(no_size)?, budget)
        }
        "mat" => matlab::read(&bytes, budget),
        _ => label_map::decode(&bytes, budget),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_vault::Fault;

    fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = folder.join(name);
        disk::write_atomic(&path, bytes).unwrap();
        path
    }

    #[test]
    fn polygons_without_a_size_are_a_usage_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "a.xml", b"<Annotations/>");
        assert_eq!(read_truth(&path, None).unwrap_err().fault(), Fault::Usage);
        let truth = read_truth(&path, Some(Size::new(3, 2))).unwrap();
        assert_eq!((truth.name(), truth.size()), ("a", Size::new(3, 2)));
    }

    #[test]
    fn a_truth_of_another_size_names_both_sizes_and_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let png = instance_png::tests::grey_png(4, 1, &[0, 1, 2, 0]);
        let path = write(folder.path(), "b.PNG", &png);
        assert_eq!(read_truth(&path, Some(Size::new(4, 1))).unwrap().size(), Size::new(4, 1));
        let error = read_truth(&path, Some(Size::new(1, 4))).unwrap_err().to_string();
        assert!(
            error.contains("the truth is 4×1 pixels, the picture is 1×4") && error.contains("b.PNG"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_truth("nowhere/c.png", None).unwrap_err();
        assert!(error.to_string().contains("c.png"), "{error}");
    }
}
