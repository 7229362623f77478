//! Networks, losses, training loops and model files. **The only crate that names burn.**
//!
//! It knows pixels as slices (planar, 0 to 1) and never a picture file, a slide, a project or a label: what it trains
//! on is [`training::TrainingPicture`], which has no place for truth.
//!
//! Reading order: [`confidence`] (the network of the contrastive method) and [`feature`], made of [`layers`] and `operations`;
//! [`contrastive`] (patches, samplers, similarities, loss); [`training`] (the loop, its checkpoints) with its [`optimiser`];
//! [`resnet`] (the encoders of the tissue method) and [`simclr`] (how they are taught);
//! [`inference`] (batch norm folded, no tensors); [`weights`] (names and files); [`pytorch`] (its files); [`onnx`] (networks that others
//! made).

pub mod confidence;
pub mod contrastive;
pub mod device;
pub mod feature;
pub mod inference;
pub mod initialise;
pub mod layers;
pub mod onnx;
mod operations;
pub mod optimiser;
pub mod pytorch;
pub mod random;
pub mod resnet;
pub mod simclr;
pub mod soft_target;
pub mod training;
pub mod weights;

pub use operations::known_gradient::with_gradient;
pub use operations::with_values;

#[cfg(test)]
mod golden;
