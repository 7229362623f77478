//! Runs of equal values, such as a row of a mask or label map consists of.

use std::ops::Range;

/// The runs that values consist of: where each lies, and its value.
pub fn runs<T: Copy + PartialEq>(values: &[T]) -> impl Iterator<Item = (Range<usize>, T)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let value = *values.get(start)?;
        let run = start..end_of_run(values, start);
        start = run.end;
        Some((run, value))
    })
}

/// Values that are compared at once.
const BLOCK: usize = 16;

/// Where the run of the value at `start` ends.
///
/// # Panics
/// If there is none.
#[inline]
pub fn end_of_run<T: Copy + PartialEq>(values: &[T], start: usize) -> usize {
    let (value, mut end) = (values[start], start + 1);
    // Most of a map is background, in long runs: without a branch a value.
    let is_all = |block: &[T; BLOCK]| block.iter().fold(true, |all, other| all & (*other == value));
    while values[end..].first_chunk().is_some_and(is_all) {
        end += BLOCK;
    }
    end + values[end..].iter().take_while(|other| **other == value).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_as_long_as_their_value_goes_on() {
        for length in 1..70 {
            let ids: Vec<u32> = [(0, 3), (5, length), (0, 1), (5, 16), (2, length)]
                .into_iter()
                .flat_map(|(id, count)| std::iter::repeat_n(id, count))
                .collect();
            let found: Vec<_> = runs(&ids).collect();
            let starts = [0, 3, 3 + length, 4 + length, 20 + length, 20 + 2 * length];
            let expected: Vec<_> = [0, 5, 0, 5, 2]
                .into_iter()
                .enumerate()
                .map(|(i, id)| (starts[i]..starts[i + 1], id))
                .collect();
            assert_eq!(found, expected);
        }
        assert_eq!(runs::<u32>(&[]).count(), 0);
    }
}
