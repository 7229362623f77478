//! What was seen of a project's slides, kept: new names for the same clusters need no encoding.
//!
//! Cosines to all centroids, named or not, take four bytes a cell and centroid. The same cosines are found again with fewer
//! centroids, to the bit: each is a sum of its own.

use super::seen::Seen;
use super::{Method, Question};
use crate::arrays::{Group, GroupWriter};
use crate::project::key::Key;
use microtome_kernels::Size;
use microtome_vault::{Budget, Result, disk};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Version of what is computed here.
const VERSION: u32 = 1;
/// Bytes that are kept of a slide at most; a larger one is encoded each time.
const MOST_BYTES: u64 = 2 << 30;
/// Cells that windows overlap by on each side, at most, for an estimate.
const BORDER: usize = 16;
/// Largest window that is read.
const LARGEST_WINDOW: Budget = Budget::of_bytes(1 << 30);

/// Where what is seen of one slide is kept, and the centroids that it is seen by.
#[derive(Clone, Debug)]
pub struct Keeper<'a> {
    /// The folder of the group.
    pub path: PathBuf,
    /// What clusters, slide and resolution it depends on.
    pub key: String,
    /// All centroids of the clusters by level.
    pub centroids: &'a BTreeMap<usize, Vec<f32>>,
}

/// What is seen of a window, in numbers.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    /// Columns and rows of cells.
    pub(super) size: Size,
    /// Centroids that they are compared with.
    pub(super) centroids: usize,
    /// Cells of which is known which are alike.
    pub(super) alike: usize,
}

impl Expected {
    fn shape(self) -> [usize; 3] {
        [self.size.height_px, self.size.width_px, self.centroids]
    }
}

/// What was seen, or will have been.
pub(super) enum Recollection {
    /// Nothing is kept.
    None,
    /// It is there.
    There(Group),
    /// It is being written, under this key.
    Writing(GroupWriter, String),
}

impl Recollection {
    pub(super) fn of(
        question: &Question<'_>,
        keeper: Option<&Keeper<'_>>,
        windows: &[([i64; 2], Size)],
    ) -> Result<Self> {
        let Some(keeper) = keeper.filter(|_| question.settings.method != Method::Cluster) else {
            return Ok(Self::None);
        };
        let key = key_of(question, keeper);
        if let Some(group) = Group::open(&keeper.path)?.filter(|group| group.text("key") == Some(&key)) {
            return Ok(Self::There(group));
        }
        match bytes_of(question, keeper, windows) <= MOST_BYTES {
            false => Ok(Self::None),
            true => {
                keeper.path.parent().map_or(Ok(()), disk::create_folder_all)?;
                Ok(Self::Writing(GroupWriter::create(&keeper.path)?, key))
            }
        }
    }

    /// What is known of a window, or what `look` sees.
    pub(super) fn see(
        &self,
        window: usize,
        expected: Expected,
        look: impl FnOnce() -> Result<Seen>,
    ) -> Result<Seen> {
        let [cosines, alike] = ["cosines", "alike"].map(|name| format!("{name}_{window:05}"));
        match self {
            Self::None => look(),
            Self::There(group) => {
                let read = group.read::<f32>(&cosines, LARGEST_WINDOW);
                let both = read.and_then(|cosines| Ok((cosines, group.read::<u32>(&alike, LARGEST_WINDOW)?)));
                match both {
                    Ok((cosines, alike))
                        if cosines.shape == expected.shape() && alike.values.len() == expected.alike =>
                    {
                        Ok(Seen { size: expected.size, cosines: cosines.values, alike: alike.values })
                    }
                    // What is damaged or missing is seen again.
                    _ => look(),
                }
            }
            Self::Writing(group, _) => {
                let seen = look()?;
                let Size { width_px, height_px } = seen.size;
                let centroids = seen.cosines.len() / seen.size.area_px().max(1);
                let shape = [height_px, width_px, centroids];
                group.write(&cosines, &shape, &["y", "x", "cluster"], &seen.cosines)?;
                group.write(&alike, &[seen.alike.len()], &["cell"], &seen.alike)?;
                Ok(seen)
            }
        }
    }

    /// Puts what was seen in place.
    pub(super) fn finish(self) -> Result<()> {
        match self {
            Self::Writing(group, key) => group.finish(&json!({"key": key})).map(|_| ()),
            _ => Ok(()),
        }
    }
}

fn key_of(question: &Question<'_>, keeper: &Keeper<'_>) -> String {
    let settings = question.settings;
    Key::of("cosines", VERSION)
        .with("slide", &keeper.key)
        .with("method", settings.method.name())
        .with("level", settings.level)
        .with("named", question.dictionary.tiles.named_px)
        // The border of windows, and how many local clusters there are.
        .with("smoothing", settings.smoothing_px)
        .with("classes", question.dictionary.classes.len())
        .with("seed", settings.seed)
        .finish()
}

fn bytes_of(question: &Question<'_>, keeper: &Keeper<'_>, windows: &[([i64; 2], Size)]) -> u64 {
    let level = question.settings.level;
    let centroids = keeper.centroids[&level].len() / question.dictionary.encoder.dimensions(level).max(1);
    let finer = question.stride_px() / question.side_px();
    let cells = |size: &Size| {
        let side = |cells: usize| (cells * finer + 2 * BORDER) as u64;
        side(size.width_px) * side(size.height_px)
    };
    windows.iter().map(|(_, size)| cells(size)).sum::<u64>() * 4 * (centroids as u64 + 1)
}
