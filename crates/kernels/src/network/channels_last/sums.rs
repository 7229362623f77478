//! Sums over the pixels of an output, made on the way to batch norm's mean and variance.

use super::ChannelSums;
use super::scratch::{Shared, with_scratch};

/// Where tasks leave the sums of their blocks: `[blocks, panels, 2, panel]` in single precision. A block is a fixed set
/// of pixels, so the order of additions never depends on the number of threads.
#[derive(Clone, Copy)]
pub(super) struct BlockSums {
    values: Shared,
    panels: usize,
    width: usize,
}

impl BlockSums {
    /// Calls `work` with room for the sums of all blocks, if sums are wanted, and adds them in double precision.
    pub(super) fn collect(
        wanted: Option<&mut [ChannelSums]>,
        blocks: usize,
        width: usize,
        work: impl FnOnce(Option<BlockSums>),
    ) {
        let Some(sums) = wanted else {
            return work(None);
        };
        let panels = sums.len().div_ceil(width);
        with_scratch(blocks * panels * 2 * width, |values| {
            work(Some(BlockSums { values: Shared::new(values), panels, width }));
            sums.fill(ChannelSums::default());
            for block in 0..blocks {
                for (channel, sum) in sums.iter_mut().enumerate() {
                    let at = (block * panels + channel / width) * 2 * width + channel % width;
                    sum.values += f64::from(values[at]);
                    sum.squares += f64::from(values[at + width]);
                }
            }
        });
    }

    /// The sums of one block and panel.
    ///
    /// # Safety
    /// Only one task may take a block's panel.
    pub(super) unsafe fn of<'a>(self, block: usize, panel: usize) -> &'a mut [f32] {
        // SAFETY: block and panel lie in the room; the caller promises that they are its own.
        unsafe { self.values.slice((block * self.panels + panel) * 2 * self.width, 2 * self.width) }
    }
}
