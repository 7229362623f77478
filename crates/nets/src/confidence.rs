//! The confidence network: a confidence in 0..1 for each output channel and pixel, at full resolution
//! (Boserup & Selvan 2023).

use crate::device::has_our_kernels;
use crate::initialise::Initialiser;
use crate::layers::{ConvNormElu, Pointwise};
use crate::operations::tower::TowerOps;
use burn::backend::Dispatch;
use burn::module::Module;
use burn::tensor::{Tensor, activation};
use microtome_kernels::network::tower::Tower;

/// Channels between the layers.
pub const WIDTH: usize = microtome_kernels::network::tower::WIDTH;
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

    /// Values before the sigmoid, in training mode: batch statistics normalise, and the running statistics move
    /// towards them.
    ///
    /// # Shapes
    /// - input `[images, inputs, height, width]`, output `[images, outputs, height, width]`
    pub fn logits_training(&self, x: Tensor<4>) -> Tensor<4> {
        match has_our_kernels(&x.device()) {
            true => self.as_tower(x, false),
            false => self.composed(x),
        }
    }

    /// Confidence in training mode; shapes as [`Self::logits_training`].
    pub fn forward_training(&self, x: Tensor<4>) -> Tensor<4> {
        match has_our_kernels(&x.device()) {
            true => self.as_tower(x, true),
            false => activation::sigmoid(self.composed(x)),
        }
    }

    /// In Burn's own operations, for devices that our kernels do not serve.
    pub(crate) fn composed(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.stem.forward_training(x);
        let x = self.blocks.iter().fold(x, |x, block| block.forward_training(x));
        self.head.forward(x)
    }

    /// As one operation of ours.
    fn as_tower(&self, x: Tensor<4>, sigmoid: bool) -> Tensor<4> {
        let [images, inputs, height, width] = x.dims();
        let dilations = self.blocks.iter().map(|block| block.first.dilation).collect();
        let tower = Tower { inputs, outputs: self.head.bias.dims()[0], dilations, sigmoid };
        let parameters = self.parameters_in_a_row();
        let (output, statistics) =
            Dispatch::residual_tower(x.into_dispatch(), parameters.into_dispatch(), tower);
        let statistics = Tensor::<3>::from_dispatch(statistics);
        for (index, layer) in self.layers().enumerate() {
            let row =
                |which: usize| statistics.clone().narrow(0, index, 1).narrow(1, which, 1).reshape([WIDTH]);
            layer.remember(row(0), row(1), images * height * width);
        }
        Tensor::from_dispatch(output)
    }

    fn layers(&self) -> impl Iterator<Item = &ConvNormElu> {
        let inner = self.blocks.iter().flat_map(|block| [&block.first, &block.second]);
        std::iter::once(&self.stem).chain(inner)
    }

    /// Weight, γ and β of each layer, then weight and bias of the head.
    fn parameters_in_a_row(&self) -> Tensor<1> {
        let of_layer =
            |layer: &ConvNormElu| [layer.weight.val().flatten(0, 3), layer.gamma.val(), layer.beta.val()];
        let head = [self.head.weight.val().flatten(0, 3), self.head.bias.val()];
        Tensor::cat(self.layers().flat_map(of_layer).chain(head).collect(), 0)
    }
}
