//! NT-Xent, the normalised temperature-scaled cross entropy of SimCLR (Chen et al. 2020, equation 1).

use burn::tensor::{Tensor, TensorData};

/// The mean over all views of −log(exp(sim(i, j)/τ) / Σₖ≠ᵢ exp(sim(i, k)/τ)), where j is the other view of i's tile and sim
/// the cosine.
///
/// # Shapes
/// - projections `[2 × tiles, values]`, the second views after all first ones; output `[1]`
pub fn nt_xent(projections: Tensor<2>, temperature: f32) -> Tensor<1> {
    let [views, _] = projections.dims();
    let length = projections.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    let unit = projections / length;
    let similarity = unit.clone().matmul(unit.clone().transpose());
    // A cosine is 1 at most: taken off before the exponential, nothing overflows.
    let exponential = ((similarity - 1.0) / temperature).exp();
    let others = exponential * without_itself(views, &unit);
    let normaliser = others.sum_dim(1).log() + 1.0 / temperature;
    let tiles = views / 2;
    let (first, second) = (unit.clone().narrow(0, 0, tiles), unit.narrow(0, tiles, tiles));
    let positive = (first * second).sum_dim(1) / temperature;
    normaliser.mean() - positive.mean()
}

/// 0 on the diagonal, 1 elsewhere.
fn without_itself(views: usize, like: &Tensor<2>) -> Tensor<2> {
    let value = |index: usize| f32::from(u8::from(!index.is_multiple_of(views + 1)));
    let values: Vec<f32> = (0..views * views).map(value).collect();
    Tensor::from_data(TensorData::new(values, [views, views]), &like.device())
}

/// The loss of projections that say nothing: log(2 × tiles − 1).
pub fn chance(tiles: usize) -> f32 {
    ((2 * tiles - 1) as f32).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::floats;

    fn leaf(values: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, shape), &crate::device::training()).require_grad()
    }

    #[test]
    fn equal_projections_give_chance() {
        let loss = floats(nt_xent(leaf(vec![0.3; 8 * 5], [8, 5]), 0.5))[0];
        assert!((loss - chance(4)).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn the_gradient_is_the_finite_difference() {
        let values: Vec<f32> = (0..6 * 4).map(|index| ((index * 29 % 17) as f32 - 8.0) / 5.0).collect();
        let x = leaf(values.clone(), [6, 4]);
        let gradients = nt_xent(x.clone(), 0.5).backward();
        let gradient = floats(x.grad(&gradients).expect("a gradient"));
        for at in 0..values.len() {
            let at_distance = |step: f32| {
                let mut moved = values.clone();
                moved[at] += step;
                f64::from(floats(nt_xent(leaf(moved, [6, 4]), 0.5))[0])
            };
            let difference = (at_distance(1e-2) - at_distance(-1e-2)) / 2e-2;
            assert!(
                (difference - f64::from(gradient[at])).abs() < 2e-4,
                "{at}: {difference} {}",
                gradient[at]
            );
        }
    }
}
