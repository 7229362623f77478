//! Which residual network: its stem, its stages, its blocks.

use microtome_kernels::network::channels_last::Convolution;

/// A residual network without its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Architecture {
    /// What it is called.
    pub name: &'static str,
    /// The first convolution, of stride 2.
    pub(crate) stem: Convolution,
    /// Whether the highest of each 3×3 values, two apart, follows the stem.
    pub(crate) is_pooled: bool,
    /// Whether blocks are of three convolutions, the outer two 1×1 (He et al. 2016, figure 5 right).
    pub(crate) is_bottleneck: bool,
    pub(crate) stages: [Stage; 4],
}

/// Blocks of one extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stage {
    pub(crate) channels: usize,
    pub(crate) blocks: usize,
    pub(crate) stride: usize,
}

/// Channels and stride of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockShape {
    pub(crate) inputs: usize,
    /// Channels of the 3×3 convolution.
    pub(crate) middle: usize,
    pub(crate) outputs: usize,
    pub(crate) stride: usize,
    pub(crate) is_bottleneck: bool,
}

/// How many more channels leave a bottleneck than pass its middle.
const EXPANSION: usize = 4;

const fn stage(channels: usize, blocks: usize, stride: usize) -> Stage {
    Stage { channels, blocks, stride }
}

const fn stem(outputs: usize, kernel: usize) -> Convolution {
    Convolution { inputs: 3, outputs, kernel, stride: 2, padding: kernel / 2, dilation: 1 }
}

const fn torchvision(name: &'static str, is_bottleneck: bool, blocks: [usize; 4]) -> Architecture {
    let stages = [
        stage(64, blocks[0], 1),
        stage(128, blocks[1], 2),
        stage(256, blocks[2], 2),
        stage(512, blocks[3], 2),
    ];
    Architecture { name, stem: stem(64, 7), is_pooled: true, is_bottleneck, stages }
}

impl Architecture {
    /// torchvision's.
    pub const RESNET18: Self = torchvision("resnet18", false, [2, 2, 2, 2]);
    /// torchvision's.
    pub const RESNET34: Self = torchvision("resnet34", false, [3, 4, 6, 3]);
    /// torchvision's.
    pub const RESNET50: Self = torchvision("resnet50", true, [3, 4, 6, 3]);
    /// For processors: a nineteenth of ResNet-18's parameters, cells of 8 pixels that see 71.
    pub const SMALL: Self = Self {
        name: "small",
        stem: stem(32, 3),
        is_pooled: false,
        is_bottleneck: false,
        stages: [stage(64, 1, 2), stage(128, 1, 2), stage(128, 1, 1), stage(128, 0, 1)],
    };
    /// All of them.
    pub const ALL: [Self; 4] = [Self::RESNET18, Self::RESNET34, Self::RESNET50, Self::SMALL];

    /// The architecture of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|architecture| architecture.name == name)
    }

    /// The blocks of each stage.
    pub(crate) fn blocks(self) -> [Vec<BlockShape>; 4] {
        let mut inputs = self.stem.outputs;
        self.stages.map(|stage| {
            let outputs = stage.channels * if self.is_bottleneck { EXPANSION } else { 1 };
            let shapes = (0..stage.blocks).map(|block| {
                let stride = if block == 0 { stage.stride } else { 1 };
                let from = std::mem::replace(&mut inputs, outputs);
                let is_bottleneck = self.is_bottleneck;
                BlockShape { inputs: from, middle: stage.channels, outputs, stride, is_bottleneck }
            });
            shapes.collect()
        })
    }

    /// The deepest level that maps can be taken from: the stages that have blocks.
    pub fn deepest_level(self) -> usize {
        self.stages.iter().filter(|stage| stage.blocks > 0).count()
    }

    /// Channels of the map of a level, 1 to the deepest.
    pub fn channels(self, level: usize) -> usize {
        self.stages[level - 1].channels * if self.is_bottleneck { EXPANSION } else { 1 }
    }

    /// Features of the whole network.
    pub fn features(self) -> usize {
        self.channels(self.deepest_level())
    }

    /// Pixels from one cell of a level's map to the next.
    pub fn stride_px(self, level: usize) -> usize {
        let stem = 2 * if self.is_pooled { 2 } else { 1 };
        stem * self.stages[..level].iter().map(|stage| stage.stride).product::<usize>()
    }

    /// Pixels on each side of a cell's first pixel that it sees, at most.
    pub fn reach_px(self, level: usize) -> usize {
        let (mut reach, mut stride) = (self.stem.padding, 2);
        if self.is_pooled {
            reach += stride;
            stride *= 2;
        }
        for block in self.blocks()[..level].iter().flatten() {
            reach += stride;
            stride *= block.stride;
            reach += if block.is_bottleneck { 0 } else { stride };
        }
        reach
    }
}

impl BlockShape {
    /// The convolutions of the block, in order.
    pub(crate) fn layers(self) -> Vec<Convolution> {
        let Self { inputs, middle, outputs, stride, is_bottleneck } = self;
        match is_bottleneck {
            true => vec![
                pointwise(inputs, middle, 1),
                inner(middle, middle, stride),
                pointwise(middle, outputs, 1),
            ],
            false => vec![inner(inputs, outputs, stride), inner(outputs, outputs, 1)],
        }
    }

    /// The convolution past the block, where it changes the extent.
    pub(crate) fn past(self) -> Option<Convolution> {
        let Self { inputs, outputs, stride, .. } = self;
        (inputs != outputs || stride != 1).then(|| pointwise(inputs, outputs, stride))
    }
}

fn inner(inputs: usize, outputs: usize, stride: usize) -> Convolution {
    Convolution { inputs, outputs, kernel: 3, stride, padding: 1, dilation: 1 }
}

fn pointwise(inputs: usize, outputs: usize, stride: usize) -> Convolution {
    Convolution { inputs, outputs, kernel: 1, stride, padding: 0, dilation: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_those_that_are_published() {
        let of = |a: Architecture| {
            let level = a.deepest_level();
            (a.features(), a.stride_px(level), a.reach_px(level) * 2 + 1)
        };
        // Receptive fields of ResNets as computed by Araujo et al. (2019, Distill): 435, 899 and 427 (stride in the
        // 3×3 convolution, as torchvision has it).
        assert_eq!(of(Architecture::RESNET18), (512, 32, 435));
        assert_eq!(of(Architecture::RESNET34), (512, 32, 899));
        assert_eq!(of(Architecture::RESNET50), (2048, 32, 427));
        assert_eq!(of(Architecture::SMALL), (128, 8, 71));
        assert_eq!(Architecture::RESNET18.stride_px(2), 8);
        assert_eq!(Architecture::RESNET50.channels(3), 1024);
    }
}
