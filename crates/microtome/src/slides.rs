//! What can be asked of whole slides.

pub mod convert;
mod destination;
pub mod fingerprint;
pub mod info;
pub mod own_tissue;
pub mod picture;
pub mod synth;
pub mod tiles;
pub mod view;
