//! Square cells of pixels: a network need not see a picture as finely as it was scanned.
//!
//! A picture at 40× shows each nucleus on some 30 pixels across; half of them say as much about what it looks like, and cost
//! a quarter. Each cell is the mean of its pixels, and what is found of cells is interpolated back to pixels.

use super::confidence::Part;
use super::instances::Scale;
use microtome_kernels::Size;
use microtome_slide::MicronsPerPixel;
use rayon::prelude::*;

/// Rows that a thread does at least: each needs room for a line.
const ROWS_A_TASK: usize = 16;

/// Squares of whole pixels, from the upper left corner of a picture or slide on; the last of a row or column may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cells {
    side_px: usize,
}

impl Cells {
    /// The cells nearest to `side_um` in a picture of resolution `mpp`, of at most 64 pixels a side; single pixels where these are
    /// about as large or larger.
    pub fn about(side_um: f64, mpp: Option<MicronsPerPixel>) -> Self {
        // Bounded: what is finer than any microscope is a wrong resolution.
        Self { side_px: Scale::of(mpp).length_px(side_um).round().clamp(1.0, 64.0) as usize }
    }

    /// Pixels along a side.
    pub fn side_px(self) -> usize {
        self.side_px
    }

    /// The resolution of pictures of cells, whose pixels are of resolution `mpp`.
    pub fn mpp(self, mpp: Option<MicronsPerPixel>) -> Option<MicronsPerPixel> {
        MicronsPerPixel::new(Scale::of(mpp).microns() * self.side_px as f64).ok()
    }

    /// How many cells there are along both sides of `size`, those that are cut included.
    pub fn count(self, size: Size) -> Size {
        Size::new(size.width_px.div_ceil(self.side_px), size.height_px.div_ceil(self.side_px))
    }

    /// The part with the rest of each cell that it touches. Where the picture is a window of a slide, its corner must lie on a
    /// corner of the slide's cells.
    pub fn whole(self, part: Part, picture: Size) -> Part {
        let side_px = self.side_px;
        let (left_px, top_px) = (part.left_px / side_px * side_px, part.top_px / side_px * side_px);
        let end = |last: usize, length: usize| last.next_multiple_of(side_px).min(length);
        let right_px = end(part.left_px + part.size.width_px, picture.width_px);
        let bottom_px = end(part.top_px + part.size.height_px, picture.height_px);
        Part { left_px, top_px, size: Size::new(right_px - left_px, bottom_px - top_px) }
    }

    /// The mean of each cell, rounded, of interleaved values `[height, width, each]`: `[cells down, cells across, each]`.
    pub fn means(self, values: Vec<u8>, size: Size, each: usize) -> Vec<u8> {
        if self.side_px == 1 {
            return values;
        }
        let cells = self.count(size);
        let mut means = vec![0; each * cells.area_px()];
        let rows = means.par_chunks_exact_mut((each * cells.width_px).max(1));
        let pixel_rows = values.par_chunks((each * size.width_px * self.side_px).max(1));
        rows.zip(pixel_rows).with_min_len(ROWS_A_TASK).for_each_init(Vec::new, |sums, (means, pixels)| {
            self.mean_row(pixels, each * size.width_px, each, (means, sums));
        });
        means
    }

    /// The means of one row of cells, whose rows of pixels have `row` values each.
    fn mean_row(self, pixels: &[u8], row: usize, each: usize, (means, sums): (&mut [u8], &mut Vec<u32>)) {
        sums.clear();
        sums.resize(row, 0);
        let height_px = pixels.len() / row.max(1);
        for pixels in pixels.chunks_exact(row.max(1)) {
            sums.iter_mut().zip(pixels).for_each(|(sum, value)| *sum += u32::from(*value));
        }
        for (means, sums) in means.chunks_exact_mut(each).zip(sums.chunks(each * self.side_px)) {
            let count = (sums.len() / each * height_px) as u32;
            for (at, mean) in means.iter_mut().enumerate() {
                let sum: u32 = sums[at..].iter().step_by(each).sum();
                *mean = ((sum + count / 2) / count) as u8;
            }
        }
    }

    /// Calls `work` with each row of `rows` (`[height, width]` of `part`) and with as many values, interpolated linearly between
    /// the middles of cells.
    ///
    /// `values` (`[cells down, cells across]`, and whatever follows) are those of the cells of `seen`, which consists of whole cells
    /// and holds the part. Windows of one slide give the same where `seen` holds a cell more than the part on every side.
    pub fn interpolate(
        self,
        (values, seen): (&[f32], Part),
        part: Part,
        rows: &mut [f32],
        work: impl Fn(&mut [f32], &[f32]) + Sync,
    ) {
        let cells = self.count(seen.size);
        let inner = part.within(seen);
        let columns: Vec<Between> = (inner.left_px..inner.left_px + part.size.width_px)
            .map(|x_px| self.between(x_px, cells.width_px))
            .collect();
        let rows = rows.par_chunks_exact_mut(part.size.width_px.max(1)).enumerate();
        let room = || (vec![0.0; cells.width_px], vec![0.0; part.size.width_px]);
        rows.with_min_len(ROWS_A_TASK).for_each_init(room, |(line, interpolated), (y, row)| {
            let Between { first, second, share } = self.between(inner.top_px + y, cells.height_px);
            let of_row = |cell_row: usize| &values[cell_row * cells.width_px..][..cells.width_px];
            for ((line, above), below) in line.iter_mut().zip(of_row(first)).zip(of_row(second)) {
                *line = above + share * (below - above);
            }
            for (value, Between { first, second, share }) in interpolated.iter_mut().zip(&columns) {
                *value = line[*first] + share * (line[*second] - line[*first]);
            }
            work(row, interpolated);
        });
    }

    /// Between which of `count` cells in a row the middle of a pixel lies. In whole numbers, so that windows see what the
    /// whole sees.
    fn between(self, at_px: usize, count: usize) -> Between {
        let twice = 2 * self.side_px;
        // In halves of pixels from the middle of the first cell on.
        let place = (2 * at_px + 1).saturating_sub(self.side_px);
        let first = (place / twice).min(count - 1);
        let share = (place - first * twice) as f32 / twice as f32;
        Between { first, second: (first + 1).min(count - 1), share }
    }
}

/// Two cells, and how near a place is to the second.
#[derive(Clone, Copy)]
struct Between {
    first: usize,
    second: usize,
    share: f32,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cells of `side_px` pixels, at the resolution that is taken where none is known.
    fn cells(side_px: usize) -> Cells {
        let cells = Cells::about(0.25 * side_px as f64, None);
        assert_eq!(cells.side_px(), side_px);
        cells
    }

    #[test]
    fn cells_are_the_nearest_to_what_is_asked_for_and_pixels_where_these_are_as_large() {
        let side_px = |um, mpp| Cells::about(um, MicronsPerPixel::new(mpp).ok()).side_px();
        let cases =
            [(0.5, 0.25), (0.5, 0.2527), (0.5, 0.5), (0.5, 1.0), (0.5, 0.17), (0.0, 0.25), (99.0, 0.25)];
        assert_eq!(cases.map(|(um, mpp)| side_px(um, mpp)), [2, 2, 1, 1, 3, 1, 64]);
    }

    #[test]
    fn cells_are_as_coarse_as_their_pixels_are_many() {
        let microns =
            |mpp: Option<MicronsPerPixel>| Cells::about(1.0, mpp).mpp(mpp).map(MicronsPerPixel::microns);
        assert_eq!(microns(MicronsPerPixel::new(0.3).ok()), Some(0.3 * 3.0));
        assert_eq!(microns(None), Some(1.0));
    }

    #[test]
    fn means_are_those_of_the_pixels_that_each_cell_has() {
        for (side_px, size) in
            [(1, Size::new(5, 4)), (2, Size::new(7, 5)), (3, Size::new(6, 8)), (5, Size::new(3, 4))]
        {
            let (cells, each) = (cells(side_px), 3);
            let values: Vec<u8> = (0..each * size.area_px()).map(|i| (i * 7919 % 251) as u8).collect();
            let count = cells.count(size);
            let means = cells.means(values.clone(), size, each);
            assert_eq!(means.len(), each * count.area_px());
            for (at, mean) in means.iter().enumerate() {
                let (cell, colour) = (at / each, at % each);
                let (column, row) = (cell % count.width_px, cell / count.width_px);
                let inside = |x: usize, y: usize| x / side_px == column && y / side_px == row;
                let pixels: Vec<f64> = (0..size.area_px())
                    .filter(|pixel| inside(pixel % size.width_px, pixel / size.width_px))
                    .map(|pixel| f64::from(values[each * pixel + colour]))
                    .collect();
                let expected = (pixels.iter().sum::<f64>() / pixels.len() as f64 + 0.5).floor();
                assert_eq!(f64::from(*mean), expected, "{size}, side {side_px}, value {at}");
            }
        }
    }

    /// What is interpolated at each pixel of a part.
    fn interpolated(cells: Cells, values: &[f32], seen: Part, part: Part) -> Vec<f32> {
        let mut out = vec![f32::NAN; part.size.area_px()];
        cells.interpolate((values, seen), part, &mut out, |row, values| row.copy_from_slice(values));
        out
    }

    #[test]
    fn a_slope_stays_a_slope_and_pixels_stay_as_they_are() {
        let size = Size::new(24, 12);
        for side_px in [1, 2, 3, 4] {
            let cells = cells(side_px);
            let count = cells.count(size);
            let middle = |cell: usize| (cell * side_px) as f32 + (side_px - 1) as f32 / 2.0;
            let values: Vec<f32> = (0..count.area_px())
                .map(|cell| 3.0 * middle(cell % count.width_px) - middle(cell / count.width_px))
                .collect();
            let whole = Part::whole(size);
            let out = interpolated(cells, &values, whole, whole);
            for (at, value) in out.iter().enumerate() {
                let (x, y) = (at % size.width_px, at / size.width_px);
                // Beyond the middles of the outermost cells nothing changes any more.
                let clamp = |at: usize, cells: usize| (at as f32).clamp(middle(0), middle(cells - 1));
                let expected = 3.0 * clamp(x, count.width_px) - clamp(y, count.height_px);
                assert!(
                    (value - expected).abs() < 1e-4,
                    "side {side_px}, ({x}, {y}): {value} for {expected}"
                );
            }
        }
    }

    #[test]
    fn a_window_of_whole_cells_gives_what_the_whole_gives() {
        let size = Size::new(50, 41);
        for side_px in [1, 2, 3] {
            let cells = cells(side_px);
            let count = cells.count(size);
            let values: Vec<f32> =
                (0..count.area_px()).map(|cell| (cell * 7919 % 1009) as f32 / 7.0).collect();
            let all = interpolated(cells, &values, Part::whole(size), Part::whole(size));
            let mut checked = 0;
            for (left_px, top_px, width_px, height_px) in
                [(0, 0, 5, 5), (7, 9, 11, 13), (31, 20, 19, 21), (49, 40, 1, 1)]
            {
                let part = Part { left_px, top_px, size: Size::new(width_px, height_px) };
                // A cell on each side is what is interpolated between.
                let seen = cells.whole(part.with_border(side_px, size), size);
                assert_eq!((seen.left_px % side_px, seen.top_px % side_px), (0, 0));
                let first = [seen.left_px / side_px, seen.top_px / side_px];
                let of_seen = Part { left_px: first[0], top_px: first[1], size: cells.count(seen.size) };
                let window = of_seen.cut_of(&values, count, 1);
                let out = interpolated(cells, &window, seen, part);
                assert_eq!(out, part.cut_of(&all, size, 1), "side {side_px}, {part:?}");
                checked += out.len();
            }
            assert_eq!(checked, 25 + 143 + 399 + 1);
        }
    }
}
