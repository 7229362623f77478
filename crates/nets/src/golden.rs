//! The networks and what trains them against PyTorch's numbers (`tests/golden/make_*.py`).

mod contrastive;
mod resnet;

use crate::weights::{NamedTensor, Weights, floats, from_safetensors};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

struct Golden(Weights);

impl Golden {
    fn open(bytes: &[u8]) -> Self {
        Self(from_safetensors(bytes).unwrap().0)
    }

    fn get(&self, name: &str) -> &NamedTensor {
        self.0.iter().find(|tensor| tensor.name == name).unwrap_or_else(|| panic!("no golden {name}"))
    }

    fn under(&self, prefix: &str) -> Weights {
        let strip =
            |t: &NamedTensor| Some(NamedTensor { name: t.name.strip_prefix(prefix)?.into(), ..t.clone() });
        self.0.iter().filter_map(strip).collect()
    }
}

/// The largest difference, as a share of the largest expected magnitude.
fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs())).max(1e-12);
    found.iter().zip(expected).fold(0.0f32, |m, (f, e)| m.max((f - e).abs())) / largest
}

fn assert_near(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    let error = relative_error(found, expected);
    assert!(error <= tolerance, "{what}: relative error {error:e} above {tolerance:e}");
}

/// The gradient of each parameter that has one, under the parameter's path.
fn collect_gradients<M: Module>(network: &M, gradients: &[GradientsParams]) -> Weights {
    let mut collector = Collector { gradients, path: Vec::new(), found: Vec::new() };
    network.visit(&mut collector);
    collector.found
}

struct Collector<'a> {
    gradients: &'a [GradientsParams],
    path: Vec<String>,
    found: Weights,
}

impl ModuleVisitor for Collector<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let found = self.gradients.iter().find_map(|gradients| gradients.get::<D>(param.id));
        let Some(gradient) = found else { return };
        let shape = gradient.dims().to_vec();
        self.found.push(NamedTensor { name: self.path.join("."), shape, values: floats(gradient) });
    }

    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
}
