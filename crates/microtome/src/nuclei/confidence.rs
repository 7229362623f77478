//! Confidence maps: what every method gives, and what instances are made of.

use microtome_kernels::Size;
use microtome_kernels::network::loss::sigmoid_in_place;

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

/// The nearest whole number, halves up, for confidences that are kept in parts of a whole; 0 for what is less or no number,
/// 65,535 for what is more. Unlike [`f32::round`] many at a time, without a call.
pub fn nearest(value: f32) -> u16 {
    let whole = value as u16;
    whole.saturating_add(u16::from(value - f32::from(whole) >= 0.5))
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

    /// The values of the part, out of those of a picture of extent `picture`, `each` a pixel; in their place, so that no room
    /// for both is needed, and with the room that those of the picture had.
    pub fn cut<T: Copy>(self, mut values: Vec<T>, picture: Size, each: usize) -> Vec<T> {
        if self == Self::whole(picture) {
            return values;
        }
        let length = each * self.size.width_px;
        for y in 0..self.size.height_px {
            let start = each * picture.index(self.left_px, self.top_px + y);
            values.copy_within(start..start + length, y * length);
        }
        values.truncate(self.size.height_px * length);
        values
    }

    /// [`Self::cut`] of values that are needed further.
    pub fn cut_of<T: Copy>(self, values: &[T], picture: Size, each: usize) -> Vec<T> {
        let mut cut = Vec::with_capacity(each * self.size.area_px());
        for y in self.top_px..self.top_px + self.size.height_px {
            let start = each * picture.index(self.left_px, y);
            cut.extend_from_slice(&values[start..start + each * self.size.width_px]);
        }
        cut
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

/// Beyond these odds (about 3000 to 1) nobody is surer.
pub const SUREST: f32 = 8.0;

impl ConfidenceMap {
    /// The map of given log-odds, `[height, width]`.
    pub fn of_log_odds(size: Size, mut log_odds: Vec<f32>) -> Self {
        sigmoid_in_place(&mut log_odds);
        Self { size, values: log_odds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_the_nearest_and_no_number_is_zero() {
        for value in (0..200).map(|i| i as f32 / 4.0).chain([65_534.5, 65_535.0, 0.499_999_97]) {
            assert_eq!(nearest(value), value.round() as u16, "{value}");
        }
        assert_eq!([f32::NAN, -3.0, 65_535.5, 1e9].map(nearest), [0, 0, u16::MAX, u16::MAX]);
    }

    #[test]
    fn a_part_is_cut_in_its_place_as_out_of_it() {
        let size = Size::new(5, 4);
        let values: Vec<usize> = (0..2 * size.area_px()).collect();
        for (left_px, top_px, width, height) in
            [(0, 0, 5, 4), (1, 1, 3, 2), (0, 3, 5, 1), (4, 0, 1, 4), (2, 2, 0, 0)]
        {
            let part = Part { left_px, top_px, size: Size::new(width, height) };
            assert_eq!(part.cut(values.clone(), size, 2), part.cut_of(&values, size, 2), "{part:?}");
        }
    }
}
