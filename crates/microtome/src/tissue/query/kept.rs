//! What was seen of a project's slides, kept: new names for the same clusters need no encoding.
//!
//! Cosines to all centroids, named or not, take four bytes a cell and centroid. The same cosines are found again with fewer
//! centroids, to the bit: each is a sum of its own.

use super::seen::Seen;
use super::{Method, Question};
use crate::arrays::{Group, GroupWriter};
use crate::context::Context;
use crate::project::key::Key;
use microtome_kernels::Size;
use microtome_vault::{Budget, Result, disk};
use serde_json::json;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Version of what is computed here.
const VERSION: u32 = 1;
/// Bytes that are kept of a slide at most; a larger one is encoded each time.
const MOST_BYTES: u64 = 2 << 30;
/// Bytes that are kept of all slides of a project at most.
pub const MOST_BYTES_OF_ALL: u64 = 32 << 30;
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
    /// Bytes that there is room for, for this slide and those after it.
    pub room: &'a Cell<u64>,
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
    /// It is being written.
    Writing(Writing),
}

/// What is being written.
pub(super) struct Writing {
    group: GroupWriter,
    key: String,
    /// Whether the disk refused: then the answer goes on without it.
    has_failed: Cell<bool>,
}

impl Writing {
    fn keep(&self, names: &[String; 2], seen: &Seen, context: &Context<'_>) {
        let Size { width_px, height_px } = seen.size;
        let centroids = seen.cosines.len() / seen.size.area_px().max(1);
        let shape = [height_px, width_px, centroids];
        let written = (self.group.write(&names[0], &shape, &["y", "x", "cluster"], &seen.cosines))
            .and_then(|()| self.group.write(&names[1], &[seen.alike.len()], &["cell"], &seen.alike));
        if let Err(error) = written {
            context.warn(format!("what was seen of this slide is not kept: {error}"));
            self.has_failed.set(true);
        }
    }
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
        let bytes = bytes_of(question, keeper, windows);
        if bytes > MOST_BYTES.min(keeper.room.get()) {
            return Ok(Self::None);
        }
        keeper.room.set(keeper.room.get() - bytes);
        keeper.path.parent().map_or(Ok(()), disk::create_folder_all)?;
        let group = GroupWriter::create(&keeper.path)?;
        Ok(Self::Writing(Writing { group, key, has_failed: Cell::new(false) }))
    }

    /// What is known of a window, or what `look` sees.
    pub(super) fn see(
        &self,
        window: usize,
        expected: Expected,
        context: &Context<'_>,
        look: impl FnOnce() -> Result<Seen>,
    ) -> Result<Seen> {
        let names = ["cosines", "alike"].map(|name| format!("{name}_{window:05}"));
        match self {
            Self::None => look(),
            Self::There(group) => {
                let read = group.read::<f32>(&names[0], LARGEST_WINDOW);
                let both =
                    read.and_then(|cosines| Ok((cosines, group.read::<u32>(&names[1], LARGEST_WINDOW)?)));
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
            Self::Writing(writing) => {
                let seen = look()?;
                if !writing.has_failed.get() {
                    writing.keep(&names, &seen, context);
                }
                Ok(seen)
            }
        }
    }

    /// Puts what was seen in place.
    pub(super) fn finish(self, context: &Context<'_>) {
        if let Self::Writing(Writing { group, key, has_failed }) = self
            && !has_failed.get()
            && let Err(error) = group.finish(&json!({"key": key}))
        {
            context.warn(format!("what was seen of this slide is not kept: {error}"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Progress;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    #[derive(Default)]
    struct Warned(Mutex<Vec<String>>);

    impl Progress for Warned {
        fn begin(&self, _: &str, _: usize) {}
        fn advance(&self, _: usize, _: &str) {}
        fn end(&self) {}
        fn warn(&self, warning: &str) {
            self.0.lock().unwrap().push(warning.to_owned());
        }
    }

    #[test]
    fn a_disk_that_refuses_costs_what_would_be_kept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zarr");
        let (warned, cancelled) = (Warned::default(), AtomicBool::new(false));
        let context = Context::new(1, Budget::DEFAULT, &warned, &cancelled);
        let size = Size::new(2, 1);
        let seen = || Ok(Seen { size, cosines: vec![0.5, 0.25], alike: Vec::new() });
        let expected = Expected { size, centroids: 1, alike: 0 };
        let writing = |group| Writing { group, key: "k".to_owned(), has_failed: Cell::new(false) };
        let recollection = Recollection::Writing(writing(GroupWriter::create(&path).unwrap()));
        // A window that was written before cannot be written again.
        for _ in 0..3 {
            assert_eq!(recollection.see(7, expected, &context, seen).unwrap(), seen().unwrap());
        }
        recollection.finish(&context);
        assert!(!path.exists());
        let warned = warned.0.lock().unwrap();
        assert!(warned.len() == 1 && warned[0].contains("is not kept"), "{warned:?}");
    }
}
