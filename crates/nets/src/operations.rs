//! Operations that Burn does not have, with their gradients: extensions of its backends that call our kernels.
//!
//! Each has a plain composition of Burn's own operations beside it, for devices that our kernels do not serve.

pub(crate) mod convolution;
pub(crate) mod known_gradient;
pub(crate) mod tower;

use crate::weights::floats;
use burn::backend::{BackendTensor, DispatchTensorKind};
use burn::tensor::{Tensor, TensorData};
use burn_flex::FlexTensor;

/// A tensor that takes the values over.
fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// The extent of a tensor of `D` axes.
fn extent<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    std::array::from_fn(|axis| tensor.layout().shape()[axis])
}

/// What `read` makes of a tensor's values, which are not copied where they lie in memory already.
pub fn with_values<const D: usize, T>(tensor: Tensor<D>, read: impl FnOnce(&[f32]) -> T) -> T {
    let (tensor, length) = (tensor.clone().inner(), tensor.dims().iter().product::<usize>());
    match &tensor.clone().into_dispatch().kind {
        DispatchTensorKind::Flex(BackendTensor::Float(values))
            if values.is_contiguous() && values.storage::<f32>().len() == length =>
        {
            read(values.storage::<f32>())
        }
        _ => read(&floats(tensor)),
    }
}
