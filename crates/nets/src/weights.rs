//! Weights by name, in memory and as safetensors: the format that Python reads and that executes nothing.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use half::{bf16, f16};
use microtome_vault::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Most tensors that a model file may hold: ten times what a ResNet-50 has.
const MOST_TENSORS: usize = 4_000;

/// A tensor of a network under its path in the network, `blocks.0.first.weight` say.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Path in the network.
    pub name: String,
    /// Extent of each axis.
    pub shape: Vec<usize>,
    /// Values, last axis fastest.
    pub values: Vec<f32>,
}

/// All weights and running statistics of a network, in the order of its layers.
pub type Weights = Vec<NamedTensor>;

/// The tensor of that name.
///
/// # Errors
/// `Input` when there is none, or its shape is another.
pub fn named<'a>(weights: &'a [NamedTensor], name: &str, shape: &[usize]) -> Result<&'a NamedTensor> {
    let found = weights.iter().find(|tensor| tensor.name == name).ok_or_else(|| {
        Error::input(format!("the model has no tensor “{name}”, so it is of another architecture"))
    })?;
    if found.shape != shape {
        let found = &found.shape;
        return Err(Error::input(format!(
            "the model's tensor “{name}” has shape {found:?} where this architecture has {shape:?}"
        )));
    }
    Ok(found)
}

/// Reads the weights out of a network.
pub fn collect<M: Module>(network: &M) -> Weights {
    let mut collector = Collector { path: Vec::new(), weights: Vec::new() };
    network.visit(&mut collector);
    collector.weights
}

struct Collector {
    path: Vec<String>,
    weights: Weights,
}

impl ModuleVisitor for Collector {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let shape = tensor.dims().to_vec();
        let values = floats(tensor);
        self.weights.push(NamedTensor { name: self.path.join("."), shape, values });
    }

    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
}

/// The values of a tensor on this side of the device.
pub(crate) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec::<f32>().expect("networks compute in single precision")
}

/// Puts weights into a network of the same architecture.
pub(crate) fn apply<M: Module>(network: M, weights: &[NamedTensor]) -> Result<M> {
    let mut applier = Applier { path: Vec::new(), weights, failure: None };
    let network = network.map(&mut applier);
    match applier.failure {
        Some(failure) => Err(failure),
        None => Ok(network),
    }
}

struct Applier<'a> {
    path: Vec<String>,
    weights: &'a [NamedTensor],
    failure: Option<Error>,
}

impl ModuleMapper for Applier<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.val().dims();
        match named(self.weights, &self.path.join("."), &shape) {
            Ok(found) => param.map(|old| {
                let new = Tensor::from_data(TensorData::new(found.values.clone(), shape), &old.device());
                if old.is_require_grad() { new.require_grad() } else { new }
            }),
            Err(failure) => {
                self.failure.get_or_insert(failure);
                param
            }
        }
    }
}

/// Weights and text as the bytes of a safetensors file: the same for the same content, whatever the order of the weights.
///
/// # Errors
/// `Bug` when what is to be written is no valid file: a name that occurs twice, values that do not fill their shape.
pub fn to_safetensors(weights: &[NamedTensor], texts: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let refused = |why: String| Error::bug(format!("weights cannot be written as safetensors ({why})"));
    let mut sorted: Vec<&NamedTensor> = weights.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    // The library would write the texts in the order of a hash map, which is another each time.
    let mut header =
        serde_json::to_vec(&header(&sorted, texts)).map_err(|error| refused(error.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let values = sorted.iter().flat_map(|tensor| &tensor.values).flat_map(|value| value.to_le_bytes());
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(values);
    SafeTensors::deserialize(&bytes).map_err(|error| refused(error.to_string()))?;
    Ok(bytes)
}

/// What stands before the values: the texts, then type, shape and place of each tensor.
fn header(weights: &[&NamedTensor], texts: &BTreeMap<String, String>) -> serde_json::Map<String, Value> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!(texts));
    let mut begin = 0;
    for NamedTensor { name, shape, values } in weights {
        let end = begin + size_of_val(values.as_slice());
        header.insert(name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}));
        begin = end;
    }
    header
}

/// Weights and text from the bytes of a safetensors file; weights come back sorted by name.
///
/// # Errors
/// `Input` when the bytes are not safetensors of single-precision floats.
pub fn from_safetensors(bytes: &[u8]) -> Result<(Weights, BTreeMap<String, String>)> {
    from_safetensors_except(bytes, |_| false)
}

/// [`from_safetensors`] without the tensors whose names are to be left out, which may be of any type.
///
/// # Errors
/// As [`from_safetensors`].
pub fn from_safetensors_except(
    bytes: &[u8],
    leave_out: impl Fn(&str) -> bool,
) -> Result<(Weights, BTreeMap<String, String>)> {
    let broken = |why: String| {
        Error::input(format!("not a readable safetensors model ({why})"))
            .advise("train it again with `microtome nuclei train`, or copy it again if it was copied")
    };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| broken(error.to_string()))?;
    let texts = metadata.metadata().clone().unwrap_or_default().into_iter().collect();
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| broken(error.to_string()))?;
    if tensors.len() > MOST_TENSORS {
        return Err(broken(format!("{} tensors", tensors.len())));
    }
    let mut weights: Weights = tensors
        .iter()
        .filter(|(name, _)| !leave_out(name))
        .map(|(name, view)| {
            match view.dtype() {
                Dtype::F32 => {
                    Ok(view.data().as_chunks().0.iter().map(|own| f32::from_le_bytes(*own)).collect())
                }
                Dtype::F16 => Ok(view
                    .data()
                    .as_chunks()
                    .0
                    .iter()
                    .map(|own| f16::from_le_bytes(*own).to_f32())
                    .collect()),
                Dtype::BF16 => Ok(view
                    .data()
                    .as_chunks()
                    .0
                    .iter()
                    .map(|own| bf16::from_le_bytes(*own).to_f32())
                    .collect()),
                Dtype::F64 => {
                    Ok(view.data().as_chunks().0.iter().map(|own| f64::from_le_bytes(*own) as f32).collect())
                }
                other => Err(broken(format!("tensor “{name}” is of type {other:?}, not of real numbers"))),
            }
            .map(|values| NamedTensor {
                name: name.to_owned(),
                shape: view.shape().to_vec(),
                values,
            })
        })
        .collect::<Result<_>>()?;
    weights.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((weights, texts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[usize]) -> NamedTensor {
        let values = (0..shape.iter().product()).map(|value: usize| value as f32).collect();
        NamedTensor { name: name.to_owned(), shape: shape.to_vec(), values }
    }

    #[test]
    fn what_is_written_is_read_back_and_always_the_same() {
        let texts: BTreeMap<String, String> =
            (0..20).map(|index| (format!("text {index}"), "\"ε\"".to_owned())).collect();
        let weights = vec![tensor("a", &[2, 3]), tensor("b", &[0]), tensor("c.weight", &[1])];
        let bytes = to_safetensors(&weights, &texts).unwrap();
        assert_eq!(from_safetensors(&bytes).unwrap(), (weights.clone(), texts.clone()));
        let reversed: Weights = weights.into_iter().rev().collect();
        assert!(to_safetensors(&reversed, &texts).unwrap() == bytes);
    }

    #[test]
    fn what_is_no_valid_file_is_not_written() {
        let twice = [tensor("a", &[2]), tensor("a", &[2])];
        assert!(to_safetensors(&twice, &BTreeMap::new()).is_err());
        let unfilled = NamedTensor { shape: vec![3], ..tensor("a", &[2]) };
        assert!(to_safetensors(&[unfilled], &BTreeMap::new()).is_err());
    }
}
