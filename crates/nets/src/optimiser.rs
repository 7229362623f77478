//! Adam on a whole network, in place, with a state that is kept by the names of the parameters.

use crate::weights::{NamedTensor, Weights};
use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use microtome_kernels::network::adam::{Adam as Step, Decay};
use microtome_vault::{Error, Result};
use std::collections::BTreeMap;

/// Adam as in the paper's framework: ε 1e-8 outside the root, the penalty added to the gradient.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adam {
    steps: u64,
    /// Of each parameter by its path: both running means.
    moments: BTreeMap<String, [Vec<f32>; 2]>,
}

/// Names of the state in a file.
const FIRST: &str = "adam.first.";
const SECOND: &str = "adam.second.";
const STEPS: &str = "adam.steps";

impl Adam {
    /// The network after one step of size `rate`; `penalty` is the factor of the L2 penalty, and each
    /// parameter finds its gradient in one of `gradients`.
    pub fn step<M: Module>(
        &mut self,
        rate: f64,
        penalty: f64,
        network: M,
        gradients: Vec<GradientsParams>,
    ) -> M {
        self.steps += 1;
        let rule = Step { decay: Decay::Penalty(penalty), ..Step::with_learning_rate(rate) };
        let mut stepper =
            Stepper { rule, number: self.steps, moments: &mut self.moments, gradients, path: Vec::new() };
        network.map(&mut stepper)
    }

    /// The state as tensors.
    pub fn state(&self) -> Weights {
        let vector = |name: String, values: &Vec<f32>| NamedTensor {
            name,
            shape: vec![values.len()],
            values: values.clone(),
        };
        let of = |(name, [first, second]): (&String, &[Vec<f32>; 2])| {
            [vector(format!("{FIRST}{name}"), first), vector(format!("{SECOND}{name}"), second)]
        };
        // Steps are counted in single precision up to 2^24, which is years of training.
        let steps = vector(STEPS.to_owned(), &vec![self.steps as f32]);
        self.moments.iter().flat_map(of).chain([steps]).collect()
    }

    /// Takes the state of [`Self::state`] out of `tensors`, and leaves the others.
    ///
    /// # Errors
    /// `Input` when the state is incomplete.
    pub fn restore(tensors: &mut Weights) -> Result<Self> {
        let broken = || Error::input("not a checkpoint of a training: the optimiser's state is incomplete");
        let mut adam = Self::default();
        let mut steps = None;
        let (mut first, mut second) = (BTreeMap::new(), BTreeMap::new());
        tensors.retain_mut(|tensor| {
            let values = std::mem::take(&mut tensor.values);
            if tensor.name == STEPS {
                steps = values.first().map(|&steps| steps as u64);
            } else if let Some(name) = tensor.name.strip_prefix(FIRST) {
                first.insert(name.to_owned(), values);
            } else if let Some(name) = tensor.name.strip_prefix(SECOND) {
                second.insert(name.to_owned(), values);
            } else {
                tensor.values = values;
                return true;
            }
            false
        });
        adam.steps = steps.ok_or_else(broken)?;
        for (name, first) in first {
            let second = second.remove(&name).filter(|second| second.len() == first.len());
            adam.moments.insert(name, [first, second.ok_or_else(broken)?]);
        }
        Ok(adam)
    }
}

struct Stepper<'a> {
    rule: Step,
    number: u64,
    moments: &'a mut BTreeMap<String, [Vec<f32>; 2]>,
    gradients: Vec<GradientsParams>,
    path: Vec<String>,
}

impl ModuleMapper for Stepper<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let found = self.gradients.iter_mut().find_map(|gradients| gradients.remove::<D>(param.id));
        let Some(gradient) = found else { return param };
        let name = self.path.join(".");
        param.map(|tensor| {
            let (device, shape) = (tensor.device(), tensor.dims());
            let mut values = crate::weights::floats(tensor);
            let gradient = crate::weights::floats(gradient);
            let zeros = || vec![0.0; values.len()];
            let [first, second] = self.moments.entry(name).or_insert_with(|| [zeros(), zeros()]);
            self.rule.step(self.number, &mut values, &gradient, first, second);
            Tensor::from_data(TensorData::new(values, shape), &device).require_grad()
        })
    }
}
