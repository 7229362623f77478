//! Rows that are asked for, line by line, before they are needed.
//!
//! The processor looks ahead on its own along a row, but not from the pixels of one channel to the same pixels of the next,
//! which is how a convolution's results leave: what they meet on their way is asked for while they are multiplied.

use super::WIDTH;
use super::groups::{FourRows, GROUP, Tile};
use super::rows::LINE;
use crate::network::vector::fetch;

/// A group's rows in each of `STREAMS` maps that its results meet.
pub(super) struct Beside<const STREAMS: usize> {
    rows: [FourRows; STREAMS],
    /// From a channel to the next.
    stride: usize,
}

impl<const STREAMS: usize> Beside<STREAMS> {
    /// Rows `[8, stride]`.
    #[inline(always)]
    pub(super) fn new(rows: [FourRows; STREAMS], stride: usize) -> Self {
        Self { rows, stride }
    }

    /// Asks for one turn's share in what a tile meets.
    #[inline(always)]
    pub(super) fn fetch(&self, tile: Tile, turn: usize) {
        let lines = tile.wide / LINE;
        let all = WIDTH * GROUP * lines;
        let share = all.div_ceil(tile.turns);
        for index in turn * share..((turn + 1) * share).min(all) {
            let (output, row, line) = (index / (GROUP * lines), index / lines % GROUP, index % lines);
            let at = output * self.stride + tile.x + line * LINE;
            for rows in self.rows {
                fetch(rows[row].wrapping_add(at));
            }
        }
    }
}
