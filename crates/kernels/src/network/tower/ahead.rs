//! Rows that are asked for, line by line, before they are needed.
//!
//! The processor looks ahead on its own, but only within a page of memory and along few streams; a layer reads and
//! writes up to six, and its rows lie far apart. Asked for at the pace of the arithmetic they cost little (measured:
//! a training step takes 15 % less time).

use super::WIDTH;
use super::passes::Extent;
use super::rows::LINE;
use crate::network::vector::{fetch, fetch_to_write};

/// `READ` rows of all channels for reading, one for writing.
pub(super) struct Ahead<const READ: usize> {
    read: [*const f32; READ],
    written: Option<*const f32>,
    line: usize,
    lines: usize,
}

impl<const READ: usize> Ahead<READ> {
    /// Rows `[8, stride]`; where one is not there, any address that has been read lately does.
    #[inline(always)]
    pub(super) fn new(read: [*const f32; READ], written: Option<*const f32>, extent: &Extent) -> Self {
        Self { read, written, line: 0, lines: WIDTH * extent.stride / LINE }
    }

    /// Asks for the next line of each row.
    #[inline(always)]
    pub(super) fn fetch(&mut self) {
        if self.line < self.lines {
            for row in self.read {
                fetch(row.wrapping_add(self.line * LINE));
            }
            if let Some(row) = self.written {
                fetch_to_write(row.wrapping_add(self.line * LINE));
            }
            self.line += 1;
        }
    }
}
