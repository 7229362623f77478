//! Our query: fine, soft, smooth.

use super::cells::means_of_squares;
use super::{Answer, QuerySettings};
use crate::context::Context;
use crate::slides::view::View;
use crate::tissue::clusters::cosines_to;
use crate::tissue::dictionary::Dictionary;
use crate::tissue::encoder::{CellMap, CellPlace, Reading};
use crate::tissue::look::Look;
use microtome_kernels::Size;
use microtome_kernels::gaussian::gaussian_blur;
use microtome_kernels::kmeans::{Points, Settings, k_means};
use microtome_nets::random::{Purpose, stream};
use microtome_vault::Result;
use rand::Rng;
use rayon::prelude::*;

/// Places are no coarser than this, if need be by encoding several times, moved by as much.
const COARSEST_PX: usize = 16;
/// Share of a cell's weights that is the mean of the cells that are alike in its picture.
const ALIKE_SHARE: f32 = 0.5;
/// Local clusters for each class, as in the paper's query.
const CLUSTERS_A_CLASS: usize = 5;
/// Iterations of the local k-means.
const ITERATIONS: usize = 20;
/// Deviations of the smoothing that its neighbourhood reaches to.
const REACH_SIGMAS: f32 = 3.0;

/// Pixels of the view that a place is wide.
pub(super) fn side_px(dictionary: &Dictionary, level: usize) -> usize {
    dictionary.encoder.stride_px(level).min(COARSEST_PX)
}

/// The classes of a window.
pub(super) fn fine(
    dictionary: &Dictionary,
    view: &View<'_>,
    look: &Look,
    place: CellPlace,
    (settings, window): (&QuerySettings, usize),
    context: &Context<'_>,
) -> Result<Answer> {
    let side_px = side_px(dictionary, place.level);
    let stride = dictionary.encoder.stride_px(place.level);
    let sigma = settings.smoothing_px / side_px as f32;
    let smoothed = (REACH_SIGMAS * sigma).ceil() as usize;
    // Vectors are averaged over what a name was about; a whole tile's are, within the backbone.
    let averaged = match dictionary.encoder.reading {
        Reading::Middle => dictionary.tiles.named_px / side_px / 2,
        Reading::Tile => 0,
    };
    let border_px = (smoothed + averaged) * side_px;
    let wide = CellPlace { border: border_px.div_ceil(stride), ..place };
    let cells = interleaved(dictionary, view, look, wide, stride / side_px, context)?;
    let mut means = means_of_squares(&cells, averaged);
    dictionary.encoder.project(place.level, &mut means.values);
    let (weights, nearness) = weights(dictionary, place.level, &means, settings.temperature);
    let weights = with_alike(weights, &means, (settings.seed, window));
    let own = Size::new(place.size.width_px * stride / side_px, place.size.height_px * stride / side_px);
    let border = wide.border * stride / side_px - averaged;
    let smooth: Vec<Vec<f32>> = weights.par_iter().map(|map| gaussian_blur(map, means.size, sigma)).collect();
    let (mut class, mut confidence, mut near) = (Vec::new(), Vec::new(), Vec::new());
    for row in border..border + own.height_px {
        for column in border..border + own.width_px {
            let at = means.size.index(column, row);
            let best = (0..smooth.len())
                .fold(0, |best, next| if smooth[next][at] > smooth[best][at] { next } else { best });
            class.push(best as u8);
            confidence.push(smooth[best][at]);
            near.push(nearness[at]);
        }
    }
    Ok(Answer { class, confidence, nearness: near })
}

/// Weights of which half are those of the cell itself and half the mean of the cells of its picture that are alike: what the
/// dictionary takes for one class here and for another there, although it is the same tissue of the same picture, is decided
/// by the most.
fn with_alike(weights: Vec<Vec<f32>>, cells: &CellMap, (seed, window): (u64, usize)) -> Vec<Vec<f32>> {
    let points = Points::new(&cells.values, cells.dimensions);
    let clusters = (CLUSTERS_A_CLASS * weights.len()).min(points.len());
    let clustering = Settings { clusters, most_iterations: ITERATIONS, is_spherical: true };
    let mut random = stream(seed, Purpose::Clusters, 2_000_000 + window as u64);
    let local = k_means(points, clustering, &mut || random.random::<f64>());
    let mut counts = vec![0.0f64; clusters];
    local.assignment.iter().for_each(|cluster| counts[*cluster as usize] += 1.0);
    let blended = |map: &Vec<f32>| -> Vec<f32> {
        let mut sums = vec![0.0f64; clusters];
        for (weight, cluster) in map.iter().zip(&local.assignment) {
            sums[*cluster as usize] += f64::from(*weight);
        }
        let mean = |cluster: u32| (sums[cluster as usize] / counts[cluster as usize].max(1.0)) as f32;
        map.iter()
            .zip(&local.assignment)
            .map(|(own, cluster)| (1.0 - ALIKE_SHARE) * own + ALIKE_SHARE * mean(*cluster))
            .collect()
    };
    weights.par_iter().map(blended).collect()
}

/// Cells between the cells of a coarse map: the slide is encoded `times`² times, moved by a part of the stride.
fn interleaved(
    dictionary: &Dictionary,
    view: &View<'_>,
    look: &Look,
    place: CellPlace,
    times: usize,
    context: &Context<'_>,
) -> Result<CellMap> {
    if times <= 1 {
        return dictionary.encoder.cells(view, look, place, context);
    }
    let stride = dictionary.encoder.stride_px(place.level);
    let dimensions = dictionary.encoder.dimensions(place.level);
    let coarse = Size::new(place.size.width_px + 2 * place.border, place.size.height_px + 2 * place.border);
    let size = Size::new(coarse.width_px * times, coarse.height_px * times);
    context.budget.grant("the finer map of this window", size.area_px() as u64, 4 * dimensions as u64)?;
    let mut values = vec![0.0; size.area_px() * dimensions];
    // A cell of the finer map is in the middle of what the moved coarse cell covers.
    let shift = |step: usize| ((2 * step + 1) * stride / (2 * times)) as i64 - (stride / 2) as i64;
    for (across, down) in (0..times * times).map(|step| (step % times, step / times)) {
        context.check_cancelled()?;
        let moved = CellPlace { shift_px: [shift(across), shift(down)], ..place };
        let cells = dictionary.encoder.cells(view, look, moved, context)?;
        for row in 0..coarse.height_px {
            for column in 0..coarse.width_px {
                let to = size.index(column * times + across, row * times + down) * dimensions;
                let from = coarse.index(column, row) * dimensions;
                values[to..to + dimensions].copy_from_slice(&cells.values[from..from + dimensions]);
            }
        }
    }
    Ok(CellMap { size, stride_px: stride / times, dimensions, values })
}

/// How much each class weighs at each cell, a map each, and the cosine to the nearest prototype: prototypes weigh as e to the
/// power of their cosine over the temperature, in units of the prototypes' own distances, and stand for their class by the share of it that was seen in them, for all
/// others together by the rest.
fn weights(
    dictionary: &Dictionary,
    level: usize,
    cells: &CellMap,
    temperature: f32,
) -> (Vec<Vec<f32>>, Vec<f32>) {
    let classes = dictionary.classes.len();
    let centroids = &dictionary.centroids[&level];
    let cosines = cosines_to(&cells.values, centroids, cells.dimensions);
    let temperature = temperature * spread(centroids, cells.dimensions);
    let of_cell = |cosines: &[f32]| {
        let highest = cosines.iter().copied().fold(f32::MIN, f32::max);
        let (mut weights, mut sum) = (vec![0.0f32; classes], 0.0);
        for (prototype, cosine) in dictionary.prototypes.iter().zip(cosines) {
            let weight = ((cosine - highest) / temperature).exp();
            let share = prototype.share as f32;
            let rest = weight * (1.0 - share) / (classes - 1).max(1) as f32;
            for (class, sum) in weights.iter_mut().enumerate() {
                *sum += if class == prototype.class { weight * share } else { rest };
            }
            sum += weight;
        }
        weights.iter_mut().for_each(|weight| *weight /= sum);
        (weights, highest)
    };
    let all: Vec<(Vec<f32>, f32)> =
        cosines.par_chunks_exact(dictionary.prototypes.len()).map(of_cell).collect();
    let map = |class: usize| all.iter().map(|(weights, _)| weights[class]).collect();
    ((0..classes).map(map).collect(), all.iter().map(|(_, highest)| *highest).collect())
}

/// How far prototypes are from their nearest neighbours: the mean of one less their highest cosine to another. Encoders differ
/// in it by a factor of a thousand, an untaught one hardly tells anything apart.
fn spread(centroids: &[f32], dimensions: usize) -> f32 {
    let count = centroids.len() / dimensions;
    if count < 2 {
        return 1.0;
    }
    let cosines = cosines_to(centroids, centroids, dimensions);
    let nearest = |own: usize| {
        let others = (0..count).filter(|other| *other != own);
        others.map(|other| cosines[own * count + other]).fold(-1.0, f32::max)
    };
    let mean = (0..count).map(|own| 1.0 - nearest(own)).sum::<f32>() / count as f32;
    mean.max(f32::EPSILON)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_the_mean_distance_to_the_nearest_other_prototype() {
        let half = 0.5f32.sqrt();
        // Cosines: first and second √½, first and third 0, second and third √½.
        let found = spread(&[1.0, 0.0, half, half, 0.0, 1.0], 2);
        assert!((found - (1.0 - half)).abs() < 1e-6, "{found}");
        assert_eq!(spread(&[1.0, 0.0], 2), 1.0);
        assert!(spread(&[1.0, 0.0, 1.0, 0.0], 2) > 0.0);
    }
}
