//! Squared distances and their gradient against their definitions in double precision.

use crate::{CASES, assert_close, values};
use microtome_kernels::network::distance::{add_gradient_of_squared_distances_on, squared_distances_on};
use microtome_kernels::network::vector::Path;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[test]
fn distances_and_their_gradient_equal_their_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(28);
    for case in 0..CASES {
        let (m, n) = (rng.random_range(0..8), rng.random_range(0..6));
        let length = [rng.random_range(1..40), rng.random_range(500..1100)][usize::from(case % 5 == 0)];
        let (a, b, g) = (values(&mut rng, m * length), values(&mut rng, n * length), values(&mut rng, m * n));
        let before = [values(&mut rng, m * length), values(&mut rng, n * length)];
        let (mut distances, mut gradients) =
            (vec![0.0; m * n], before.clone().map(|v| v.into_iter().map(f64::from).collect::<Vec<_>>()));
        for (i, j, x) in (0..m).flat_map(|i| (0..n).flat_map(move |j| (0..length).map(move |x| (i, j, x)))) {
            let difference = f64::from(a[i * length + x]) - f64::from(b[j * length + x]);
            distances[i * n + j] += difference * difference;
            let change = 2.0 * f64::from(g[i * n + j]) * difference;
            gradients[0][i * length + x] += change;
            gradients[1][j * length + x] -= change;
        }
        for path in Path::available() {
            let what = format!("case {case} {path:?}: {m} × {n}, {length} values");
            assert_close(&squared_distances_on(path, &a, &b, length), &distances, 1e-5, &what);
            let [mut to_a, mut to_b] = before.clone();
            add_gradient_of_squared_distances_on(path, [&a, &b], length, &g, [&mut to_a, &mut to_b]);
            assert_close(&to_a, &gradients[0], 1e-5, &what);
            assert_close(&to_b, &gradients[1], 1e-5, &what);
        }
    }
}
