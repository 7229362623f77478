//! Adam and AdamW, one pass over parameter, gradient and the two moments, in place.
//!
//! The arithmetic is that of `torch.optim.Adam` and `torch.optim.AdamW` (without AMSGrad): bias corrections in double
//! precision, ε added after the root of the corrected second moment.

use super::lanes::{BLOCK, Lanes, for_lanes};
use super::vector::arithmetic::Arithmetic;
use super::vector::{Path, run_on};
use rayon::prelude::*;

/// How weights decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decay {
    /// `factor · parameter` is added to the gradient (Adam's L2 penalty).
    Penalty(f64),
    /// The parameter shrinks by `learning rate · factor` before the step (AdamW).
    Decoupled(f64),
}

/// What a step is made with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Length of a step, in units of the parameter.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Weight decay.
    pub decay: Decay,
}

impl Adam {
    /// PyTorch's defaults at a learning rate, without weight decay: β 0.9 and 0.999, ε 1e-8.
    pub fn with_learning_rate(learning_rate: f64) -> Self {
        Self { learning_rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: Decay::Penalty(0.0) }
    }

    /// Makes step number `number` (the first is 1), in place. `first` and `second` are the moments, zero before the
    /// first step. `number` is the same for all tensors of a network.
    ///
    /// # Panics
    /// When the four slices differ in length, or `number` is 0.
    pub fn step(
        &self,
        number: u64,
        parameter: &mut [f32],
        gradient: &[f32],
        first: &mut [f32],
        second: &mut [f32],
    ) {
        self.step_on(Path::best(), number, parameter, gradient, first, second);
    }

    /// [`Adam::step`] on a given path.
    pub fn step_on(
        &self,
        path: Path,
        number: u64,
        parameter: &mut [f32],
        gradient: &[f32],
        first: &mut [f32],
        second: &mut [f32],
    ) {
        let length = parameter.len();
        assert!(
            gradient.len() == length && first.len() == length && second.len() == length,
            "parameter, gradient and moments have one length"
        );
        let factors = self.factors(number);
        if length <= BLOCK {
            return step_block(path, &factors, parameter, gradient, first, second);
        }
        (parameter.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK)))
            .zip(first.par_chunks_mut(BLOCK).zip(second.par_chunks_mut(BLOCK)))
            .for_each(|((parameter, gradient), (first, second))| {
                step_block(path, &factors, parameter, gradient, first, second);
            });
    }

    fn factors(&self, number: u64) -> Factors {
        assert!(number > 0, "steps are counted from 1");
        let corrected = |beta: f64| 1.0 - beta.powf(number as f64);
        let (penalty, keep) = match self.decay {
            Decay::Penalty(factor) => (factor, 1.0),
            Decay::Decoupled(factor) => (0.0, 1.0 - self.learning_rate * factor),
        };
        Factors {
            penalty: penalty as f32,
            keep: keep as f32,
            of_first: (1.0 - self.beta1) as f32,
            keep_second: self.beta2 as f32,
            of_second: (1.0 - self.beta2) as f32,
            second_root: (1.0 / corrected(self.beta2).sqrt()) as f32,
            epsilon: self.epsilon as f32,
            minus_step: (-self.learning_rate / corrected(self.beta1)) as f32,
        }
    }
}

/// The numbers of one step, rounded once.
struct Factors {
    penalty: f32,
    keep: f32,
    of_first: f32,
    keep_second: f32,
    of_second: f32,
    /// 1 / √(1 − β₂ᵗ).
    second_root: f32,
    epsilon: f32,
    /// −learning rate / (1 − β₁ᵗ).
    minus_step: f32,
}

run_on!(fn step_block = step_kernel(
    factors: &Factors, parameter: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32],
));

/// # Safety
/// The instruction set of `V` must be there; the slices are of one length.
#[inline(always)]
unsafe fn step_kernel<V: Arithmetic, const O: usize, const N: usize>(
    factors: &Factors,
    parameter: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    unsafe {
        let (penalty, keep) = (V::splat(factors.penalty), V::splat(factors.keep));
        let (of_first, of_second) = (V::splat(factors.of_first), V::splat(factors.of_second));
        let (keep_second, root) = (V::splat(factors.keep_second), V::splat(factors.second_root));
        let (epsilon, minus_step) = (V::splat(factors.epsilon), V::splat(factors.minus_step));
        for_lanes!(V, parameter.len(), |at, lanes| {
            let p: V = lanes.load(parameter.as_ptr().add(at));
            let g: V = lanes.load::<V>(gradient.as_ptr().add(at)).plus_product(penalty, p);
            let m: V = lanes.load(first.as_ptr().add(at));
            let m = m.plus_product(of_first, g.sub(m));
            let v: V = lanes.load(second.as_ptr().add(at));
            let v = v.mul(keep_second).plus_product(of_second, g.mul(g));
            let size = m.div(epsilon.plus_product(v.sqrt(), root));
            lanes.store(m, first.as_mut_ptr().add(at));
            lanes.store(v, second.as_mut_ptr().add(at));
            lanes.store(p.mul(keep).plus_product(minus_step, size), parameter.as_mut_ptr().add(at));
        });
    }
}
