//! Weights out of PyTorch's own files (`.pth`, `.pt`), without running what is in them: names, shapes and numbers are read,
//! whatever else a pickle asks for is not done.

use crate::weights::{NamedTensor, Weights};
use half::{bf16, f16};
use microtome_vault::{Budget, Error, Result, foreign};
use pytorch_reader::{DType, PytorchReader, Tensor};
use std::path::Path;

/// Extensions that such files have.
pub const EXTENSIONS: [&str; 4] = ["pth", "pt", "ckpt", "bin"];
/// Most tensors that a file may hold.
const MOST_TENSORS: usize = 20_000;

/// Whether a file is called as PyTorch's are.
pub fn is_named_so(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    EXTENSIONS.contains(&extension.as_str())
}

/// The tensors of real numbers in a file, by name; whole numbers, such as counters of batches, are left out.
///
/// # Errors
/// `Input` when the file is damaged, or none of PyTorch's; `Limit` when it exceeds the budget.
pub fn read(path: &Path, budget: Budget) -> Result<Weights> {
    let read = || -> Result<Weights> {
        let file = PytorchReader::new(path).map_err(|error| broken(&error.to_string()))?;
        if file.len() > MOST_TENSORS {
            return Err(broken(&format!("it has {} tensors", file.len())));
        }
        let tensors: Vec<&Tensor> =
            file.tensors().values().filter(|tensor| is_real(tensor.dtype())).collect();
        let elements: u64 = tensors.iter().map(|tensor| tensor.num_elements() as u64).sum();
        budget.grant("the weights in this file", elements, 12)?;
        let mut weights: Weights = tensors.into_iter().map(tensor).collect::<Result<_>>()?;
        weights.sort_by(|a, b| a.name.cmp(&b.name));
        if weights.is_empty() { Err(broken("it holds no weights")) } else { Ok(weights) }
    };
    foreign::call(read).unwrap_or_else(|| Err(broken("its decoder gave up"))).map_err(|error| error.at(path))
}

fn broken(why: &str) -> Error {
    Error::input(format!("these weights of PyTorch cannot be read ({why})"))
        .advise("copy the file again, or save it in Python with torch.save(model.state_dict(), FILE)")
}

fn is_real(kind: DType) -> bool {
    matches!(kind, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
}

fn tensor(from: &Tensor) -> Result<NamedTensor> {
    let bytes = from.read().map_err(|error| broken(&error.to_string()))?;
    let values = match from.dtype() {
        DType::F64 => bytes.as_chunks().0.iter().map(|own| f64::from_le_bytes(*own) as f32).collect(),
        DType::F16 => bytes.as_chunks().0.iter().map(|own| f16::from_le_bytes(*own).to_f32()).collect(),
        DType::BF16 => bytes.as_chunks().0.iter().map(|own| bf16::from_le_bytes(*own).to_f32()).collect(),
        _ => bytes.as_chunks().0.iter().map(|own| f32::from_le_bytes(*own)).collect(),
    };
    Ok(NamedTensor { name: from.name.clone(), shape: from.shape().to_vec(), values })
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_vault::disk;

    /// Made by `tests/golden/make_pytorch.py`.
    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny.pth");

    #[test]
    fn tensors_of_every_width_are_read_out_of_a_nested_checkpoint() {
        let weights = read(Path::new(GOLDEN), Budget::DEFAULT).unwrap();
        let found: Vec<(&str, &[usize], &[f32])> =
            weights.iter().map(|own| (own.name.as_str(), &own.shape[..], &own.values[..])).collect();
        let counted: &[f32] = &[0.0, 0.5, 1.0, 1.5, 2.0, 2.5];
        assert_eq!(
            found,
            [
                ("state_dict.module.bfloat16", &[6][..], counted),
                ("state_dict.module.double", &[6], counted),
                ("state_dict.module.half", &[6], counted),
                ("state_dict.module.single", &[2, 3], counted),
                // Its numbers do not lie side by side in the file.
                ("state_dict.module.turned", &[3, 2], &[0.0, 1.5, 0.5, 2.0, 1.0, 2.5]),
            ]
        );
    }

    #[test]
    fn damaged_files_are_refused_or_read_and_nothing_worse() {
        let whole = disk::read_file_bounded(GOLDEN, Budget::DEFAULT).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pth");
        let (mut state, mut refused) = (7u32, 0);
        let mut draw = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % below
        };
        for round in 0..400 {
            let mut bytes = whole.clone();
            match round % 2 {
                0 => bytes.truncate(draw(whole.len())),
                _ => (0..6).for_each(|_| bytes[draw(whole.len())] = draw(256) as u8),
            }
            disk::write_atomic(&path, &bytes).unwrap();
            refused += usize::from(read(&path, Budget::of_bytes(16 << 20)).is_err());
        }
        assert!(refused >= 200, "{refused} of 400 were refused");
        assert!(is_named_so(&path) && !is_named_so(Path::new("a.safetensors")));
    }
}
