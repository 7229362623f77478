//! Decoded tiles that were used last, within a number of bytes, shared by all threads.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::TilePlace;
use super::source::Tile;

/// Bytes of pixels that a slide keeps: about 120 tiles of 256 px, the border that two neighbouring windows of 4096 px share.
const CACHE_BYTES: usize = 24 << 20;
/// The largest tile that is kept, in bytes of pixels.
pub(super) const LARGEST_KEPT: usize = CACHE_BYTES / 4;

type Key = (usize, TilePlace);

/// What is kept, and when each was last asked for.
#[derive(Debug, Default)]
struct Kept {
    tiles: HashMap<Key, (Arc<Tile>, u64)>,
    by_age: BTreeMap<u64, Key>,
    bytes: usize,
    clock: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct TileCache(Mutex<Kept>);

impl TileCache {
    /// The tile, if it is kept.
    pub(super) fn get(&self, level: usize, place: TilePlace) -> Option<Arc<Tile>> {
        let mut kept = self.lock();
        let kept = &mut *kept;
        let (tile, age) = kept.tiles.get_mut(&(level, place))?;
        kept.clock += 1;
        kept.by_age.remove(age);
        kept.by_age.insert(kept.clock, (level, place));
        *age = kept.clock;
        Some(Arc::clone(tile))
    }

    /// Keeps a tile, and lets go of those that were not asked for the longest.
    pub(super) fn put(&self, level: usize, place: TilePlace, tile: Arc<Tile>) {
        if tile.rgb.len() > LARGEST_KEPT {
            return;
        }
        let mut kept = self.lock();
        let kept = &mut *kept;
        let key = (level, place);
        kept.clock += 1;
        kept.bytes += tile.rgb.len();
        if let Some((old, age)) = kept.tiles.insert(key, (tile, kept.clock)) {
            kept.bytes -= old.rgb.len();
            kept.by_age.remove(&age);
        }
        kept.by_age.insert(kept.clock, key);
        while kept.bytes > CACHE_BYTES {
            let Some((_, oldest)) = kept.by_age.pop_first() else { break };
            kept.bytes -= kept.tiles.remove(&oldest).map_or(0, |(tile, _)| tile.rgb.len());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    fn tile(bytes: usize) -> Arc<Tile> {
        Arc::new(Tile { size: Size::new(1, 1), rgb: vec![0; bytes] })
    }

    #[test]
    fn the_oldest_go_first_and_bytes_stay_within_the_budget() {
        let cache = TileCache::default();
        let place = |column| TilePlace { column, row: 0 };
        let quarter = CACHE_BYTES / 4;
        (0..4).for_each(|column| cache.put(0, place(column), tile(quarter)));
        assert!(cache.get(0, place(0)).is_some(), "now the youngest");
        cache.put(0, place(4), tile(quarter));
        assert!(cache.get(0, place(1)).is_none());
        assert!([0, 2, 3, 4].iter().all(|&column| cache.get(0, place(column)).is_some()));
        cache.put(0, place(4), tile(1));
        assert_eq!(cache.lock().bytes, 3 * quarter + 1);
        cache.put(1, place(0), tile(quarter + 1));
        assert!(cache.get(1, place(0)).is_none(), "too large to be kept");
    }
}
