//! Layers of the networks: their parameters, and their arithmetic in Burn's own operations.

mod conv_norm_elu;
mod conv_norm_relu;
mod pointwise;
mod running;

pub use conv_norm_elu::ConvNormElu;
pub use conv_norm_relu::{BatchNorm, Weight};
pub(crate) use conv_norm_relu::{Then, conv_norm_training};
pub use pointwise::Pointwise;
