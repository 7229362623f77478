//! The fused operations as a Burn backend extension: forward and backward call `microtome_kernels::network`.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn::tensor::TensorData;
use burn_flex::FlexTensor;
use microtome_kernels::Size;
use microtome_kernels::network::Planes;
use microtome_kernels::network::convolution::{
    Convolution, Epilogue, convolve, input_gradient, weight_gradient,
};
use microtome_kernels::network::normalisation::{self, Affine, Moments};

/// Batch norm's ε, as in the paper's framework.
pub(super) const EPSILON: f32 = 1e-5;

/// What our kernels add to a backend.
#[backend_extension(Flex, Autodiff)]
pub(super) trait FusedOps: Backend {
    /// ELU(batch norm(convolution)): `x` `[images, inputs, height, width]`, `weight` `[outputs, inputs, k, k]`,
    /// `gamma` and `beta` `[outputs]`. Gives the output `[images, outputs, height, width]` and the batch's mean and
    /// biased variance `[2, outputs]`, through which no gradient flows.
    fn conv_norm_elu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        dilation: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The convolution alone, without bias.
    fn conv_same(x: FloatTensor<Self>, weight: FloatTensor<Self>, dilation: usize) -> FloatTensor<Self>;
}

impl FusedOps for Flex {
    fn conv_norm_elu(
        x: FlexTensor,
        weight: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        dilation: usize,
    ) -> (FlexTensor, FlexTensor) {
        let saved = Saved::forward(x, weight, gamma, beta, dilation);
        (saved.output(), saved.statistics())
    }

    fn conv_same(x: FlexTensor, weight: FlexTensor, dilation: usize) -> FlexTensor {
        let (shape, layer) = geometry(&x, &weight, dilation);
        let z = convolve(x.storage(), shape, weight.storage(), layer, Epilogue::None);
        nchw(z, shape.with_channels(layer.outputs))
    }
}

impl<C: CheckpointStrategy> FusedOps for Autodiff<Flex, C> {
    fn conv_norm_elu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        dilation: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [x.node(), weight.node(), gamma.node(), beta.node()];
        let saved = Saved::forward(
            x.into_primitive(),
            weight.into_primitive(),
            gamma.into_primitive(),
            beta.into_primitive(),
            dilation,
        );
        let (output, statistics) = (saved.output(), saved.statistics());
        let output = match ConvNormEluGradient.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => tracked.finish(saved, output),
            OpsKind::UnTracked(untracked) => untracked.finish(output),
        };
        (output, FloatTensor::<Self>::new(statistics))
    }

    fn conv_same(x: FloatTensor<Self>, weight: FloatTensor<Self>, dilation: usize) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let (x, weight) = (x.into_primitive().to_contiguous(), weight.into_primitive().to_contiguous());
        let output = Flex::conv_same(x.clone(), weight.clone(), dilation);
        match ConvSameGradient.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => tracked.finish((x, weight, dilation), output),
            OpsKind::UnTracked(untracked) => untracked.finish(output),
        }
    }
}

/// What the backward pass of `conv_norm_elu` needs of the forward pass.
#[derive(Clone, Debug)]
struct Saved {
    x: FlexTensor,
    weight: FlexTensor,
    gamma: FlexTensor,
    beta: FlexTensor,
    /// The convolution's output, before normalisation.
    z: FlexTensor,
    moments: Vec<Moments>,
    shape: Planes,
    layer: Convolution,
}

impl Saved {
    fn forward(
        x: FlexTensor,
        weight: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        dilation: usize,
    ) -> Self {
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let (gamma, beta) = (gamma.to_contiguous(), beta.to_contiguous());
        let (shape, layer) = geometry(&x, &weight, dilation);
        let z = convolve(x.storage(), shape, weight.storage(), layer, Epilogue::None);
        let moments = normalisation::moments(&z, shape.with_channels(layer.outputs));
        let z = nchw(z, shape.with_channels(layer.outputs));
        Self { x, weight, gamma, beta, z, moments, shape, layer }
    }

    fn output_shape(&self) -> Planes {
        self.shape.with_channels(self.layer.outputs)
    }

    fn output(&self) -> FlexTensor {
        let (gamma, beta) = (self.gamma.storage::<f32>(), self.beta.storage::<f32>());
        let affine: Vec<Affine> = (self.moments.iter().zip(gamma.iter().zip(beta)))
            .map(|(&moments, (&gamma, &beta))| Affine::normalising(moments, gamma, beta, EPSILON))
            .collect();
        nchw(normalisation::affine_elu(self.z.storage(), self.output_shape(), &affine), self.output_shape())
    }

    fn statistics(&self) -> FlexTensor {
        let means = self.moments.iter().map(|moments| moments.mean);
        let values: Vec<f32> = means.chain(self.moments.iter().map(|moments| moments.variance)).collect();
        FlexTensor::from_data(TensorData::new(values, [2, self.layer.outputs]))
    }
}

#[derive(Debug)]
struct ConvNormEluGradient;

impl Backward<Flex, 4> for ConvNormEluGradient {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 4>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let saved = ops.state;
        let [x, weight, gamma, beta] = ops.parents;
        let normalised = normalisation::backward(
            saved.z.storage(),
            gradient.storage(),
            saved.output_shape(),
            &saved.moments,
            saved.gamma.storage(),
            saved.beta.storage(),
            EPSILON,
        );
        if let Some(node) = x {
            let dx = input_gradient(&normalised.z, saved.output_shape(), saved.weight.storage(), saved.layer);
            grads.register::<Flex>(node.id, nchw(dx, saved.shape));
        }
        if let Some(node) = weight {
            let dw = weight_gradient(saved.x.storage(), &normalised.z, saved.shape, saved.layer);
            grads.register::<Flex>(node.id, kernel(dw, saved.layer));
        }
        for (node, values) in [(gamma, normalised.gamma), (beta, normalised.beta)] {
            if let Some(node) = node {
                let length = values.len();
                grads.register::<Flex>(node.id, FlexTensor::from_data(TensorData::new(values, [length])));
            }
        }
    }
}

#[derive(Debug)]
struct ConvSameGradient;

impl Backward<Flex, 2> for ConvSameGradient {
    type State = (FlexTensor, FlexTensor, usize);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (x, weight, dilation) = ops.state;
        let (shape, layer) = geometry(&x, &weight, dilation);
        let [x_node, weight_node] = ops.parents;
        if let Some(node) = x_node {
            let output_shape = shape.with_channels(layer.outputs);
            let dx = input_gradient(gradient.storage(), output_shape, weight.storage(), layer);
            grads.register::<Flex>(node.id, nchw(dx, shape));
        }
        if let Some(node) = weight_node {
            let dw = weight_gradient(x.storage(), gradient.storage(), shape, layer);
            grads.register::<Flex>(node.id, kernel(dw, layer));
        }
    }
}

fn geometry(x: &FlexTensor, weight: &FlexTensor, dilation: usize) -> (Planes, Convolution) {
    let (x, weight) = (x.layout().shape(), weight.layout().shape());
    let shape = Planes { images: x[0], channels: x[1], size: Size::new(x[3], x[2]) };
    (shape, Convolution { outputs: weight[0], inputs: weight[1], kernel: weight[2], dilation })
}

fn nchw(values: Vec<f32>, shape: Planes) -> FlexTensor {
    let Size { width_px, height_px } = shape.size;
    FlexTensor::from_data(TensorData::new(values, [shape.images, shape.channels, height_px, width_px]))
}

fn kernel(values: Vec<f32>, layer: Convolution) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, [layer.outputs, layer.inputs, layer.kernel, layer.kernel]))
}
