//! Label maps: one number a pixel, 0 for background.

use crate::Size;

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
        let mut new_of_old = std::collections::HashMap::new();
        for id in self.ids.iter_mut().filter(|id| **id > 0) {
            let next = new_of_old.len() as u32 + 1;
            *id = *new_of_old.entry(*id).or_insert(next);
        }
        new_of_old.len() as u32
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
    }
}
