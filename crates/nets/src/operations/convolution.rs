//! Convolution, batch norm, residual sum and activation as one operation on channels-last tensors, and max pooling:
//! forward and backward call `microtome_kernels::network::channels_last`.

use super::{extent, tensor};
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn_flex::FlexTensor;
use microtome_kernels::Size;
use microtome_kernels::network::channels_last::normalisation::{
    Slope, gradient_sums, input_gradient_over_z, moments as batch_moments, normalise,
};
use microtome_kernels::network::channels_last::pooling::{Windows, max_pool, max_pool_gradient};
use microtome_kernels::network::channels_last::{
    Activation, Convolution, Epilogue, Maps, convolve, input_gradient, weight_gradient,
};
use microtome_kernels::network::normalisation::{Affine, GradientTerms, Moments};

/// Batch norm's ε, as in the paper's framework.
pub(crate) const EPSILON: f32 = 1e-5;

/// What our kernels add to a backend.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait ConvolutionOps: Backend {
    /// ReLU(batch norm(convolution)), or without the ReLU.
    ///
    /// # Shapes
    /// - x `[images, height, width, inputs]`, weight `[outputs, inputs, kernel, kernel]`, gamma and beta `[outputs]`
    /// - outputs: `[images, output height, output width, outputs]`, and the batch's mean and biased variance
    ///   `[2, outputs]`, through which no gradient flows
    fn conv_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        layer: Convolution,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// ReLU(batch norm(convolution) + residual); the residual has the output's shape.
    fn conv_norm_join(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        layer: Convolution,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The highest value of each window, `[images, height, width, channels]`.
    fn max_pool_windows(x: FloatTensor<Self>, windows: Windows) -> FloatTensor<Self>;
}

impl ConvolutionOps for Flex {
    fn conv_norm(
        x: FlexTensor,
        weight: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        layer: Convolution,
        relu: bool,
    ) -> (FlexTensor, FlexTensor) {
        let saved = Saved::forward([x, weight, gamma, beta], layer);
        (saved.output(None, relu), saved.statistics())
    }

    fn conv_norm_join(
        x: FlexTensor,
        weight: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        residual: FlexTensor,
        layer: Convolution,
    ) -> (FlexTensor, FlexTensor) {
        let saved = Saved::forward([x, weight, gamma, beta], layer);
        (saved.output(Some(residual), true), saved.statistics())
    }

    fn max_pool_windows(x: FlexTensor, windows: Windows) -> FlexTensor {
        pool(&x, windows).0
    }
}

impl<C: CheckpointStrategy> ConvolutionOps for Autodiff<Flex, C> {
    fn conv_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        layer: Convolution,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [x.node(), weight.node(), gamma.node(), beta.node()];
        let tensors = [x, weight, gamma, beta].map(FloatTensor::<Self>::into_primitive);
        let mut saved = Saved::forward(tensors, layer);
        let (output, statistics) = (saved.output(None, relu), saved.statistics());
        saved.bend = if relu { Bend::Relu } else { Bend::None };
        let output = match ConvNormGradient.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => tracked.finish(saved, output),
            OpsKind::UnTracked(untracked) => untracked.finish(output),
        };
        (output, FloatTensor::<Self>::new(statistics))
    }

    fn conv_norm_join(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        layer: Convolution,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [x.node(), weight.node(), gamma.node(), beta.node(), residual.node()];
        let tensors = [x, weight, gamma, beta].map(FloatTensor::<Self>::into_primitive);
        let mut saved = Saved::forward(tensors, layer);
        let output = saved.output(Some(residual.into_primitive()), true);
        let statistics = saved.statistics();
        let output = match JoinGradient.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => {
                saved.bend = Bend::ReluOfOutput(output.clone());
                tracked.finish(saved, output)
            }
            OpsKind::UnTracked(untracked) => untracked.finish(output),
        };
        (output, FloatTensor::<Self>::new(statistics))
    }

    fn max_pool_windows(x: FloatTensor<Self>, windows: Windows) -> FloatTensor<Self> {
        let node = x.node();
        let x = x.into_primitive();
        let maps = maps(&x);
        let (output, winners) = pool(&x, windows);
        match PoolGradient.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => tracked.finish((maps, windows, winners), output),
            OpsKind::UnTracked(untracked) => untracked.finish(output),
        }
    }
}

/// How the output was bent, for its slope.
#[derive(Clone, Debug)]
enum Bend {
    None,
    /// The slope is taken from z.
    Relu,
    /// A residual was added before: the slope is taken from the output.
    ReluOfOutput(FlexTensor),
}

/// What the backward pass of a convolution with batch norm needs of the forward pass.
#[derive(Clone, Debug)]
struct Saved {
    x: FlexTensor,
    weight: FlexTensor,
    gamma: FlexTensor,
    beta: FlexTensor,
    /// The convolution's output, before normalisation.
    z: Vec<f32>,
    moments: Vec<Moments>,
    shape: Maps,
    layer: Convolution,
    bend: Bend,
}

impl Saved {
    fn forward(tensors: [FlexTensor; 4], layer: Convolution) -> Self {
        let [x, weight, gamma, beta] = tensors.map(|tensor| tensor.to_contiguous());
        let shape = maps(&x);
        let output = layer.output(shape);
        let mut z = vec![0.0; output.len()];
        convolve(x.storage(), shape, weight.storage(), layer, Epilogue::NONE, &mut z);
        // Summed in a pass of its own, which also holds where a channel's mean is far from zero (nearly blank
        // pictures); the sums that a convolution can give on its way lose the variance there.
        let moments = batch_moments(&z, layer.outputs);
        Self { x, weight, gamma, beta, z, moments, shape, layer, bend: Bend::None }
    }

    fn affine(&self) -> Vec<Affine> {
        let (gamma, beta) = (self.gamma.storage::<f32>(), self.beta.storage::<f32>());
        (self.moments.iter().zip(gamma.iter().zip(beta)))
            .map(|(&moments, (&gamma, &beta))| Affine::normalising(moments, gamma, beta, EPSILON))
            .collect()
    }

    fn output(&self, residual: Option<FlexTensor>, relu: bool) -> FlexTensor {
        let residual = residual.map(|residual| residual.to_contiguous());
        let residual = residual.as_ref().map(|residual| residual.storage::<f32>());
        let mut y = vec![0.0; self.z.len()];
        let activation = if relu { Activation::Relu } else { Activation::None };
        normalise(&self.z, &self.affine(), residual, activation, &mut y);
        channels_last(y, self.layer.output(self.shape))
    }

    fn statistics(&self) -> FlexTensor {
        let means = self.moments.iter().map(|moments| moments.mean);
        let values = means.chain(self.moments.iter().map(|moments| moments.variance)).collect();
        tensor(values, [2, self.layer.outputs])
    }

    /// Registers the gradients of x, weight, γ and β; gives the gradient after the activation's slope, which is the
    /// residual's.
    fn backward(
        mut self,
        mut gradient: FlexTensor,
        parents: [Option<NodeId>; 4],
        grads: &mut Gradients,
    ) -> FlexTensor {
        let affine = self.affine();
        let slope = match &self.bend {
            Bend::None => Slope::One,
            Bend::Relu => Slope::ReluOfInput(&affine),
            Bend::ReluOfOutput(output) => Slope::Relu(output.storage()),
        };
        let (outputs, pixels) = (self.layer.outputs, self.z.len() / self.layer.outputs.max(1));
        let sums = gradient_sums(gradient.storage_mut(), &self.z, outputs, slope);
        let gamma = self.gamma.storage::<f32>();
        let terms: Vec<GradientTerms> = (sums.into_iter().zip(&self.moments).zip(gamma))
            .map(|((sums, &moments), &gamma)| GradientTerms::new(sums, moments, gamma, EPSILON, pixels))
            .collect();
        input_gradient_over_z(gradient.storage(), &mut self.z, &terms, slope);
        let dz = self.z;
        let [x, weight, gamma, beta] = parents;
        if let Some(node) = x {
            let mut dx = vec![0.0; self.shape.len()];
            input_gradient(&dz, self.shape, self.weight.storage(), self.layer, &mut dx);
            grads.register::<Flex>(node, channels_last(dx, self.shape));
        }
        if let Some(node) = weight {
            let mut dw = vec![0.0; self.layer.weights()];
            weight_gradient(self.x.storage(), &dz, self.shape, self.layer, &mut dw);
            grads.register::<Flex>(node, tensor(dw, extent::<4>(&self.weight)));
        }
        let of = |value: fn(&GradientTerms) -> f32| tensor(terms.iter().map(value).collect(), [outputs]);
        if let Some(node) = gamma {
            grads.register::<Flex>(node, of(|terms| terms.gamma));
        }
        if let Some(node) = beta {
            grads.register::<Flex>(node, of(|terms| terms.beta));
        }
        gradient
    }
}

#[derive(Debug)]
struct ConvNormGradient;

impl Backward<Flex, 4> for ConvNormGradient {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 4>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        ops.state.backward(gradient, parents, grads);
    }
}

#[derive(Debug)]
struct JoinGradient;

impl Backward<Flex, 5> for JoinGradient {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 5>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let [x, weight, gamma, beta, residual] = ops.parents.map(|parent| parent.map(|node| node.id));
        let gradient = ops.state.backward(gradient, [x, weight, gamma, beta], grads);
        if let Some(node) = residual {
            grads.register::<Flex>(node, gradient);
        }
    }
}

#[derive(Debug)]
struct PoolGradient;

impl Backward<Flex, 1> for PoolGradient {
    type State = (Maps, Windows, Vec<u8>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (maps, windows, winners) = ops.state;
        if let [Some(node)] = ops.parents {
            let mut to_input = vec![0.0; maps.len()];
            max_pool_gradient(gradient.storage(), &winners, maps, windows, &mut to_input);
            grads.register::<Flex>(node.id, channels_last(to_input, maps));
        }
    }
}

fn pool(x: &FlexTensor, windows: Windows) -> (FlexTensor, Vec<u8>) {
    let (x, maps) = (x.to_contiguous(), maps(x));
    let output = windows.output(maps);
    let (mut values, mut winners) = (vec![0.0; output.len()], vec![0; output.len()]);
    max_pool(x.storage(), maps, windows, &mut values, &mut winners);
    (channels_last(values, output), winners)
}

fn maps(tensor: &FlexTensor) -> Maps {
    let [images, height, width, channels] = extent(tensor);
    Maps { images, size: Size::new(width, height), channels }
}

fn channels_last(values: Vec<f32>, maps: Maps) -> FlexTensor {
    let Size { width_px, height_px } = maps.size;
    tensor(values, [maps.images, height_px, width_px, maps.channels])
}
