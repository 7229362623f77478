//! What is measured on each object of a label map: area, place, shape.
//!
//! Rows are cut into runs of one id, and the runs are sorted by id: each object is measured on its own runs,
//! so that the work is linear in the pixels even where bounding boxes overlap. Numbers are those of
//! `skimage.measure.regionprops`; sums are in integers, so that nothing depends on the order of addition.

use crate::runs::runs;
use crate::{Labels, Size};
use rayon::prelude::*;

/// A rectangle of pixels: columns `min_x_px..max_x_px` and rows `min_y_px..max_y_px`, the ends not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelBox {
    /// First column.
    pub min_x_px: usize,
    /// First row.
    pub min_y_px: usize,
    /// Column after the last.
    pub max_x_px: usize,
    /// Row after the last.
    pub max_y_px: usize,
}

/// One object, measured. Lengths are in pixels; the centre of the first pixel is at (0, 0).
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Id in the label map.
    pub id: u32,
    /// Number of pixels.
    pub area_px: usize,
    /// Mean column of the pixels' centres; add 0.5 where coordinates are pixel corners.
    pub centroid_x_px: f64,
    /// Mean row of the pixels' centres.
    pub centroid_y_px: f64,
    /// The smallest rectangle that holds all pixels.
    pub bounds: PixelBox,
    /// Length of the 8-connected line through the pixels with a 4-neighbour outside, by the weights of
    /// Benkrid & Crookes: `skimage.measure.perimeter(neighborhood=4)`. 0 for a single pixel.
    pub perimeter_px: f64,
    /// 0 for a circle, towards 1 for a line: that of the ellipse with the same second moments.
    pub eccentricity: f64,
    /// Pixels over pixels of the convex hull. As `skimage.morphology.convex_hull_image`, the hull is drawn
    /// around the middles of the pixels' edges, and a pixel belongs to it if its centre is inside or on the
    /// line.
    pub solidity: f64,
    /// Longer axis of the ellipse with the same second moments.
    pub major_axis_px: f64,
    /// Shorter axis of that ellipse.
    pub minor_axis_px: f64,
    /// Angle between the rows' direction (y) and the longer axis, from −π/2 to π/2, positive towards x.
    pub orientation_rad: f64,
}

/// Measures all objects of a label map, sorted by id.
///
/// # Panics
/// If `labels.ids` does not fill `labels.size`.
pub fn measure_regions(labels: &Labels) -> Vec<Region> {
    assert_eq!(labels.ids.len(), labels.size.area_px(), "the labels do not fill {} pixels", labels.size);
    let runs = sorted_by_id(runs_of(labels));
    let objects: Vec<&[Run]> = runs.chunk_by(|one, next| one.id == next.id).collect();
    objects.into_par_iter().filter_map(|runs| measure(labels, runs)).collect()
}

/// Stable: the runs of an object stay in scan order.
fn sorted_by_id(mut runs: Vec<Run>) -> Vec<Run> {
    let highest = runs.iter().map(|run| run.id).max().unwrap_or(0) as usize;
    if highest > runs.len() {
        // Ids of a file may be anything.
        runs.par_sort_by_key(|run| run.id);
        return runs;
    }
    let mut starts = vec![0; highest + 2];
    runs.iter().for_each(|run| starts[run.id as usize + 1] += 1);
    (0..=highest).for_each(|id| starts[id + 1] += starts[id]);
    let mut sorted = runs.clone();
    for run in runs {
        let start = &mut starts[run.id as usize];
        sorted[*start] = run;
        *start += 1;
    }
    sorted
}

/// Neighbouring pixels of one row and one id: columns `start..end`.
#[derive(Clone, Copy)]
struct Run {
    id: u32,
    y: usize,
    start: usize,
    end: usize,
}

fn runs_of(labels: &Labels) -> Vec<Run> {
    let rows = labels.ids.par_chunks(labels.size.width_px.max(1)).enumerate();
    rows.flat_map_iter(|(y, row)| {
        runs(row).filter(|(_, id)| *id > 0).map(move |(run, id)| Run {
            id,
            y,
            start: run.start,
            end: run.end,
        })
    })
    .collect()
}

fn measure(labels: &Labels, runs: &[Run]) -> Option<Region> {
    let bounds = bounds_of(runs)?;
    let moments = Moments::of(runs, bounds);
    let ellipse = moments.ellipse();
    let area_px = moments.count as usize;
    Some(Region {
        id: runs.first()?.id,
        area_px,
        centroid_x_px: bounds.min_x_px as f64 + moments.x as f64 / moments.count as f64,
        centroid_y_px: bounds.min_y_px as f64 + moments.y as f64 / moments.count as f64,
        bounds,
        perimeter_px: perimeter_px(labels, runs),
        eccentricity: ellipse.eccentricity,
        solidity: area_px as f64 / hull_area_px(runs, bounds) as f64,
        major_axis_px: ellipse.major_axis_px,
        minor_axis_px: ellipse.minor_axis_px,
        orientation_rad: ellipse.orientation_rad,
    })
}

fn bounds_of(runs: &[Run]) -> Option<PixelBox> {
    Some(PixelBox {
        min_x_px: runs.iter().map(|run| run.start).min()?,
        min_y_px: runs.first()?.y,
        max_x_px: runs.iter().map(|run| run.end).max()?,
        max_y_px: runs.last()?.y + 1,
    })
}

/// Sums over an object's pixels, in coordinates of its bounding box.
#[derive(Default)]
struct Moments {
    count: i128,
    x: i128,
    y: i128,
    xx: i128,
    yy: i128,
    xy: i128,
}

struct Ellipse {
    eccentricity: f64,
    major_axis_px: f64,
    minor_axis_px: f64,
    orientation_rad: f64,
}

impl Moments {
    fn of(runs: &[Run], bounds: PixelBox) -> Self {
        let mut sums = Self::default();
        for run in runs {
            let (first, last) = (run.start - bounds.min_x_px, run.end - bounds.min_x_px - 1);
            let (count, y) = ((last - first + 1) as i128, (run.y - bounds.min_y_px) as i128);
            let x = ((first + last) * (last - first + 1) / 2) as i128;
            sums.count += count;
            sums.x += x;
            sums.y += y * count;
            sums.xx += squares_up_to(last) - first.checked_sub(1).map_or(0, squares_up_to);
            sums.yy += y * y * count;
            sums.xy += x * y;
        }
        sums
    }

    /// The ellipse with the same second moments: axes are four standard deviations.
    fn ellipse(&self) -> Ellipse {
        let central = |sum: i128, one: i128, other: i128| sum * self.count - one * other;
        let scale = (self.count * self.count) as f64;
        let (xx, yy) = (central(self.xx, self.x, self.x), central(self.yy, self.y, self.y));
        let xy = central(self.xy, self.x, self.y);
        let half_sum = (xx + yy) as f64 / 2.0 / scale;
        let half_gap = ((xx - yy) as f64 / 2.0).hypot(xy as f64) / scale;
        let (large, small) = (half_sum + half_gap, (half_sum - half_gap).max(0.0));
        Ellipse {
            eccentricity: if large > 0.0 { (1.0 - small / large).sqrt() } else { 0.0 },
            major_axis_px: 4.0 * large.sqrt(),
            minor_axis_px: 4.0 * small.sqrt(),
            orientation_rad: orientation_rad(xx, yy, xy),
        }
    }
}

/// 0² + 1² + … + n².
fn squares_up_to(n: usize) -> i128 {
    match n {
        // A division of 128 bits takes as long as all else about a run.
        0..1_000_000 => (n as u64 * (n as u64 + 1) * (2 * n as u64 + 1) / 6).into(),
        _ => {
            let n = n as i128;
            n * (n + 1) * (2 * n + 1) / 6
        }
    }
}

/// A round object, whose axes have no direction, gets −π/4 as in scikit-image.
fn orientation_rad(xx: i128, yy: i128, xy: i128) -> f64 {
    use std::f64::consts::FRAC_PI_4;
    match (xx == yy, xy > 0) {
        (true, true) => FRAC_PI_4,
        (true, false) => -FRAC_PI_4,
        (false, _) => 0.5 * (2.0 * xy as f64).atan2((yy - xx) as f64),
    }
}

fn perimeter_px(labels: &Labels, runs: &[Run]) -> f64 {
    let mut steps = [0u32; 3];
    for run in runs {
        // Within a run only its ends lack a neighbour beside them: most pixels are seen to be inside by those above and below.
        let row = |y: usize| &labels.ids[labels.size.index(0, y)..][..labels.size.width_px];
        let above = run.y.checked_sub(1).map(row);
        let below = (run.y + 1 < labels.size.height_px).then(|| row(run.y + 1));
        let is_inside = |x: usize| {
            let belongs = |row: Option<&[u32]>| row.is_some_and(|row| row[x] == run.id);
            x > run.start && x + 1 < run.end && belongs(above) && belongs(below)
        };
        for x in (run.start..run.end).filter(|x| !is_inside(*x)) {
            if let Some(kind) = perimeter_step(labels, run.id, x, run.y) {
                steps[kind] += 1;
            }
        }
    }
    let [straight, diagonal, corner] = steps.map(f64::from);
    let root = std::f64::consts::SQRT_2;
    straight + diagonal * root + corner * (1.0 + root) / 2.0
}

/// How the perimeter passes a pixel of the border: 0 straight on, 1 diagonally, 2 from one to the other; none if it does
/// not.
fn perimeter_step(labels: &Labels, id: u32, x: usize, y: usize) -> Option<usize> {
    let passes = |&(dx, dy): &(isize, isize)| {
        neighbour(labels.size, x, y, dx, dy).is_some_and(|(x, y)| is_border(labels, id, x, y))
    };
    let edges = [(0, -1), (-1, 0), (1, 0), (0, 1)].iter().filter(|at| passes(at)).count();
    let corners = [(-1, -1), (1, -1), (-1, 1), (1, 1)].iter().filter(|at| passes(at)).count();
    match (edges, corners) {
        (2 | 3, 0..=2) => Some(0),
        (0, 2) | (1, 3) => Some(1),
        (1, 1) | (1, 2) => Some(2),
        _ => None,
    }
}

/// Is the pixel part of the object and next to one that is not? Beyond the picture's border nothing is.
fn is_border(labels: &Labels, id: u32, x: usize, y: usize) -> bool {
    let belongs = |dx: isize, dy: isize| {
        neighbour(labels.size, x, y, dx, dy).is_some_and(|(x, y)| labels.ids[labels.size.index(x, y)] == id)
    };
    belongs(0, 0) && !(belongs(0, -1) && belongs(-1, 0) && belongs(1, 0) && belongs(0, 1))
}

fn neighbour(size: Size, x: usize, y: usize, dx: isize, dy: isize) -> Option<(usize, usize)> {
    let (x, y) = (x.checked_add_signed(dx)?, y.checked_add_signed(dy)?);
    (x < size.width_px && y < size.height_px).then_some((x, y))
}

/// Number of pixels whose centre is in the convex hull of the middles of the object's pixel edges.
///
/// In half pixels all points are integers. The hull's left side bounds x from below, its right side from
/// above; each is a chain over the rows, and the right one is the left one of the mirrored object.
fn hull_area_px(runs: &[Run], bounds: PixelBox) -> usize {
    let left = runs.iter().map(|run| (2 * run.start as i64, 2 * (run.y - bounds.min_y_px) as i64));
    let right = runs.iter().map(|run| (2 - 2 * run.end as i64, 2 * (run.y - bounds.min_y_px) as i64));
    let rows = bounds.max_y_px - bounds.min_y_px;
    let (left, right) = (hull_side(left, rows), hull_side(right, rows));
    left.into_iter().zip(right).map(|(left, right)| (1 - left - right).max(0) as usize).sum()
}

/// First column of the hull in each row, from centres (x, y) in half pixels in the order of y.
fn hull_side(centres: impl Iterator<Item = (i64, i64)>, rows: usize) -> Vec<i64> {
    let mut chain = Vec::new();
    let mut leftmost = vec![i64::MAX; 2 * rows + 1];
    for (x, y) in centres {
        for (x, y) in [(x, y), (x - 1, y + 1), (x, y + 2)] {
            leftmost[y as usize] = x.min(leftmost[y as usize]);
        }
    }
    for (y, &x) in leftmost.iter().enumerate().filter(|(_, x)| **x != i64::MAX) {
        push_convex(&mut chain, (x, y as i64));
    }
    first_columns(&chain, rows)
}

/// Adds a point below all others to a chain that turns one way only, so that nothing lies left of it.
fn push_convex(chain: &mut Vec<(i64, i64)>, (x, y): (i64, i64)) {
    while let [.., (first_x, first_y), (middle_x, middle_y)] = chain[..] {
        let middle_is_left = (middle_x - first_x) * (y - first_y) < (x - first_x) * (middle_y - first_y);
        if middle_is_left {
            break;
        }
        chain.pop();
    }
    chain.push((x, y));
}

/// The first whole pixel at or right of the chain, in each row's middle (half-pixel rows 1, 3, 5 …).
fn first_columns(chain: &[(i64, i64)], rows: usize) -> Vec<i64> {
    let mut columns = Vec::with_capacity(rows);
    let mut middle = 1;
    for ((x, y), (next_x, next_y)) in chain.iter().copied().zip(chain.iter().copied().skip(1)) {
        let drop = next_y - y;
        while middle <= next_y && columns.len() < rows {
            // The smallest column with 2 * column ≥ x + (next_x - x) * (middle - y) / drop.
            let scaled = x * drop + (next_x - x) * (middle - y);
            columns.push(-(-scaled).div_euclid(2 * drop));
            middle += 2;
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_squares_are_the_same_either_way() {
        let step = |n: usize| squares_up_to(n) - squares_up_to(n - 1);
        for n in [1, 2, 999_998, 999_999, 1_000_000, 1_000_001] {
            assert_eq!(step(n), (n as i128).pow(2), "{n}");
        }
        assert_eq!((squares_up_to(0), squares_up_to(4)), (0, 30));
    }

    #[test]
    fn runs_are_sorted_alike_with_small_and_with_huge_ids() {
        let runs = |scale: u32| -> Vec<Run> {
            (0..500u32).map(|i| Run { id: 1 + i * 7 % 40 * scale, y: i as usize, start: 0, end: 1 }).collect()
        };
        let rows = |runs: Vec<Run>| -> Vec<usize> { runs.into_iter().map(|run| run.y).collect() };
        let mut expected = runs(1);
        expected.sort_by_key(|run| run.id);
        let expected = rows(expected);
        assert_eq!(
            (rows(sorted_by_id(runs(1))), rows(sorted_by_id(runs(90_000_000)))),
            (expected.clone(), expected)
        );
        assert!(sorted_by_id(Vec::new()).is_empty());
    }
}
