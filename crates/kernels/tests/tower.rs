//! The tower of residual blocks against a naive one in double precision, on random shapes, on every path of this
//! processor; the naive one's gradients against finite differences; the same bytes on any number of threads.

#[path = "tower/cases.rs"]
mod cases;
#[path = "tower/naive.rs"]
mod naive;
#[path = "tower/refusals.rs"]
mod refusals;

use cases::{Case, Errors, Expected, error, largest, random, random_size, random_tower};
use microtome_kernels::Size;
use microtome_kernels::network::tower::Tower;
use microtome_kernels::network::{Planes, vector::Path};
use naive::Numbers;
use rand::Rng;

const CASES: usize = 1_100;

/// Each value is a chain of sums of at most 72 products, rounded to 6e-8 of themselves, over at most six layers;
/// normalisation divides by a deviation that is, with twelve values or more, not far below the values it was taken
/// from, so that rounding grows by no more than it grows with the layers. The gradients of γ and β are sums over all
/// pixels whose terms cancel, which costs them another factor. Winograd's sums of rows round to up to twice as much as plain
/// ones, for which these bounds were twice the largest errors of 11,000 cases; now the median is a fifth of them or
/// less, and of 22,000 trainings on two paths two went beyond (a weight's gradient 4.6e-6, a β's 9.8e-6).
const TOLERANCE: Errors = Errors {
    output: 1.5e-6,
    means: 4e-7,
    variances: 1e-6,
    weights: 4e-6,
    gammas: 7e-6,
    betas: 8e-6,
    head_weight: 3e-6,
    head_bias: 7e-7,
};

/// Of the largest output, or of 1 where the sums of eight products of that order cancel.
const INFERENCE_TOLERANCE: f64 = 1e-6;

fn assert_within(errors: Errors, tolerance: Errors, what: &str) {
    let within = errors.all().iter().zip(tolerance.all()).all(|(error, tolerance)| *error <= tolerance);
    assert!(within, "{what}: {errors:?} beyond {tolerance:?}");
}

fn check_training(case: &Case) {
    let expected = Expected::of(case);
    for path in Path::available() {
        assert_within(expected.errors(&case.train_on(path), 0.0), TOLERANCE, &case.describe(path));
    }
}

fn check_inference(case: &Case) {
    let (expected, folded) = (case.naive_inference(), case.folded());
    for path in Path::available() {
        let found = folded.apply_on(path, &case.picture, case.shape);
        let error = error(&found, &expected, largest(&expected).max(1.0));
        assert!(error <= INFERENCE_TOLERANCE, "{}: {error:e}", case.describe(path));
    }
}

/// The confidence network on a small crop, and two blocks on a picture of several strands a phase.
fn larger_cases() -> [Case; 2] {
    let tower = |inputs, outputs, dilations: &[usize]| Tower {
        inputs,
        outputs,
        dilations: dilations.to_vec(),
        sigmoid: true,
    };
    let mut rng = random(5);
    [
        Case::new(&mut rng, tower(3, 2, &[1, 2, 3, 5, 10, 20]), 1, Size::new(61, 53)),
        Case::new(&mut rng, tower(3, 3, &[1, 5]), 2, Size::new(130, 95)),
    ]
}

#[test]
fn training_equals_the_naive_tower() {
    let mut rng = random(1);
    for _ in 0..CASES {
        check_training(&Case::random(&mut rng, 12..=usize::MAX));
    }
    larger_cases().iter().for_each(check_training);
}

/// With a few values a channel the deviation is now and then so small that normalisation, whose derivative is at most
/// 1/√ε = 316 a layer, makes rounding large: of 1e-7 here up to 1e-3, of gradients of the order of 1. Of 22,000 trainings on
/// two paths a few went beyond (the largest 7e-3; all but ten stay below 3e-4).
const TINY_TOLERANCE: Errors = Errors {
    output: 1e-4,
    means: 1e-4,
    variances: 2e-4,
    weights: 5e-3,
    gammas: 3e-3,
    betas: 2e-3,
    head_weight: 2e-4,
    head_bias: 1e-5,
};

#[test]
fn tiny_batches_are_near_the_naive_tower() {
    let mut rng = random(2);
    for _ in 0..CASES {
        let case = Case::random(&mut rng, 3..=11);
        let expected = Expected::of(&case);
        for path in Path::available() {
            assert_within(expected.errors(&case.train_on(path), 1.0), TINY_TOLERANCE, &case.describe(path));
        }
    }
}

/// Two values are normalised to ±1, whatever they are, and one to 0: what is left of the gradients is rounding times
/// 1/√ε, layer after layer. It must be finite, and near in most cases.
#[test]
fn batches_of_one_or_two_values_stay_finite() {
    let mut rng = random(3);
    let mut near = 0;
    for _ in 0..CASES {
        let case = Case::random(&mut rng, 1..=2);
        let expected = Expected::of(&case);
        let errors: Vec<f64> = (Path::available().into_iter())
            .flat_map(|path| expected.errors(&case.train_on(path), 1.0).all())
            .collect();
        assert!(errors.iter().all(|error| error.is_finite()), "{}", case.describe(Path::best()));
        near += usize::from(errors.iter().all(|error| *error < 1e-3));
    }
    assert!(near * 10 > CASES * 9, "{near} of {CASES}");
}

#[test]
fn inference_equals_the_naive_tower() {
    let mut rng = random(4);
    for _ in 0..CASES {
        check_inference(&Case::random(&mut rng, 1..=usize::MAX));
    }
    larger_cases().iter().for_each(check_inference);
}

/// The loss is the sum of the outputs times the gradient. ELU has a slope everywhere, so that a difference over steps
/// of 1e-6 is exact to 1e-12, or to 1e-6 of the one term whose bend it crosses; the loss's rounding makes 1e-9.
#[test]
fn naive_gradients_equal_finite_differences() {
    const STEP: f64 = 1e-6;
    let mut rng = random(6);
    for _ in 0..12 {
        let (tower, size) =
            (random_tower(&mut rng), Size::new(rng.random_range(2..=6), rng.random_range(2..=5)));
        let case = Case::new(&mut rng, tower, 2, size);
        let (numbers, picture) = (case.numbers.doubled(), naive::doubled(&case.picture));
        let gradient = naive::doubled(&case.gradient);
        let train = |numbers: &Numbers<f64>| naive::train(&case.tower, numbers, &picture, case.shape, 1e-5);
        let loss = |numbers: &Numbers<f64>| -> f64 {
            train(numbers).output.iter().zip(&gradient).map(|(output, gradient)| output * gradient).sum()
        };
        let gradients = naive::backward(&case.tower, &numbers, &train(&numbers), case.shape, 1e-5, &gradient);
        for (which, expected) in gradients.tensors().into_iter().enumerate() {
            for (index, expected_value) in expected.iter().enumerate().step_by(1 + expected.len() / 40) {
                let at = |step: f64| {
                    let mut moved = numbers.clone();
                    moved.tensors_mut()[which][index] += step;
                    loss(&moved)
                };
                let found = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                let error = (found - expected_value).abs() / largest(expected).max(0.1);
                assert!(
                    error < 1e-6,
                    "tensor {which}[{index}]: {found} for {expected_value}, {:?}",
                    case.tower
                );
            }
        }
    }
}

/// All that training and inference give, bit by bit.
fn bits(case: &Case, path: Path) -> Vec<u32> {
    let found = case.train_on(path);
    let moments = found.moments.iter().flatten().flatten();
    let gradients = found.gradients.tensors().into_iter().flatten();
    let inference = case.folded().apply_on(path, &case.picture, case.shape);
    found
        .output
        .iter()
        .chain(moments)
        .chain(gradients)
        .chain(&inference)
        .map(|value| value.to_bits())
        .collect()
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let mut rng = random(7);
    let mut cases: Vec<Case> = (0..60).map(|_| Case::random(&mut rng, 1..=usize::MAX)).collect();
    cases.extend(larger_cases());
    let pools = [1, 2, 3, 8, 16].map(pool);
    for (case, path) in
        cases.iter().flat_map(|case| Path::available().into_iter().map(move |path| (case, path)))
    {
        let expected = pools[0].install(|| bits(case, path));
        for pool in &pools[1..] {
            let equal = pool.install(|| bits(case, path)) == expected;
            assert!(equal, "{} threads, {}", pool.current_num_threads(), case.describe(path));
        }
    }
}

/// Leaves blocks of memory behind that are not numbers, as large as those that the tower takes without clearing them.
fn spoil_memory(case: &Case) {
    let Planes { images, size, .. } = case.shape;
    // Channels lie an odd number of cache lines apart.
    let row = 8 * (size.width_px.div_ceil(16) | 1) * 16;
    let lengths = [row, images * size.height_px * row, images * size.area_px() * case.tower.outputs];
    let spoilt: Vec<Vec<f32>> =
        lengths.iter().flat_map(|&length| (0..12).map(move |_| vec![f32::NAN; length + 16])).collect();
    drop(std::hint::black_box(spoilt));
}

#[test]
fn what_memory_held_before_does_not_matter() {
    let mut rng = random(8);
    let alone = pool(1);
    for _ in 0..200 {
        let case = Case::random(&mut rng, 1..=usize::MAX);
        for path in Path::available() {
            let expected = alone.install(|| bits(&case, path));
            let found = alone.install(|| {
                spoil_memory(&case);
                bits(&case, path)
            });
            assert!(found == expected, "{}", case.describe(path));
        }
    }
}

#[test]
fn empty_batches_give_empty_outputs_and_no_gradients() {
    let mut rng = random(9);
    for (images, width, height) in
        [(0, 5, 4), (0, 0, 0), (2, 0, 4), (2, 5, 0), (1, 0, 0), (3, 0, 60), (0, 40, 60)]
    {
        for path in Path::available() {
            let tower = random_tower(&mut rng);
            let case = Case::new(&mut rng, tower, images, Size::new(width, height));
            let found = case.train_on(path);
            assert!(found.output.is_empty());
            assert!(found.moments.iter().flatten().all(|moments| *moments == [0.0, 0.0]));
            for (gradient, parameter) in found.gradients.tensors().into_iter().zip(case.numbers.tensors()) {
                assert_eq!(gradient, &vec![0.0; parameter.len()], "{}", case.describe(path));
            }
            assert!(case.folded().apply_on(path, &case.picture, case.shape).is_empty());
        }
    }
}

#[test]
fn sizes_are_strange_enough() {
    let mut rng = random(1);
    let sizes: Vec<Size> = (0..CASES).map(|_| random_size(&mut rng)).collect();
    for width in [1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64] {
        assert!(sizes.iter().any(|size| size.width_px == width && size.height_px > 1));
    }
    assert!(sizes.iter().any(|size| size.height_px == 1) && sizes.iter().any(|size| size.height_px > 96));
}
