//! Nuclei of whole slides: tile by tile, streamed, resumable, and the same as if the slide were one picture.
//!
//! [`input`] says which files are slides and at which level they are worked on; [`windows`] are parts of their tissue that
//! methods learn from and are calibrated on, [`field`] how each place is read; [`tile`] cuts the nuclei out of one tile, [`bands`] spare neighbours
//! the same work, [`order`] says who waits for whom; [`record`] keeps them on disk, in files of `sealed`;
//! [`segment`] does all tiles, several at a time, and goes on where it stopped; [`export`] puts the files together, [`maps`] the largest of
//! them.
//!
//! **Invariant.** A nucleus belongs to the tile whose core holds its first pixel, by rows; a tile sees as much around its
//! core as the method looks around a place, and a nucleus and its neighbours beyond that. So every nucleus comes out once
//! and whole, wherever borders lie. Only what is wider than [`tile::LARGEST_UM`], and no nucleus, is cut at them.

pub mod bands;
pub mod export;
pub mod field;
pub mod input;
pub mod maps;
pub mod order;
pub mod record;
mod sealed;
pub mod segment;
pub mod tile;
pub mod windows;
