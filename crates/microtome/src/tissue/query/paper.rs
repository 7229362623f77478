//! The paper's queries (Pan et al. 2023, section 2.3).

use super::cells::{classes_of, highest};
use super::kept::Keeper;
use super::seen::Seen;
use super::{Answer, Question};
use crate::context::Context;
use crate::tissue::clusters::cosines_to;
use crate::tissue::encoder::{CellMap, CellPlace};
use microtome_kernels::kmeans::{Points, Settings, k_means};
use microtome_nets::random::{Purpose, stream};
use microtome_vault::Result;
use rand::Rng;
use std::collections::BTreeSet;

/// Local clusters for each class that the direct query finds.
const CLUSTERS_A_CLASS: usize = 5;
/// Iterations of the local k-means.
const ITERATIONS: usize = 30;

/// A window's cells as vectors of length 1.
fn cells(question: &Question<'_>, place: CellPlace, context: &Context<'_>) -> Result<CellMap> {
    let encoder = &question.dictionary.encoder;
    let mut cells = encoder.cells(question.view, question.look, place, context)?;
    encoder.project(place.level, &mut cells.values);
    Ok(cells)
}

/// What the direct query sees of a window.
pub(super) fn seen(
    question: &Question<'_>,
    keeper: Option<&Keeper<'_>>,
    place: CellPlace,
    context: &Context<'_>,
) -> Result<Seen> {
    Ok(Seen::of(question, keeper, &cells(question, place, context)?, Vec::new()))
}

/// Each cell takes the class of the prototype of highest cosine.
pub(super) fn direct(question: &Question<'_>, keeper: Option<&Keeper<'_>>, seen: &Seen) -> Answer {
    let (nearest, nearness) =
        highest(&seen.to_prototypes(question, keeper), question.dictionary.prototypes.len());
    answer(classes_of(question.dictionary, &nearest), nearness)
}

/// k-means on the window's own cells, with five clusters for each class that the direct query finds; a cluster's cells take
/// the class of the prototype of highest cosine to its centroid.
pub(super) fn cluster(
    question: &Question<'_>,
    place: CellPlace,
    window: usize,
    context: &Context<'_>,
) -> Result<Answer> {
    let dictionary = question.dictionary;
    let cells = cells(question, place, context)?;
    let nearest = |vectors: &[f32]| {
        let cosines = cosines_to(vectors, &dictionary.centroids[&place.level], cells.dimensions);
        highest(&cosines, dictionary.prototypes.len())
    };
    let (own, nearness) = nearest(&cells.values);
    let found: BTreeSet<u8> = classes_of(dictionary, &own).into_iter().collect();
    let points = Points::new(&cells.values, cells.dimensions);
    let clusters = (CLUSTERS_A_CLASS * found.len()).min(points.len());
    let settings = Settings { clusters, most_iterations: ITERATIONS, is_spherical: true };
    let mut random = stream(question.settings.seed, Purpose::Clusters, 1_000_000 + window as u64);
    let local = k_means(points, settings, &mut || random.random::<f64>());
    let of_cluster = classes_of(dictionary, &nearest(&local.centroids).0);
    let class = local.assignment.iter().map(|cluster| of_cluster[*cluster as usize]).collect();
    Ok(answer(class, nearness))
}

/// How sure the paper's queries are is not said there: the cosine, from 0 to 1.
fn answer(class: Vec<u8>, nearness: Vec<f32>) -> Answer {
    let confidence = nearness.iter().map(|cosine| cosine.clamp(0.0, 1.0)).collect();
    Answer { class, confidence, nearness }
}
