//! Where tensors live.

use burn::tensor::Device;

/// The processor, with automatic differentiation.
pub fn training() -> Device {
    Device::flex().autodiff()
}

/// Whether our own kernels serve tensors on this device; others take Burn's operations.
pub(crate) fn has_our_kernels(device: &Device) -> bool {
    let plain = if device.is_autodiff() { device.clone().inner() } else { device.clone() };
    plain == Device::flex()
}
