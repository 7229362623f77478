//! Vectors that lie anywhere in a table, times all columns of a matrix: what k-means asks of the products here.

use super::pack::{Matrix, Panel};
use super::product::{Finish, RowsProduct, multiply_rows};
use super::{Activation, Convolution};
use crate::network::vector::Path;

/// Rows that are multiplied at a time: 8 groups of the widest kernel's 14, which stay in the caches with their panel.
pub(crate) const ROWS: usize = 112;

/// Columns in the order in which products read them.
pub(crate) struct Columns {
    path: Path,
    count: usize,
    depth: usize,
    /// `[panels][depth][panel]`.
    packed: Vec<f32>,
}

impl Columns {
    /// `columns` is `[count][depth]`.
    ///
    /// # Panics
    /// When these are not whole columns, or there are none.
    pub(crate) fn new(columns: &[f32], depth: usize) -> Self {
        assert!(depth > 0 && !columns.is_empty() && columns.len().is_multiple_of(depth), "whole columns");
        let (path, count) = (Path::best(), columns.len() / depth);
        let mut packed = vec![0.0; count.div_ceil(path.panel()) * depth * path.panel()];
        Matrix::forward(columns, Convolution::new(depth, count, 1)).pack_all(path, &[0], &mut packed);
        Self { path, count, depth, packed }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// `products[i][column] = Σ table[rows[i]][k] · columns[column][k] + bias[column]`, on this thread.
    ///
    /// # Panics
    /// When a row lies beyond the table, or there are more than [`ROWS`], or the products have no room.
    pub(crate) fn multiply(&self, table: &[f32], rows: &[u32], bias: &[f32], products: &mut [f32]) {
        let (mut from, mut to) = ([0; ROWS], [0; ROWS]);
        for (index, row) in rows.iter().enumerate() {
            from[index] = *row as usize * self.depth;
            to[index] = index * self.count;
            assert!(from[index] + self.depth <= table.len(), "a row of the table");
        }
        assert!(
            products.len() >= rows.len() * self.count && bias.len() == self.count,
            "room for each product"
        );
        let width = self.path.panel();
        for (index, weight) in self.packed.chunks_exact(self.depth * width).enumerate() {
            let panel = Panel { index, width };
            let columns = panel.columns(self.count);
            let product = RowsProduct {
                base: table.as_ptr(),
                rows: &from[..rows.len()],
                runs: &[0],
                run: self.depth,
                weight: weight.as_ptr(),
                output: products[panel.first()..].as_mut_ptr(),
                to: &to[..rows.len()],
                columns,
                accumulate: false,
                finish: Finish {
                    bias: Some(&bias[panel.first()..][..columns]),
                    residual: None,
                    activation: Activation::None,
                },
            };
            multiply_rows(self.path, &product);
        }
    }
}
