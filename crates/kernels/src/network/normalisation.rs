//! Batch normalisation in training, with ELU fused in, forward and backward.
//!
//! Forward: z is the convolution's output, x̂ = (z − mean) / √(variance + ε) over images and pixels of a channel,
//! y = ELU(γ·x̂ + β). Sums are taken row by row in vectors and added up in double precision in the order of the rows'
//! blocks, so that they never depend on the number of threads.

use super::Planes;
use super::convolution::elu;
use super::vector::{Path, Vector, run_on};
use rayon::prelude::*;

/// Mean and (biased) variance of one channel over images and pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Mean.
    pub mean: f32,
    /// Variance, divided by the number of values.
    pub variance: f32,
}

impl Moments {
    /// From Σz and Σz² of `count` values.
    pub(crate) fn from_sums([sum, squares]: [f64; 2], count: usize) -> Self {
        let count = count.max(1) as f64;
        let mean = sum / count;
        Self { mean: mean as f32, variance: (squares / count - mean * mean).max(0.0) as f32 }
    }
}

/// A channel's affine map: `scale * z + shift`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Factor.
    pub scale: f32,
    /// Summand.
    pub shift: f32,
}

impl Affine {
    /// Batch normalisation with the given moments, γ and β.
    pub fn normalising(moments: Moments, gamma: f32, beta: f32, epsilon: f32) -> Self {
        let scale = gamma / (moments.variance + epsilon).sqrt();
        Self { scale, shift: beta - moments.mean * scale }
    }
}

/// Pixels of a channel that are summed in single precision before they go on in double: about four rows of a crop.
const BLOCK: usize = 1024;

/// The moments of each channel of `z` (`[images, channels, height, width]`).
pub fn moments(z: &[f32], shape: Planes) -> Vec<Moments> {
    let sums = channel_sums(shape, |start, length| block_moments(&z[start..start + length]));
    let count = (shape.images * shape.size.area_px()).max(1) as f64;
    sums.into_iter()
        .map(|[sum, squares]| {
            let mean = sum / count;
            Moments { mean: mean as f32, variance: (squares / count - mean * mean).max(0.0) as f32 }
        })
        .collect()
}

fn block_moments(values: &[f32]) -> [f64; 2] {
    values.chunks(BLOCK).fold([0.0, 0.0], |[sum, squares], block| {
        let mut sums = [0.0; 2];
        sum_and_squares(Path::best(), block, &mut sums);
        [sum + f64::from(sums[0]), squares + f64::from(sums[1])]
    })
}

/// Two sums a channel, from `of(start, length)` of each image's plane.
fn channel_sums(shape: Planes, of: impl Fn(usize, usize) -> [f64; 2] + Sync) -> Vec<[f64; 2]> {
    let area = shape.size.area_px();
    let planes: Vec<[f64; 2]> =
        (0..shape.images * shape.channels).into_par_iter().map(|plane| of(plane * area, area)).collect();
    (0..shape.channels)
        .map(|channel| {
            planes
                .iter()
                .skip(channel)
                .step_by(shape.channels)
                .fold([0.0; 2], |sum, plane| [sum[0] + plane[0], sum[1] + plane[1]])
        })
        .collect()
}

/// y = ELU(scale·z + shift), channel by channel.
pub fn affine_elu(z: &[f32], shape: Planes, affine: &[Affine]) -> Vec<f32> {
    let mut y = vec![0.0; z.len()];
    for_planes(&mut y, shape, |plane, out| {
        let affine = affine[plane % shape.channels];
        let z = &z[plane * shape.size.area_px()..][..out.len()];
        affine_elu_plane(Path::best(), z, affine, out);
    });
    y
}

fn for_planes(values: &mut [f32], shape: Planes, work: impl Fn(usize, &mut [f32]) + Sync) {
    let area = shape.size.area_px().max(1);
    values.par_chunks_mut(area).enumerate().for_each(|(plane, values)| work(plane, values));
}

/// Gradients of a batch normalisation with ELU.
pub struct NormalisationGradients {
    /// Towards the convolution's output z: `[images, channels, height, width]`.
    pub z: Vec<f32>,
    /// Towards γ, one a channel.
    pub gamma: Vec<f32>,
    /// Towards β, one a channel.
    pub beta: Vec<f32>,
}

/// The gradients of `y = ELU(γ·x̂ + β)` from `gradient` towards y, where x̂ normalises z by its own batch moments.
pub fn backward(
    z: &[f32],
    gradient: &[f32],
    shape: Planes,
    moments: &[Moments],
    gamma: &[f32],
    beta: &[f32],
    epsilon: f32,
) -> NormalisationGradients {
    let area = shape.size.area_px();
    let affine: Vec<Affine> =
        (0..shape.channels).map(|c| Affine::normalising(moments[c], gamma[c], beta[c], epsilon)).collect();
    // g = dL/d(γ·x̂ + β), in place of a copy of the gradient.
    let mut g = vec![0.0; gradient.len()];
    for_planes(&mut g, shape, |plane, out| {
        let range = plane * area..plane * area + out.len();
        elu_gradient(Path::best(), &z[range.clone()], &gradient[range], affine[plane % shape.channels], out);
    });
    let sums = channel_sums(shape, |start, length| {
        block_gradient_sums(&g[start..start + length], &z[start..start + length])
    });
    let count = (shape.images * area).max(1) as f64;
    let terms: Vec<GradientTerms> = (0..shape.channels)
        .map(|c| GradientTerms::new(sums[c], moments[c], f64::from(gamma[c]), f64::from(epsilon), count))
        .collect();
    for_planes(&mut g, shape, |plane, out| {
        let z = &z[plane * area..][..out.len()];
        combine(Path::best(), z, &terms[plane % shape.channels], out);
    });
    NormalisationGradients {
        z: g,
        gamma: terms.iter().map(|terms| terms.gamma).collect(),
        beta: sums.iter().map(|sums| sums[0] as f32).collect(),
    }
}

/// dz = of_g·g + of_z·z + constant, for one channel.
pub(crate) struct GradientTerms {
    pub(crate) of_g: f32,
    pub(crate) of_z: f32,
    pub(crate) constant: f32,
    pub(crate) gamma: f32,
}

impl GradientTerms {
    /// dz = γ/σ · (g − Σg/n − x̂·Σ(g·x̂)/n), with x̂ written out in z.
    pub(crate) fn new([sum_g, sum_gz]: [f64; 2], moments: Moments, gamma: f64, epsilon: f64, count: f64) -> Self {
        let inverse_deviation = 1.0 / (f64::from(moments.variance) + epsilon).sqrt();
        let mean = f64::from(moments.mean);
        let sum_g_normalised = (sum_gz - mean * sum_g) * inverse_deviation;
        let of_g = gamma * inverse_deviation;
        let of_z = -of_g * sum_g_normalised / count * inverse_deviation;
        Self {
            of_g: of_g as f32,
            of_z: of_z as f32,
            constant: (-of_g * sum_g / count - of_z * mean) as f32,
            gamma: sum_g_normalised as f32,
        }
    }
}

fn block_gradient_sums(g: &[f32], z: &[f32]) -> [f64; 2] {
    g.chunks(BLOCK).zip(z.chunks(BLOCK)).fold([0.0, 0.0], |[sum, products], (g, z)| {
        let mut sums = [0.0; 2];
        sum_and_products(Path::best(), g, z, &mut sums);
        [sum + f64::from(sums[0]), products + f64::from(sums[1])]
    })
}

run_on!(fn sum_and_squares = sum_and_squares_kernel(values: &[f32], sums: &mut [f32; 2]));
run_on!(fn sum_and_products = sum_and_products_kernel(a: &[f32], b: &[f32], sums: &mut [f32; 2]));
run_on!(fn affine_elu_plane = affine_elu_kernel(z: &[f32], affine: Affine, out: &mut [f32]));
run_on!(fn elu_gradient = elu_gradient_kernel(z: &[f32], gradient: &[f32], affine: Affine, out: &mut [f32]));
run_on!(fn combine = combine_kernel(z: &[f32], terms: &GradientTerms, g: &mut [f32]));

#[inline(always)]
unsafe fn sum_and_squares_kernel<V: Vector, const O: usize, const N: usize>(
    values: &[f32],
    sums: &mut [f32; 2],
) {
    unsafe { sum_and_products_kernel::<V, O, N>(values, values, sums) }
}

/// Σa and Σa·b.
#[inline(always)]
unsafe fn sum_and_products_kernel<V: Vector, const O: usize, const N: usize>(
    a: &[f32],
    b: &[f32],
    sums: &mut [f32; 2],
) {
    unsafe {
        let (mut sum, mut products, one) = (V::zero(), V::zero(), V::splat(1.0));
        let whole = a.len() / V::LANES * V::LANES;
        for i in (0..whole).step_by(V::LANES) {
            let value = V::load(a.as_ptr().add(i));
            sum = sum.plus_product(value, one);
            products = products.plus_product(value, V::load(b.as_ptr().add(i)));
        }
        *sums = [sum.sum(), products.sum()];
        for i in whole..a.len() {
            sums[0] += a[i];
            sums[1] += a[i] * b[i];
        }
    }
}

/// Calls `body` with the start of each whole vector, and once for the rest through a buffer.
macro_rules! for_vectors {
    ($V:ident, $out:ident, [$($input:ident),*], |$($loaded:ident),*| $body:expr) => {{
        let length = $out.len();
        let whole = length / $V::LANES * $V::LANES;
        for i in (0..whole).step_by($V::LANES) {
            $(let $loaded = $V::load($input.as_ptr().add(i));)*
            $body.store($out.as_mut_ptr().add(i));
        }
        if whole < length {
            $(let mut rest = [0.0f32; 16];
              rest[..length - whole].copy_from_slice(&$input[whole..length]);
              let $loaded = $V::load(rest.as_ptr());)*
            let mut rest = [0.0f32; 16];
            $body.store(rest.as_mut_ptr());
            $out[whole..].copy_from_slice(&rest[..length - whole]);
        }
    }};
}

#[inline(always)]
unsafe fn affine_elu_kernel<V: Vector, const O: usize, const N: usize>(
    z: &[f32],
    affine: Affine,
    out: &mut [f32],
) {
    unsafe {
        let (scale, shift) = (V::splat(affine.scale), V::splat(affine.shift));
        for_vectors!(V, out, [z], |z| elu(shift.plus_product(z, scale)));
    }
}

/// gradient · ELU′(scale·z + shift), where ELU′(u) is 1 for u > 0, else eᵘ.
#[inline(always)]
unsafe fn elu_gradient_kernel<V: Vector, const O: usize, const N: usize>(
    z: &[f32],
    gradient: &[f32],
    affine: Affine,
    out: &mut [f32],
) {
    unsafe {
        let (scale, shift, one) = (V::splat(affine.scale), V::splat(affine.shift), V::splat(1.0));
        for_vectors!(V, out, [z, gradient], |z, gradient| {
            let u = shift.plus_product(z, scale);
            gradient.mul(u.where_positive(one, u.exp_of_negative()))
        });
    }
}

#[inline(always)]
unsafe fn combine_kernel<V: Vector, const O: usize, const N: usize>(
    z: &[f32],
    terms: &GradientTerms,
    g: &mut [f32],
) {
    unsafe {
        let (of_g, of_z) = (V::splat(terms.of_g), V::splat(terms.of_z));
        let constant = V::splat(terms.constant);
        let whole = g.len() / V::LANES * V::LANES;
        for i in (0..whole).step_by(V::LANES) {
            let here = g.as_mut_ptr().add(i);
            let sum = constant.plus_product(of_z, V::load(z.as_ptr().add(i)));
            sum.plus_product(of_g, V::load(here)).store(here);
        }
        for i in whole..g.len() {
            g[i] = terms.of_z.mul_add(z[i], terms.constant) + terms.of_g * g[i];
        }
    }
}
