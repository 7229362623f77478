//! Confidence maps: what every method gives, and what instances are made of.

use microtome_kernels::Size;
use rayon::prelude::*;

/// How sure a method is that a pixel belongs to a nucleus.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfidenceMap {
    /// Extent of the picture.
    pub size: Size,
    /// 0 to 1 for each pixel, row-major.
    pub values: Vec<f32>,
}

impl ConfidenceMap {
    /// Where the confidence is above one half.
    pub fn mask(&self) -> Vec<bool> {
        self.values.iter().map(|&value| value > 0.5).collect()
    }
}

/// The part of a picture that is decided about; the rest of it is what lies around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Columns of the picture to its left.
    pub left_px: usize,
    /// Rows of the picture above it.
    pub top_px: usize,
    /// Extent.
    pub size: Size,
}

impl Part {
    /// The whole picture.
    pub fn whole(size: Size) -> Self {
        Self { left_px: 0, top_px: 0, size }
    }

    /// The values of the part, out of those of a picture of extent `picture`, `each` a pixel.
    pub fn cut<T: Copy>(self, values: Vec<T>, picture: Size, each: usize) -> Vec<T> {
        if self == Self::whole(picture) {
            return values;
        }
        let row = |y: usize| {
            let start = each * picture.index(self.left_px, self.top_px + y);
            &values[start..start + each * self.size.width_px]
        };
        (0..self.size.height_px).flat_map(row).copied().collect()
    }

    /// The part with a border of up to `border_px` of the picture around it.
    pub fn with_border(self, border_px: usize, picture: Size) -> Self {
        let (left_px, top_px) =
            (self.left_px.saturating_sub(border_px), self.top_px.saturating_sub(border_px));
        let right_px = picture.width_px.min(self.left_px + self.size.width_px + border_px);
        let bottom_px = picture.height_px.min(self.top_px + self.size.height_px + border_px);
        Self { left_px, top_px, size: Size::new(right_px - left_px, bottom_px - top_px) }
    }

    /// Where the part lies in a part of the same picture that holds it.
    pub fn within(self, outer: Self) -> Self {
        Self { left_px: self.left_px - outer.left_px, top_px: self.top_px - outer.top_px, ..self }
    }
}

/// The map whose log-odds are those of `a` and `b`, averaged; `share` of `b`, the rest of `a`.
pub fn mean_log_odds(a: &ConfidenceMap, b: &ConfidenceMap, share: f32) -> ConfidenceMap {
    let both = a.values.par_iter().zip(&b.values).map(|(a, b)| {
        let mean = (1.0 - share) * log_odds(*a) + share * log_odds(*b);
        1.0 / (1.0 + (-mean).exp())
    });
    ConfidenceMap { size: a.size, values: both.collect() }
}

/// Beyond these odds (about 3000 to 1) nobody is surer.
const SUREST: f32 = 8.0;

fn log_odds(p: f32) -> f32 {
    (p.max(1e-6) / (1.0 - p).max(1e-6)).ln().clamp(-SUREST, SUREST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_odds_are_averaged_by_share() {
        let map = |value| ConfidenceMap { size: Size::new(1, 1), values: vec![value] };
        let mean = |a, b, share| mean_log_odds(&map(a), &map(b), share).values[0];
        assert!((mean(0.9, 0.1, 0.5) - 0.5).abs() < 1e-6);
        assert!((mean(0.9, 0.1, 0.0) - 0.9).abs() < 1e-6);
        assert!((mean(0.8, 0.5, 0.5) - 2.0 / 3.0).abs() < 1e-6);
        assert!(mean(1.0, 0.0, 0.5).is_finite());
    }
}
