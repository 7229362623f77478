//! Microtome's science and its projects: from pictures to nuclei without labels, and from results to files and scores.
//!
//! [`nuclei`] is the method side: `run`, `train` and `segment` are its doors. [`export`] and [`report`] write what was
//! found. [`truth`] reads what people drew, and only [`metrics`] may open it: **labels never reach training or model
//! choice**, and the type system keeps them apart (`truth::Truth` gives its labels only against a key that only
//! `metrics` makes).
//!
//! Nothing here prints: progress and warnings go through [`context::Context`].
//!
//! Reading order: [`context`], [`nuclei::run`], then the stages it calls, named as in ARCHITECTURE.md.

pub mod arrays;
pub mod context;
pub mod export;
pub mod metrics;
pub mod nuclei;
pub mod project;
pub mod report;
pub mod slides;
pub mod system;
pub mod tissue;
pub mod truth;

pub use microtome_kernels::Size;
pub use microtome_kernels::memory::Recycling;
pub use microtome_slide::{MicronsPerPixel, PointInLevel0, Slide, find};
pub use microtome_vault::{Budget, Error, Fault, Result, disk};
