//! What can be asked of whole slides.

pub mod info;
pub mod picture;
