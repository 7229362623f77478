//! The two products of matrices that every convolution here is made of.
//!
//! `rows × panel`: accumulators of some rows (pixels or tiles) and one panel of output channels stay in registers while
//! one float of each row is broadcast against the panel's weights: 14 × 2 registers with AVX-512, where 16 loads feed
//! 28 multiply-adds. `columns × panel` does the same with the sum over pixels: the weight gradient.

use super::Activation;
use crate::network::vector::arithmetic::Arithmetic;
use crate::network::vector::run_on;

/// What happens to the sums of one panel before they are stored.
#[derive(Clone, Copy)]
pub(super) struct Finish<'a> {
    /// One bias for each column of the panel.
    pub(super) bias: Option<&'a [f32]>,
    /// What is added, at the same places as the output.
    pub(super) residual: Option<*const f32>,
    pub(super) activation: Activation,
}

impl Finish<'_> {
    pub(super) const NOTHING: Self = Finish { bias: None, residual: None, activation: Activation::None };
}

/// Making one is the promise that all places lie in their tensors, and that no other task touches those of the output.
///
/// `output[to[r]][column] = Σ base[rows[r] + k] · weight[k][column]`, over each `k` of each run.
pub(super) struct RowsProduct<'a> {
    pub(super) base: *const f32,
    /// Where each row begins, from `base` on.
    pub(super) rows: &'a [usize],
    /// Where the stretches of a row that are multiplied begin, from the row on.
    pub(super) runs: &'a [usize],
    /// Length of each stretch.
    pub(super) run: usize,
    /// `[runs × run, panel]`.
    pub(super) weight: *const f32,
    pub(super) output: *mut f32,
    /// Where each row of the output begins, from `output` on.
    pub(super) to: &'a [usize],
    /// Columns that exist, at most the panel.
    pub(super) columns: usize,
    /// Whether the sums are added to what the output holds; then all columns of the panel exist.
    pub(super) accumulate: bool,
    pub(super) finish: Finish<'a>,
}

impl RowsProduct<'_> {
    /// Whether whole rows of the panel are stored as they are.
    #[inline(always)]
    fn is_plain(&self, panel: usize) -> bool {
        let finish = self.finish;
        let nothing =
            finish.bias.is_none() && finish.residual.is_none() && finish.activation == Activation::None;
        nothing && self.columns == panel
    }
}

/// Instantiates `$kernel` for the number of rows, which is at most `V::ROWS`.
macro_rules! for_rows {
    ($V:ident, $VECTORS:ident, $rows:expr, $kernel:ident($($argument:expr),*)) => {
        for_rows!(@arms $V, $VECTORS, $rows, $kernel($($argument),*), 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    (@arms $V:ident, $VECTORS:ident, $rows:expr, $kernel:ident $arguments:tt, $($count:literal)*) => {
        match $rows {
            $($count if $count <= $V::ROWS => for_rows!(@call $kernel, $V, $count, $VECTORS, $arguments),)*
            _ => unreachable!("rows come in groups that fit the registers"),
        }
    };
    (@call $kernel:ident, $V:ident, $count:literal, $VECTORS:ident, ($($argument:expr),*)) => {
        $kernel::<$V, $count, $VECTORS>($($argument),*)
    };
}

run_on!(pub(super) fn multiply_rows = multiply_rows_kernel(product: &RowsProduct<'_>));

/// # Safety
/// The instruction set of `V` must be there; the product's places must lie in its tensors, and no other task may
/// write those of the output.
#[inline(always)]
unsafe fn multiply_rows_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    product: &RowsProduct<'_>,
) {
    let mut first = 0;
    // Groups of nearly the same size: 64 rows are 13 + 13 + 13 + 13 + 12, not 14 × 4 and a slow 8.
    let mut groups = product.rows.len().div_ceil(V::ROWS);
    while groups > 0 {
        let rows = (product.rows.len() - first).div_ceil(groups);
        unsafe { for_rows!(V, VECTORS, rows, rows_block(product, first)) };
        first += rows;
        groups -= 1;
    }
}

#[inline(always)]
unsafe fn rows_block<V: Arithmetic, const ROWS: usize, const VECTORS: usize>(
    product: &RowsProduct<'_>,
    first: usize,
) {
    unsafe {
        let mut rows = [product.base; ROWS];
        for r in 0..ROWS {
            rows[r] = product.base.add(*product.rows.get_unchecked(first + r));
        }
        let mut sums = [[V::zero(); VECTORS]; ROWS];
        if product.accumulate {
            for r in 0..ROWS {
                let from = product.output.add(*product.to.get_unchecked(first + r));
                for v in 0..VECTORS {
                    sums[r][v] = V::load(from.add(v * V::LANES));
                }
            }
        }
        let mut weight = product.weight;
        for &start in product.runs {
            for k in start..start + product.run {
                let mut panel = [V::zero(); VECTORS];
                for v in 0..VECTORS {
                    panel[v] = V::load(weight.add(v * V::LANES));
                }
                for r in 0..ROWS {
                    let factor = V::splat(*rows[r].add(k));
                    for v in 0..VECTORS {
                        sums[r][v] = sums[r][v].plus_product(factor, panel[v]);
                    }
                }
                weight = weight.add(VECTORS * V::LANES);
            }
        }
        if product.is_plain(VECTORS * V::LANES) {
            for r in 0..ROWS {
                let to = product.output.add(*product.to.get_unchecked(first + r));
                for v in 0..VECTORS {
                    sums[r][v].store(to.add(v * V::LANES));
                }
            }
            return;
        }
        // Through memory: a long loop over `sums` is not unrolled, and would keep them there all the time.
        let mut buffer = [[0.0f32; 32]; ROWS];
        for r in 0..ROWS {
            for v in 0..VECTORS {
                sums[r][v].store(buffer[r].as_mut_ptr().add(v * V::LANES));
            }
        }
        for r in 0..ROWS {
            finish_row::<V, VECTORS>(&buffer[r], product, *product.to.get_unchecked(first + r));
        }
    }
}

#[inline(always)]
unsafe fn finish_row<V: Arithmetic, const VECTORS: usize>(
    sums: &[f32; 32],
    product: &RowsProduct<'_>,
    to: usize,
) {
    unsafe {
        for first in (0..product.columns).step_by(V::LANES) {
            let columns = product.columns - first;
            let sum = finish(V::load(sums.as_ptr().add(first)), product.finish, first, to, columns);
            store(sum, product.output.add(to + first), columns);
        }
    }
}

/// Stores as many lanes as there are columns.
#[inline(always)]
pub(super) unsafe fn store<V: Arithmetic>(vector: V, to: *mut f32, columns: usize) {
    unsafe { if columns >= V::LANES { vector.store(to) } else { vector.store_first(to, columns) } }
}

/// Loads as many lanes as there are columns, zero beyond them.
#[inline(always)]
pub(super) unsafe fn load<V: Arithmetic>(from: *const f32, columns: usize) -> V {
    unsafe { if columns >= V::LANES { V::load(from) } else { V::load_first(from, columns) } }
}

/// Bias, residual and activation of the lanes from column `first` of the panel on, whose row lies at `to`.
#[inline(always)]
pub(super) unsafe fn finish<V: Arithmetic>(
    mut sum: V,
    finish: Finish<'_>,
    first: usize,
    to: usize,
    columns: usize,
) -> V {
    unsafe {
        if let Some(bias) = finish.bias {
            sum = sum.add(load(bias.as_ptr().add(first), columns));
        }
        if let Some(residual) = finish.residual {
            sum = sum.add(load(residual.add(to + first), columns));
        }
        match finish.activation {
            Activation::None => sum,
            Activation::Relu => sum.max(V::zero()),
            Activation::Elu => sum.elu(),
        }
    }
}

/// Making one is the promise that all places lie in their tensors, and that no other task touches those of the output.
///
/// `output[column][lane] (+)= Σ left[left_at[k] + column] · right[right_at[k] + lane]`, over the steps `k`.
pub(super) struct ColumnsProduct<'a> {
    pub(super) left: *const f32,
    pub(super) left_at: &'a [usize],
    pub(super) right: *const f32,
    pub(super) right_at: &'a [usize],
    /// Columns of the left factor: rows of the output.
    pub(super) columns: usize,
    /// Lanes of the right factor that exist, at most the panel.
    pub(super) lanes: usize,
    /// `[columns, panel]`, zero in lanes that do not exist.
    pub(super) output: *mut f32,
    /// Whether the sums are added to what the output holds.
    pub(super) accumulate: bool,
}

run_on!(pub(super) fn multiply_columns = multiply_columns_kernel(product: &ColumnsProduct<'_>));

/// # Safety
/// As for `multiply_rows_kernel`.
#[inline(always)]
unsafe fn multiply_columns_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    product: &ColumnsProduct<'_>,
) {
    assert!(product.left_at.len() <= product.right_at.len());
    let whole = product.lanes == V::LANES * VECTORS;
    let mut first = 0;
    let mut groups = product.columns.div_ceil(V::ROWS);
    while groups > 0 {
        let columns = (product.columns - first).div_ceil(groups);
        unsafe {
            if whole {
                for_rows!(V, VECTORS, columns, columns_block(product, first))
            } else {
                for_rows!(V, VECTORS, columns, partial_columns_block(product, first))
            }
        };
        first += columns;
        groups -= 1;
    }
}

#[inline(always)]
unsafe fn columns_block<V: Arithmetic, const COLUMNS: usize, const VECTORS: usize>(
    product: &ColumnsProduct<'_>,
    first: usize,
) {
    unsafe { columns_sums::<V, COLUMNS, VECTORS, true>(product, first) }
}

#[inline(always)]
unsafe fn partial_columns_block<V: Arithmetic, const COLUMNS: usize, const VECTORS: usize>(
    product: &ColumnsProduct<'_>,
    first: usize,
) {
    unsafe { columns_sums::<V, COLUMNS, VECTORS, false>(product, first) }
}

#[inline(always)]
unsafe fn columns_sums<V: Arithmetic, const COLUMNS: usize, const VECTORS: usize, const WHOLE: bool>(
    product: &ColumnsProduct<'_>,
    first: usize,
) {
    unsafe {
        let output = product.output.add(first * VECTORS * V::LANES);
        let mut sums = [[V::zero(); VECTORS]; COLUMNS];
        if product.accumulate {
            for c in 0..COLUMNS {
                for v in 0..VECTORS {
                    sums[c][v] = V::load(output.add((c * VECTORS + v) * V::LANES));
                }
            }
        }
        let left = product.left.add(first);
        for k in 0..product.left_at.len() {
            let from = left.add(*product.left_at.get_unchecked(k));
            let right = product.right.add(*product.right_at.get_unchecked(k));
            let mut panel = [V::zero(); VECTORS];
            for v in 0..VECTORS {
                let place = v * V::LANES;
                if WHOLE {
                    panel[v] = V::load(right.add(place));
                } else if place < product.lanes {
                    panel[v] = load(right.add(place), product.lanes - place);
                }
            }
            for c in 0..COLUMNS {
                let factor = V::splat(*from.add(c));
                for v in 0..VECTORS {
                    sums[c][v] = sums[c][v].plus_product(factor, panel[v]);
                }
            }
        }
        for c in 0..COLUMNS {
            for v in 0..VECTORS {
                sums[c][v].store(output.add((c * VECTORS + v) * V::LANES));
            }
        }
    }
}

run_on!(pub(super) fn sum_rows = sum_rows_kernel(
    values: *const f32,
    rows: &[usize],
    columns: usize,
    sums: &mut [f32],
));

/// Sums of a panel's columns and of their squares, `[2, panel]`, over rows that have just been stored.
///
/// # Safety
/// The instruction set of `V` must be there; `columns` floats must lie at each row, and no task may write them.
#[inline(always)]
unsafe fn sum_rows_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    values: *const f32,
    rows: &[usize],
    columns: usize,
    sums: &mut [f32],
) {
    assert!(sums.len() == 2 * VECTORS * V::LANES);
    unsafe {
        let mut sum = [[V::zero(); VECTORS]; 2];
        for &row in rows {
            for v in 0..VECTORS {
                let place = v * V::LANES;
                if place < columns {
                    let value: V = load(values.add(row + place), columns - place);
                    sum[0][v] = sum[0][v].add(value);
                    sum[1][v] = sum[1][v].plus_product(value, value);
                }
            }
        }
        for i in 0..2 {
            for v in 0..VECTORS {
                sum[i][v].store(sums.as_mut_ptr().add((i * VECTORS + v) * V::LANES));
            }
        }
    }
}

run_on!(pub(super) fn copy_columns = copy_columns_kernel(
    from: *const f32,
    rows: &[usize],
    columns: usize,
    to: &mut [f32],
));

/// `to[row][column] = from[rows[row] + column]`, with rows of 16 in `to`.
///
/// # Safety
/// The instruction set of `V` must be there; `columns` floats, at most 16, must lie at each row.
#[inline(always)]
unsafe fn copy_columns_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
    from: *const f32,
    rows: &[usize],
    columns: usize,
    to: &mut [f32],
) {
    assert!(to.len() >= rows.len() * 16 && columns <= 16);
    for (index, &row) in rows.iter().enumerate() {
        for first in (0..columns).step_by(V::LANES) {
            // SAFETY: the caller's columns are read, and the lanes written end within the row's 16 floats.
            unsafe {
                let values = V::load_first(from.add(row + first), columns - first);
                values.store(to.as_mut_ptr().add(index * 16 + first));
            }
        }
    }
}
