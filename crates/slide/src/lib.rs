//! Pictures in: formats, resolution, typed geometry.
//!
//! A file becomes a [`Picture`]: 8-bit RGB on white, its resolution if the file states one that a microscope
//! could have, the checksum of its bytes, and a warning for everything that was not taken as it is. PNG,
//! JPEG, BMP and TIFF are told apart by their first bytes, never by their names.
//!
//! **Invariant.** Files are hostile until proven otherwise: every size that a file states passes a
//! [`Budget`](microtome_vault::Budget) before memory is taken, a decoder that fails or panics becomes an
//! error that names the file, and a file that ends too early is an error, not a picture with a grey bottom.
//!
//! A picture is what fits into memory; a [`Slide`] is what does not: levels whose rectangles are read, and pictures beside
//! them. An [`overview`] of it shows where its [`tissue`] is, of which a [`plan`] makes tiles.
//!
//! What is deliberately absent: networks, projects, HTTP.
//!
//! Reading order: [`picture`], [`find`], `formats` (which one, then one file each), [`geometry`], [`slide`], [`overview`], [`tissue`],
//! [`focus`], [`plan`].

pub mod find;
pub mod focus;
mod formats;
pub mod geometry;
pub mod overview;
pub mod picture;
pub mod plan;
pub mod slide;
pub mod tissue;

pub use find::find_pictures;
pub use geometry::{MicronsPerPixel, PointInLevel, PointInLevel0, RectangleInLevel, Size};
pub use picture::{Picture, ReadSettings, read_picture};
pub use plan::TilePlan;
pub use slide::Slide;
pub use tissue::TissueMask;
