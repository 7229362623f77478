//! What the queries have in common: prototypes of highest cosine, means over squares of cells.

use crate::tissue::dictionary::Dictionary;
use crate::tissue::encoder::CellMap;
use microtome_kernels::Size;
use rayon::prelude::*;

/// The place of the highest of each row of cosines, `[vectors][prototypes]`, and that cosine.
pub(super) fn highest(cosines: &[f32], prototypes: usize) -> (Vec<usize>, Vec<f32>) {
    let of = |row: &[f32]| {
        let best = (0..row.len()).fold(0, |best, next| if row[next] > row[best] { next } else { best });
        (best, row[best])
    };
    cosines.chunks_exact(prototypes).map(of).unzip()
}

/// The classes of prototypes.
pub(super) fn classes_of(dictionary: &Dictionary, prototypes: &[usize]) -> Vec<u8> {
    prototypes.iter().map(|prototype| dictionary.prototypes[*prototype].class as u8).collect()
}

/// The mean vector of the squares of `2 · reach + 1` cells around each cell that is `reach` cells from the border: a map that is
/// smaller by `reach` on each side.
pub(super) fn means_of_squares(cells: &CellMap, reach: usize) -> CellMap {
    if reach == 0 {
        return cells.clone();
    }
    let (size, dimensions) = (cells.size, cells.dimensions);
    let width = size.width_px - 2 * reach;
    let across = Size::new(width, size.height_px);
    let side = 2 * reach + 1;
    // Along rows, then along columns; sums are short, so that each is added up anew and nothing drifts.
    let mut along_rows = vec![0.0; across.area_px() * dimensions];
    along_rows.par_chunks_exact_mut(width * dimensions).enumerate().for_each(|(row, sums)| {
        let from = &cells.values[size.index(0, row) * dimensions..][..size.width_px * dimensions];
        for step in 0..side {
            let moved = &from[step * dimensions..][..width * dimensions];
            sums.iter_mut().zip(moved).for_each(|(sum, value)| *sum += value);
        }
    });
    let height = size.height_px - 2 * reach;
    let mut values = vec![0.0; width * height * dimensions];
    let scale = 1.0 / (side * side) as f32;
    values.par_chunks_exact_mut(width * dimensions).enumerate().for_each(|(row, sums)| {
        for step in 0..side {
            let moved = &along_rows[(row + step) * width * dimensions..][..width * dimensions];
            sums.iter_mut().zip(moved).for_each(|(sum, value)| *sum += value);
        }
        sums.iter_mut().for_each(|sum| *sum *= scale);
    });
    CellMap { size: Size::new(width, height), values, ..*cells }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_those_of_the_squares() {
        let size = Size::new(7, 6);
        let values: Vec<f32> = (0..size.area_px() * 2).map(|at| (at * 31 % 17) as f32).collect();
        let cells = CellMap { size, stride_px: 8, dimensions: 2, values };
        let means = means_of_squares(&cells, 2);
        assert_eq!(means.size, Size::new(3, 2));
        for (x, y, value) in [(0, 0, 0), (2, 1, 1), (1, 0, 1)] {
            let sum: f32 = (y..y + 5)
                .flat_map(|row| (x..x + 5).map(move |column| (column, row)))
                .map(|(column, row)| cells.values[size.index(column, row) * 2 + value])
                .sum();
            assert!((means.values[means.size.index(x, y) * 2 + value] - sum / 25.0).abs() < 1e-5);
        }
        assert_eq!(means_of_squares(&cells, 0), cells);
    }
}
