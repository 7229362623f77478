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
/// to chance. NaN is flooded last.
///
/// # Panics
/// If `elevation` or `mask` does not have as many elements as `markers` has pixels.
pub fn watershed(elevation: &[f32], markers: &Labels, mask: &[bool], connectivity: Connectivity) -> Labels {
    let (size, area_px) = (markers.size, markers.ids.len());
    let lengths = (elevation.len(), mask.len(), size.area_px());
    assert_eq!(lengths, (area_px, area_px, area_px), "elevation, mask and markers do not fill {size} pixels");
    let ids = markers.ids.iter().zip(mask).map(|(&id, &inside)| if inside { id } else { 0 }).collect();
    let mut labels = Labels { size, ids };
    let offsets = offsets(connectivity);
    let mut front = Front::at_markers(elevation, &labels, mask, offsets);
    while let Some((index, level)) = front.pop() {
        for next in neighbours(size, index, offsets) {
            if mask[next] && labels.ids[next] == 0 {
                labels.ids[next] = labels.ids[index];
                // Water that has risen to a level floods what lies lower at that level.
                front.push(next, front.level_of_pixel[next].max(level));
            }
        }
    }
    labels
}

/// Pixels that are flooded and have yet to flood their neighbours: a queue for each level, as linked lists.
struct Front {
    /// Rank of each pixel's elevation among those of the mask.
    level_of_pixel: Vec<usize>,
    /// Who comes after each pixel in its queue.
    next_of_pixel: Vec<usize>,
    /// First and last pixel of each level's queue.
    queues: Vec<(usize, usize)>,
    /// The lowest level whose queue may hold a pixel.
    lowest: usize,
}

/// The end of a queue.
const NOBODY: usize = usize::MAX;

impl Front {
    /// All marker pixels with something to flood; the others, most of a large marker, would only pass
    /// through.
    fn at_markers(elevation: &[f32], markers: &Labels, mask: &[bool], offsets: &[(isize, isize)]) -> Self {
        let (level_of_pixel, level_count) = levels(elevation, mask);
        let queues = vec![(NOBODY, NOBODY); level_count];
        let mut front = Self { level_of_pixel, next_of_pixel: vec![NOBODY; mask.len()], queues, lowest: 0 };
        for index in (0..mask.len()).filter(|&index| markers.ids[index] > 0) {
            if neighbours(markers.size, index, offsets).any(|next| mask[next] && markers.ids[next] == 0) {
                front.push(index, front.level_of_pixel[index]);
            }
        }
        front
    }

    fn push(&mut self, index: usize, level: usize) {
        let (first, last) = &mut self.queues[level];
        match *last {
            NOBODY => *first = index,
            last => self.next_of_pixel[last] = index,
        }
        *last = index;
    }

    /// The oldest pixel of the lowest level, and that level.
    fn pop(&mut self) -> Option<(usize, usize)> {
        while self.queues.get(self.lowest)?.0 == NOBODY {
            self.lowest += 1;
        }
        let (first, last) = &mut self.queues[self.lowest];
        let index = *first;
        *first = self.next_of_pixel[index];
        if *first == NOBODY {
            *last = NOBODY;
        }
        Some((index, self.lowest))
    }
}

/// Ranks the elevations of the mask: 0 for the lowest, equal ranks for equal elevations. Also the number of
/// ranks.
fn levels(elevation: &[f32], mask: &[bool]) -> (Vec<usize>, usize) {
    let inside = (0..mask.len()).into_par_iter().filter(|&index| mask[index]);
    let mut order: Vec<(u32, usize)> = inside.map(|index| (sortable(elevation[index]), index)).collect();
    order.par_sort_unstable();
    let mut level_of_pixel = vec![0; mask.len()];
    let mut count = 0;
    for pixels in order.chunk_by(|one, next| one.0 == next.0) {
        pixels.iter().for_each(|&(_, index)| level_of_pixel[index] = count);
        count += 1;
    }
    (level_of_pixel, count)
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

/// Neighbours as (dx, dy), nearest first and each ring in scan order.
fn offsets(connectivity: Connectivity) -> &'static [(isize, isize)] {
    const EIGHT: [(isize, isize); 8] = [(0, -1), (-1, 0), (1, 0), (0, 1), (-1, -1), (1, -1), (-1, 1), (1, 1)];
    match connectivity {
        Connectivity::Four => &EIGHT[..4],
        Connectivity::Eight => &EIGHT,
    }
}

#[inline(always)]
fn neighbours(size: Size, at: usize, offsets: &[(isize, isize)]) -> impl Iterator<Item = usize> {
    let (x, y) = (at % size.width_px, at / size.width_px);
    offsets.iter().filter_map(move |&(dx, dy)| {
        let (x, y) = (x.checked_add_signed(dx)?, y.checked_add_signed(dy)?);
        (x < size.width_px && y < size.height_px).then(|| size.index(x, y))
    })
}
