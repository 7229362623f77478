//! Maps of eight channels, row by row: `[images, height, 8, stride]`, each row of a channel padded to an odd number of cache lines.
//!
//! A row of all channels is one run of memory, which the processor prefetches, and every row begins on a cache line.
//! The values beyond the width are zero to the end of its last line, so that sums over whole vectors need no mask; what lies
//! between that and the next channel is never read.

use super::WIDTH;
use super::groups::GROUP;
use crate::Size;
use std::mem::MaybeUninit;

/// Floats in a cache line, and in the widest vector.
pub(super) const LINE: usize = 16;

/// One cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line(#[allow(dead_code)] [f32; LINE]); // Only ever read and written through pointers to its floats.

/// Floats on cache lines.
pub(super) struct Lines(Vec<MaybeUninit<Line>>);

impl Lines {
    /// At least `floats` floats, whatever they are.
    pub(super) fn uninitialised(floats: usize) -> Self {
        let lines = floats.div_ceil(LINE);
        let mut values = Vec::with_capacity(lines);
        // SAFETY: the capacity is there, and `MaybeUninit` needs no initialisation.
        unsafe { values.set_len(lines) };
        Self(values)
    }

    /// At least `floats` zeros.
    pub(super) fn zeros(floats: usize) -> Self {
        Self(vec![MaybeUninit::new(Line([0.0; LINE])); floats.div_ceil(LINE)])
    }

    /// Makes all of them zero.
    pub(super) fn clear(&mut self) {
        self.0.fill(MaybeUninit::new(Line([0.0; LINE])));
    }

    /// All floats.
    ///
    /// # Safety
    /// Every one has been written.
    pub(super) unsafe fn written(&self) -> &[f32] {
        // SAFETY: lines are floats, as many as there are, initialised as the caller says.
        unsafe { std::slice::from_raw_parts(self.start(), self.0.len() * LINE) }
    }

    /// The first float, for reading.
    #[inline(always)]
    pub(super) fn start(&self) -> *const f32 {
        self.0.as_ptr().cast()
    }

    /// The first float, for writing.
    #[inline(always)]
    pub(super) fn start_mut(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}

/// The floats of a row of one channel with its padding: an odd number of cache lines. Rows of a window are read side by
/// side, and were they a power of two apart, all would compete for the same few places of the first-level cache (a picture
/// 1,024 px wide took twice as long).
#[inline(always)]
pub(super) fn stride_of(width: usize) -> usize {
    (width.div_ceil(LINE) | 1) * LINE
}

/// Maps of [`WIDTH`] channels.
pub(super) struct Rows {
    values: Lines,
    pub(super) size: Size,
    pub(super) stride: usize,
}

impl Rows {
    /// Maps for so many images, not written yet.
    pub(super) fn uninitialised(images: usize, size: Size) -> Self {
        let stride = stride_of(size.width_px);
        let values = Lines::uninitialised(images * size.height_px * WIDTH * stride);
        Self { values, size, stride }
    }

    #[inline(always)]
    fn offset(&self, image: usize, y: usize) -> usize {
        (image * self.size.height_px + y) * WIDTH * self.stride
    }

    /// A row of all channels, `[8, stride]`.
    #[inline(always)]
    pub(super) fn row(&self, image: usize, y: usize) -> *const f32 {
        // SAFETY: the maps hold the rows of their images; callers stay within them.
        unsafe { self.values.start().add(self.offset(image, y)) }
    }

    /// Maps that several threads write, each its own rows.
    pub(super) fn shared(&mut self) -> SharedRows {
        SharedRows { start: self.values.start_mut(), height: self.size.height_px, stride: self.stride }
    }
}

/// Where tasks write rows, each task rows that are its own.
#[derive(Clone, Copy)]
pub(super) struct SharedRows {
    start: *mut f32,
    height: usize,
    pub(super) stride: usize,
}

// SAFETY: each task writes (and, where it works in place, reads) only rows of its own strand; the maps outlive the
// parallel loop, because `shared` is called by the function that waits for the loop's end.
unsafe impl Send for SharedRows {}
unsafe impl Sync for SharedRows {}

impl SharedRows {
    /// A row of all channels, `[8, stride]`.
    #[inline(always)]
    pub(super) fn row(self, image: usize, y: usize) -> *mut f32 {
        // SAFETY: as for `Rows::row`.
        unsafe { self.start.add((image * self.height + y) * WIDTH * self.stride) }
    }
}

/// Rows of one image that are `dilation` apart: a dilated convolution couples no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strand {
    pub(super) image: usize,
    pub(super) first_y: usize,
    pub(super) rows: usize,
    pub(super) dilation: usize,
}

/// Groups of rows of a strand. Fixed, so that the order of additions never depends on the number of threads; each end of a
/// strand reads a row (or two) more than it writes.
const MOST_GROUPS: usize = 16;

impl Strand {
    /// Row `index` of the strand, or none outside the picture.
    #[inline(always)]
    pub(super) fn y(self, index: isize, height: usize) -> Option<usize> {
        let y = self.first_y as isize + index * self.dilation as isize;
        (y >= 0 && y < height as isize).then_some(y as usize)
    }

    /// How far from a channel of a group's rows lies what is read after it: the next channel, or the first one of the next
    /// group's.
    #[inline(always)]
    pub(super) fn distance_to_next(self, channel: usize, stride: usize) -> usize {
        match channel + 1 < WIDTH {
            true => stride,
            false => (GROUP * self.dilation * WIDTH - channel) * stride,
        }
    }

    /// All rows of all images, parted into strands of whole groups but for the last of a phase.
    pub(super) fn all(images: usize, height: usize, dilation: usize) -> Vec<Self> {
        let mut strands = Vec::new();
        for image in 0..images {
            for phase in 0..dilation.min(height) {
                let rows = (height - phase).div_ceil(dilation);
                let groups = rows.div_ceil(GROUP);
                let parts = groups.div_ceil(MOST_GROUPS);
                for part in 0..parts {
                    let [begin, end] = [part, part + 1].map(|part| (groups * part / parts * GROUP).min(rows));
                    let first_y = phase + begin * dilation;
                    strands.push(Self { image, first_y, rows: end - begin, dilation });
                }
            }
        }
        strands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_of_a_row_lie_an_odd_number_of_cache_lines_apart() {
        for width in 0..5000 {
            let stride = stride_of(width);
            assert_eq!((stride % LINE, stride / LINE % 2), (0, 1), "{width}");
            assert!((width..width + 2 * LINE).contains(&stride), "{width}");
        }
    }

    #[test]
    fn strands_hold_every_row_once() {
        for (height, dilation) in [(0, 1), (1, 1), (1, 20), (7, 3), (300, 1), (300, 20), (301, 10), (95, 2)] {
            let mut seen = vec![0; 2 * height];
            for strand in Strand::all(2, height, dilation) {
                let goes_on = strand.y(strand.rows as isize, height).is_some();
                assert!(!goes_on || strand.rows.is_multiple_of(GROUP), "whole groups: {height} {dilation}");
                for index in 0..strand.rows as isize {
                    let y = strand.y(index, height).unwrap();
                    seen[strand.image * height + y] += 1;
                }
            }
            assert!(seen.iter().all(|&count| count == 1), "{height} {dilation}");
        }
    }
}
