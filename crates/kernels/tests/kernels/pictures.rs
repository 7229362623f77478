//! Random inputs, the same on every run: sizes from nothing to a few dozen pixels, masks of every texture.

use microtome_kernels::Size;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Shapes that each kernel is compared on.
pub(crate) const SHAPES: usize = 1_200;

/// Calls `check` with [`SHAPES`] sizes and a generator; empty and one-pixel sizes come first.
pub(crate) fn for_many_sizes(seed: u64, largest_px: usize, mut check: impl FnMut(Size, &mut ChaCha8Rng)) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for size in [(0, 0), (0, 3), (3, 0), (1, 1), (1, 1), (1, 1), (1, 9), (9, 1), (2, 2)] {
        check(Size::new(size.0, size.1), &mut rng);
    }
    for _ in 0..SHAPES {
        let size = Size::new(rng.random_range(1..=largest_px), rng.random_range(1..=largest_px));
        check(size, &mut rng);
    }
}

/// All true, all false, noise of any density, or blobs.
pub(crate) fn random_mask(size: Size, rng: &mut ChaCha8Rng) -> Vec<bool> {
    let density = rng.random_range(0.0..1.0);
    match rng.random_range(0..10) {
        0 => vec![true; size.area_px()],
        1 => vec![false; size.area_px()],
        2..6 => (0..size.area_px()).map(|_| rng.random_bool(density)).collect(),
        _ => random_blobs(size, rng),
    }
}

fn random_blobs(size: Size, rng: &mut ChaCha8Rng) -> Vec<bool> {
    let mut mask = vec![false; size.area_px()];
    for _ in 0..rng.random_range(1..6) {
        let (x, y) = (rng.random_range(0..=size.width_px), rng.random_range(0..=size.height_px));
        let (radius, hole) = (rng.random_range(0..6_usize), rng.random_bool(0.2));
        for (index, inside) in mask.iter_mut().enumerate() {
            let (dx, dy) = ((index % size.width_px).abs_diff(x), (index / size.width_px).abs_diff(y));
            if dx * dx + dy * dy <= radius * radius {
                *inside = !hole;
            }
        }
    }
    mask
}

/// Smooth or rough values, sometimes on few levels, sometimes with NaN and infinities.
pub(crate) fn random_values(size: Size, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let levels = [2, 4, 1_000, 1_000_000][rng.random_range(0..4)];
    let strange = rng.random_bool(0.2);
    let mut value = || match (strange, rng.random_range(0..12)) {
        (true, 0) => f32::NAN,
        (true, 1) => f32::INFINITY,
        (true, 2) => f32::NEG_INFINITY,
        _ => rng.random_range(0..levels) as f32 / levels as f32 * 8.0 - 4.0,
    };
    (0..size.area_px()).map(|_| value()).collect()
}

/// Ids from 0 to `highest`, mostly in patches.
pub(crate) fn random_ids(size: Size, highest: u32, rng: &mut ChaCha8Rng) -> Vec<u32> {
    let mut ids = vec![0; size.area_px()];
    for _ in 0..rng.random_range(0..2 * highest + 2) {
        let id = rng.random_range(0..=highest);
        random_mask(size, rng)
            .iter()
            .zip(&mut ids)
            .filter(|(inside, _)| **inside)
            .for_each(|(_, at)| *at = id);
    }
    ids
}

/// Row-major (x, y) of all pixels.
pub(crate) fn pixels(size: Size) -> impl Iterator<Item = (i64, i64)> + Clone {
    (0..size.height_px as i64).flat_map(move |y| (0..size.width_px as i64).map(move |x| (x, y)))
}

/// The value at (x, y), none outside.
pub(crate) fn at<T: Copy>(values: &[T], size: Size, x: i64, y: i64) -> Option<T> {
    let inside = x >= 0 && y >= 0 && x < size.width_px as i64 && y < size.height_px as i64;
    inside.then(|| values[size.index(x as usize, y as usize)])
}

/// Runs `kernel` on one thread and on four; the results must be the same.
pub(crate) fn on_any_threads<T: PartialEq + std::fmt::Debug + Send>(kernel: impl Fn() -> T + Sync) -> T {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(&kernel)
    };
    let alone = run(1);
    assert_eq!(alone, run(4));
    alone
}
