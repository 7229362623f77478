//! Components, morphology and distances against flood fills and searches over all pixels.

use super::pictures::{at, for_many_sizes, on_any_threads, pixels, random_ids, random_mask};
use microtome_kernels::components::{Connectivity, Pieces, areas_px, extents, label_components};
use microtome_kernels::distance::distance_to_background_px;
use microtome_kernels::morphology::*;
use microtome_kernels::{Labels, Size};
use rand::Rng;

fn neighbours(connectivity: Connectivity) -> Vec<(i64, i64)> {
    let all = (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dx, dy)));
    let furthest = if connectivity == Connectivity::Four { 1 } else { 2 };
    all.filter(|(dx, dy): &(i64, i64)| (1..=furthest).contains(&(dx.abs() + dy.abs()))).collect()
}

/// Flood fill from each pixel that has no number yet.
pub(crate) fn naive_components(mask: &[bool], size: Size, connectivity: Connectivity) -> Vec<u32> {
    let mut ids = vec![0; mask.len()];
    let mut next = 0;
    for start in 0..mask.len() {
        if mask[start] && ids[start] == 0 {
            next += 1;
            ids[start] = next;
            let mut stack = vec![((start % size.width_px) as i64, (start / size.width_px) as i64)];
            while let Some((x, y)) = stack.pop() {
                for (dx, dy) in neighbours(connectivity) {
                    if at(mask, size, x + dx, y + dy) == Some(true)
                        && at(&ids, size, x + dx, y + dy) == Some(0)
                    {
                        ids[size.index((x + dx) as usize, (y + dy) as usize)] = next;
                        stack.push((x + dx, y + dy));
                    }
                }
            }
        }
    }
    ids
}

#[test]
fn components_are_those_of_a_flood_fill() {
    for_many_sizes(1, 30, |size, rng| {
        let mask = random_mask(size, rng);
        for connectivity in [Connectivity::Four, Connectivity::Eight] {
            let labels = label_components(&mask, size, connectivity);
            assert_eq!(labels.ids, naive_components(&mask, size, connectivity), "{size} {connectivity:?}");
            let pieces = Pieces::of(&mask, size, connectivity);
            let extents = extents(&labels);
            assert_eq!(pieces.count(), labels.highest_id() as usize, "{size} {connectivity:?}");
            let mut ids = vec![0; size.area_px()];
            for number in 0..pieces.count() {
                let piece = pieces.piece(number);
                piece.runs.iter().for_each(|run| ids[run.range()].fill(number as u32 + 1));
                assert_eq!(Some(piece.bounds), extents[number + 1].map(|extent| extent.bounds));
                assert!(piece.runs.is_sorted_by_key(|run| run.range().start));
            }
            assert_eq!(ids, labels.ids, "{size} {connectivity:?}");
        }
    });
}

#[test]
fn areas_are_counted() {
    for_many_sizes(2, 20, |size, rng| {
        let labels = Labels { size, ids: random_ids(size, 7, rng) };
        let count = |id| labels.ids.iter().filter(|&&at| at == id).count();
        let expected: Vec<usize> = (0..=labels.highest_id()).map(count).collect();
        assert_eq!(areas_px(&labels), expected);
    });
}

/// Looks at the whole disk around each pixel; what is outside the picture counts as `!wanted`.
fn naive_any_in_disk(mask: &[bool], size: Size, radius: i64, wanted: bool) -> Vec<bool> {
    let reach = radius.min((size.width_px + size.height_px) as i64);
    let offsets = (-reach..=reach).flat_map(|dy| (-reach..=reach).map(move |dx| (dx, dy)));
    let disk: Vec<_> = offsets.filter(|(dx, dy)| dx * dx + dy * dy <= radius * radius).collect();
    let any = |(x, y)| disk.iter().any(|(dx, dy)| at(mask, size, x + dx, y + dy) == Some(wanted));
    pixels(size).map(any).collect()
}

fn naive_dilate(mask: &[bool], size: Size, radius: usize) -> Vec<bool> {
    naive_any_in_disk(mask, size, radius as i64, true)
}

fn naive_erode(mask: &[bool], size: Size, radius: usize) -> Vec<bool> {
    naive_any_in_disk(mask, size, radius as i64, false).into_iter().map(|any| !any).collect()
}

#[test]
fn disks_erode_and_dilate_as_a_search_over_the_disk() {
    for_many_sizes(3, 18, |size, rng| {
        let mask = random_mask(size, rng);
        let radius = [0, 1, 2, 3, 5, 7, 40][rng.random_range(0..7)];
        let (dilated, eroded) = (naive_dilate(&mask, size, radius), naive_erode(&mask, size, radius));
        assert_eq!(dilate_disk(&mask, size, radius), dilated, "{size} {radius}");
        assert_eq!(erode_disk(&mask, size, radius), eroded, "{size} {radius}");
        assert_eq!(open_disk(&mask, size, radius), naive_dilate(&eroded, size, radius), "{size} {radius}");
        assert_eq!(close_disk(&mask, size, radius), naive_erode(&dilated, size, radius), "{size} {radius}");
    });
}

#[test]
fn bands_of_a_tall_mask_meet_without_a_seam() {
    for_many_sizes(4, 1, |_, rng| {
        let size = Size::new(rng.random_range(1..4), rng.random_range(120..300));
        let mask: Vec<bool> = (0..size.area_px()).map(|_| rng.random_bool(0.05)).collect();
        let radius = rng.random_range(0..9);
        assert_eq!(dilate_disk(&mask, size, radius), naive_dilate(&mask, size, radius), "{size} {radius}");
    });
}

#[test]
fn a_disk_of_any_radius_is_answered() {
    let size = Size::new(3, 2);
    let mask = [true, false, false, false, false, false];
    assert_eq!(dilate_disk(&mask, size, usize::MAX), [true; 6]);
    assert_eq!(erode_disk(&mask, size, usize::MAX), [false; 6]);
}

/// Background components, by flood fill, that keep away from the border and have an area that `is_hole`
/// accepts.
fn naive_fill(mask: &[bool], size: Size, is_hole: impl Fn(usize) -> bool) -> Vec<bool> {
    let background: Vec<bool> = mask.iter().map(|inside| !inside).collect();
    let ids = naive_components(&background, size, Connectivity::Four);
    let filled = |(index, &id): (usize, &u32)| {
        let pixels = || pixels(size).zip(&ids).filter(|(_, at)| **at == id).map(|(pixel, _)| pixel);
        let (right, bottom) = (size.width_px as i64 - 1, size.height_px as i64 - 1);
        let inner = pixels().all(|(x, y)| x > 0 && y > 0 && x < right && y < bottom);
        mask[index] || inner && is_hole(pixels().count())
    };
    ids.iter().enumerate().map(filled).collect()
}

#[test]
fn holes_are_filled_and_crumbs_removed_as_by_flood_fill() {
    for_many_sizes(5, 14, |size, rng| {
        let mask = random_mask(size, rng);
        let limit = rng.random_range(0..12);
        assert_eq!(fill_holes(&mask, size), naive_fill(&mask, size, |_| true), "{size}");
        assert_eq!(
            fill_small_holes(&mask, size, limit),
            naive_fill(&mask, size, |area| area <= limit),
            "{size}"
        );
        let ids = naive_components(&mask, size, Connectivity::Eight);
        let large = |&id: &u32| id > 0 && ids.iter().filter(|&&at| at == id).count() >= limit;
        assert_eq!(remove_small(&mask, size, limit), ids.iter().map(large).collect::<Vec<_>>(), "{size}");
    });
}

fn naive_distances(mask: &[bool], size: Size) -> Vec<f32> {
    let outside = pixels(Size::new(size.width_px + 2, size.height_px + 2)).map(|(x, y)| (x - 1, y - 1));
    let none = mask.iter().all(|&inside| inside);
    let background: Vec<_> =
        outside.filter(|&(x, y)| at(mask, size, x, y).map_or(none, |inside| !inside)).collect();
    let nearest =
        |(x, y): (i64, i64)| background.iter().map(|(bx, by)| (bx - x).pow(2) + (by - y).pow(2)).min();
    pixels(size).map(|pixel| (nearest(pixel).unwrap() as f64).sqrt() as f32).collect()
}

#[test]
fn distances_are_those_to_the_nearest_background_pixel() {
    for_many_sizes(6, 24, |size, rng| {
        let mask = random_mask(size, rng);
        assert_eq!(distance_to_background_px(&mask, size), naive_distances(&mask, size), "{size}");
    });
    for_many_sizes(7, 1, |_, rng| {
        let size = Size::new(rng.random_range(60..200), rng.random_range(1..3));
        let mask: Vec<bool> = (0..size.area_px()).map(|_| rng.random_bool(0.97)).collect();
        assert_eq!(distance_to_background_px(&mask, size), naive_distances(&mask, size), "{size}");
    });
    // Strips of more than one, on one thread as on several.
    let size = Size::new(1100, 12);
    let mask: Vec<bool> = (0..size.area_px()).map(|at| at * 7919 % 211 > 0).collect();
    assert_eq!(distance_to_background_px(&mask, size), naive_distances(&mask, size));
}

#[test]
fn masks_do_not_depend_on_the_number_of_threads() {
    for_many_sizes(8, 1, |_, rng| {
        if rng.random_bool(0.01) {
            let size = Size::new(rng.random_range(1..300), rng.random_range(1..300));
            let mask = random_mask(size, rng);
            on_any_threads(|| (distance_to_background_px(&mask, size), open_disk(&mask, size, 5)));
        }
    });
}
