//! The confidence network as one operation: forward and backward call `microtome_kernels::network::tower`.

use super::{extent, tensor};
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn_flex::FlexTensor;
use microtome_kernels::Size;
use microtome_kernels::network::Planes;
use microtome_kernels::network::normalisation::Moments;
use microtome_kernels::network::tower::{Layer, Parameters, Tower, Trace, WIDTH};
use std::sync::Arc;

/// Batch norm's ε, as in the paper's framework.
pub(crate) const EPSILON: f32 = 1e-5;

/// What our kernels add to a backend.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait TowerOps: Backend {
    /// The tower in training mode.
    ///
    /// # Shapes
    /// - picture `[images, inputs, height, width]`; no gradient towards it is computed
    /// - parameters: weight, γ, β of each layer, then weight and bias of the head, one after the other
    /// - outputs: `[images, outputs, height, width]`, and each layer's batch mean and biased variance
    ///   `[layers, 2, 8]`, through which no gradient flows
    fn residual_tower(
        picture: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        tower: Tower,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl TowerOps for Flex {
    fn residual_tower(picture: FlexTensor, parameters: FlexTensor, tower: Tower) -> (FlexTensor, FlexTensor) {
        let (saved, output) = Saved::forward(picture, parameters, tower);
        (output, saved.statistics())
    }
}

impl<C: CheckpointStrategy> TowerOps for Autodiff<Flex, C> {
    fn residual_tower(
        picture: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        tower: Tower,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let node = parameters.node();
        let (mut saved, output) =
            Saved::forward(picture.into_primitive(), parameters.into_primitive(), tower);
        let statistics = FloatTensor::<Self>::new(saved.statistics());
        let output = match TowerGradient.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => {
                saved.output = Some(output.clone());
                tracked.finish(saved, output)
            }
            OpsKind::UnTracked(untracked) => untracked.finish(output),
        };
        (output, statistics)
    }
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Debug)]
struct Saved {
    picture: FlexTensor,
    parameters: FlexTensor,
    tower: Tower,
    trace: Arc<Trace>,
    output: Option<FlexTensor>,
}

impl Saved {
    fn forward(picture: FlexTensor, parameters: FlexTensor, tower: Tower) -> (Self, FlexTensor) {
        let (picture, parameters) = (picture.to_contiguous(), parameters.to_contiguous());
        let [images, channels, height, width] = extent(&picture);
        let shape = Planes { images, channels, size: Size::new(width, height) };
        let split = split(&tower, parameters.storage());
        let (output, trace) = tower.forward(picture.storage(), shape, &split);
        let output = tensor(output, [images, tower.outputs, height, width]);
        (Self { picture, parameters, tower, trace: Arc::new(trace), output: None }, output)
    }

    fn statistics(&self) -> FlexTensor {
        let moments = self.trace.moments();
        let of_layer = |layer: &[Moments; WIDTH]| {
            let means = layer.map(|moments| moments.mean);
            [means, layer.map(|moments| moments.variance)].concat()
        };
        tensor(moments.iter().flat_map(of_layer).collect(), [moments.len(), 2, WIDTH])
    }
}

#[derive(Debug)]
struct TowerGradient;

impl Backward<Flex, 1> for TowerGradient {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let [parameters] = ops.parents;
        let Some(node) = parameters else { return };
        let saved = ops.state;
        let output = saved.output.as_ref().map_or(&[][..], |output| output.storage::<f32>());
        let split = split(&saved.tower, saved.parameters.storage());
        let picture = saved.picture.storage();
        let found = saved.tower.backward(picture, &saved.trace, &split, output, gradient.storage());
        let layers = found.layers.into_iter().flat_map(|layer| [layer.weight, layer.gamma, layer.beta]);
        let values: Vec<f32> = layers.chain([found.head_weight, found.head_bias]).flatten().collect();
        let length = values.len();
        grads.register::<Flex>(node.id, tensor(values, [length]));
    }
}

/// The parameters of each layer, from all in a row.
fn split<'a>(tower: &Tower, mut values: &'a [f32]) -> Parameters<'a> {
    let mut take = |length: usize| {
        let (taken, rest) = values.split_at(length);
        values = rest;
        taken
    };
    let layers = (0..tower.layers())
        .map(|layer| {
            let inputs = if layer == 0 { tower.inputs } else { WIDTH };
            Layer { weight: take(WIDTH * inputs * 9), gamma: take(WIDTH), beta: take(WIDTH) }
        })
        .collect();
    let head_weight = take(tower.outputs * WIDTH);
    Parameters { layers, head_weight, head_bias: take(tower.outputs), epsilon: EPSILON }
}
