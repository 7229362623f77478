//! Masks of tissue classes that people drew, in the ways in which the field publishes them.
//!
//! A mask is a grey or indexed PNG or TIFF. What its values mean depends on who made it ([`ClassCodes`]); where nobody says,
//! it is found from the values of the whole folder, and said.

use std::path::Path;
use std::str::FromStr;

use microtome_kernels::Size;
use microtome_vault::{Budget, Error, Result, disk};

use super::{instance_png, instance_tiff};
use crate::metrics::ScoringKey;

pub use crate::project::settings::IGNORED;

/// What the values of masks mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassCodes {
    /// Places in the list of classes; 255 is ignored.
    Classes,
    /// Ids of objects: 0 is the first class, everything else the second (GlaS).
    Instances,
    /// BCSS (Amgad et al. 2019), folded as in Pan et al. (2023): others, tumour, stroma, inflammatory, necrosis. Code 0, outside
    /// of what was looked at, is ignored.
    Bcss,
    /// CAMELYON16 as ASAP writes it: 0 is ignored, 1 normal, 2 tumour.
    Camelyon,
}

impl ClassCodes {
    const ALL: [(Self, &str); 4] = [
        (Self::Classes, "classes"),
        (Self::Instances, "instances"),
        (Self::Bcss, "bcss"),
        (Self::Camelyon, "camelyon"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(codes, _)| *codes == self).map_or("", |(_, name)| name)
    }

    /// The class that a value stands for; none if it stands for none of so many.
    fn class(self, value: u32, classes: usize) -> Option<u8> {
        let class = match (self, value) {
            (Self::Classes, 255) => IGNORED,
            (Self::Classes, value) => u8::try_from(value).ok()?,
            (Self::Instances, value) => u8::from(value > 0),
            (Self::Bcss, 0) => IGNORED,
            (Self::Bcss, 1 | 19 | 20) => 1,
            (Self::Bcss, 2) => 2,
            (Self::Bcss, 3 | 10 | 11) => 3,
            (Self::Bcss, 4) => 4,
            (Self::Bcss, 5..=21) => 0,
            (Self::Camelyon, 0) => IGNORED,
            (Self::Camelyon, 1) => 0,
            (Self::Camelyon, 2) => 1,
            _ => return None,
        };
        (class == IGNORED || usize::from(class) < classes).then_some(class)
    }

    /// What masks with these values are, where nobody says: of two classes those with more values are objects, or a mask of
    /// 0 and 255.
    fn guessed(values: &[bool; 256], has_more: bool, classes: usize) -> Self {
        let beyond = has_more || (classes..255).any(|value| values[value]);
        let is_binary = values[255] && !(1..255).any(|value| values[value]);
        if classes == 2 && (beyond || is_binary) { Self::Instances } else { Self::Classes }
    }
}

impl FromStr for ClassCodes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text).map(|(codes, _)| *codes);
        found.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|(_, name)| *name).collect();
            Error::usage(format!("there are no masks of kind “{text}”"))
                .advise(format!("they are {}", names.join(", ")))
        })
    }
}

/// The classes that people drew on one picture. Given out only against a [`ScoringKey`].
#[derive(Clone, Debug)]
pub struct ClassTruth {
    size: Size,
    classes: Vec<u8>,
}

impl ClassTruth {
    /// Extent of the picture.
    pub fn size(&self) -> Size {
        self.size
    }

    /// The class of each pixel, for who holds the key.
    pub fn classes(&self, _: &ScoringKey) -> &[u8] {
        &self.classes
    }
}

/// Values of a mask, as they are in the file.
fn values(path: &Path) -> Result<(Size, Vec<u32>)> {
    let bytes = disk::read_file_bounded(path, Budget::DEFAULT)?;
    let labels = if bytes.starts_with(b"\x89PNG") {
        instance_png::decode(&bytes, Budget::DEFAULT)
    } else if bytes.starts_with(b"II") || bytes.starts_with(b"MM") {
        instance_tiff::decode(&bytes, Budget::DEFAULT)
    } else {
        Err(Error::input("this is no mask, neither PNG nor TIFF"))
    };
    let labels = labels.map_err(|error| error.at(path))?;
    Ok((labels.size, labels.ids))
}

/// What the masks in these files are: read once, to look at all their values.
///
/// # Errors
/// `Input` when one cannot be read.
pub fn codes_of(paths: &[&Path], classes: usize) -> Result<ClassCodes> {
    let (mut seen, mut has_more) = ([false; 256], false);
    for path in paths {
        for value in values(path)?.1 {
            match seen.get_mut(value as usize) {
                Some(seen) => *seen = true,
                None => has_more = true,
            }
        }
    }
    Ok(ClassCodes::guessed(&seen, has_more, classes))
}

/// Reads the classes of one picture.
///
/// # Errors
/// `Input` when it is no mask, or has a value that stands for no class.
pub fn read_class_truth(path: &Path, codes: ClassCodes, classes: usize) -> Result<ClassTruth> {
    let (size, values) = values(path)?;
    Ok(ClassTruth { size, classes: folded(path, &values, codes, classes)? })
}

/// Reads a predicted mask: places in the list of classes, and [`IGNORED`].
///
/// # Errors
/// As [`read_class_truth`].
pub fn read_predicted_mask(path: &Path, classes: usize) -> Result<(Size, Vec<u8>)> {
    let (size, values) = values(path)?;
    Ok((size, folded(path, &values, ClassCodes::Classes, classes)?))
}

fn folded(path: &Path, values: &[u32], codes: ClassCodes, classes: usize) -> Result<Vec<u8>> {
    let class = |value: &u32| {
        codes.class(*value, classes).ok_or_else(|| {
            let kind = codes.name();
            Error::input(format!(
                "the mask has the value {value}, which stands for none of {classes} classes ({kind})"
            ))
            .advise("say what masks hold with --truth-kind: classes, instances, bcss or camelyon")
            .at(path)
        })
    };
    values.iter().map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guessed(values: &[usize], classes: usize) -> ClassCodes {
        let mut seen = [false; 256];
        values.iter().for_each(|value| seen[*value] = true);
        ClassCodes::guessed(&seen, false, classes)
    }

    #[test]
    fn what_masks_hold_is_found_from_their_values() {
        assert_eq!(guessed(&[0, 1, 255], 2), ClassCodes::Classes);
        assert_eq!(guessed(&[0, 1], 2), ClassCodes::Classes);
        assert_eq!(guessed(&[0, 255], 2), ClassCodes::Instances);
        assert_eq!(guessed(&[0, 1, 2, 3], 2), ClassCodes::Instances);
        assert_eq!(guessed(&[0, 1, 2, 3], 4), ClassCodes::Classes);
        assert_eq!(guessed(&[0, 7], 4), ClassCodes::Classes);
    }

    #[test]
    fn codes_are_folded_as_published() {
        let bcss: Vec<Option<u8>> =
            [0, 1, 19, 20, 2, 3, 10, 11, 4, 5, 21, 22].map(|value| ClassCodes::Bcss.class(value, 5)).to_vec();
        let expected = [255, 1, 1, 1, 2, 3, 3, 3, 4, 0, 0].map(Some);
        assert_eq!(bcss[..11], expected);
        assert_eq!(bcss[11], None);
        assert_eq!(
            [0, 1, 2, 3].map(|value| ClassCodes::Camelyon.class(value, 2)),
            [Some(255), Some(0), Some(1), None]
        );
        assert_eq!(ClassCodes::Classes.class(2, 2), None);
        assert_eq!(ClassCodes::Instances.class(255, 2), Some(1));
    }
}
