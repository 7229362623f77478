//! Random streams: every use of chance has its own, named by seed, purpose and number, so that a run that was
//! interrupted and resumed draws what an unbroken one draws.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a stream of random numbers is for. The discriminants are part of what a seed means: never renumber them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Initial weights.
    Weights = 1,
    /// Order of the pictures and places of the crops in an epoch.
    Crops = 2,
    /// Patches and anchors of the contrastive loss in an epoch.
    Patches = 3,
    /// Where pictures are looked at to choose channel and epoch.
    Choice = 4,
    /// Which picture lies where in a slide that is made of pictures.
    Mosaic = 5,
    /// Which parts of a slide are looked at or learned from.
    Windows = 6,
    /// Order of the tiles and what becomes of each in an epoch of an encoder's training.
    Views = 7,
    /// Seeds of clusters.
    Clusters = 8,
}

/// The stream for `purpose`, `number` (an epoch, say), under `seed`.
pub fn stream(seed: u64, purpose: Purpose, number: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    key[16..24].copy_from_slice(&number.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn streams_differ_by_seed_purpose_and_number_and_repeat_themselves() {
        let first = |seed, purpose, number| stream(seed, purpose, number).random::<u64>();
        let here = first(1, Purpose::Crops, 0);
        assert_eq!(here, first(1, Purpose::Crops, 0));
        for other in [first(2, Purpose::Crops, 0), first(1, Purpose::Patches, 0), first(1, Purpose::Crops, 1)]
        {
            assert_ne!(here, other);
        }
    }
}
