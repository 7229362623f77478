//! Outlines drawn again give back the pixels; polygons are filled as by asking every pixel.

use super::masks::naive_components;
use super::pictures::{for_many_sizes, pixels, random_mask};
use microtome_kernels::components::Connectivity;
use microtome_kernels::contours::{Polygon, Vertex, outline};
use microtome_kernels::polygon::{Point, fill_polygon};
use microtome_kernels::region::{PixelBox, measure_regions};
use microtome_kernels::{Labels, Size};
use rand::Rng;
use std::collections::HashSet;

fn labels_of(mask: &[bool], size: Size) -> Labels {
    Labels { size, ids: mask.iter().map(|&inside| 7 * u32::from(inside)).collect() }
}

fn rings(polygon: &Polygon) -> impl Iterator<Item = &Vec<Vertex>> {
    std::iter::once(&polygon.outer).chain(&polygon.holes)
}

/// Twice the area by the shoelace formula, positive if the numbers run counter-clockwise.
fn doubled_area(ring: &[Vertex]) -> i64 {
    let cross = |pair: &[Vertex]| {
        i64::from(pair[0].x) * i64::from(pair[1].y) - i64::from(pair[1].x) * i64::from(pair[0].y)
    };
    ring.windows(2).map(cross).sum()
}

/// Closed, simple, axis-parallel, without vertices on straight lines.
fn assert_well_formed(ring: &[Vertex]) {
    assert!(ring.len() >= 5 && ring.first() == ring.last(), "{ring:?}");
    let corners: Vec<[i32; 2]> = ring.iter().map(|vertex| [vertex.x, vertex.y]).collect();
    let horizontal = |pair: &[[i32; 2]]| pair[0][1] == pair[1][1];
    let mut sides: Vec<bool> = corners.windows(2).map(horizontal).collect();
    sides.push(sides[0]);
    assert!(sides.windows(2).all(|pair| pair[0] != pair[1]), "a vertex on a straight line: {ring:?}");
    let mut visited = HashSet::new();
    for pair in corners.windows(2) {
        let ([mut x, mut y], [to_x, to_y]) = (pair[0], pair[1]);
        assert!(x == to_x || y == to_y);
        while (x, y) != (to_x, to_y) {
            assert!(visited.insert((x, y)), "({x}, {y}) is met twice: {ring:?}");
            (x, y) = (x + (to_x - x).signum(), y + (to_y - y).signum());
        }
    }
}

fn draw(ring: &[Vertex], size: Size, mask: &mut [bool], inside: bool) {
    let points: Vec<Point> = ring
        .iter()
        .map(|vertex| Point { x: f64::from(vertex.x) - 0.5, y: f64::from(vertex.y) - 0.5 })
        .collect();
    fill_polygon(&points, size, |index| {
        assert_ne!(mask[index], inside, "drawn twice");
        mask[index] = inside;
    });
}

#[test]
fn outlines_drawn_again_are_the_pixels() {
    let mut polygon_count = 0;
    for_many_sizes(31, 16, |size, rng| {
        let mask = random_mask(size, rng);
        let labels = labels_of(&mask, size);
        let mut drawn = vec![false; mask.len()];
        for region in measure_regions(&labels) {
            let polygons = outline(&labels, &region);
            let parts = naive_components(&mask, size, Connectivity::Four).into_iter().max();
            assert_eq!(polygons.len() as u32, parts.unwrap_or(0));
            for polygon in &polygons {
                rings(polygon).for_each(|ring| assert_well_formed(ring));
                assert!(doubled_area(&polygon.outer) > 0);
                assert!(polygon.holes.iter().all(|hole| doubled_area(hole) < 0));
                draw(&polygon.outer, size, &mut drawn, true);
                polygon.holes.iter().for_each(|hole| draw(hole, size, &mut drawn, false));
            }
            polygon_count += polygons.len();
        }
        assert_eq!(drawn, mask, "{size}");
    });
    assert!(polygon_count > 1_000);
}

#[test]
fn the_outline_of_one_pixel_and_of_none() {
    let labels = labels_of(&[false, true], Size::new(2, 1));
    let mut region = measure_regions(&labels).remove(0);
    let corners = [(1, 0), (2, 0), (2, 1), (1, 1), (1, 0)];
    let mut ring: Vec<(i32, i32)> =
        outline(&labels, &region)[0].outer.iter().map(|vertex| (vertex.x, vertex.y)).collect();
    ring.pop();
    let first = ring.iter().position(|&corner| corner == corners[0]).unwrap();
    ring.rotate_left(first);
    assert_eq!(ring, corners[..4]);
    region.bounds = PixelBox { min_x_px: 5, min_y_px: 9, max_x_px: 70, max_y_px: 1 };
    assert_eq!(outline(&labels, &region), []);
}

/// Even-odd: edges that a ray from the centre to the right crosses.
fn naive_inside(vertices: &[Point], x: f64, y: f64) -> bool {
    let next = vertices.iter().cycle().skip(1);
    let crossed = vertices.iter().zip(next).filter(|(a, b)| {
        let at = || a.x + (y - a.y) / (b.y - a.y) * (b.x - a.x);
        (a.y <= y) != (b.y <= y) && at() > x
    });
    crossed.count() % 2 == 1
}

#[test]
fn polygons_are_filled_as_by_asking_every_pixel() {
    for_many_sizes(32, 20, |size, rng| {
        let spread = [3.0, 12.0, 30.0, 500.0][rng.random_range(0..4)];
        let mut coordinate = || rng.random_range(-spread..spread) + 8.0;
        let vertices: Vec<Point> = (0..9).map(|_| Point { x: coordinate(), y: coordinate() }).collect();
        let vertices = &vertices[..rng.random_range(0..=9)];
        let mut filled = vec![false; size.area_px()];
        fill_polygon(vertices, size, |index| filled[index] = true);
        let expected: Vec<bool> =
            pixels(size).map(|(x, y)| naive_inside(vertices, x as f64, y as f64)).collect();
        assert_eq!(filled, expected, "{size} {vertices:?}");
    });
}

#[test]
fn strange_polygons_are_answered() {
    const STRANGE: [f64; 9] =
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e308, -1e308, 1e18, -3.0, 0.0, 4.0];
    for_many_sizes(33, 9, |size, rng| {
        let mut coordinate = || STRANGE[rng.random_range(0..STRANGE.len())];
        let vertices: Vec<Point> = (0..6).map(|_| Point { x: coordinate(), y: coordinate() }).collect();
        fill_polygon(&vertices, size, |index| assert!(index < size.area_px()));
    });
    let huge = [(-1e300, -1e300), (1e300, -1e300), (1e300, 1e300), (f64::NAN, 0.0), (-1e300, 1e300)];
    let mut count = 0;
    fill_polygon(&huge.map(|(x, y)| Point { x, y }), Size::new(5, 4), |_| count += 1);
    assert_eq!(count, 20);
}
