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

    const LOSS: f32 = 1.785_343_6;
    const FIRST: [f32; 4] = [-0.094_265_12, -0.014_188_65, 0.053_348_62, 0.107_336_29];
    const TENTH: [f32; 4] = [-0.029_635_82, -0.027_757_34, -0.028_351_82, -0.026_068_96];

    /// torch 2.15.0, in double precision:
    /// ```python
    /// z = torch.tensor([((i * 29 % 17) - 8.0) / 5.0 for i in range(48)], dtype=torch.float64).reshape(12, 4).requires_grad_()
    /// u = F.normalize(z, dim=1)
    /// s = (u @ u.T / 0.5).masked_fill(torch.eye(12, dtype=bool), float("-inf"))
    /// loss = F.cross_entropy(s, torch.cat([torch.arange(6) + 6, torch.arange(6)]))
    /// loss.backward(); print(loss.item(), z.grad[0].tolist(), z.grad[9].tolist())
    /// ```
    #[test]
    fn value_and_gradient_are_pytorchs() {
        let values: Vec<f32> = (0..48).map(|index| ((index * 29 % 17) as f32 - 8.0) / 5.0).collect();
        let x = leaf(values, [12, 4]);
        let loss = nt_xent(x.clone(), 0.5);
        assert!((floats(loss.clone())[0] - LOSS).abs() < 2e-6);
        let gradients = loss.backward();
        let gradient = floats(x.grad(&gradients).expect("a gradient"));
        for (row, expected) in [(0, FIRST), (9, TENTH)] {
            for (ours, theirs) in gradient[4 * row..].iter().zip(expected) {
                assert!((ours - theirs).abs() < 1e-6, "{row}: {ours} {theirs}");
            }
        }
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
