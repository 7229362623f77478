//! Watershed from markers by flooding: water rises from the markers, and a pixel belongs to the water that
//! comes first.
//!
//! The flood goes by elevation, then by age (Beucher & Meyer, 1993), with the neighbours taken in the order
//! of scikit-image, so that plateaus are divided in the same way. Its front never goes down, and pixels join
//! it in the order of their age: so one queue for each elevation takes the place of a heap, and half of the
//! time (0.8 s instead of 1.6 s for a distance map of 4 megapixels on two cores).

use crate::components::Connectivity;
use crate::{Labels, Size};
use rayon::prelude::*;

/// Floods `elevation` from `markers` within `mask`; each pixel of the mask that can be reached gets its
/// marker's id.
///
/// As `skimage.segmentation.watershed(elevation, markers, connectivity, mask=mask)`: markers outside the mask
/// are dropped, pixels that no marker reaches stay 0, and there are no lines between basins. Where two marker
/// pixels at the same elevation compete, the one earlier in scan order goes first, which scikit-image leaves
/// to chance. NaN is flooded last. What is given is given up before the flood, the elevation before its ranks are: floods of large pieces
/// decide how much memory a slide takes.
///
/// # Panics
/// If `elevation` or `mask` does not have as many elements as `markers` has pixels, or these, with a frame of one, are more than 32 bits count.
pub fn watershed(
    elevation: Vec<f32>,
    markers: Labels,
    mask: Vec<bool>,
    connectivity: Connectivity,
) -> Labels {
    let (size, area_px) = (markers.size, markers.ids.len());
    let lengths = (elevation.len(), mask.len(), size.area_px());
    assert_eq!(lengths, (area_px, area_px, area_px), "elevation, mask and markers do not fill {size} pixels");
    let frame = Frame::around(size);
    let mut front = Front::of_levels(elevation, &mask, &frame);
    // What belongs to the mask and no water has come to.
    let mut is_dry = frame.spread(mask, false);
    let mut ids = frame.spread(markers.ids, 0);
    for (id, is_dry) in ids.iter_mut().zip(&mut is_dry) {
        *id = if *is_dry { *id } else { 0 };
        *is_dry &= *id == 0;
    }
    let offsets = frame.offsets(connectivity);
    // Most pixels of a large marker have nothing to flood, and would only pass through.
    for index in (0..ids.len()).filter(|&index| ids[index] > 0) {
        if offsets.iter().any(|offset| is_dry[index.wrapping_add(*offset)]) {
            front.push(index, front.level_of_pixel[index]);
        }
    }
    while let Some((index, level)) = front.pop() {
        for offset in offsets {
            let next = index.wrapping_add(*offset);
            if std::mem::take(&mut is_dry[next]) {
                ids[next] = ids[index];
                // Water that has risen to a level floods what lies lower at that level.
                front.push(next, front.level_of_pixel[next].max(level));
            }
        }
    }
    Labels { size, ids: frame.inner(ids) }
}

/// A frame around the picture, one pixel wide, which no water floods: neighbours are constant offsets away, and nothing asks
/// where the picture ends.
struct Frame {
    size: Size,
    width_px: usize,
    /// Nearest neighbours first and each ring in scan order; offsets wrap.
    offsets: [usize; 8],
}

impl Frame {
    fn around(size: Size) -> Self {
        let width_px = size.width_px + 2;
        let back = |by: usize| 0usize.wrapping_sub(by);
        let edges = [back(width_px), back(1), 1, width_px];
        let corners = [back(width_px + 1), back(width_px - 1), width_px - 1, width_px + 1];
        let offsets = std::array::from_fn(|at| if at < 4 { edges[at] } else { corners[at - 4] });
        let frame = Self { size, width_px, offsets };
        assert!(u32::try_from(frame.area_px()).is_ok(), "{size} pixels are too many");
        frame
    }

    fn area_px(&self) -> usize {
        self.width_px * (self.size.height_px + 2)
    }

    fn offsets(&self, connectivity: Connectivity) -> &[usize] {
        match connectivity {
            Connectivity::Four => &self.offsets[..4],
            Connectivity::Eight => &self.offsets,
        }
    }

    /// Where row `y` of the picture begins.
    fn row(&self, y: usize) -> usize {
        (y + 1) * self.width_px + 1
    }

    /// The picture's values, and one for the frame.
    fn spread<T: Copy>(&self, values: Vec<T>, outside: T) -> Vec<T> {
        let mut framed = vec![outside; self.area_px()];
        for (y, row) in values.chunks_exact(self.size.width_px.max(1)).enumerate() {
            framed[self.row(y)..][..row.len()].copy_from_slice(row);
        }
        framed
    }

    /// The picture's values again, in the same place.
    fn inner<T: Copy>(&self, mut framed: Vec<T>) -> Vec<T> {
        let width_px = self.size.width_px;
        for y in 0..self.size.height_px {
            framed.copy_within(self.row(y)..self.row(y) + width_px, y * width_px);
        }
        framed.truncate(self.size.area_px());
        framed
    }
}

/// Pixels that are flooded and have yet to flood their neighbours: a queue for each level, as linked lists. Numbers of 32
/// bits, so that more of them stay in the caches.
struct Front {
    /// Rank of each pixel's elevation among those of the mask.
    level_of_pixel: Vec<u32>,
    /// Who comes after each pixel in its queue.
    next_of_pixel: Vec<u32>,
    /// First and last pixel of each level's queue.
    queues: Vec<(u32, u32)>,
    /// The lowest level whose queue may hold a pixel.
    lowest: usize,
}

/// The end of a queue.
const NOBODY: u32 = u32::MAX;
/// Pixels that one thread sorts at least.
const SORTED_ALONE: usize = 1 << 15;

impl Front {
    /// Ranks the elevations of the mask: 0 for the lowest, equal ranks for equal elevations. All queues are empty.
    fn of_levels(elevation: Vec<f32>, mask: &[bool], frame: &Frame) -> Self {
        let width_px = frame.size.width_px.max(1);
        let mut order = Vec::with_capacity(mask.iter().filter(|inside| **inside).count());
        for (y, (elevation, mask)) in elevation.chunks(width_px).zip(mask.chunks(width_px)).enumerate() {
            let inside = (frame.row(y)..).zip(elevation).zip(mask).filter(|(_, inside)| **inside);
            order
                .extend(inside.map(|((at, elevation), _)| u64::from(sortable(*elevation)) << 32 | at as u64));
        }
        drop(elevation);
        if order.len() > SORTED_ALONE {
            order.par_sort_unstable()
        } else {
            order.sort_unstable()
        }
        let mut level_of_pixel = vec![0; frame.area_px()];
        let mut count = 0;
        for pixels in order.chunk_by(|one, next| one >> 32 == next >> 32) {
            pixels.iter().for_each(|pixel| level_of_pixel[*pixel as u32 as usize] = count);
            count += 1;
        }
        drop(order);
        let queues = vec![(NOBODY, NOBODY); count as usize];
        Self { level_of_pixel, next_of_pixel: vec![NOBODY; frame.area_px()], queues, lowest: 0 }
    }

    fn push(&mut self, index: usize, level: u32) {
        let (first, last) = &mut self.queues[level as usize];
        match *last {
            NOBODY => *first = index as u32,
            last => self.next_of_pixel[last as usize] = index as u32,
        }
        *last = index as u32;
    }

    /// The oldest pixel of the lowest level, and that level.
    fn pop(&mut self) -> Option<(usize, u32)> {
        while self.queues.get(self.lowest)?.0 == NOBODY {
            self.lowest += 1;
        }
        let (first, last) = &mut self.queues[self.lowest];
        let index = *first as usize;
        *first = self.next_of_pixel[index];
        if *first == NOBODY {
            *last = NOBODY;
        }
        Some((index, self.lowest as u32))
    }
}

/// An integer in the order of the elevation: negative numbers have all bits flipped, positive ones the sign
/// bit.
fn sortable(elevation: f32) -> u32 {
    if elevation.is_nan() {
        return u32::MAX;
    }
    let bits = (elevation + 0.0).to_bits(); // Adding 0 makes −0 the same as 0.
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}
