//! Maxima and watershed against definitions applied until nothing changes.

use super::masks::naive_components;
use super::pictures::{at, for_many_sizes, pixels, random_ids, random_mask, random_values};
use microtome_kernels::components::Connectivity;
use microtome_kernels::maxima::h_maxima;
use microtome_kernels::watershed::watershed;
use microtome_kernels::{Labels, Size};
use rand::Rng;

fn around(values: &[f32], size: Size, (x, y): (i64, i64)) -> Vec<f32> {
    let offsets = (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dx, dy)));
    offsets.filter(|&at| at != (0, 0)).filter_map(|(dx, dy)| at(values, size, x + dx, y + dy)).collect()
}

/// Dilates under the ceiling until nothing changes; then each plateau is asked for higher neighbours.
fn naive_h_maxima(values: &[f32], size: Size, h: f32) -> Vec<u32> {
    let bottom = |value: f32| if value.is_nan() { f32::NEG_INFINITY } else { value };
    let ceiling: Vec<f32> = values.iter().map(|&value| bottom(value)).collect();
    let mut grown: Vec<f32> = ceiling.iter().map(|&value| bottom(value - h)).collect();
    loop {
        let highest = |pixel| around(&grown, size, pixel).into_iter().fold(f32::NEG_INFINITY, f32::max);
        let next: Vec<f32> = pixels(size)
            .zip(grown.iter().zip(&ceiling))
            .map(|(pixel, (&grown, &ceiling))| highest(pixel).max(grown).min(ceiling))
            .collect();
        if next == grown {
            break;
        }
        grown = next;
    }
    let mut maximal = vec![false; values.len()];
    for &level in &grown {
        let plateaus: Vec<bool> = grown.iter().map(|&value| value == level).collect();
        let ids = naive_components(&plateaus, size, Connectivity::Eight);
        for id in 1..=ids.iter().copied().max().unwrap_or(0) {
            let plateau = || pixels(size).zip(&ids).filter(|(_, at)| **at == id).map(|(pixel, _)| pixel);
            let higher =
                plateau().any(|pixel| around(&grown, size, pixel).iter().any(|&value| value > level));
            let is_maximum = !higher && plateau().count() < values.len();
            plateau().for_each(|(x, y)| maximal[size.index(x as usize, y as usize)] = is_maximum);
        }
    }
    naive_components(&maximal, size, Connectivity::Eight)
}

#[test]
fn maxima_are_those_of_the_definition() {
    for_many_sizes(11, 9, |size, rng| {
        let values = random_values(size, rng);
        let h = [0.0, 0.5, 1.0, 2.0, 3.3, 20.0][rng.random_range(0..6)];
        assert_eq!(h_maxima(&values, size, h).ids, naive_h_maxima(&values, size, h), "{size} {h} {values:?}");
    });
}

#[test]
fn a_strange_height_is_answered() {
    let (size, values) = (Size::new(3, 1), [1.0, 0.0, 2.0]);
    assert_eq!(h_maxima(&values, size, f32::NAN).ids, [1, 0, 2]);
    assert_eq!(h_maxima(&values, size, -1.0).ids, [1, 0, 2]);
    assert_eq!(h_maxima(&values, size, f32::INFINITY).ids, [0, 0, 0]);
}

/// The flood with a list instead of a queue: searched each time for the lowest, then oldest, then first
/// pixel.
fn naive_watershed(elevation: &[f32], markers: &Labels, mask: &[bool], eight: bool) -> Vec<u32> {
    let size = markers.size;
    let level = |index: usize| if elevation[index].is_nan() { f64::MAX } else { f64::from(elevation[index]) };
    let mut ids: Vec<u32> =
        markers.ids.iter().zip(mask).map(|(&id, &inside)| id * u32::from(inside)).collect();
    let mut list: Vec<(f64, usize, usize)> =
        (0..ids.len()).filter(|&index| ids[index] > 0).map(|index| (level(index), 0, index)).collect();
    let mut age = 0;
    while let Some(first) = (0..list.len()).min_by(|&a, &b| list[a].partial_cmp(&list[b]).unwrap()) {
        let (reached, _, index) = list.swap_remove(first);
        let (x, y) = ((index % size.width_px) as i64, (index / size.width_px) as i64);
        let edges = [(0, -1), (-1, 0), (1, 0), (0, 1)];
        let corners = [(-1, -1), (1, -1), (-1, 1), (1, 1)];
        for (dx, dy) in edges.into_iter().chain(corners.into_iter().filter(|_| eight)) {
            if at(mask, size, x + dx, y + dy) == Some(true) && at(&ids, size, x + dx, y + dy) == Some(0) {
                let next = size.index((x + dx) as usize, (y + dy) as usize);
                age += 1;
                ids[next] = ids[index];
                list.push((level(next).max(reached), age, next));
            }
        }
    }
    ids
}

#[test]
fn the_flood_is_that_of_a_searched_list() {
    for_many_sizes(12, 12, |size, rng| {
        let elevation: Vec<f32> = random_values(size, rng)
            .into_iter()
            .map(|value| if value == f32::INFINITY { 9.0 } else { value })
            .collect();
        let markers = Labels {
            size,
            ids: random_ids(size, 4, rng).iter().map(|&id| id * rng.random_range(0..2)).collect(),
        };
        let mask = random_mask(size, rng);
        for (connectivity, eight) in [(Connectivity::Four, false), (Connectivity::Eight, true)] {
            let labels = watershed(elevation.clone(), markers.clone(), mask.clone(), connectivity);
            assert_eq!(
                labels.ids,
                naive_watershed(&elevation, &markers, &mask, eight),
                "{size} {connectivity:?}"
            );
        }
    });
}

#[test]
fn infinity_is_flooded_before_nan() {
    let markers = Labels { size: Size::new(5, 1), ids: vec![1, 0, 0, 0, 2] };
    let elevation = vec![0.0, f32::NAN, 1.0, f32::INFINITY, 0.0];
    assert_eq!(watershed(elevation, markers, vec![true; 5], Connectivity::Four).ids, [1, 1, 2, 2, 2]);
}
