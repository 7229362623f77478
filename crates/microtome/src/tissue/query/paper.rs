//! The paper's queries (Pan et al. 2023, section 2.3).

use super::Answer;
use super::cells::{classes_of, nearest_prototypes};
use crate::context::Context;
use crate::slides::view::View;
use crate::tissue::dictionary::Dictionary;
use crate::tissue::encoder::CellPlace;
use crate::tissue::look::Look;
use microtome_kernels::kmeans::{Points, Settings, k_means};
use microtome_nets::random::{Purpose, stream};
use microtome_vault::Result;
use rand::Rng;
use std::collections::BTreeSet;

/// Local clusters for each class that the direct query finds.
const CLUSTERS_A_CLASS: usize = 5;
/// Iterations of the local k-means.
const ITERATIONS: usize = 30;

/// Each cell takes the class of the prototype of highest cosine.
pub(super) fn direct(
    dictionary: &Dictionary,
    view: &View<'_>,
    look: &Look,
    place: CellPlace,
    context: &Context<'_>,
) -> Result<Answer> {
    let mut cells = dictionary.encoder.cells(view, look, place, context)?;
    dictionary.encoder.project(place.level, &mut cells.values);
    let (nearest, nearness) = nearest_prototypes(dictionary, place.level, &cells.values);
    Ok(answer(classes_of(dictionary, &nearest), nearness))
}

/// k-means on the window's own cells, with five clusters for each class that the direct query finds; a cluster's cells take
/// the class of the prototype of highest cosine to its centroid.
pub(super) fn cluster(
    dictionary: &Dictionary,
    view: &View<'_>,
    look: &Look,
    place: CellPlace,
    (seed, window): (u64, usize),
    context: &Context<'_>,
) -> Result<Answer> {
    let mut cells = dictionary.encoder.cells(view, look, place, context)?;
    dictionary.encoder.project(place.level, &mut cells.values);
    let (nearest, nearness) = nearest_prototypes(dictionary, place.level, &cells.values);
    let found: BTreeSet<u8> = classes_of(dictionary, &nearest).into_iter().collect();
    let points = Points::new(&cells.values, cells.dimensions);
    let clusters = (CLUSTERS_A_CLASS * found.len()).min(points.len());
    let settings = Settings { clusters, most_iterations: ITERATIONS, is_spherical: true };
    let mut random = stream(seed, Purpose::Clusters, 1_000_000 + window as u64);
    let local = k_means(points, settings, &mut || random.random::<f64>());
    let (nearest, _) = nearest_prototypes(dictionary, place.level, &local.centroids);
    let of_cluster = classes_of(dictionary, &nearest);
    let class = local.assignment.iter().map(|cluster| of_cluster[*cluster as usize]).collect();
    Ok(answer(class, nearness))
}

/// How sure the paper's queries are is not said there: the cosine, from 0 to 1.
fn answer(class: Vec<u8>, nearness: Vec<f32>) -> Answer {
    let confidence = nearness.iter().map(|cosine| cosine.clamp(0.0, 1.0)).collect();
    Answer { class, confidence, nearness }
}
