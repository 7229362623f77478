//! Clusters that a person took apart or put together. The others keep their numbers and their names.

use super::{Clusters, file, of_project, search};
use crate::context::Context;
use crate::project::Project;
use crate::project::database::Naming;
use crate::project::key::Key;
use crate::tissue::embed::Embeddings;
use crate::tissue::encoder::Encoder;
use crate::tissue::encoder::projection::normalise;
use microtome_kernels::kmeans::{Points, nearest};
use microtome_vault::{Error, Result};

/// Version of what is computed here.
const VERSION: u32 = 1;

/// Takes a cluster apart: the first part keeps its number, the others follow after the last. None of the parts has a name.
///
/// # Errors
/// `Usage` when there is no such cluster, or it has fewer tiles than parts; those of [`of_project`]; `Cancelled`.
pub fn split(
    project: &mut Project,
    encoder: &Encoder,
    cluster: usize,
    parts: usize,
    who: &str,
    context: &Context<'_>,
) -> Result<Clusters> {
    let mut clusters = of_project(project, context)?;
    clusters.check(&[cluster])?;
    let tiles: Vec<usize> = tiles_of(&clusters, &[cluster]);
    if parts < 2 || parts > tiles.len() {
        return Err(Error::usage(format!(
            "cluster {cluster} cannot be split into {parts}: it has {} tiles",
            tiles.len()
        ))
        .advise("split it into 2 or more, but no more than there are tiles"));
    }
    let embeddings = Embeddings::of(project, encoder, context)?;
    let own = vectors_of(&embeddings, encoder, &tiles, context)?;
    let points = Points::new(&own, clusters.dimensions);
    let (settings, seed) = (&project.settings.clusters, project.settings.seed);
    let found = search::found(points, parts, settings.restarts, settings.most_tiles, seed, context)?;
    let stability = search::stability(points, &found, settings.most_tiles, seed, context)?;
    let number = |part: usize, count: usize| if part == 0 { cluster } else { count + part - 1 };
    let count = clusters.count();
    clusters.centroids.resize((count + parts - 1) * clusters.dimensions, 0.0);
    let mut of_all: Vec<Option<f64>> = clusters.quality.iter().map(|quality| quality.stability).collect();
    of_all.resize(count + parts - 1, None);
    for (part, centroid) in found.centroids.chunks_exact(clusters.dimensions).enumerate() {
        let at = number(part, count);
        clusters.centroids[at * clusters.dimensions..][..centroid.len()].copy_from_slice(centroid);
        of_all[at] = Some(stability[part]);
    }
    for (tile, part) in tiles.iter().zip(nearest(points, &found.centroids)) {
        clusters.assignment[*tile] = number(part as usize, count) as u32;
    }
    let key = Key::of("split", VERSION).with("cluster", cluster).with("parts", parts);
    finish(project, encoder, clusters, (&tiles, &own, &of_all), key, (&[cluster], None, who), context)
}

/// Puts clusters together under the lowest of their numbers; the others stay, without tiles. A name that all have stays.
///
/// # Errors
/// `Usage` when there are fewer than two, or no such clusters; those of [`of_project`].
pub fn merge(
    project: &mut Project,
    encoder: &Encoder,
    merged: &[usize],
    who: &str,
    context: &Context<'_>,
) -> Result<Clusters> {
    let mut clusters = of_project(project, context)?;
    clusters.check(merged)?;
    let mut merged = merged.to_vec();
    merged.sort_unstable();
    merged.dedup();
    let [first, _, ..] = merged[..] else {
        return Err(Error::usage("one cluster alone cannot be merged").advise("name two or more"));
    };
    let tiles = tiles_of(&clusters, &merged);
    let embeddings = Embeddings::of(project, encoder, context)?;
    let own = vectors_of(&embeddings, encoder, &tiles, context)?;
    let mut centroid = vec![0.0f64; clusters.dimensions];
    for vector in own.chunks_exact(clusters.dimensions) {
        centroid.iter_mut().zip(vector).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let mut centroid: Vec<f32> = centroid.into_iter().map(|sum| sum as f32).collect();
    normalise(&mut centroid, clusters.dimensions);
    clusters.centroids[first * clusters.dimensions..][..centroid.len()].copy_from_slice(&centroid);
    tiles.iter().for_each(|tile| clusters.assignment[*tile] = first as u32);
    let mut of_all: Vec<Option<f64>> = clusters.quality.iter().map(|quality| quality.stability).collect();
    merged.iter().for_each(|cluster| of_all[*cluster] = None);
    let name = common_name(project, &clusters, &merged)?;
    let key = Key::of("merge", VERSION).with("clusters", format!("{merged:?}"));
    finish(project, encoder, clusters, (&tiles, &own, &of_all), key, (&merged, name, who), context)
}

/// Tiles in any of some clusters.
fn tiles_of(clusters: &Clusters, of: &[usize]) -> Vec<usize> {
    let is_own = |tile: &usize| of.contains(&(clusters.assignment[*tile] as usize));
    (0..clusters.assignment.len()).filter(is_own).collect()
}

fn vectors_of(
    embeddings: &Embeddings,
    encoder: &Encoder,
    tiles: &[usize],
    context: &Context<'_>,
) -> Result<Vec<f32>> {
    let all = embeddings.read(encoder, encoder.level(), context)?;
    let points = Points::new(&all, encoder.dimensions(encoder.level()));
    Ok(tiles.iter().flat_map(|tile| points.get(*tile)).copied().collect())
}

/// The name of clusters that all have the same, with the share that their tiles have of it together.
fn common_name(project: &Project, clusters: &Clusters, merged: &[usize]) -> Result<Option<Naming>> {
    let namings = project.database.namings(&clusters.key)?;
    let own: Vec<&Naming> = namings.iter().filter(|naming| merged.contains(&naming.cluster)).collect();
    let Some(first) = own.first() else { return Ok(None) };
    if own.len() < merged.len() || own.iter().any(|naming| naming.class != first.class) {
        return Ok(None);
    }
    let tiles = |naming: &Naming| clusters.quality[naming.cluster].tiles as f64;
    let all: f64 = own.iter().map(|naming| tiles(naming)).sum();
    let share = own.iter().map(|naming| naming.share * tiles(naming)).sum::<f64>() / all.max(1.0);
    // The most doubtful origin of them: an oracle's stays an oracle's.
    let origin = own.iter().map(|naming| naming.origin).max().unwrap_or(first.origin);
    Ok(Some(Naming { cluster: merged[0], class: first.class.clone(), share, origin }))
}

/// Looks anew at what changed, carries names over, and writes.
fn finish(
    project: &mut Project,
    encoder: &Encoder,
    mut clusters: Clusters,
    (tiles, vectors, stability): (&[usize], &[f32], &[Option<f64>]),
    key: Key,
    (changed, name, who): (&[usize], Option<Naming>, &str),
    context: &Context<'_>,
) -> Result<Clusters> {
    let points = Points::new(vectors, clusters.dimensions);
    let own: Vec<u32> = tiles.iter().map(|tile| clusters.assignment[*tile]).collect();
    let cosines = search::cosines(points, &clusters.centroids, &own);
    tiles.iter().zip(cosines).for_each(|(tile, cosine)| clusters.cosine[*tile] = cosine);
    clusters.quality =
        search::qualities(&clusters.assignment, &clusters.cosine, &clusters.tiles_of_slide, stability);
    // Of vectors of length 1, the squared distance is 2 − 2·cosine.
    clusters.inertia = clusters.cosine.iter().map(|cosine| 2.0 - 2.0 * f64::from(*cosine)).sum();
    let embeddings = Embeddings::of(project, encoder, context)?;
    clusters.look_at_other_levels(encoder, &embeddings, context)?;
    let mut namings = project.database.namings(&clusters.key)?;
    namings.retain(|naming| !changed.contains(&naming.cluster));
    namings.extend(name);
    clusters.key = key.with("of", &clusters.key).finish();
    // The same edit, undone and done again, finds the names that were given after it.
    let there = project.database.namings(&clusters.key)?;
    namings.retain(|naming| there.iter().all(|own| own.cluster != naming.cluster));
    // First: names of clusters that are not there yet do no harm.
    project.database.name(&clusters.key, who, &namings)?;
    file::write(project, &clusters)?;
    Ok(clusters)
}

impl Clusters {
    /// # Errors
    /// `Usage` when there is no such cluster, or none with tiles.
    pub fn check(&self, numbers: &[usize]) -> Result<()> {
        for number in numbers {
            match self.quality.get(*number) {
                None => {
                    return Err(Error::usage(format!("there is no cluster {number}"))
                        .advise(format!("clusters are 0 to {}", self.count() - 1)));
                }
                Some(quality) if quality.tiles == 0 => {
                    return Err(Error::usage(format!("cluster {number} has no tiles"))
                        .advise("if it was merged with another, name that one"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Clusters that have tiles.
    pub fn filled(&self) -> usize {
        self.quality.iter().filter(|quality| quality.tiles > 0).count()
    }
}
