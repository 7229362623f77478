//! A loss whose gradient is known already, because it was computed with the loss, outside of the graph.

use super::{extent, tensor};
use crate::device::has_our_kernels;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};
use burn_flex::FlexTensor;

/// A loss `[1]` of the given value, with the given gradient towards `x`, in the order of its values.
pub fn with_gradient(x: Tensor<4>, value: f32, gradient: Vec<f32>) -> Tensor<1> {
    let (device, shape) = (x.device(), x.dims());
    if has_our_kernels(&device) {
        let gradient = Known { value, gradient };
        return Tensor::from_dispatch(Dispatch::known_gradient(x.into_dispatch(), gradient));
    }
    let gradient = Tensor::<4>::from_data(TensorData::new(gradient, shape), &device);
    let product = (x * gradient).sum();
    product.clone() - product.detach() + value
}

/// Value and gradient.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    value: f32,
    gradient: Vec<f32>,
}

/// What our own code adds to a backend.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait KnownGradientOps: Backend {
    /// # Shapes
    /// - x: four axes; output `[1]`
    fn known_gradient(x: FloatTensor<Self>, known: Known) -> FloatTensor<Self>;
}

impl KnownGradientOps for Flex {
    fn known_gradient(_x: FlexTensor, known: Known) -> FlexTensor {
        tensor(vec![known.value], [1])
    }
}

impl<C: CheckpointStrategy> KnownGradientOps for Autodiff<Flex, C> {
    fn known_gradient(x: FloatTensor<Self>, known: Known) -> FloatTensor<Self> {
        let node = x.node();
        let shape: [usize; 4] = extent(&x.into_primitive());
        let value = tensor(vec![known.value], [1]);
        match KnownGradient.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => tracked.finish((known.gradient, shape), value),
            OpsKind::UnTracked(untracked) => untracked.finish(value),
        }
    }
}

#[derive(Debug)]
struct KnownGradient;

impl Backward<Flex, 1> for KnownGradient {
    type State = (Vec<f32>, [usize; 4]);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let factor = grads.consume::<Flex>(&ops.node).to_contiguous().storage::<f32>()[0];
        let (mut gradient, shape) = ops.state;
        if factor != 1.0 {
            gradient.iter_mut().for_each(|value| *value *= factor);
        }
        if let [Some(node)] = ops.parents {
            grads.register::<Flex>(node.id, tensor(gradient, shape));
        }
    }
}
