//! Weights from PyTorch's order into panels that products read in sequence, and back.

use super::Convolution;
use super::scratch::Shared;
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::{Path, run_on};
use rayon::prelude::*;

/// Inputs that are turned from one order into the other before the next: their lines stay in the first cache.
const BLOCK: usize = 8;

/// A weight `[outputs, inputs, taps]` seen as the matrix of one direction: columns are the channels that come out,
/// rows those that are summed over.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    weight: &'a [f32],
    pub(super) columns: usize,
    pub(super) rows: usize,
    /// Distance between neighbouring columns.
    column: usize,
    /// Distance between neighbouring rows.
    row: usize,
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

    /// Where a row of a panel begins: its first column's first tap.
    #[inline(always)]
    pub(super) fn row_start(&self, row: usize, panel: Panel) -> *const f32 {
        self.weight[panel.first() * self.column + row * self.row..].as_ptr()
    }

    /// Every panel: `[panels, taps, rows, panel]`.
    pub(super) fn pack_all(self, path: Path, taps: &[usize], packed: &mut [f32]) {
        if packed.is_empty() {
            return;
        }
        let width = path.panel();
        packed.par_chunks_mut(taps.len() * self.rows * width).enumerate().for_each(|(index, packed)| {
            pack(path, &self, taps, Panel { index, width }, packed);
        });
    }
}

run_on!(fn pack = pack_kernel(matrix: &Matrix<'_>, taps: &[usize], panel: Panel, packed: &mut [f32]));

/// Some taps of all rows of one panel: `packed` is `[taps, rows, panel]`. Columns that do not exist repeat the last
/// one; nobody reads their sums.
///
/// # Safety
/// The instruction set of `V` must be there.
#[inline(always)]
unsafe fn pack_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    matrix: &Matrix<'_>,
    taps: &[usize],
    panel: Panel,
    packed: &mut [f32],
) {
    assert!(packed.len() >= taps.len() * matrix.rows * panel.width && panel.width == VECTORS * V::LANES);
    assert!(taps.iter().all(|&tap| tap < matrix.taps));
    let offsets = column_offsets::<V, VECTORS>(matrix, panel);
    for row in 0..matrix.rows {
        let from = matrix.row_start(row, panel);
        for (t, &tap) in taps.iter().enumerate() {
            for v in 0..VECTORS {
                // SAFETY: the offsets lead to columns that exist; the panel's row lies below the length asserted above.
                unsafe {
                    let to = packed.as_mut_ptr().add((t * matrix.rows + row) * panel.width + v * V::LANES);
                    V::gather(from.add(tap), &offsets[v]).store(to);
                }
            }
        }
    }
}

/// How far the columns of a panel lie from its first; columns that do not exist lie where the last one does.
#[inline(always)]
pub(super) fn column_offsets<V: Arithmetic, const VECTORS: usize>(
    matrix: &Matrix<'_>,
    panel: Panel,
) -> [[i32; 16]; VECTORS] {
    let last = panel.columns(matrix.columns) - 1;
    assert!(last * matrix.column <= i32::MAX as usize);
    let mut offsets = [[0; 16]; VECTORS];
    for v in 0..VECTORS {
        for lane in 0..V::LANES {
            offsets[v][lane] = ((v * V::LANES + lane).min(last) * matrix.column) as i32;
        }
    }
    offsets
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
pub(super) unsafe fn unpack(
    sums: &[f32],
    layer: Convolution,
    inputs: std::ops::Range<usize>,
    panel: Panel,
    to: Shared,
) {
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
                    *into =
                        unsafe { *sums.get_unchecked((tap * count + first + input) * panel.width + lane) };
                }
            }
        }
    }
}
