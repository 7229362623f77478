//! Measurements of regions against their definitions on whole masks.

use super::pictures::{at, for_many_sizes, on_any_threads, pixels, random_ids};
use microtome_kernels::region::{PixelBox, Region, measure_regions};
use microtome_kernels::{Labels, Size};

/// One object by whole-picture definitions.
fn naive_region(labels: &Labels, id: u32) -> Region {
    let size = labels.size;
    let mask: Vec<bool> = labels.ids.iter().map(|&at| at == id).collect();
    let own: Vec<(i64, i64)> =
        pixels(size).zip(&mask).filter(|(_, inside)| **inside).map(|(pixel, _)| pixel).collect();
    let mean = |value: &dyn Fn(f64, f64) -> f64| {
        own.iter().map(|&(x, y)| value(x as f64, y as f64)).sum::<f64>() / own.len() as f64
    };
    let (cx, cy) = (mean(&|x, _| x), mean(&|_, y| y));
    let (xx, yy) = (mean(&|x, _| (x - cx).powi(2)), mean(&|_, y| (y - cy).powi(2)));
    let xy = mean(&|x, y| (x - cx) * (y - cy));
    let gap = ((xx - yy).powi(2) / 4.0 + xy * xy).sqrt();
    let (large, small) = ((xx + yy) / 2.0 + gap, ((xx + yy) / 2.0 - gap).max(0.0));
    let axis = |value: i64| value as usize;
    Region {
        id,
        area_px: own.len(),
        centroid_x_px: cx,
        centroid_y_px: cy,
        bounds: PixelBox {
            min_x_px: axis(own.iter().map(|at| at.0).min().unwrap()),
            min_y_px: axis(own.iter().map(|at| at.1).min().unwrap()),
            max_x_px: axis(own.iter().map(|at| at.0).max().unwrap() + 1),
            max_y_px: axis(own.iter().map(|at| at.1).max().unwrap() + 1),
        },
        perimeter_px: naive_perimeter(&mask, size),
        eccentricity: if large > 0.0 { (1.0 - small / large).sqrt() } else { 0.0 },
        solidity: own.len() as f64 / naive_hull_area(&own) as f64,
        major_axis_px: 4.0 * large.sqrt(),
        minor_axis_px: 4.0 * small.sqrt(),
        orientation_rad: 0.5 * (2.0 * xy).atan2(yy - xx),
    }
}

/// The convolution with weights 1, 2 and 10, and the table of the values that count.
fn naive_perimeter(mask: &[bool], size: Size) -> f64 {
    let inside = |x, y| at(mask, size, x, y) == Some(true);
    let border = |x, y| {
        inside(x, y) && !(inside(x - 1, y) && inside(x + 1, y) && inside(x, y - 1) && inside(x, y + 1))
    };
    let value = |x: i64, y: i64| {
        let weights = (-1..=1)
            .flat_map(|dy| (-1..=1).map(move |dx| (dx, dy, [1, 2, 10][(dx * dx + dy * dy) as usize])));
        weights.filter(|&(dx, dy, _)| border(x + dx, y + dy)).map(|(_, _, weight)| weight).sum::<i32>()
    };
    let length = |(x, y)| match value(x, y) {
        5 | 7 | 15 | 17 | 25 | 27 => 1.0,
        21 | 33 => 2.0_f64.sqrt(),
        13 | 23 => (1.0 + 2.0_f64.sqrt()) / 2.0,
        _ => 0.0,
    };
    pixels(size).map(length).sum()
}

/// Pixels whose centre is on no outer side of any line through two edge middles that has all others on one
/// side.
fn naive_hull_area(own: &[(i64, i64)]) -> usize {
    let middles = own
        .iter()
        .flat_map(|&(x, y)| [(1, 0), (-1, 0), (0, 1), (0, -1)].map(|(dx, dy)| (2 * x + dx, 2 * y + dy)));
    let mut points: Vec<(i64, i64)> = middles.collect();
    points.sort_unstable();
    points.dedup();
    let side =
        |a: (i64, i64), b: (i64, i64), p: (i64, i64)| (b.0 - a.0) * (p.1 - a.1) - (b.1 - a.1) * (p.0 - a.0);
    let mut lines = Vec::new();
    for &a in &points {
        for &b in points.iter().filter(|&&b| b != a) {
            if points.iter().all(|&p| side(a, b, p) >= 0) {
                lines.push((a, b));
            }
        }
    }
    let reach = |axis: fn(&(i64, i64)) -> i64| {
        own.iter().map(axis).min().unwrap()..=own.iter().map(axis).max().unwrap()
    };
    let (columns, rows) = (reach(|at| at.0), reach(|at| at.1));
    let centres = rows.flat_map(|y| columns.clone().map(move |x| (2 * x, 2 * y)));
    centres.filter(|&centre| lines.iter().all(|&(a, b)| side(a, b, centre) >= 0)).count()
}

fn assert_alike(got: &Region, expected: &Region) {
    assert_eq!((got.id, got.area_px, got.bounds), (expected.id, expected.area_px, expected.bounds));
    assert_eq!(got.solidity, expected.solidity, "{got:?}");
    let numbers = |region: &Region| {
        [region.centroid_x_px, region.centroid_y_px, region.perimeter_px, region.major_axis_px]
    };
    for (got, expected) in numbers(got).into_iter().zip(numbers(expected)) {
        assert!((got - expected).abs() < 1e-9, "{got} {expected}");
    }
    // A root turns rounding at 0 into its root.
    assert!((got.minor_axis_px - expected.minor_axis_px).abs() < 1e-6, "{got:?} {expected:?}");
    assert!((got.eccentricity.powi(2) - expected.eccentricity.powi(2)).abs() < 1e-9, "{got:?} {expected:?}");
    if expected.eccentricity > 1e-3 {
        // Doubled, so that −π/2 and π/2 are one direction.
        let turn = 2.0 * (got.orientation_rad - expected.orientation_rad);
        assert!(turn.cos() > 1.0 - 1e-9, "{got:?} {expected:?}");
    }
}

#[test]
fn regions_are_measured_by_the_definitions() {
    let mut measured = 0;
    for_many_sizes(41, 9, |size, rng| {
        let labels = Labels { size, ids: random_ids(size, 3, rng) };
        let regions = measure_regions(&labels);
        let ids: Vec<u32> = (1..=3).filter(|id| labels.ids.contains(id)).collect();
        assert_eq!(regions.iter().map(|region| region.id).collect::<Vec<_>>(), ids);
        for region in &regions {
            assert_alike(region, &naive_region(&labels, region.id));
        }
        measured += regions.len();
    });
    assert!(measured > 1_000);
}

#[test]
fn ids_may_be_any_number() {
    let labels = Labels { size: Size::new(3, 1), ids: vec![u32::MAX, 0, 5] };
    let ids: Vec<u32> = measure_regions(&labels).iter().map(|region| region.id).collect();
    assert_eq!(ids, [5, u32::MAX]);
}

#[test]
fn regions_do_not_depend_on_the_number_of_threads() {
    for_many_sizes(42, 1, |_, rng| {
        let size = Size::new(40, 40);
        if rand::Rng::random_bool(rng, 0.02) {
            let labels = Labels { size, ids: random_ids(size, 9, rng) };
            on_any_threads(|| measure_regions(&labels));
        }
    });
}
