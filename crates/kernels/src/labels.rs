//! Label maps: one number a pixel, 0 for background.

use crate::Size;
use crate::runs::end_of_run;

/// A label map: `ids[y * width_px + x]` is 0 for background, else the number of the object that owns the pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Extent of the map.
    pub size: Size,
    /// One id a pixel, row-major.
    pub ids: Vec<u32>,
}

impl Labels {
    /// A map of background only.
    pub fn background(size: Size) -> Self {
        Self { size, ids: vec![0; size.area_px()] }
    }

    /// Where an object is.
    pub fn mask(&self) -> Vec<bool> {
        self.ids.iter().map(|&id| id > 0).collect()
    }

    /// The highest id in use, 0 for an empty map.
    pub fn highest_id(&self) -> u32 {
        self.ids.iter().copied().max().unwrap_or(0)
    }

    /// Renumbers ids to 1, 2, 3 … in the order in which a row-major scan meets them, and returns how many there are.
    pub fn renumber(&mut self) -> u32 {
        // Ids of maps that were made here are small; those of a file may be anything.
        match self.highest_id() as usize {
            highest if highest <= self.ids.len() => self.renumber_by(&mut vec![0; highest + 1]),
            _ => {
                let mut known: Vec<u32> = self.ids.clone();
                known.sort_unstable();
                known.dedup();
                let place = |id: u32| known.binary_search(&id).unwrap_or(0) as u32;
                self.ids.iter_mut().filter(|id| **id > 0).for_each(|id| *id = place(*id) + 1);
                self.renumber_by(&mut vec![0; self.ids.len() + 2])
            }
        }
    }

    /// `new_of_old` is zero for every old id.
    fn renumber_by(&mut self, new_of_old: &mut [u32]) -> u32 {
        let (mut count, mut start) = (0, 0);
        while start < self.ids.len() {
            let (id, end) = (self.ids[start], end_of_run(&self.ids, start));
            if id > 0 {
                let new = &mut new_of_old[id as usize];
                if *new == 0 {
                    count += 1;
                    *new = count;
                }
                self.ids[start..end].fill(*new);
            }
            start = end;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renumbering_follows_the_scan() {
        let mut labels = Labels { size: Size::new(3, 2), ids: vec![0, 9, 9, 4, 0, 9] };
        assert_eq!(labels.renumber(), 2);
        assert_eq!(labels.ids, [0, 1, 1, 2, 0, 1]);
        let mut huge = Labels { size: Size::new(3, 2), ids: vec![u32::MAX, 0, 7, u32::MAX, 7, 1 << 31] };
        assert_eq!(huge.renumber(), 3);
        assert_eq!(huge.ids, [1, 0, 2, 1, 2, 3]);
        assert_eq!(Labels::background(Size::new(0, 0)).renumber(), 0);
        for highest in [5, 6, 7] {
            let mut labels = Labels { size: Size::new(3, 2), ids: vec![highest, 0, 2, highest, 2, 0] };
            assert_eq!((labels.renumber(), labels.ids), (2, vec![1, 0, 2, 1, 2, 0]), "of six pixels");
        }
    }
}
