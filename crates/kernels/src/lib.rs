//! Arithmetic on plain slices: what the methods spend their time in, and nothing else.
//!
//! A kernel takes slices and a [`Size`], or values that it may use up, and gives slices or [`Labels`]; it knows no file, no tensor, no
//! slide. Rasters are row-major: the pixel at column `x`, row `y` is at `y * width_px + x`. Masks are
//! `&[bool]`. Every kernel gives the same bytes on any number of threads: work is split by rows or by fixed
//! blocks, and reductions are added up in a fixed order.
//!
//! NaN and empty pictures are answered, not refused. Only a slice that does not fill its [`Size`] stops a
//! kernel, with a panic, and more pixels than 32 bits count those of [`components`] and [`watershed`]: no file that memory is
//! granted for can cause that, it is a defect in the caller.
//!
//! Reading order: [`size`], [`stain`] (colour to haematoxylin), [`threshold`], [`morphology`], [`distance`],
//! [`components`], [`maxima`], [`watershed`], then what is measured on the result: [`region`], [`contours`],
//! which [`polygon`] turns back into pixels. [`focus`] says how sharp a picture is. [`kmeans`] finds groups of vectors;
//! [`views`] are what a network learns from without labels.

mod columns;
pub mod components;
pub mod contours;
pub mod distance;
pub mod focus;
pub mod gaussian;
pub mod jpeg;
pub mod kmeans;
pub mod labels;
pub mod maxima;
pub mod memory;
pub mod morphology;
pub mod network;
pub mod polygon;
pub mod region;
pub mod resample;
pub mod runs;
pub mod size;
pub mod stain;
pub mod threshold;
pub mod views;
pub mod watershed;

pub use labels::Labels;
pub use size::Size;
