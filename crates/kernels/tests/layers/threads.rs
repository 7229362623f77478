//! The number of threads changes no byte.

use crate::values;
use microtome_kernels::Size;
use microtome_kernels::network::adam::Adam;
use microtome_kernels::network::channels_last::normalisation::{
    Slope, gradient_sums, input_gradient, moments, normalise,
};
use microtome_kernels::network::channels_last::pooling::{
    Windows, average_pool, average_pool_gradient, max_pool, max_pool_gradient,
};
use microtome_kernels::network::channels_last::{Activation, Maps};
use microtome_kernels::network::loss::{
    binary_cross_entropy, sigmoid, soft_dice, softmax_cross_entropy, squared_error,
};
use microtome_kernels::network::normalisation::{Affine, GradientTerms};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const CHANNELS: usize = 24;
const GRID: Maps = Maps { images: 3, size: Size { width_px: 61, height_px: 59 }, channels: CHANNELS };

fn normalisation(x: &[f32], gradient: &[f32]) -> Vec<f32> {
    let moments = moments(x, CHANNELS);
    let affine: Vec<Affine> =
        moments.iter().map(|moments| Affine::normalising(*moments, 1.1, 0.1, 1e-5)).collect();
    let mut y = vec![0.0; x.len()];
    normalise(x, &affine, Some(gradient), Activation::Elu, &mut y);
    let (mut g, slope) = (gradient.to_vec(), Slope::Elu(&y));
    let sums = gradient_sums(&mut g, x, CHANNELS, slope);
    let pixels = x.len() / CHANNELS;
    let terms: Vec<GradientTerms> =
        (0..CHANNELS).map(|c| GradientTerms::new(sums[c], moments[c], 1.1, 1e-5, pixels)).collect();
    let mut dz = vec![0.0; x.len()];
    input_gradient(&g, x, &terms, slope, &mut dz);
    [g, dz, y].concat()
}

fn pooling(x: &[f32]) -> Vec<f32> {
    let windows = Windows { kernel_px: 3, stride_px: 2, padding_px: 1 };
    let length = windows.output(GRID).len();
    let (mut y, mut winners, mut back) = (vec![0.0; length], vec![0; length], vec![0.0; x.len()]);
    max_pool(x, GRID, windows, &mut y, &mut winners);
    max_pool_gradient(&y, &winners, GRID, windows, &mut back);
    let (mut means, mut spread) = (vec![0.0; 3 * CHANNELS], vec![0.0; x.len()]);
    average_pool(x, 3, CHANNELS, &mut means);
    average_pool_gradient(&means, 3, CHANNELS, &mut spread);
    [y, back, means, spread].concat()
}

fn losses(x: &[f32], t: &[f32]) -> Vec<f32> {
    let labels: Vec<u8> = (0..x.len() / CHANNELS).map(|i| (i % CHANNELS) as u8).collect();
    let mut gradients = vec![vec![0.0; x.len()]; 5];
    let [binary, softmax, dice, squared, probabilities] = &mut gradients[..] else { unreachable!() };
    sigmoid(x, probabilities);
    let losses = [
        binary_cross_entropy(x, t, Some(t), 0.5, binary),
        softmax_cross_entropy(x, &labels, CHANNELS, 0.5, softmax),
        soft_dice(probabilities, t, CHANNELS, 1.0, 0.5, dice),
        squared_error(x, t, 0.5, squared),
    ];
    // A double is two floats here: its upper half and what that leaves.
    gradients.push(
        losses.iter().flat_map(|loss| [*loss as f32, (*loss - f64::from(*loss as f32)) as f32]).collect(),
    );
    gradients.concat()
}

fn adam(x: &[f32], gradient: &[f32]) -> Vec<f32> {
    let (mut parameter, mut first, mut second) = (x.to_vec(), vec![0.0; x.len()], vec![0.0; x.len()]);
    Adam::with_learning_rate(0.01).step(1, &mut parameter, gradient, &mut first, &mut second);
    [parameter, first, second].concat()
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let mut rng = ChaCha8Rng::seed_from_u64(41);
    let (x, t) = (values(&mut rng, GRID.len()), values(&mut rng, GRID.len()));
    let run = |threads: usize| -> Vec<u32> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let all =
            pool.install(|| [normalisation(&x, &t), pooling(&x), losses(&x, &t), adam(&x, &t)].concat());
        all.iter().map(|value| value.to_bits()).collect()
    };
    let one = run(1);
    for threads in [2, 3, 8, 16] {
        assert!(one == run(threads), "{threads} threads give other bytes than one");
    }
}
