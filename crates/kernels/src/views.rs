//! Views of a tile for learning without labels: what a network is to find alike.
//!
//! [`photo`] are those of SimCLR (Chen et al. 2020), as torchvision makes them. [`stain`] are ours, for tissue: what is seen is
//! the concentration of stains, freed of a slide's own strength of staining, turned by any angle. What chance decides is
//! drawn by the caller. A tile is a few dozen kilobytes, so that everything stays in the first two caches; many tiles are
//! shared out among threads by who calls.

pub mod photo;
pub mod stain;
