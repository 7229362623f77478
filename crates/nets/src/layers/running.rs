//! Running statistics of batch norm.

use burn::module::RunningState;
use burn::tensor::Tensor;

/// Share of the newest batch in the running statistics, as in the paper's framework.
const MOMENTUM: f64 = 0.1;

/// Moves a running statistic towards the newest batch's, which is multiplied by `factor`.
pub(crate) fn move_towards(running: &RunningState<Tensor<1>>, newest: Tensor<1>, factor: f64) {
    let old = running.value_sync();
    let newest = newest.detach().mul_scalar(MOMENTUM * factor);
    running.update((old.mul_scalar(1.0 - MOMENTUM) + newest).detach());
    // An update waits for the next reader that asks for it; whoever visits the weights does not.
    running.value_sync();
}

/// Values a channel of `[images, height, width, channels]`.
pub(crate) fn count(maps: &Tensor<4>) -> usize {
    maps.dims()[..3].iter().product()
}
