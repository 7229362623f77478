//! The confidence network: a confidence in 0..1 for each output channel and pixel, at full resolution
//! (Boserup & Selvan 2023).

use crate::initialise::Initialiser;
use crate::layers::{ConvNormElu, Pointwise};
use burn::module::Module;
use burn::tensor::{Tensor, activation};

/// Channels between the layers.
pub const WIDTH: usize = 8;
/// Dilations of the six residual blocks.
pub const DILATIONS: [usize; 6] = [1, 2, 3, 5, 10, 20];
/// How far an output pixel sees, in pixels: the stem's 1 and twice each dilation.
pub const REACH_PX: usize = 1 + 2 * (1 + 2 + 3 + 5 + 10 + 20);

/// x + f(x), where f is two [`ConvNormElu`] of one dilation.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    pub(crate) first: ConvNormElu,
    pub(crate) second: ConvNormElu,
}

impl ResidualBlock {
    fn new(dilation: usize, initialiser: &mut Initialiser) -> Self {
        let first = ConvNormElu::new(WIDTH, WIDTH, dilation, initialiser);
        Self { first, second: ConvNormElu::new(WIDTH, WIDTH, dilation, initialiser) }
    }

    fn forward_training(&self, x: Tensor<4>) -> Tensor<4> {
        x.clone() + self.second.forward_training(self.first.forward_training(x))
    }
}

/// Stem, six residual blocks of growing dilation, head with a sigmoid: 7,372 parameters for 3 inputs and 4 outputs.
#[derive(Module, Debug)]
pub struct ConfidenceNetwork {
    pub(crate) stem: ConvNormElu,
    pub(crate) blocks: Vec<ResidualBlock>,
    pub(crate) head: Pointwise,
}

impl ConfidenceNetwork {
    /// A network from `inputs` to `outputs` channels.
    pub fn new(inputs: usize, outputs: usize, initialiser: &mut Initialiser) -> Self {
        Self {
            stem: ConvNormElu::new(inputs, WIDTH, 1, initialiser),
            blocks: DILATIONS.iter().map(|&dilation| ResidualBlock::new(dilation, initialiser)).collect(),
            head: Pointwise::new(WIDTH, outputs, initialiser),
        }
    }

    /// Values before the sigmoid, in training mode.
    ///
    /// # Shapes
    /// - input `[images, inputs, height, width]`, output `[images, outputs, height, width]`
    pub fn logits_training(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.stem.forward_training(x);
        let x = self.blocks.iter().fold(x, |x, block| block.forward_training(x));
        self.head.forward(x)
    }

    /// Confidence in training mode; shapes as [`Self::logits_training`].
    pub fn forward_training(&self, x: Tensor<4>) -> Tensor<4> {
        activation::sigmoid(self.logits_training(x))
    }
}
