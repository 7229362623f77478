//! Tiles that are alike, put together: k-means on vectors of length 1, and how far each cluster is to be trusted.

mod edits;
mod file;
pub(super) mod search;

pub use edits::{merge, split};
pub use file::read;

use super::embed::Embeddings;
use super::encoder::Encoder;
use super::encoder::projection::normalise;
use crate::context::Context;
use crate::project::Project;
use crate::project::key::Key;
use microtome_kernels::kmeans::{Points, nearest, products};
use microtome_vault::{Error, Result};
use std::collections::BTreeMap;

/// Version of what is computed here.
const VERSION: u32 = 2;
/// The name of the array.
const NAME: &str = "clusters";

/// Clusters of a project's tiles.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    /// Names belong to clusters of this key.
    pub key: String,
    /// What they were made from; another than the key once some were split or merged.
    pub made_from: String,
    /// `[clusters][dimensions]`, of length 1.
    pub centroids: Vec<f32>,
    /// Centroids of the encoder's other levels.
    pub of_other_levels: BTreeMap<usize, Vec<f32>>,
    /// Values of a centroid.
    pub dimensions: usize,
    /// The cluster of each tile, slide after slide.
    pub assignment: Vec<u32>,
    /// The cosine of each tile's vector to its centroid.
    pub cosine: Vec<f32>,
    /// Tiles of each slide.
    pub tiles_of_slide: Vec<usize>,
    /// Of each cluster.
    pub quality: Vec<Quality>,
    /// Sum of squared distances.
    pub inertia: f64,
}

/// How far a cluster is to be trusted, without any truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Tiles in it.
    pub tiles: usize,
    /// Slides that these are from.
    pub slides: usize,
    /// Mean cosine of its tiles to its centroid.
    pub compactness: f64,
    /// How much of it comes back in samples of the tiles: the mean over bootstraps of the largest Jaccard index with a
    /// cluster there (Hennig 2007). Above 0.75 it is there, below 0.5 it may be chance. Not known of merged clusters.
    pub stability: Option<f64>,
}

impl Clusters {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.centroids.len() / self.dimensions.max(1)
    }

    /// The tiles of a cluster, the nearest to its centroid first.
    pub fn tiles_by_nearness(&self, cluster: usize) -> Vec<usize> {
        let is_own = |tile: &usize| self.assignment[*tile] as usize == cluster;
        let mut tiles: Vec<usize> = (0..self.assignment.len()).filter(is_own).collect();
        tiles.sort_by(|a, b| self.cosine[*b].total_cmp(&self.cosine[*a]).then(a.cmp(b)));
        tiles
    }

    /// The slide of a tile, and its number there.
    pub fn place_of(&self, tile: usize) -> (usize, usize) {
        let mut first = 0;
        for (slide, count) in self.tiles_of_slide.iter().enumerate() {
            if tile < first + count {
                return (slide, tile - first);
            }
            first += count;
        }
        (self.tiles_of_slide.len(), 0)
    }
}

/// What clusters are made from.
fn key_of(project: &Project, encoder: &Encoder, embeddings: &Embeddings) -> String {
    let settings = &project.settings.clusters;
    Key::of(NAME, VERSION)
        .with("encoder", &encoder.sha256)
        .with("vectors", &embeddings.sha256)
        .with("count", settings.count)
        .with("restarts", settings.restarts)
        .with("tiles", settings.most_tiles)
        .with("seed", project.settings.seed)
        .finish()
}

/// Puts the project's tiles together, unless that is done. What was split or merged since stays so with `keep_edits`.
///
/// # Errors
/// `Usage` when embeddings are missing, or there are fewer tiles than clusters; `Limit`; `Cancelled`.
pub fn cluster(
    project: &Project,
    encoder: &Encoder,
    keep_edits: bool,
    context: &Context<'_>,
) -> Result<Clusters> {
    let embeddings = Embeddings::of(project, encoder, context)?;
    let key = key_of(project, encoder, &embeddings);
    let is_own = |there: &Clusters| there.made_from == key && (keep_edits || there.key == key);
    if let Some(there) = read(project, context)?.filter(is_own) {
        return Ok(there);
    }
    let vectors = embeddings.read(encoder, encoder.level(), context)?;
    let points = Points::new(&vectors, encoder.dimensions(encoder.level()));
    let (settings, seed) = (&project.settings.clusters, project.settings.seed);
    if points.len() < settings.count {
        return Err(Error::usage(format!(
            "{} clusters are wanted of {} tiles",
            settings.count,
            points.len()
        ))
        .advise("ask for fewer clusters (--k), add slides, or make the step between tiles smaller"));
    }
    let found = search::found(points, settings.count, settings.restarts, settings.most_tiles, seed, context)?;
    let assignment = nearest(points, &found.centroids);
    let cosine = search::cosines(points, &found.centroids, &assignment);
    let stability = search::stability(points, &found, settings.most_tiles, seed, context)?;
    let stability: Vec<Option<f64>> = stability.into_iter().map(Some).collect();
    drop(vectors);
    let mut clusters = Clusters {
        made_from: key.clone(),
        key,
        dimensions: encoder.dimensions(encoder.level()),
        quality: search::qualities(&assignment, &cosine, &embeddings.tiles_of_slide, &stability),
        centroids: found.centroids,
        of_other_levels: BTreeMap::new(),
        assignment,
        cosine,
        tiles_of_slide: embeddings.tiles_of_slide.clone(),
        inertia: found.inertia,
    };
    clusters.look_at_other_levels(encoder, &embeddings, context)?;
    file::write(project, &clusters)?;
    Ok(clusters)
}

/// The project's clusters, once they are those of its tiles as they are now.
///
/// # Errors
/// `Usage` when there are none, or of others; those of reading.
pub fn of_project(project: &Project, context: &Context<'_>) -> Result<Clusters> {
    let advice = format!("run `microtome tissue cluster {}` first", project.root.display());
    let Some(clusters) = read(project, context)? else {
        return Err(Error::usage("the project has no clusters yet").advise(advice));
    };
    match clusters.is_current(project, &super::pretrain::encoder(project)?, context)? {
        true => Ok(clusters),
        false => Err(Error::usage("the clusters are of other tiles, embeddings or settings").advise(advice)),
    }
}

impl Clusters {
    /// Whether they are of the project's vectors and settings as they are now.
    ///
    /// # Errors
    /// Those of [`Embeddings::of`].
    pub fn is_current(&self, project: &Project, encoder: &Encoder, context: &Context<'_>) -> Result<bool> {
        Ok(self.made_from == key_of(project, encoder, &Embeddings::of(project, encoder, context)?))
    }

    /// All centroids by level of the encoder, `[clusters][dimensions]`, of length 1.
    pub fn centroids_by_level(&self, encoder: &Encoder) -> BTreeMap<usize, Vec<f32>> {
        let mut all = self.of_other_levels.clone();
        all.insert(encoder.level(), self.centroids.clone());
        all
    }

    /// The centroids of the encoder's other levels: means of the vectors there of each cluster's tiles, of length 1.
    fn look_at_other_levels(
        &mut self,
        encoder: &Encoder,
        embeddings: &Embeddings,
        context: &Context<'_>,
    ) -> Result<()> {
        for level in encoder.levels().into_iter().filter(|level| *level != encoder.level()) {
            let vectors = embeddings.read(encoder, level, context)?;
            let dimensions = encoder.dimensions(level);
            let mut sums = vec![0.0f64; self.count() * dimensions];
            for (vector, cluster) in vectors.chunks_exact(dimensions).zip(&self.assignment) {
                let sums = &mut sums[*cluster as usize * dimensions..][..dimensions];
                sums.iter_mut().zip(vector).for_each(|(sum, value)| *sum += f64::from(*value));
            }
            let mut centroids: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
            normalise(&mut centroids, dimensions);
            self.of_other_levels.insert(level, centroids);
        }
        Ok(())
    }
}

/// Cosines of vectors to centroids, both of length 1, `[vectors][centroids]`.
pub fn cosines_to(vectors: &[f32], centroids: &[f32], dimensions: usize) -> Vec<f32> {
    products(Points::new(vectors, dimensions), centroids)
}
