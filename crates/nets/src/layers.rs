//! Layers that are ours: convolution, batch norm and ELU in one operation, with its own gradient.

mod conv_norm_elu;
mod fused;
mod pointwise;

pub use conv_norm_elu::ConvNormElu;
pub use pointwise::Pointwise;
