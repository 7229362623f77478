//! The tower from its definition, in double precision, pixel by pixel: what the kernels are compared with.
//!
//! Tensors are NCHW. Nothing here is shared with the kernels but the description of the tower.

use microtome_kernels::network::Planes;
use microtome_kernels::network::tower::{Tower, WIDTH};

/// Parameters or gradients: each layer's weight, γ and β; the head's weight and bias.
#[derive(Clone, Debug)]
pub(super) struct Numbers<T> {
    pub(super) layers: Vec<[Vec<T>; 3]>,
    pub(super) head: [Vec<T>; 2],
}

impl<T> Numbers<T> {
    pub(super) fn tensors(&self) -> Vec<&Vec<T>> {
        self.layers.iter().flatten().chain(&self.head).collect()
    }

    pub(super) fn tensors_mut(&mut self) -> Vec<&mut Vec<T>> {
        self.layers.iter_mut().flatten().chain(&mut self.head).collect()
    }
}

impl Numbers<f32> {
    pub(super) fn doubled(&self) -> Numbers<f64> {
        let tensors = |of: &[Vec<f32>; 3]| [doubled(&of[0]), doubled(&of[1]), doubled(&of[2])];
        Numbers {
            layers: self.layers.iter().map(tensors).collect(),
            head: [doubled(&self.head[0]), doubled(&self.head[1])],
        }
    }
}

pub(super) fn doubled(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// All that the forward pass made.
pub(super) struct Forward {
    /// The input of each convolution.
    pub(super) inputs: Vec<Vec<f64>>,
    /// The output of each convolution.
    pub(super) z: Vec<Vec<f64>>,
    /// Scale and shift of each layer's channels.
    pub(super) affine: Vec<Vec<[f64; 2]>>,
    /// What the head reads.
    pub(super) top: Vec<f64>,
    /// `[images, outputs, height, width]`.
    pub(super) output: Vec<f64>,
}

/// The forward pass; `affine` gives the normalisation of a layer from its number and its convolution's output.
pub(super) fn forward(
    tower: &Tower,
    numbers: &Numbers<f64>,
    picture: &[f64],
    shape: Planes,
    affine: impl Fn(usize, &[f64]) -> Vec<[f64; 2]>,
) -> Forward {
    let mut made = Forward { inputs: vec![], z: vec![], affine: vec![], top: vec![], output: vec![] };
    let inside = shape.with_channels(WIDTH);
    let mut layer = |input: &[f64], channels: usize, dilation: usize| {
        let mut z = vec![0.0; inside.len()];
        let index = made.z.len();
        let weight = &numbers.layers[index][0];
        for_each_product(shape.with_channels(channels), dilation, |o, i, w| z[o] += input[i] * weight[w]);
        let maps = affine(index, &z);
        let bent = z.iter().enumerate().map(|(i, z)| elu(normalised(&maps, inside, i, *z))).collect();
        made.inputs.push(input.to_vec());
        made.z.push(z);
        made.affine.push(maps);
        bent
    };
    let mut x: Vec<f64> = layer(picture, tower.inputs, 1);
    for &dilation in &tower.dilations {
        let first: Vec<f64> = layer(&x, WIDTH, dilation);
        let second: Vec<f64> = layer(&first, WIDTH, dilation);
        x.iter_mut().zip(second).for_each(|(x, y)| *x += y);
    }
    made.output = head(tower, numbers, &x, inside);
    made.top = x;
    made
}

fn head(tower: &Tower, numbers: &Numbers<f64>, x: &[f64], shape: Planes) -> Vec<f64> {
    let [weight, bias] = &numbers.head;
    let mut output = vec![0.0; shape.with_channels(tower.outputs).len()];
    for_each_head_product(shape, tower.outputs, |o, i, w| output[o] += x[i] * weight[w]);
    let area = shape.size.area_px();
    for (i, value) in output.iter_mut().enumerate() {
        *value += bias[i / area % tower.outputs];
        if tower.sigmoid {
            *value = 1.0 / (1.0 + (-*value).exp());
        }
    }
    output
}

/// Mean and biased variance of each channel.
pub(super) fn moments(z: &[f64], shape: Planes) -> Vec<[f64; 2]> {
    let count = (shape.images * shape.size.area_px()) as f64;
    (0..WIDTH)
        .map(|channel| {
            let of_channel = || z.iter().enumerate().filter(move |(i, _)| channel_of(shape, *i) == channel);
            let mean = of_channel().map(|(_, z)| z).sum::<f64>() / count;
            let variance = of_channel().map(|(_, z)| (z - mean) * (z - mean)).sum::<f64>() / count;
            [mean, variance]
        })
        .collect()
}

/// The forward pass in training: each layer is normalised by its own moments.
pub(super) fn train(
    tower: &Tower,
    numbers: &Numbers<f64>,
    picture: &[f64],
    shape: Planes,
    epsilon: f64,
) -> Forward {
    let inside = shape.with_channels(WIDTH);
    forward(tower, numbers, picture, shape, |layer, z| {
        let [_, gamma, beta] = &numbers.layers[layer];
        let map = |(c, [mean, variance]): (usize, [f64; 2])| {
            let scale = gamma[c] / (variance + epsilon).sqrt();
            [scale, beta[c] - mean * scale]
        };
        moments(z, inside).into_iter().enumerate().map(map).collect()
    })
}

/// The gradients of all parameters from `gradient` towards the output.
pub(super) fn backward(
    tower: &Tower,
    numbers: &Numbers<f64>,
    made: &Forward,
    shape: Planes,
    epsilon: f64,
    gradient: &[f64],
) -> Numbers<f64> {
    let inside = shape.with_channels(WIDTH);
    let slope = |y: f64| if tower.sigmoid { y * (1.0 - y) } else { 1.0 };
    let logits: Vec<f64> = gradient.iter().zip(&made.output).map(|(g, y)| g * slope(*y)).collect();
    let mut gradients = zeros_like(numbers);
    let mut total = vec![0.0; inside.len()];
    for_each_head_product(inside, tower.outputs, |o, i, w| {
        total[i] += logits[o] * numbers.head[0][w];
        gradients.head[0][w] += logits[o] * made.top[i];
    });
    let area = shape.size.area_px();
    for (i, logit) in logits.iter().enumerate() {
        gradients.head[1][i / area % tower.outputs] += logit;
    }
    let mut layer = |index: usize, dilation: usize, g: &[f64]| {
        let (input, channels) = (&made.inputs[index], if index == 0 { tower.inputs } else { WIDTH });
        let [weight, gamma, beta] = &mut gradients.layers[index];
        let [own, own_gamma, _] = &numbers.layers[index];
        let dz = through_normalisation(made, index, inside, epsilon, own_gamma, g, gamma, beta);
        let mut below = vec![0.0; input.len()];
        for_each_product(shape.with_channels(channels), dilation, |o, i, w| {
            below[i] += dz[o] * own[w];
            weight[w] += dz[o] * input[i];
        });
        below
    };
    for (block, &dilation) in tower.dilations.iter().enumerate().rev() {
        let middle = layer(2 * block + 2, dilation, &total);
        let below = layer(2 * block + 1, dilation, &middle);
        total.iter_mut().zip(below).for_each(|(total, g)| *total += g);
    }
    layer(0, 1, &total);
    gradients
}

/// The gradient towards z from the gradient `g` towards ELU(γ·x̂ + β); adds up those of γ and β.
#[allow(clippy::too_many_arguments)] // A formula with that many letters.
fn through_normalisation(
    made: &Forward,
    layer: usize,
    shape: Planes,
    epsilon: f64,
    own_gamma: &[f64],
    g: &[f64],
    gamma: &mut [f64],
    beta: &mut [f64],
) -> Vec<f64> {
    let (z, moments) = (&made.z[layer], moments(&made.z[layer], shape));
    let deviation = |c: usize| (moments[c][1] + epsilon).sqrt();
    let standard = |i: usize, c: usize| (z[i] - moments[c][0]) / deviation(c);
    let slope = |i: usize| normalised(&made.affine[layer], shape, i, z[i]).min(0.0).exp();
    let g: Vec<f64> = g.iter().enumerate().map(|(i, g)| g * slope(i)).collect();
    for (i, g) in g.iter().enumerate() {
        let c = channel_of(shape, i);
        gamma[c] += g * standard(i, c);
        beta[c] += g;
    }
    let count = (shape.images * shape.size.area_px()) as f64;
    let towards_z = |(i, g): (usize, &f64)| {
        let c = channel_of(shape, i);
        own_gamma[c] / deviation(c) * (g - beta[c] / count - standard(i, c) * gamma[c] / count)
    };
    g.iter().enumerate().map(towards_z).collect()
}

fn zeros_like(numbers: &Numbers<f64>) -> Numbers<f64> {
    let mut zeros = numbers.clone();
    zeros.tensors_mut().into_iter().for_each(|tensor| tensor.fill(0.0));
    zeros
}

fn elu(x: f64) -> f64 {
    if x > 0.0 { x } else { x.exp_m1() }
}

fn channel_of(shape: Planes, index: usize) -> usize {
    index / shape.size.area_px() % shape.channels
}

fn normalised(affine: &[[f64; 2]], shape: Planes, index: usize, z: f64) -> f64 {
    let [scale, shift] = affine[channel_of(shape, index)];
    scale * z + shift
}

/// Calls `visit(output, input, weight)` with the indices of each product of a 3×3 convolution to eight channels;
/// `shape` is the input's.
fn for_each_product(shape: Planes, dilation: usize, mut visit: impl FnMut(usize, usize, usize)) {
    let (width, height) = (shape.size.width_px as isize, shape.size.height_px as isize);
    for plane in 0..shape.images * WIDTH * shape.channels {
        let (image, output, input) =
            (plane / shape.channels / WIDTH, plane / shape.channels % WIDTH, plane % shape.channels);
        for tap in 0..9 {
            let dy = (tap as isize / 3 - 1) * dilation as isize;
            let dx = (tap as isize % 3 - 1) * dilation as isize;
            for y in (0..height).filter(|y| (0..height).contains(&(y + dy))) {
                for x in (-dx).max(0)..(width - dx).min(width) {
                    let to = ((image * WIDTH + output) as isize * height + y) * width + x;
                    let from = ((image * shape.channels + input) as isize * height + y + dy) * width + x + dx;
                    visit(to as usize, from as usize, (output * shape.channels + input) * 9 + tap);
                }
            }
        }
    }
}

/// The same for the head; `shape` is its input's.
fn for_each_head_product(shape: Planes, outputs: usize, mut visit: impl FnMut(usize, usize, usize)) {
    let area = shape.size.area_px();
    for image in 0..shape.images {
        for (output, input) in (0..outputs).flat_map(|o| (0..WIDTH).map(move |i| (o, i))) {
            for pixel in 0..area {
                let to = (image * outputs + output) * area + pixel;
                visit(to, (image * WIDTH + input) * area + pixel, output * WIDTH + input);
            }
        }
    }
}
