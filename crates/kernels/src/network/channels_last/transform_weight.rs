//! The transforms of Winograd's F(4×4, 3×3) for weights and their gradients, with outputs as lanes.

use super::pack::{Matrix, Panel, column_offsets};
use super::transform::POINTS;
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::run_on;
use crate::network::winograd_line::{weight_line, weight_sums_line};
use std::ops::Range;

run_on!(pub(super) fn transform_weight = transform_weight_kernel(
    matrix: &Matrix<'_>,
    rows: Range<usize>,
    panel: Panel,
    to: &mut [f32],
));

/// Rows of one panel of a 3×3 weight to `[36, rows, panel]`. Columns that do not exist repeat the last one; nobody
/// reads their sums.
///
/// # Safety
/// The instruction set of `V` must be there.
#[inline(always)]
unsafe fn transform_weight_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    matrix: &Matrix<'_>,
    rows: Range<usize>,
    panel: Panel,
    to: &mut [f32],
) {
    let point = rows.len() * panel.width;
    assert!(to.len() >= POINTS * point && panel.width == VECTORS * V::LANES);
    let offsets = column_offsets::<V, VECTORS>(matrix, panel);
    for (index, row) in rows.enumerate() {
        let from = matrix.row_start(row, panel);
        for v in 0..VECTORS {
            // SAFETY: the offsets lead to columns that exist, each with 9 taps.
            unsafe {
                let mut values = [[V::zero(); 3]; 6];
                for j in 0..3 {
                    let mut column = [V::zero(); 3];
                    for i in 0..3 {
                        let tap = if matrix.turned { 8 - (i * 3 + j) } else { i * 3 + j };
                        column[i] = V::gather(from.add(tap), &offsets[v]);
                    }
                    let column = weight_line(column);
                    for i in 0..6 {
                        values[i][j] = column[i];
                    }
                }
                let to = to.as_mut_ptr().add(index * panel.width + v * V::LANES);
                for i in 0..6 {
                    let line = weight_line(values[i]);
                    for j in 0..6 {
                        line[j].store(to.add((i * 6 + j) * point));
                    }
                }
            }
        }
    }
}

run_on!(pub(super) fn transform_weight_sums = transform_weight_sums_kernel(
    from: &[f32],
    rows: usize,
    to: &mut [f32],
));

/// The adjoint of `transform_weight`: `[36, rows, panel]` to `[9, rows, panel]`.
///
/// # Safety
/// The instruction set of `V` must be there.
#[inline(always)]
unsafe fn transform_weight_sums_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    from: &[f32],
    rows: usize,
    to: &mut [f32],
) {
    let stride = rows * V::LANES * VECTORS;
    assert!(from.len() >= POINTS * stride && to.len() >= 9 * stride);
    for first in (0..stride).step_by(V::LANES) {
        unsafe {
            let mut values = [[V::zero(); 6]; 3];
            for j in 0..6 {
                let mut column = [V::zero(); 6];
                for i in 0..6 {
                    column[i] = V::load(from.as_ptr().add((i * 6 + j) * stride + first));
                }
                let column = weight_sums_line(column);
                for i in 0..3 {
                    values[i][j] = column[i];
                }
            }
            for i in 0..3 {
                let line = weight_sums_line(values[i]);
                for j in 0..3 {
                    line[j].store(to.as_mut_ptr().add((i * 3 + j) * stride + first));
                }
            }
        }
    }
}
