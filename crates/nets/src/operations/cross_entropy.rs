//! Weighted binary cross entropy of logits: its value and its gradient in one pass over memory.

use super::{extent, tensor};
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn_flex::FlexTensor;
use microtome_kernels::network::loss::binary_cross_entropy;

/// What our kernels add to a backend.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait CrossEntropyOps: Backend {
    /// `scale` · Σ w·(softplus(z) − t·z).
    ///
    /// # Shapes
    /// - logits, targets, weights: the same, four axes; output `[1]`
    fn weighted_cross_entropy(
        logits: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self>;
}

impl CrossEntropyOps for Flex {
    fn weighted_cross_entropy(
        logits: FlexTensor,
        targets: FlexTensor,
        weights: FlexTensor,
        scale: f32,
    ) -> FlexTensor {
        value_and_gradient(logits, targets, weights, scale).0
    }
}

impl<C: CheckpointStrategy> CrossEntropyOps for Autodiff<Flex, C> {
    fn weighted_cross_entropy(
        logits: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let node = logits.node();
        let (targets, weights) = (targets.into_primitive(), weights.into_primitive());
        let (value, gradient) = value_and_gradient(logits.into_primitive(), targets, weights, scale);
        match CrossEntropyGradient.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => tracked.finish(gradient, value),
            OpsKind::UnTracked(untracked) => untracked.finish(value),
        }
    }
}

fn value_and_gradient(
    logits: FlexTensor,
    targets: FlexTensor,
    weights: FlexTensor,
    scale: f32,
) -> (FlexTensor, FlexTensor) {
    let shape: [usize; 4] = extent(&logits);
    let (logits, targets) = (logits.to_contiguous(), targets.to_contiguous());
    let weights = weights.to_contiguous();
    let mut gradient = vec![0.0; shape.iter().product()];
    let value = binary_cross_entropy(
        logits.storage(),
        targets.storage(),
        Some(weights.storage()),
        scale,
        &mut gradient,
    );
    (tensor(vec![value as f32], [1]), tensor(gradient, shape))
}

#[derive(Debug)]
struct CrossEntropyGradient;

impl Backward<Flex, 1> for CrossEntropyGradient {
    type State = FlexTensor;

    fn backward(self, ops: Ops<FlexTensor, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let factor = grads.consume::<Flex>(&ops.node).to_contiguous().storage::<f32>()[0];
        if let [Some(node)] = ops.parents {
            let gradient = match factor {
                1.0 => ops.state,
                factor => {
                    let shape: [usize; 4] = extent(&ops.state);
                    let values = ops.state.storage::<f32>().iter().map(|value| value * factor);
                    tensor(values.collect(), shape)
                }
            };
            grads.register::<Flex>(node.id, gradient);
        }
    }
}
