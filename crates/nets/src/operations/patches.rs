//! Patches cut out of maps, with a gradient that is added back where they were cut.

use super::{extent, tensor};
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn_flex::FlexTensor;

/// Square patches of maps, each given by where its first pixel lies in the flat maps.
#[derive(Clone, Debug)]
pub(crate) struct Patches {
    /// Of each patch, `[patches]`.
    pub(crate) starts: Vec<usize>,
    /// Side of a patch, in pixels.
    pub(crate) side_px: usize,
    /// Width of the maps, in pixels.
    pub(crate) width_px: usize,
}

impl Patches {
    /// Where each row of each patch begins, in order.
    fn rows(&self) -> impl Iterator<Item = usize> {
        let (side_px, width_px) = (self.side_px, self.width_px);
        self.starts.iter().flat_map(move |start| (0..side_px).map(move |y| start + y * width_px))
    }

    fn cut(&self, maps: &[f32]) -> Vec<f32> {
        let mut patches = Vec::with_capacity(self.starts.len() * self.side_px * self.side_px);
        self.rows().for_each(|start| patches.extend_from_slice(&maps[start..start + self.side_px]));
        patches
    }

    /// Patches may overlap: their gradients add up, in the order of the patches.
    fn add_back(&self, gradient: &[f32], length: usize) -> Vec<f32> {
        let mut maps = vec![0.0; length];
        for (start, row) in self.rows().zip(gradient.chunks_exact(self.side_px.max(1))) {
            let sums = &mut maps[start..start + self.side_px];
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        maps
    }
}

/// What our own code adds to a backend.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait PatchOps: Backend {
    /// # Shapes
    /// - maps: any; output `[patches, side²]`
    fn cut_patches(maps: FloatTensor<Self>, patches: Patches) -> FloatTensor<Self>;
}

impl PatchOps for Flex {
    fn cut_patches(maps: FlexTensor, patches: Patches) -> FlexTensor {
        let maps = maps.to_contiguous();
        tensor(patches.cut(maps.storage()), [patches.starts.len(), patches.side_px * patches.side_px])
    }
}

impl<C: CheckpointStrategy> PatchOps for Autodiff<Flex, C> {
    fn cut_patches(maps: FloatTensor<Self>, patches: Patches) -> FloatTensor<Self> {
        let node = maps.node();
        let maps = maps.into_primitive();
        let shape = extent(&maps);
        let output = Flex::cut_patches(maps, patches.clone());
        match PatchGradient.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(tracked) => tracked.finish((patches, shape), output),
            OpsKind::UnTracked(untracked) => untracked.finish(output),
        }
    }
}

#[derive(Debug)]
struct PatchGradient;

impl Backward<Flex, 1> for PatchGradient {
    type State = (Patches, [usize; 4]);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (patches, shape) = ops.state;
        if let [Some(node)] = ops.parents {
            let maps = patches.add_back(gradient.storage(), shape.iter().product());
            grads.register::<Flex>(node.id, tensor(maps, shape));
        }
    }
}
