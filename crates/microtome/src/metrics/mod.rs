//! How good a segmentation is, measured against truth: Dice, IoU, AJI, PQ, DQ, SQ, F1, precision and recall.
//!
//! Every metric is a function of [`Overlaps`], the table of how many pixels each true and each predicted
//! nucleus have in common. Truth is read by [`crate::truth`] and opened only here: see [`ScoringKey`].
//!
//! Where there is nothing to find and nothing was found, every metric is 1; where only one of the two is
//! empty, every metric is 0. No metric is ever NaN.
//!
//! Reading order: [`overlaps`], [`mod@dice`], [`detection`], [`panoptic`], [`mod@aji`], [`bootstrap`],
//! [`evaluation`], and what shows the result: [`json`], [`table`], [`mod@error_picture`], [`oracle`]. Masks of tissue classes are scored in [`tissue`].

pub mod aji;
pub mod bootstrap;
pub mod detection;
pub mod dice;
pub mod error_picture;
pub mod evaluation;
pub mod json;
pub mod oracle;
pub mod overlaps;
pub mod panoptic;
mod run_pictures;
pub mod table;
pub mod tissue;

pub use bootstrap::Interval;
pub use error_picture::error_picture;
pub use evaluation::{Evaluation, PictureScores, evaluate, score};
pub use overlaps::Overlaps;

/// What opens a [`Truth`](crate::truth::Truth): only `metrics` can make one, so that training and model
/// choice cannot see a label, by construction and not by care.
pub struct ScoringKey(());
