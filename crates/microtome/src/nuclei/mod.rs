//! Nuclei out of pictures, without labels.
//!
//! [`run`] trains on what it is given and segments it. A method is [`stain`], [`contrastive`] or [`best`]; each gives
//! a [`confidence`] map a picture, of which [`instances`] makes nuclei, which [`measure`] describes. [`choice`] decides
//! without truth which epoch and channel of a contrastive training is nuclei. A [`slide`] is worked on tile by tile.

pub mod best;
pub mod cells;
pub mod choice;
pub mod confidence;
pub mod config;
pub mod contrast;
pub mod contrastive;
pub mod folder;
pub mod inputs;
pub mod instances;
pub mod measure;
pub mod model;
pub mod reading;
pub mod run;
pub mod segmenter;
pub mod slide;
pub mod stain;
mod summary;
pub mod teaching;
