//! Weights from PyTorch's order into panels that products read in sequence, and back.

use super::Convolution;
use super::scratch::Shared;
use rayon::prelude::*;

/// Rows that are turned from one order into the other before the next: their lines stay in the first cache.
const BLOCK: usize = 8;

/// A weight `[outputs, inputs, taps]` seen as the matrix of one direction: columns are the channels that come out,
/// rows those that are summed over.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) weight: &'a [f32],
    pub(super) columns: usize,
    pub(super) rows: usize,
    /// Distance between neighbouring columns.
    pub(super) column: usize,
    /// Distance between neighbouring rows.
    pub(super) row: usize,
    taps: usize,
    /// Whether taps are counted from the last.
    pub(super) turned: bool,
}

impl<'a> Matrix<'a> {
    /// From inputs to outputs.
    pub(super) fn forward(weight: &'a [f32], layer: Convolution) -> Self {
        let taps = layer.kernel * layer.kernel;
        let (columns, rows) = (layer.outputs, layer.inputs);
        Self { weight, columns, rows, column: rows * taps, row: taps, taps, turned: false }
    }

    /// From outputs to inputs.
    pub(super) fn backward(weight: &'a [f32], layer: Convolution) -> Self {
        let taps = layer.kernel * layer.kernel;
        let (columns, rows) = (layer.inputs, layer.outputs);
        Self { weight, columns, rows, column: taps, row: columns * taps, taps, turned: true }
    }

    /// The taps of rows `first_row..` of one panel: `packed` is `[taps, rows, panel]`, zero in columns that do not
    /// exist.
    pub(super) fn pack(self, taps: &[usize], rows: std::ops::Range<usize>, panel: Panel, packed: &mut [f32]) {
        let count = rows.len();
        let columns = panel.columns(self.columns);
        assert!(packed.len() >= taps.len() * count * panel.width && rows.end <= self.rows);
        if columns < panel.width {
            packed.fill(0.0);
        }
        for first in (0..count).step_by(BLOCK) {
            for lane in 0..columns {
                let column = (panel.first() + lane) * self.column;
                for row in first..(first + BLOCK).min(count) {
                    let from = &self.weight[column + (rows.start + row) * self.row..][..self.taps];
                    for (t, &tap) in taps.iter().enumerate() {
                        // SAFETY: t < taps.len(), row < count and lane < width: below the length asserted above.
                        let into = unsafe { packed.get_unchecked_mut((t * count + row) * panel.width + lane) };
                        *into = from[tap];
                    }
                }
            }
        }
    }

    /// Every panel: `[panels, taps, rows, panel]`.
    pub(super) fn pack_all(self, taps: &[usize], width: usize, packed: &mut [f32]) {
        if packed.is_empty() {
            return;
        }
        packed.par_chunks_mut(taps.len() * self.rows * width).enumerate().for_each(|(index, packed)| {
            self.pack(taps, 0..self.rows, Panel { index, width }, packed);
        });
    }
}

/// One panel of columns.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    pub(super) index: usize,
    pub(super) width: usize,
}

impl Panel {
    /// Its first column.
    pub(super) fn first(self) -> usize {
        self.index * self.width
    }

    /// How many of its columns exist.
    pub(super) fn columns(self, all: usize) -> usize {
        (all - self.first()).min(self.width)
    }
}

/// Writes `sums` (`[taps, inputs from first_input on, panel]`) to their places in a weight gradient.
///
/// # Safety
/// No other task may write the panel's outputs at those inputs.
pub(super) unsafe fn unpack(sums: &[f32], layer: Convolution, inputs: std::ops::Range<usize>, panel: Panel, to: Shared) {
    let taps = layer.kernel * layer.kernel;
    let count = inputs.len();
    assert!(sums.len() >= taps * count * panel.width);
    for first in (0..count).step_by(BLOCK) {
        let block = BLOCK.min(count - first);
        for lane in 0..panel.columns(layer.outputs) {
            let start = ((panel.first() + lane) * layer.inputs + inputs.start + first) * taps;
            // SAFETY: these are weights of an output and inputs that exist; the caller promises that they are its own.
            let into = unsafe { to.slice(start, block * taps) };
            for (input, into) in into.chunks_exact_mut(taps).enumerate() {
                for (tap, into) in into.iter_mut().enumerate() {
                    // SAFETY: tap < taps, first + input < count and lane < width: below the length asserted above.
                    *into = unsafe { *sums.get_unchecked((tap * count + first + input) * panel.width + lane) };
                }
            }
        }
    }
}
