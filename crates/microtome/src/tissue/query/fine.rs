//! Our query: fine, soft, smooth.

use super::cells::means_of_squares;
use super::kept::Keeper;
use super::seen::Seen;
use super::{Answer, Question};
use crate::context::Context;
use crate::tissue::clusters::cosines_to;
use crate::tissue::dictionary::Dictionary;
use crate::tissue::encoder::{CellMap, CellPlace, Reading};
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

/// What a window and its surroundings are made of, in places.
struct Extents {
    /// Standard deviation of the smoothing.
    sigma: f32,
    /// Places on each side that a vector is averaged over.
    averaged: usize,
    /// Cells on each side that are looked at beside the window.
    border: usize,
    /// Places within a cell, along a side.
    finer: usize,
}

impl Extents {
    fn of(question: &Question<'_>) -> Self {
        let dictionary = question.dictionary;
        let (side_px, stride) = (question.side_px(), question.stride_px());
        let sigma = question.settings.smoothing_px / side_px as f32;
        let smoothed = (REACH_SIGMAS * sigma).ceil() as usize;
        // Vectors are averaged over what a name was about; a whole tile's are, within the backbone.
        let averaged = match dictionary.encoder.reading {
            Reading::Middle => dictionary.tiles.named_px / side_px / 2,
            Reading::Tile => 0,
        };
        let border_px = (smoothed + averaged) * side_px;
        Self { sigma, averaged, border: border_px.div_ceil(stride), finer: stride / side_px }
    }
}

/// Columns and rows of what the fine query sees of a window and around it.
pub(super) fn extent(question: &Question<'_>, window: Size) -> Size {
    let extents = Extents::of(question);
    let side = |cells: usize| (cells + 2 * extents.border) * extents.finer - 2 * extents.averaged;
    Size::new(side(window.width_px), side(window.height_px))
}

/// What the fine query sees of a window and around it.
pub(super) fn seen(
    question: &Question<'_>,
    keeper: Option<&Keeper<'_>>,
    place: CellPlace,
    window: usize,
    context: &Context<'_>,
) -> Result<Seen> {
    let extents = Extents::of(question);
    let wide = CellPlace { border: extents.border, ..place };
    let cells = interleaved(question, wide, extents.finer, context)?;
    let mut means = means_of_squares(&cells, extents.averaged);
    question.dictionary.encoder.project(place.level, &mut means.values);
    let alike = alike(question, &means, window);
    Ok(Seen::of(question, keeper, &means, alike))
}

/// The classes of a window.
pub(super) fn decided(
    question: &Question<'_>,
    keeper: Option<&Keeper<'_>>,
    place: CellPlace,
    seen: &Seen,
) -> Answer {
    let extents = Extents::of(question);
    let cosines = seen.to_prototypes(question, keeper);
    let (weights, nearness) =
        weights(question.dictionary, place.level, &cosines, question.settings.temperature);
    let weights = with_alike(weights, &seen.alike);
    let smooth: Vec<Vec<f32>> =
        weights.par_iter().map(|map| gaussian_blur(map, seen.size, extents.sigma)).collect();
    let own = Size::new(place.size.width_px * extents.finer, place.size.height_px * extents.finer);
    let border = extents.border * extents.finer - extents.averaged;
    let (mut class, mut confidence, mut near) = (Vec::new(), Vec::new(), Vec::new());
    for row in border..border + own.height_px {
        for column in border..border + own.width_px {
            let at = seen.size.index(column, row);
            let best = (0..smooth.len())
                .fold(0, |best, next| if smooth[next][at] > smooth[best][at] { next } else { best });
            class.push(best as u8);
            confidence.push(smooth[best][at]);
            near.push(nearness[at]);
        }
    }
    Answer { class, confidence, nearness: near }
}

/// Numbers that cells of a window share that are alike.
fn alike(question: &Question<'_>, cells: &CellMap, window: usize) -> Vec<u32> {
    let points = Points::new(&cells.values, cells.dimensions);
    let clusters = (CLUSTERS_A_CLASS * question.dictionary.classes.len()).min(points.len());
    let clustering = Settings { clusters, most_iterations: ITERATIONS, is_spherical: true };
    let mut random = stream(question.settings.seed, Purpose::Clusters, 2_000_000 + window as u64);
    k_means(points, clustering, &mut || random.random::<f64>()).assignment
}

/// Weights of which half are those of the cell itself and half the mean of the cells of its picture that are alike: what the
/// dictionary takes for one class here and for another there, although it is the same tissue of the same picture, is decided
/// by the most.
fn with_alike(weights: Vec<Vec<f32>>, alike: &[u32]) -> Vec<Vec<f32>> {
    let clusters = alike.iter().max().map_or(0, |most| *most as usize + 1);
    let mut counts = vec![0.0f64; clusters];
    alike.iter().for_each(|cluster| counts[*cluster as usize] += 1.0);
    let blended = |map: &Vec<f32>| -> Vec<f32> {
        let mut sums = vec![0.0f64; clusters];
        for (weight, cluster) in map.iter().zip(alike) {
            sums[*cluster as usize] += f64::from(*weight);
        }
        let mean = |cluster: u32| (sums[cluster as usize] / counts[cluster as usize].max(1.0)) as f32;
        map.iter()
            .zip(alike)
            .map(|(own, cluster)| (1.0 - ALIKE_SHARE) * own + ALIKE_SHARE * mean(*cluster))
            .collect()
    };
    weights.par_iter().map(blended).collect()
}

/// Cells between the cells of a coarse map: the slide is encoded `times`² times, moved by a part of the stride.
fn interleaved(
    question: &Question<'_>,
    place: CellPlace,
    times: usize,
    context: &Context<'_>,
) -> Result<CellMap> {
    let Question { dictionary, view, look, .. } = question;
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
pub(super) fn weights(
    dictionary: &Dictionary,
    level: usize,
    cosines: &[f32],
    temperature: f32,
) -> (Vec<Vec<f32>>, Vec<f32>) {
    let classes = dictionary.classes.len();
    let spread = spread(&dictionary.centroids[&level], dictionary.encoder.dimensions(level));
    let temperature = temperature * spread;
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
