//! How good masks of tissue classes are, and the oracle that names clusters in experiments.
//!
//! Everything is computed from one confusion matrix over all pixels, as in Pan et al. (2023); intervals draw pictures.
//!
//! Reading order: [`confusion`], [`evaluation`], [`partition`] (clusters against classes), [`oracle`].

pub mod confusion;
pub mod evaluation;
pub mod oracle;
pub mod partition;
pub mod text;
