//! A picture in strips of columns: what goes down the columns works in each on its own, in place.

/// Columns of a strip, at least, of however many threads: a few cache lines.
const NARROWEST_STRIP_PX: usize = 64;

/// How wide strips are that all threads have one of, but no wider than `widest_px`.
pub(crate) fn strip_px(width_px: usize, widest_px: usize) -> usize {
    width_px.div_ceil(rayon::current_num_threads()).next_multiple_of(NARROWEST_STRIP_PX).min(widest_px)
}

/// The rows of each strip of `strip_px` columns, the last of which may be narrower: strips by rows by columns.
///
/// # Panics
/// If a strip has no columns.
pub(crate) fn strips<T>(values: &mut [T], width_px: usize, strip_px: usize) -> Vec<Vec<&mut [T]>> {
    assert!(strip_px > 0, "a strip has columns");
    debug_assert!(values.len().is_multiple_of(width_px.max(1)), "rows are whole");
    let rows = values.len() / width_px.max(1);
    let mut strips: Vec<Vec<&mut [T]>> =
        (0..width_px.div_ceil(strip_px)).map(|_| Vec::with_capacity(rows)).collect();
    for row in values.chunks_exact_mut(width_px.max(1)) {
        strips.iter_mut().zip(row.chunks_mut(strip_px)).for_each(|(strip, part)| strip.push(part));
    }
    strips
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pixel_is_in_one_strip() {
        for (width, height, strip) in [(7, 3, 3), (6, 2, 3), (1, 4, 9), (5, 0, 2), (0, 0, 1)] {
            let mut values = vec![0; width * height];
            for (index, strip) in strips(&mut values, width, strip).into_iter().enumerate() {
                assert_eq!(strip.len(), height);
                strip.into_iter().flatten().for_each(|value| *value += 1 + index);
            }
            let expected: Vec<usize> = (0..width * height).map(|at| 1 + at % width / strip).collect();
            assert_eq!(values, expected, "{width} x {height} px in strips of {strip}");
        }
    }
}
