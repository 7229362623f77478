//! Where tensors live: on the processor, unless a build with the feature `wgpu` or `cuda` is asked for a graphics card.

use burn::tensor::Device;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn::tensor::DeviceType;
use microtome_vault::{Error, Result};

/// Every device that a build can have, and whether this one has it.
const DEVICES: [(&str, bool); 3] =
    [(PROCESSOR, true), ("wgpu", cfg!(feature = "wgpu")), ("cuda", cfg!(feature = "cuda"))];

/// The name of the device that every build has.
const PROCESSOR: &str = "cpu";

/// The processor, with automatic differentiation.
pub fn training() -> Device {
    Device::flex().autodiff()
}

/// Names of the devices that this build has, the processor's first. Whether the machine has them shows when one is
/// [`named`].
pub fn names() -> Vec<&'static str> {
    DEVICES.iter().filter(|(_, is_built)| *is_built).map(|(name, _)| *name).collect()
}

/// The device of this name, without automatic differentiation; of several graphics cards the first.
///
/// # Errors
/// When there is no such name, when the build lacks the device, and when the machine does.
pub fn named(name: &str) -> Result<Device> {
    let built = names().join(", ");
    match DEVICES.iter().find(|(known, _)| *known == name) {
        None => {
            Err(Error::usage(format!("there is no device {name:?}"))
                .advise(format!("this build has: {built}")))
        }
        Some((_, false)) => Err(Error::usage(format!("this build has no device {name:?}"))
            .advise(format!("build with `--features {name}`, or take one of: {built}"))),
        Some((_, true)) => found(name).ok_or_else(|| {
            Error::usage(format!("no graphics card was found for device {name:?}"))
                .advise("look at the card's driver, or take the device \"cpu\"")
        }),
    }
}

/// The first device of the kind on this machine.
fn found(name: &str) -> Option<Device> {
    match name {
        PROCESSOR => Some(Device::flex()),
        #[cfg(feature = "wgpu")]
        "wgpu" => Device::enumerate(DeviceType::Wgpu).into_iter().next(),
        #[cfg(feature = "cuda")]
        "cuda" => Device::enumerate(DeviceType::Cuda).into_iter().next(),
        _ => None,
    }
}

/// Whether our own kernels serve tensors on this device; others take Burn's operations.
pub(crate) fn has_our_kernels(device: &Device) -> bool {
    let plain = if device.is_autodiff() { device.clone().inner() } else { device.clone() };
    plain == Device::flex()
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_vault::Fault;

    #[test]
    fn the_processor_is_always_there_and_has_our_kernels() {
        assert_eq!(names()[0], PROCESSOR);
        let device = named(PROCESSOR).unwrap();
        assert!(has_our_kernels(&device) && has_our_kernels(&training()) && !device.is_autodiff());
    }

    #[test]
    fn what_is_missing_is_named() {
        let unknown = named("tpu").unwrap_err();
        assert_eq!(unknown.fault(), Fault::Usage);
        assert!(unknown.to_string().contains("this build has: cpu"), "{unknown}");
        for (name, is_built) in DEVICES {
            match named(name) {
                Ok(device) => assert!(is_built && has_our_kernels(&device) == (name == PROCESSOR), "{name}"),
                Err(error) => assert!(error.to_string().contains(name) && name != PROCESSOR, "{error}"),
            }
        }
    }
}
