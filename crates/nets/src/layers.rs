//! Layers of the networks: their parameters, and their arithmetic in Burn's own operations.

pub(crate) mod conv_norm;
mod conv_norm_elu;
mod pointwise;
mod running;

pub use conv_norm_elu::ConvNormElu;
pub use pointwise::Pointwise;
