//! Each channels-last convolution against the sum of its products in double precision, on random shapes, on every path
//! of this processor, with every algorithm that handles the shape.

use microtome_kernels::Size;
use microtome_kernels::network::channels_last::transposed::Transposed;
use microtome_kernels::network::channels_last::{
    Activation, Algorithm, ChannelSums, Convolution, Epilogue, Maps, convolve, convolve_on,
    convolve_with_sums, convolve_with_sums_on, input_gradient, input_gradient_on, transposed,
    weight_gradient, weight_gradient_on,
};
use microtome_kernels::network::vector::Path;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CASES: usize = 1_000;
/// What a kernel may not leave in its output.
const UNWRITTEN: f32 = f32::NAN;

fn values(rng: &mut ChaCha8Rng, length: usize) -> Vec<f32> {
    (0..length).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Mostly few channels, sometimes more than a panel of outputs holds.
fn channels(rng: &mut ChaCha8Rng) -> usize {
    let most = [3, 9, 20, 70][rng.random_range(0..4)];
    rng.random_range(1..=most)
}

fn random_case(rng: &mut ChaCha8Rng) -> (Maps, Convolution) {
    let winograd = rng.random_bool(0.5);
    let layer = Convolution {
        inputs: channels(rng),
        outputs: channels(rng),
        kernel: if winograd { 3 } else { [1, 2, 3, 4, 5, 7][rng.random_range(0..6)] },
        stride: if winograd { 1 } else { rng.random_range(1..=3) },
        padding: rng.random_range(0..if winograd { 3 } else { 5 }),
        dilation: if winograd { 1 } else { rng.random_range(1..=3) },
    };
    let most = if layer.inputs * layer.outputs > 400 { 9 } else { 17 };
    let size = Size::new(rng.random_range(0..=most), rng.random_range(0..=most));
    (Maps { images: rng.random_range(0..=3), size, channels: layer.inputs }, layer)
}

/// Calls `visit(output index, input index, weight index)` for each product, channel by channel.
fn for_each_product(shape: Maps, layer: Convolution, mut visit: impl FnMut(usize, usize, usize)) {
    let output = layer.output(shape);
    let taps = layer.kernel * layer.kernel;
    let pixels = output.images * output.size.area_px();
    for (pixel, tap) in (0..pixels).flat_map(|pixel| (0..taps).map(move |tap| (pixel, tap))) {
        let (image, at) = (pixel / output.size.area_px(), pixel % output.size.area_px());
        let source = |place: usize, tap: usize, length: usize| {
            (place * layer.stride + tap * layer.dilation).checked_sub(layer.padding).filter(|&i| i < length)
        };
        let y = source(at / output.size.width_px, tap / layer.kernel, shape.size.height_px);
        let x = source(at % output.size.width_px, tap % layer.kernel, shape.size.width_px);
        if let (Some(y), Some(x)) = (y, x) {
            let from = (image * shape.size.area_px() + shape.size.index(x, y)) * layer.inputs;
            for o in 0..layer.outputs {
                for i in 0..layer.inputs {
                    visit(pixel * layer.outputs + o, from + i, (o * layer.inputs + i) * taps + tap);
                }
            }
        }
    }
}

/// Rounding is relative to the sum of the products' sizes. A direct sum of n products errs by at most n units of 6·10⁻⁸
/// of it, and by about √n in practice: 4·10⁻⁶ for a few thousand products. Winograd's products are of sums of 36
/// values with coefficients up to 5: its errors belong to the tile, not to the value, and are measured against the
/// largest sum instead.
fn tolerance(algorithm: Algorithm) -> f64 {
    match algorithm {
        Algorithm::Direct => 4e-6,
        Algorithm::Winograd => 1e-5,
    }
}

fn assert_close(found: &[f32], expected: &[f64], sizes: &[f64], algorithm: Algorithm, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = sizes.iter().copied().fold(0.0, f64::max);
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        let size = if algorithm == Algorithm::Direct { sizes[i] } else { largest };
        assert!(error <= tolerance(algorithm) * size + 1e-30, "{what}[{i}]: {found} for {expected}");
    }
}

/// Sums and sums of sizes of the products for one of the three tensors.
struct Expected {
    sums: Vec<f64>,
    sizes: Vec<f64>,
}

impl Expected {
    fn new(length: usize) -> Self {
        Self { sums: vec![0.0; length], sizes: vec![0.0; length] }
    }

    fn add(&mut self, at: usize, a: f32, b: f32) {
        let product = f64::from(a) * f64::from(b);
        self.sums[at] += product;
        self.sizes[at] += product.abs();
    }
}

fn choices(layer: Convolution) -> Vec<(Path, Algorithm)> {
    let algorithms = [Algorithm::Direct, Algorithm::Winograd];
    let paths = Path::available();
    let pairs = paths.iter().flat_map(|&path| algorithms.map(|algorithm| (path, algorithm)));
    pairs.filter(|(_, algorithm)| algorithm.handles(layer)).collect()
}

#[test]
fn convolutions_and_their_gradients_equal_the_sum_of_products() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for case in 0..CASES {
        let (shape, layer) = random_case(&mut rng);
        let input = values(&mut rng, shape.len());
        let weight = values(&mut rng, layer.weights());
        let gradient = values(&mut rng, layer.output(shape).len());
        let mut output = Expected::new(gradient.len());
        let mut to_input = Expected::new(input.len());
        let mut to_weight = Expected::new(weight.len());
        for_each_product(shape, layer, |o, i, w| {
            output.add(o, input[i], weight[w]);
            to_input.add(i, gradient[o], weight[w]);
            to_weight.add(w, gradient[o], input[i]);
        });
        for (path, algorithm) in choices(layer) {
            let what = format!("case {case} {} {algorithm:?} {shape:?} {layer:?}", path.name());
            let mut found = vec![UNWRITTEN; gradient.len()];
            convolve_on(path, algorithm, &input, shape, &weight, layer, Epilogue::NONE, &mut found);
            assert_close(&found, &output.sums, &output.sizes, algorithm, &format!("output of {what}"));
            let mut found = vec![UNWRITTEN; input.len()];
            input_gradient_on(path, algorithm, &gradient, shape, &weight, layer, &mut found);
            assert_close(&found, &to_input.sums, &to_input.sizes, algorithm, &format!("dx of {what}"));
            let mut found = vec![UNWRITTEN; weight.len()];
            weight_gradient_on(path, algorithm, &input, &gradient, shape, layer, &mut found);
            assert_close(&found, &to_weight.sums, &to_weight.sizes, algorithm, &format!("dw of {what}"));
        }
    }
}

fn bend(x: f64, activation: Activation) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Elu => {
            if x > 0.0 {
                x
            } else {
                x.exp() - 1.0
            }
        }
    }
}

#[test]
fn the_epilogue_adds_and_bends() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for case in 0..CASES {
        let (shape, layer) = random_case(&mut rng);
        let (input, weight) = (values(&mut rng, shape.len()), values(&mut rng, layer.weights()));
        let length = layer.output(shape).len();
        let (bias, residual) = (values(&mut rng, layer.outputs), values(&mut rng, length));
        let epilogue = Epilogue {
            bias: rng.random_bool(0.7).then_some(&bias),
            residual: rng.random_bool(0.5).then_some(&residual),
            activation: [Activation::None, Activation::Relu, Activation::Elu][case % 3],
        };
        for (path, algorithm) in choices(layer) {
            let (mut plain, mut found) = (vec![UNWRITTEN; length], vec![UNWRITTEN; length]);
            convolve_on(path, algorithm, &input, shape, &weight, layer, Epilogue::NONE, &mut plain);
            convolve_on(path, algorithm, &input, shape, &weight, layer, epilogue, &mut found);
            for i in 0..length {
                let bias = epilogue.bias.map_or(0.0, |bias| f64::from(bias[i % layer.outputs]));
                let residual = epilogue.residual.map_or(0.0, |residual| f64::from(residual[i]));
                let expected = bend(f64::from(plain[i]) + bias + residual, epilogue.activation);
                // Two additions and the exponential function, each to a few units of 6·10⁻⁸ of the largest term.
                let error = (f64::from(found[i]) - expected).abs();
                let size = 2.0 + f64::from(plain[i]).abs();
                assert!(
                    error <= 5e-7 * size,
                    "case {case} {} {algorithm:?}: {} for {expected}",
                    path.name(),
                    found[i]
                );
            }
        }
    }
}

#[test]
fn the_sums_are_those_of_the_output() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let large = large_cases();
    for case in 0..CASES {
        let (shape, layer) = if case < large.len() { large[case] } else { random_case(&mut rng) };
        let (input, weight) = (values(&mut rng, shape.len()), values(&mut rng, layer.weights()));
        let length = layer.output(shape).len();
        for (path, algorithm) in choices(layer) {
            let (mut plain, mut found) = (vec![UNWRITTEN; length], vec![UNWRITTEN; length]);
            let mut sums = vec![ChannelSums { values: f64::NAN, squares: f64::NAN }; layer.outputs];
            convolve_on(path, algorithm, &input, shape, &weight, layer, Epilogue::NONE, &mut plain);
            convolve_with_sums_on(path, algorithm, &input, shape, &weight, layer, &mut found, &mut sums);
            assert!(plain.iter().zip(&found).all(|(a, b)| a.to_bits() == b.to_bits()), "case {case}");
            for (channel, sums) in sums.iter().enumerate() {
                let of_channel =
                    || plain[channel.min(length)..].iter().step_by(layer.outputs).map(|&z| f64::from(z));
                let (sum, size) = (of_channel().sum::<f64>(), of_channel().map(f64::abs).sum::<f64>());
                let squares = of_channel().map(|z| z * z).sum::<f64>();
                // At most a few hundred additions in single precision, each to 6·10⁻⁸.
                assert!((sums.values - sum).abs() <= 1e-5 * size, "case {case}: {sums:?} for {sum}");
                assert!(
                    (sums.squares - squares).abs() <= 1e-5 * squares,
                    "case {case}: {sums:?} for {squares}"
                );
            }
        }
    }
}

fn random_transposed(rng: &mut ChaCha8Rng) -> (Maps, Transposed) {
    let stride = rng.random_range(1..=3);
    let kernel = rng.random_range(1..=5);
    let layer = Transposed {
        inputs: channels(rng),
        outputs: channels(rng),
        kernel,
        stride,
        padding: rng.random_range(0..=(kernel - 1) / 2),
        output_padding: rng.random_range(0..stride),
    };
    let size = Size::new(rng.random_range(0..=7), rng.random_range(0..=7));
    (Maps { images: rng.random_range(0..=3), size, channels: layer.inputs }, layer)
}

#[test]
fn transposed_convolutions_equal_their_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for case in 0..CASES {
        let (shape, layer) = random_transposed(&mut rng);
        let target = layer.output(shape);
        let (input, weight) = (values(&mut rng, shape.len()), values(&mut rng, layer.weights()));
        let gradient = values(&mut rng, target.len());
        let mut output = Expected::new(target.len());
        let mut to_input = Expected::new(input.len());
        let mut to_weight = Expected::new(weight.len());
        let area = shape.size.area_px();
        for (pixel, tap) in
            (0..shape.images * area).flat_map(|p| (0..layer.kernel.pow(2)).map(move |t| (p, t)))
        {
            let (image, at) = (pixel / area, pixel % area);
            let place = |at: usize, tap: usize, length: usize| {
                (at * layer.stride + tap).checked_sub(layer.padding).filter(|&i| i < length)
            };
            let y = place(at / shape.size.width_px, tap / layer.kernel, target.size.height_px);
            let x = place(at % shape.size.width_px, tap % layer.kernel, target.size.width_px);
            if let (Some(y), Some(x)) = (y, x) {
                for (i, o) in (0..layer.inputs).flat_map(|i| (0..layer.outputs).map(move |o| (i, o))) {
                    let out = (image * target.size.area_px() + target.size.index(x, y)) * layer.outputs + o;
                    let w = (i * layer.outputs + o) * layer.kernel * layer.kernel + tap;
                    output.add(out, input[pixel * layer.inputs + i], weight[w]);
                    to_input.add(pixel * layer.inputs + i, gradient[out], weight[w]);
                    to_weight.add(w, gradient[out], input[pixel * layer.inputs + i]);
                }
            }
        }
        let algorithm =
            if layer.stride == 1 && layer.kernel == 3 { Algorithm::Winograd } else { Algorithm::Direct };
        let what = format!("case {case} {shape:?} {layer:?}");
        for path in Path::available() {
            let mut found = vec![UNWRITTEN; target.len()];
            transposed::convolve_on(path, &input, shape, &weight, layer, Epilogue::NONE, &mut found);
            assert_close(&found, &output.sums, &output.sizes, algorithm, &format!("{} {what}", path.name()));
        }
        let mut found = vec![UNWRITTEN; input.len()];
        transposed::input_gradient(&gradient, shape, &weight, layer, &mut found);
        assert_close(&found, &to_input.sums, &to_input.sizes, algorithm, &what);
        let mut found = vec![UNWRITTEN; weight.len()];
        transposed::weight_gradient(&input, &gradient, shape, layer, &mut found);
        assert_close(&found, &to_weight.sums, &to_weight.sizes, algorithm, &what);
    }
}

/// Shapes that take every order of work: many and few tiles, several parts, several panels.
fn large_cases() -> [(Maps, Convolution); 7] {
    let maps = |images, side, channels| Maps { images, size: Size::new(side, side), channels };
    let three = Convolution { padding: 1, ..Convolution::new(40, 70, 3) };
    [
        (maps(3, 40, 40), three),
        (maps(2, 13, 40), three),
        (maps(3, 40, 40), Convolution { stride: 2, ..three }),
        (maps(2, 75, 3), Convolution { stride: 2, padding: 3, ..Convolution::new(3, 64, 7) }),
        (maps(600, 2, 130), Convolution { padding: 1, ..Convolution::new(130, 130, 3) }),
        (maps(300, 2, 200), Convolution { padding: 1, ..Convolution::new(200, 8, 3) }),
        (maps(5, 9, 48), Convolution { stride: 2, ..Convolution::new(48, 130, 1) }),
    ]
}

#[test]
fn large_convolutions_equal_the_sum_of_products() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for (shape, layer) in large_cases() {
        let input = values(&mut rng, shape.len());
        let weight = values(&mut rng, layer.weights());
        let gradient = values(&mut rng, layer.output(shape).len());
        let mut output = Expected::new(gradient.len());
        let mut to_input = Expected::new(input.len());
        let mut to_weight = Expected::new(weight.len());
        for_each_product(shape, layer, |o, i, w| {
            output.add(o, input[i], weight[w]);
            to_input.add(i, gradient[o], weight[w]);
            to_weight.add(w, gradient[o], input[i]);
        });
        for (path, algorithm) in choices(layer) {
            let what = format!("{} {algorithm:?} {shape:?} {layer:?}", path.name());
            let mut found = vec![UNWRITTEN; gradient.len()];
            convolve_on(path, algorithm, &input, shape, &weight, layer, Epilogue::NONE, &mut found);
            assert_close(&found, &output.sums, &output.sizes, algorithm, &format!("output of {what}"));
            let mut found = vec![UNWRITTEN; input.len()];
            input_gradient_on(path, algorithm, &gradient, shape, &weight, layer, &mut found);
            assert_close(&found, &to_input.sums, &to_input.sizes, algorithm, &format!("dx of {what}"));
            let mut found = vec![UNWRITTEN; weight.len()];
            weight_gradient_on(path, algorithm, &input, &gradient, shape, layer, &mut found);
            assert_close(&found, &to_weight.sums, &to_weight.sizes, algorithm, &format!("dw of {what}"));
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for (shape, layer) in large_cases() {
        let input = values(&mut rng, shape.len());
        let weight = values(&mut rng, layer.weights());
        let gradient = values(&mut rng, layer.output(shape).len());
        let run = |threads: usize| -> Vec<u32> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut output = vec![UNWRITTEN; gradient.len()];
                let mut to_input = vec![UNWRITTEN; input.len()];
                let mut to_weight = vec![UNWRITTEN; weight.len()];
                let mut sums = vec![ChannelSums::default(); layer.outputs];
                convolve(&input, shape, &weight, layer, Epilogue::NONE, &mut output);
                convolve_with_sums(&input, shape, &weight, layer, &mut output, &mut sums);
                let sums: Vec<f32> = sums.iter().flat_map(|s| [s.values as f32, s.squares as f32]).collect();
                input_gradient(&gradient, shape, &weight, layer, &mut to_input);
                weight_gradient(&input, &gradient, shape, layer, &mut to_weight);
                [output, sums, to_input, to_weight].concat().iter().map(|v| v.to_bits()).collect()
            })
        };
        let one = run(1);
        for threads in [2, 3, 8, 16] {
            assert!(one == run(threads), "{layer:?}: {threads} threads give other bytes than one");
        }
    }
}
