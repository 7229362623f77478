//! The second pass of distances where no background is far: each pixel looks left and right until nothing can be nearer, many
//! pixels at once. Of masks of nuclei that is nearly all there is to do, and faster than envelopes.

#![allow(unsafe_code)] // Vector registers are read and written through pointers; the kernel argues its bounds.

use crate::network::vector::{Path, Vector, run_on};

/// Distances along columns up to which this is done, in pixels: beyond, the work grows with the distance.
const FARTHEST_PX: usize = 32;
/// Squares that are looked at together, at most: the registers of a step.
const BLOCK_PX: usize = 32;

/// Room for the squares of a run.
#[derive(Default)]
pub(super) struct Near {
    squares: Vec<f32>,
}

impl Near {
    /// Replaces the distances along columns of a run of a row by those to the nearest background, unless some are too large.
    /// Whether it did.
    pub(super) fn write_distances(&mut self, run: &mut [f32]) -> bool {
        let farthest = run.iter().fold(0.0, |most: f32, column| if *column > most { *column } else { most });
        if farthest > FARTHEST_PX as f32 {
            return false;
        }
        // Nothing is nearer beyond the run, and blocks may end behind it.
        self.squares.clear();
        self.squares.resize(FARTHEST_PX, f32::INFINITY);
        self.squares.extend(run.iter().map(|column| column * column));
        self.squares.resize(self.squares.len() + FARTHEST_PX + BLOCK_PX, f32::INFINITY);
        nearest(Path::best(), &self.squares, run);
        run.iter_mut().for_each(|squared| *squared = squared.sqrt());
        true
    }
}

run_on!(fn nearest = nearest_kernel(squares: &[f32], out: &mut [f32]));

/// The least of `squares[i + k] + k²` for each pixel i of `out` and all k; whole numbers, which are exact.
///
/// # Safety
/// The instruction set of `V` must be there; there are [`FARTHEST_PX`] squares before those of `out`, and as many and a block
/// after them.
#[inline(always)]
unsafe fn nearest_kernel<V: Vector, const OUTPUTS: usize, const VECTORS: usize>(
    squares: &[f32],
    out: &mut [f32],
) {
    const TOGETHER: usize = 2;
    let block = TOGETHER * V::LANES;
    assert!(
        block <= BLOCK_PX && squares.len() >= out.len() + 2 * FARTHEST_PX + BLOCK_PX,
        "room on both sides"
    );
    let mut found = [0.0f32; BLOCK_PX];
    for at in (0..out.len()).step_by(block) {
        // SAFETY: a block begins within `out`; `FARTHEST_PX` squares lie before it, and as many after its end.
        unsafe {
            let middle = squares.as_ptr().add(FARTHEST_PX + at);
            let mut least = [V::zero(); TOGETHER];
            for (i, least) in least.iter_mut().enumerate() {
                *least = V::load(middle.add(i * V::LANES));
            }
            for k in 1..=FARTHEST_PX {
                let square = (k * k) as f32;
                // The largest is asked for now and then: it costs as much as a step.
                if k % 4 == 1 {
                    least
                        .iter()
                        .enumerate()
                        .for_each(|(i, least)| least.store(found.as_mut_ptr().add(i * V::LANES)));
                    let of_picture = block.min(out.len() - at);
                    let most = found[..of_picture]
                        .iter()
                        .fold(0.0f32, |most, one| if *one > most { *one } else { most });
                    if square >= most {
                        break;
                    }
                }
                let far = V::splat(square);
                for (i, least) in least.iter_mut().enumerate() {
                    let here = middle.add(i * V::LANES);
                    *least = least.min(V::load(here.sub(k)).add(far)).min(V::load(here.add(k)).add(far));
                }
            }
            least.iter().enumerate().for_each(|(i, least)| least.store(found.as_mut_ptr().add(i * V::LANES)));
        }
        let end = (at + block).min(out.len());
        out[at..end].copy_from_slice(&found[..end - at]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_finds_the_nearest_of_all() {
        let mut seed = 1u32;
        let mut chance = move |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        for case in 0..300 {
            let columns: Vec<f32> =
                (0..1 + chance(120)).map(|_| chance(1 + case % (FARTHEST_PX as u32 + 1)) as f32).collect();
            let expected: Vec<f32> = (0..columns.len())
                .map(|i| {
                    let squares =
                        columns.iter().enumerate().map(|(j, g)| g * g + (i.abs_diff(j) as f32).powi(2));
                    squares.fold(f32::INFINITY, f32::min)
                })
                .collect();
            let mut squares = vec![f32::INFINITY; FARTHEST_PX];
            squares.extend(columns.iter().map(|g| g * g));
            squares.resize(squares.len() + FARTHEST_PX + BLOCK_PX, f32::INFINITY);
            for path in Path::available() {
                let mut found = vec![0.0; columns.len()];
                nearest(path, &squares, &mut found);
                assert_eq!(found, expected, "{}, case {case}", path.name());
            }
            let mut run = columns.clone();
            assert!(Near::default().write_distances(&mut run));
            let roots: Vec<f32> = expected.iter().map(|squared| squared.sqrt()).collect();
            assert_eq!(run, roots, "case {case}");
        }
    }

    #[test]
    fn what_is_far_is_left_to_envelopes() {
        for far in [FARTHEST_PX as f32 + 1.0, f32::INFINITY] {
            let mut run = [0.0, 1.0, far, 0.0];
            assert!(!Near::default().write_distances(&mut run));
            assert_eq!(run, [0.0, 1.0, far, 0.0]);
        }
    }
}
