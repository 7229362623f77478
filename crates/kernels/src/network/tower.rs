//! A tower of dilated residual blocks, eight channels wide, at full resolution: the confidence network
//! (Boserup & Selvan 2023), trained and applied as a whole.
//!
//! ```text
//! picture → stem → block (dilation 1) → … → block (dilation 20) → head → outputs
//! stem, and each of a block's two layers: z = convolution 3×3, y = ELU(batch norm(z)); a block is x + y₂
//! ```
//!
//! Eight channels leave little arithmetic a byte of memory, so that the tower as a whole is built to touch memory seldom: only
//! the convolutions' outputs z and the sums x are kept. Rows that are a dilation apart form a strand; a convolution couples
//! rows of one strand only. A layer goes down its strands four rows at a time: it reads z, normalises and bends it in
//! registers and combines it there for Winograd's F(4, 3), which halves the multiplications; the moments of the results are
//! summed while they are in registers, from where they go past the caches. The backward pass makes the gradient of z, both
//! gradients of the convolution, and the sums that the normalisation below needs, in one pass over memory likewise; what dz is
//! combined to serves both gradients.
//!
//! Reading order: [`rows`](self) (memory), `groups` (the convolution of four rows), `made` (what its input is made of),
//! `weight_gradient`, `beside` (asking for memory in time), `passes` (sums and single rows), `forward`, `backward`, `head`;
//! `inference`.

mod backward;
mod beside;
mod forward;
mod groups;
mod head;
mod inference;
mod made;
mod passes;
mod rows;
mod taps;
mod weight_gradient;

pub use inference::FoldedTower;

use super::Planes;
use super::normalisation::{Affine, GradientTerms, Moments};
use super::vector::Path;
use crate::Size;
use passes::{Extent, LaneSums};
use rows::Rows;
use taps::Taps;

/// Channels between the layers.
pub const WIDTH: usize = 8;

/// The shape of a tower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tower {
    /// Channels of the picture.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Dilation of each residual block, in pixels.
    pub dilations: Vec<usize>,
    /// Whether the outputs go through a sigmoid.
    pub sigmoid: bool,
}

/// A convolution without bias and its batch norm.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// `[8, inputs, 3, 3]`.
    pub weight: &'a [f32],
    /// γ, `[8]`.
    pub gamma: &'a [f32],
    /// β, `[8]`.
    pub beta: &'a [f32],
}

/// All parameters of a tower.
#[derive(Clone, Debug)]
pub struct Parameters<'a> {
    /// The stem, then both layers of each block.
    pub layers: Vec<Layer<'a>>,
    /// `[outputs, 8]`.
    pub head_weight: &'a [f32],
    /// `[outputs]`.
    pub head_bias: &'a [f32],
    /// Batch norm's ε.
    pub epsilon: f32,
}

/// Gradients of a layer's parameters, shaped as in [`Layer`].
#[derive(Clone, Debug)]
pub struct LayerGradients {
    /// Towards the convolution's weight.
    pub weight: Vec<f32>,
    /// Towards γ.
    pub gamma: Vec<f32>,
    /// Towards β.
    pub beta: Vec<f32>,
}

/// Gradients of all parameters, shaped as in [`Parameters`].
#[derive(Clone, Debug)]
pub struct Gradients {
    /// The stem, then both layers of each block.
    pub layers: Vec<LayerGradients>,
    /// `[outputs, 8]`.
    pub head_weight: Vec<f32>,
    /// `[outputs]`.
    pub head_bias: Vec<f32>,
}

/// Where a convolution's input comes from.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// The picture, `[images, inputs, height, width]`.
    Picture { values: &'a [f32], shape: Planes },
    /// Rows as they are.
    Plain(&'a Rows),
    /// ELU(normalised z).
    Bent { z: &'a Rows, affine: &'a [Affine; WIDTH] },
    /// base + ELU(normalised z).
    Joined { base: &'a Rows, z: &'a Rows, affine: &'a [Affine; WIDTH] },
}

/// What the forward pass leaves for the backward pass.
pub struct Trace {
    shape: Planes,
    /// The output of each convolution.
    z: Vec<Rows>,
    /// The input of each block.
    x: Vec<Rows>,
    /// Batch moments of each convolution's output.
    moments: Vec<[Moments; WIDTH]>,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Trace of {:?}", self.shape)
    }
}

impl Trace {
    /// Mean and biased variance of each layer's eight channels over images and pixels.
    pub fn moments(&self) -> &[[Moments; WIDTH]] {
        &self.moments
    }
}

impl Tower {
    /// Number of convolutions before the head.
    pub fn layers(&self) -> usize {
        1 + 2 * self.dilations.len()
    }

    fn inputs_of(&self, layer: usize) -> usize {
        if layer == 0 { self.inputs } else { WIDTH }
    }

    fn taps(&self, layer: usize) -> Taps {
        let dilation = if layer == 0 { 1 } else { self.dilations[(layer - 1) / 2] };
        Taps { inputs: self.inputs_of(layer), dilation }
    }

    fn check_dilations(&self) {
        assert!(!self.dilations.is_empty(), "a tower has a block");
        assert!(self.dilations.iter().all(|&dilation| dilation > 0), "dilations are at least 1");
    }

    fn check(&self, picture: &[f32], shape: Planes, parameters: &Parameters<'_>) {
        self.check_dilations();
        assert_eq!(shape.channels, self.inputs, "the picture has the tower's inputs");
        assert_eq!(picture.len(), shape.len(), "the picture has its shape's length");
        assert_eq!(parameters.layers.len(), self.layers(), "there are parameters for each layer");
        for (index, layer) in parameters.layers.iter().enumerate() {
            let weights = self.inputs_of(index) * WIDTH * taps::TAPS;
            let lengths = [layer.weight.len(), layer.gamma.len(), layer.beta.len()];
            assert_eq!(lengths, [weights, WIDTH, WIDTH], "the parameters of layer {index} have its shape");
        }
        assert_eq!(parameters.head_weight.len(), self.outputs * WIDTH, "the head has its shape");
        assert_eq!(parameters.head_bias.len(), self.outputs, "the head has a bias an output");
    }

    /// The outputs `[images, outputs, height, width]` for a picture `[images, inputs, height, width]`, normalised by
    /// the batch's own moments, and what [`Self::backward`] needs.
    ///
    /// # Panics
    /// When lengths and shapes disagree.
    pub fn forward(&self, picture: &[f32], shape: Planes, parameters: &Parameters<'_>) -> (Vec<f32>, Trace) {
        self.forward_on(Path::best(), picture, shape, parameters)
    }

    /// [`Self::forward`] on a given path.
    pub fn forward_on(
        &self,
        path: Path,
        picture: &[f32],
        shape: Planes,
        parameters: &Parameters<'_>,
    ) -> (Vec<f32>, Trace) {
        self.check(picture, shape, parameters);
        let mut trace = Trace { shape, z: Vec::new(), x: Vec::new(), moments: Vec::new() };
        for layer in 0..self.layers() {
            self.forward_layer(path, layer, picture, parameters, &mut trace);
        }
        let output_shape = shape.with_channels(self.outputs);
        let affine = affine(parameters, &trace, self.layers() - 1);
        let output = head::forward(path, self.head(&trace, &affine, parameters), output_shape);
        (output, trace)
    }

    fn forward_layer(
        &self,
        path: Path,
        layer: usize,
        picture: &[f32],
        parameters: &Parameters<'_>,
        trace: &mut Trace,
    ) {
        let Planes { images, size, .. } = trace.shape;
        let affine = if layer > 0 { Some(affine(parameters, trace, layer - 1)) } else { None };
        let mut kept = (layer % 2 == 1).then(|| Rows::uninitialised(images, size));
        let mut z = Rows::uninitialised(images, size);
        let source = match &affine {
            None => Source::Picture { values: picture, shape: trace.shape },
            Some(affine) => match (layer % 2, trace.x.last()) {
                (1, Some(base)) => Source::Joined { base, z: &trace.z[layer - 1], affine },
                _ => Source::Bent { z: &trace.z[layer - 1], affine },
            },
        };
        let weight = groups::packed(parameters.layers[layer].weight, self.inputs_of(layer));
        let sums = forward::Convolution {
            input: forward::Input { source, keep: kept.as_mut().map(Rows::shared) },
            weight: &weight,
            taps: self.taps(layer),
            images,
            height: size.height_px,
            extent: extent(size),
        }
        .run(path, z.shared());
        let count = images * size.area_px();
        trace.moments.push(sums.map(|sums| Moments::from_sums(sums, count)));
        trace.z.push(z);
        trace.x.extend(kept);
    }

    fn head<'a>(
        &self,
        trace: &'a Trace,
        affine: &'a [Affine; WIDTH],
        parameters: &Parameters<'a>,
    ) -> head::Head<'a> {
        head::Head {
            base: &trace.x[self.dilations.len() - 1],
            z: &trace.z[self.layers() - 1],
            affine,
            weight: parameters.head_weight,
            bias: parameters.head_bias,
            sigmoid: self.sigmoid,
            extent: extent(trace.shape.size),
        }
    }

    /// The gradients of all parameters from `gradient` towards the outputs; `output` is what [`Self::forward`] gave
    /// (both `[images, outputs, height, width]`). No gradient towards the picture is computed.
    ///
    /// # Panics
    /// When lengths and shapes disagree.
    pub fn backward(
        &self,
        picture: &[f32],
        trace: &Trace,
        parameters: &Parameters<'_>,
        output: &[f32],
        gradient: &[f32],
    ) -> Gradients {
        self.backward_on(Path::best(), picture, trace, parameters, output, gradient)
    }

    /// [`Self::backward`] on a given path.
    pub fn backward_on(
        &self,
        path: Path,
        picture: &[f32],
        trace: &Trace,
        parameters: &Parameters<'_>,
        output: &[f32],
        gradient: &[f32],
    ) -> Gradients {
        self.check(picture, trace.shape, parameters);
        let shape = trace.shape.with_channels(self.outputs);
        assert_eq!(output.len(), shape.len(), "the output has its shape's length");
        assert_eq!(gradient.len(), shape.len(), "the gradient has its shape's length");
        let mut descent = Descent::new(self, picture, trace, parameters);
        let top = affine(parameters, trace, self.layers() - 1);
        let incoming = head::Incoming { gradient, output, shape };
        let head = head::backward(path, self.head(trace, &top, parameters), incoming, descent.total.shared());
        let mut sums = head.below;
        let mut layers = Vec::new();
        for layer in (0..self.layers()).rev() {
            let (gradients, below) = descent.layer(path, layer, sums);
            layers.push(gradients);
            sums = below;
        }
        layers.reverse();
        Gradients { layers, head_weight: head.weight, head_bias: head.bias }
    }
}

/// The way down from the head.
struct Descent<'a> {
    tower: &'a Tower,
    picture: &'a [f32],
    trace: &'a Trace,
    parameters: &'a Parameters<'a>,
    /// The gradient towards a block's output, then towards its input.
    total: Rows,
    /// The gradient towards the normalised value within a block.
    within: Rows,
}

impl<'a> Descent<'a> {
    fn new(tower: &'a Tower, picture: &'a [f32], trace: &'a Trace, parameters: &'a Parameters<'a>) -> Self {
        let rows = || Rows::uninitialised(trace.shape.images, trace.shape.size);
        Self { tower, picture, trace, parameters, total: rows(), within: rows() }
    }

    /// The layer's gradients and the sums for the layer below, from the sums for this one.
    fn layer(
        &mut self,
        path: Path,
        layer: usize,
        sums: [[f64; 2]; WIDTH],
    ) -> (LayerGradients, [[f64; 2]; WIDTH]) {
        let (trace, own) = (self.trace, self.parameters.layers[layer]);
        let Planes { images, size, .. } = trace.shape;
        let terms = self.terms(layer, sums);
        let own_affine = affine(self.parameters, trace, layer);
        let below_affine = affine(self.parameters, trace, layer.saturating_sub(1));
        let below_z = &trace.z[layer.saturating_sub(1)];
        let (total, within) = (self.total.shared(), self.within.shared());
        let (input, outgoing) = match (layer, layer % 2) {
            (0, _) => {
                (Source::Picture { values: self.picture, shape: trace.shape }, backward::Outgoing::Nowhere)
            }
            (_, 0) => (
                Source::Bent { z: below_z, affine: &below_affine },
                backward::Outgoing::ThroughBend { z: below_z, to: within },
            ),
            _ => (
                Source::Plain(&trace.x[layer / 2]),
                backward::Outgoing::Joined { total, z: below_z, affine: &below_affine },
            ),
        };
        let incoming = match layer % 2 {
            0 => backward::Incoming::OfBent { g: &self.total, affine: &own_affine },
            _ => backward::Incoming::OfNormalised { g: &self.within },
        };
        let weight = if layer > 0 { groups::packed(&taps::turned(own.weight), WIDTH) } else { Vec::new() };
        let summed = backward::Convolution {
            incoming,
            z: &trace.z[layer],
            terms: &terms,
            input,
            outgoing,
            weight: &weight,
            taps: self.tower.taps(layer),
            images,
            height: size.height_px,
            extent: extent(size),
        }
        .run(path);
        let gradients = LayerGradients {
            weight: summed.weight,
            gamma: terms.iter().map(|terms| terms.gamma).collect(),
            beta: terms.iter().map(|terms| terms.beta).collect(),
        };
        (gradients, summed.below)
    }

    fn terms(&self, layer: usize, sums: [[f64; 2]; WIDTH]) -> [GradientTerms; WIDTH] {
        let gamma = self.parameters.layers[layer].gamma;
        let count = self.trace.shape.images * self.trace.shape.size.area_px();
        let moments = &self.trace.moments[layer];
        std::array::from_fn(|c| {
            GradientTerms::new(sums[c], moments[c], gamma[c], self.parameters.epsilon, count)
        })
    }
}

/// Batch normalisation of a layer as a map of z.
fn affine(parameters: &Parameters<'_>, trace: &Trace, layer: usize) -> [Affine; WIDTH] {
    let Layer { gamma, beta, .. } = parameters.layers[layer];
    let moments = trace.moments[layer];
    std::array::from_fn(|c| Affine::normalising(moments[c], gamma[c], beta[c], parameters.epsilon))
}

fn extent(size: Size) -> Extent {
    Extent::new(size.width_px)
}

/// Sums in double precision, strand by strand: the same bytes for any number of threads.
fn channel_sums(strands: &[LaneSums]) -> [[f64; 2]; WIDTH] {
    let mut sums = [[0.0; 2]; WIDTH];
    for strand in strands {
        for (sums, lanes) in sums.iter_mut().zip(strand) {
            for (sum, lanes) in sums.iter_mut().zip(lanes) {
                *sum += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
            }
        }
    }
    sums
}
