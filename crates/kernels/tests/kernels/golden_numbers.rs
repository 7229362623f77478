//! One picture, and what scikit-image and SciPy make of it.

use super::golden::*;
use microtome_kernels::components::Connectivity;
use microtome_kernels::distance::distance_to_background_px;
use microtome_kernels::gaussian::gaussian_blur;
use microtome_kernels::morphology::{close_disk, erode_disk, open_disk};
use microtome_kernels::polygon::{Point, fill_polygon};
use microtome_kernels::region::{Region, measure_regions};
use microtome_kernels::stain::{StainMatrix, concentrations};
use microtome_kernels::threshold::otsu;
use microtome_kernels::watershed::watershed;
use microtome_kernels::{Labels, Size};

const SIZE: Size = Size::new(WIDTH_PX, HEIGHT_PX);

fn assert_close(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= 2e-6 * expected.abs().max(1.0), "{got} {expected}");
    }
}

fn flags(numbers: &[u8]) -> Vec<bool> {
    numbers.iter().map(|&number| number > 0).collect()
}

#[test]
fn smoothing_and_threshold() {
    assert_close(&gaussian_blur(&VALUES, SIZE, 1.5), &GAUSSIAN_1_5);
    let threshold = otsu(&VALUES).unwrap();
    assert_close(&[threshold], &OTSU);
    assert_eq!(VALUES.map(|value| value > threshold).to_vec(), flags(&MASK));
}

#[test]
fn distances_and_morphology() {
    let mask = flags(&MASK);
    assert_close(&distance_to_background_px(&mask, SIZE), &DISTANCE_PX);
    assert_eq!(erode_disk(&mask, SIZE, 1), flags(&ERODED_1));
    assert_eq!(open_disk(&mask, SIZE, 2), flags(&OPENED_2));
    assert_eq!(close_disk(&mask, SIZE, 2), flags(&CLOSED_2));
}

#[test]
fn basins() {
    let markers = Labels { size: SIZE, ids: MARKERS.to_vec() };
    let flood = |connectivity| {
        watershed(VALUES.map(|value| -value).to_vec(), markers.clone(), flags(&FLOODED), connectivity).ids
    };
    assert_eq!(flood(Connectivity::Four), WATERSHED_FOUR);
    assert_eq!(flood(Connectivity::Eight), WATERSHED_EIGHT);
}

fn numbers_of(region: &Region) -> [f64; 14] {
    let bounds = region.bounds;
    let sides = [bounds.min_x_px, bounds.min_y_px, bounds.max_x_px, bounds.max_y_px].map(|side| side as f64);
    [
        f64::from(region.id),
        region.area_px as f64,
        region.centroid_x_px,
        region.centroid_y_px,
        sides[0],
        sides[1],
        sides[2],
        sides[3],
        region.perimeter_px,
        region.eccentricity,
        region.solidity,
        region.major_axis_px,
        region.minor_axis_px,
        region.orientation_rad,
    ]
}

#[test]
fn regions() {
    let regions = measure_regions(&Labels { size: SIZE, ids: WATERSHED_FOUR.to_vec() });
    assert_eq!(regions.len(), REGIONS.len());
    for (region, expected) in regions.iter().zip(REGIONS) {
        for (got, expected) in numbers_of(region).into_iter().zip(expected) {
            assert!((got - expected).abs() < 1e-9, "{region:?} {expected}");
        }
    }
}

#[test]
fn polygon() {
    let points: Vec<Point> = POLYGON_XY.as_chunks::<2>().0.iter().map(|&[x, y]| Point { x, y }).collect();
    let mut filled = vec![false; SIZE.area_px()];
    fill_polygon(&points, SIZE, |index| filled[index] = true);
    assert_eq!(filled, flags(&POLYGON_FILLED));
}

#[test]
fn unmixing() {
    let planes = concentrations(&RGB, &StainMatrix::ruifrok_johnston());
    for (stain, plane) in planes.iter().enumerate() {
        let expected: Vec<f32> = CONCENTRATIONS.iter().copied().skip(stain).step_by(3).collect();
        assert_close(plane, &expected);
    }
}
