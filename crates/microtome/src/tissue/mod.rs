//! Tissue prototypes (Pan et al. 2023): from unlabelled slides to masks of tissue classes, with a few dozen names.
//!
//! One file a stage, in this order: [`tiles`] lists the tiles of each slide; [`encoder`] turns pixels into numbers, and
//! is taught on the tiles without labels; [`embed`] gives each tile a vector; [`clusters`] puts them together; a person
//! names clusters ([`names`]); named clusters are a [`dictionary`], which is asked about every place of a slide
//! ([`query`]). Each stage does nothing where its artefact is there and made from the same.
//!
//! What people drew is behind a wall: nothing here can reach it. Names that an oracle gives, in experiments, come from
//! where scores are made, and are marked for what they are.

pub mod advice;
pub mod areas;
pub mod asked;
pub mod clusters;
pub mod dictionary;
pub mod embed;
pub mod encoder;
pub mod exchange;
pub mod features;
pub mod look;
pub mod map;
pub mod masks;
pub mod names;
pub mod overlay;
pub mod pictures;
pub mod pretrain;
pub mod query;
pub mod regions;
pub mod report;
pub mod sheets;
pub mod status;
pub mod tiles;
