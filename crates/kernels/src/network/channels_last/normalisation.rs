//! Batch normalisation of tensors whose channels come last, with activation and residual fused in.
//!
//! Tensors are `[pixels, channels]` slices, where pixels are those of all images. All of it is bound by memory, so
//! what counts is how many tensors each pass reads and writes: forward 1 + 2 (moments, then `normalise`), backward
//! 2 to 4 ([`gradient_sums`]) and 3 ([`input_gradient_over_z`]). The slope of the activation is taken from the
//! output y, so that the backward pass needs neither the residual nor an exponential.
//!
//! Considered and skipped: keeping x̂ (one more tensor to write and to read; z and two numbers a channel give it back).

use super::Activation;
use crate::network::lanes::{Lanes, Period, for_periodic_lanes, sum_periodic_lanes};
use crate::network::normalisation::{Affine, GradientTerms, Moments};
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::{Path, run_on};
use rayon::prelude::*;

/// Where the slope of the activation is read in the backward pass.
#[derive(Clone, Copy, Debug)]
pub enum Slope<'a> {
    /// No activation: the slope is 1.
    One,
    /// ReLU with output y: 1 where y > 0, else 0.
    Relu(&'a [f32]),
    /// ReLU without a residual, where y > 0 is asked of `scale·z + shift` instead of reading y.
    ReluOfInput(&'a [Affine]),
    /// ELU with output y: 1 where y > 0, else y + 1.
    Elu(&'a [f32]),
}

/// The moments of each channel of `z` (`[pixels, channels]`).
///
/// Sums are taken of the distance from the first pixel's value, so that a mean far from zero costs no precision;
/// blocks of pixels are summed in single precision, the blocks in double, in order.
///
/// # Panics
/// Without channels, or when `z` is not whole pixels.
pub fn moments(z: &[f32], channels: usize) -> Vec<Moments> {
    moments_on(Path::best(), z, channels)
}

/// [`moments`] on a given path.
pub fn moments_on(path: Path, z: &[f32], channels: usize) -> Vec<Moments> {
    let period = Period::new(channels);
    let pixels = period.pixels(z);
    let origin = period.spread(|c| z.get(c).copied().unwrap_or(0.0));
    let blocks = z.par_chunks(period.block());
    let sums = period.total(blocks, |z, sums, squares| {
        shifted_sums(path, z, &origin, sums, squares);
    });
    let count = pixels.max(1) as f64;
    let moments = sums.iter().zip(&origin).map(|([sum, squares], origin)| {
        let distance = sum / count;
        let variance = (squares / count - distance * distance).max(0.0);
        Moments { mean: (f64::from(*origin) + distance) as f32, variance: variance as f32 }
    });
    moments.collect()
}

/// y = activation(scale·z + shift + residual), channel by channel; inference too, with the running moments.
///
/// # Shapes
/// - `z`, `residual`, `y`: `[pixels, channels]`; `affine`: `[channels]`
///
/// # Panics
/// When lengths disagree, or without channels.
pub fn normalise(
    z: &[f32],
    affine: &[Affine],
    residual: Option<&[f32]>,
    activation: Activation,
    y: &mut [f32],
) {
    normalise_on(Path::best(), z, affine, residual, activation, y);
}

/// [`normalise`] on a given path.
pub fn normalise_on(
    path: Path,
    z: &[f32],
    affine: &[Affine],
    residual: Option<&[f32]>,
    activation: Activation,
    y: &mut [f32],
) {
    assert_eq!(z.len(), y.len(), "z and y have one length");
    let pattern = Pattern::new(affine, z, residual);
    let block = pattern.period.block();
    y.par_chunks_mut(block).zip(z.par_chunks(block)).enumerate().for_each(|(i, (y, z))| {
        let residual = residual.map(|residual| &residual[i * block..][..y.len()]);
        let (from, to) = (z.as_ptr(), y.as_mut_ptr());
        normalise_block(path, &pattern, from, residual, activation, to, y.len());
    });
}

/// [`normalise`] with y in the place of z.
pub fn normalise_in_place(
    z: &mut [f32],
    affine: &[Affine],
    residual: Option<&[f32]>,
    activation: Activation,
) {
    let pattern = Pattern::new(affine, z, residual);
    let block = pattern.period.block();
    z.par_chunks_mut(block).enumerate().for_each(|(i, z)| {
        let residual = residual.map(|residual| &residual[i * block..][..z.len()]);
        let to = z.as_mut_ptr();
        normalise_block(Path::best(), &pattern, to, residual, activation, to, z.len());
    });
}

/// Scale and shift at each place of the pattern.
struct Pattern {
    period: Period,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Pattern {
    fn new(affine: &[Affine], z: &[f32], residual: Option<&[f32]>) -> Self {
        let period = Period::new(affine.len());
        period.pixels(z);
        assert!(residual.is_none_or(|residual| residual.len() == z.len()), "z and residual have one length");
        let (scale, shift) = (period.spread(|c| affine[c].scale), period.spread(|c| affine[c].shift));
        Self { period, scale, shift }
    }
}

/// The first pass backward: Σg and Σg·z of each channel, where g = gradient · slope takes the gradient's place (but
/// not with [`Slope::ReluOfInput`], which leaves the gradient, to be bent again in the second pass). What is left in
/// `gradient` is the gradient towards the residual.
///
/// # Shapes
/// - `gradient`, `z`, and the slope's y: `[pixels, channels]`
///
/// # Panics
/// When lengths disagree, or without channels.
pub fn gradient_sums(gradient: &mut [f32], z: &[f32], channels: usize, slope: Slope<'_>) -> Vec<[f64; 2]> {
    gradient_sums_on(Path::best(), gradient, z, channels, slope)
}

/// [`gradient_sums`] on a given path.
pub fn gradient_sums_on(
    path: Path,
    gradient: &mut [f32],
    z: &[f32],
    channels: usize,
    slope: Slope<'_>,
) -> Vec<[f64; 2]> {
    assert_eq!(gradient.len(), z.len(), "gradient and z have one length");
    let period = Period::new(channels);
    period.pixels(z);
    let bend = Bend::new(slope, period, z);
    let block = period.block();
    let blocks = gradient.par_chunks_mut(block).zip(z.par_chunks(block)).enumerate();
    period.total(blocks, |(i, (gradient, z)), sums, products| {
        bent_sums(path, gradient, z, &bend.of_block(i * block, z.len()), sums, products);
    })
}

/// A slope as the kernels take it; scale and shift are empty unless it is asked of the input.
struct Bend<'a> {
    kind: BendKind,
    y: &'a [f32],
    scale: Vec<f32>,
    shift: Vec<f32>,
}

#[derive(Clone, Copy)]
enum BendKind {
    One,
    Relu,
    ReluOfInput,
    Elu,
}

impl<'a> Bend<'a> {
    fn new(slope: Slope<'a>, period: Period, z: &'a [f32]) -> Self {
        let (kind, y, affine): (_, _, &[Affine]) = match slope {
            Slope::One => (BendKind::One, z, &[]),
            Slope::Relu(y) => (BendKind::Relu, y, &[]),
            Slope::Elu(y) => (BendKind::Elu, y, &[]),
            Slope::ReluOfInput(affine) => (BendKind::ReluOfInput, z, affine),
        };
        assert_eq!(y.len(), z.len(), "y and z have one length");
        let spread = |of: fn(&Affine) -> f32| match kind {
            BendKind::ReluOfInput => period.spread(|c| of(&affine[c])),
            _ => Vec::new(),
        };
        Self { kind, y, scale: spread(|affine| affine.scale), shift: spread(|affine| affine.shift) }
    }

    fn of_block(&self, start: usize, length: usize) -> BendOfBlock<'_> {
        let y = &self.y[start..start + length];
        BendOfBlock { kind: self.kind, y, scale: &self.scale, shift: &self.shift }
    }
}

/// [`Bend`] for one block.
struct BendOfBlock<'a> {
    kind: BendKind,
    y: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
}

/// The second pass backward: dz from `g` as [`gradient_sums`] left it, into the place of z.
///
/// `slope` is that of the first pass; only [`Slope::ReluOfInput`] still bends here.
///
/// # Panics
/// When lengths disagree, or without channels.
pub fn input_gradient_over_z(g: &[f32], z: &mut [f32], terms: &[GradientTerms], slope: Slope<'_>) {
    assert_eq!(g.len(), z.len(), "g and z have one length");
    let pattern = TermPattern::new(terms, g, slope);
    let block = pattern.period.block();
    z.par_chunks_mut(block).zip(g.par_chunks(block)).for_each(|(z, g)| {
        let to = z.as_mut_ptr();
        combine_block(Path::best(), &pattern, g.as_ptr(), to, to, g.len());
    });
}

/// As [`input_gradient_over_z`], into the place of g.
///
/// # Panics
/// When lengths disagree, or without channels.
pub fn input_gradient_over_g(g: &mut [f32], z: &[f32], terms: &[GradientTerms], slope: Slope<'_>) {
    assert_eq!(g.len(), z.len(), "g and z have one length");
    let pattern = TermPattern::new(terms, z, slope);
    let block = pattern.period.block();
    g.par_chunks_mut(block).zip(z.par_chunks(block)).for_each(|(g, z)| {
        let to = g.as_mut_ptr();
        combine_block(Path::best(), &pattern, to, z.as_ptr(), to, z.len());
    });
}

/// As [`input_gradient_over_z`], into `dz`.
///
/// # Panics
/// When lengths disagree, or without channels.
pub fn input_gradient(g: &[f32], z: &[f32], terms: &[GradientTerms], slope: Slope<'_>, dz: &mut [f32]) {
    input_gradient_on(Path::best(), g, z, terms, slope, dz);
}

/// [`input_gradient`] on a given path.
pub fn input_gradient_on(
    path: Path,
    g: &[f32],
    z: &[f32],
    terms: &[GradientTerms],
    slope: Slope<'_>,
    dz: &mut [f32],
) {
    assert!(g.len() == z.len() && z.len() == dz.len(), "g, z and dz have one length");
    let pattern = TermPattern::new(terms, z, slope);
    let block = pattern.period.block();
    dz.par_chunks_mut(block).zip(g.par_chunks(block)).zip(z.par_chunks(block)).for_each(|((dz, g), z)| {
        combine_block(path, &pattern, g.as_ptr(), z.as_ptr(), dz.as_mut_ptr(), z.len());
    });
}

/// [`GradientTerms`] at each place of the pattern, and where ReLU is still to be asked of z.
struct TermPattern {
    period: Period,
    of_g: Vec<f32>,
    of_z: Vec<f32>,
    constant: Vec<f32>,
    bends: bool,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl TermPattern {
    fn new(terms: &[GradientTerms], z: &[f32], slope: Slope<'_>) -> Self {
        let period = Period::new(terms.len());
        period.pixels(z);
        let spread = |of: fn(&GradientTerms) -> f32| period.spread(|c| of(&terms[c]));
        let affine: &[Affine] = if let Slope::ReluOfInput(affine) = slope { affine } else { &[] };
        let bends = !affine.is_empty();
        let spread_affine =
            |of: fn(&Affine) -> f32| if bends { period.spread(|c| of(&affine[c])) } else { vec![] };
        Self {
            period,
            of_g: spread(|terms| terms.of_g),
            of_z: spread(|terms| terms.of_z),
            constant: spread(|terms| terms.constant),
            bends,
            scale: spread_affine(|affine| affine.scale),
            shift: spread_affine(|affine| affine.shift),
        }
    }
}

mod kernels;
use kernels::{bent_sums, combine_block, normalise_block, shifted_sums};
