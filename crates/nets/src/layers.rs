//! Layers of the networks: their parameters, and their arithmetic in Burn's own operations.

mod conv_norm_elu;
mod pointwise;

pub use conv_norm_elu::ConvNormElu;
pub use pointwise::Pointwise;
