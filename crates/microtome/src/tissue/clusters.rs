//! Tiles that are alike, put together: k-means on vectors of length 1, and how far each cluster is to be trusted.

use super::embed;
use super::encoder::Encoder;
use crate::arrays::{Group, GroupWriter};
use crate::context::Context;
use crate::project::Project;
use crate::project::key::Key;
use microtome_kernels::kmeans::{Clustering, Points, Settings, k_means, nearest, products};
use microtome_nets::random::{Purpose, stream};
use microtome_vault::{Error, Result};
use rand::Rng;
use serde_json::{Value, json};

/// Version of what is computed here.
const VERSION: u32 = 1;
/// The name of the array.
const NAME: &str = "clusters";
/// Iterations of k-means, at most.
const MOST_ITERATIONS: usize = 100;
/// Values that are hashed at a time.
const HASHED_VALUES: usize = 1 << 20;
/// Samples with replacement that clusters are looked for in again.
const BOOTSTRAPS: usize = 10;

/// Clusters of a project's tiles.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    /// What they were made from.
    pub key: String,
    /// `[clusters][dimensions]`, of length 1.
    pub centroids: Vec<f32>,
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
    /// cluster there (Hennig 2007). Above 0.75 it is there, below 0.5 it may be chance.
    pub stability: f64,
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
fn key_of(project: &Project, encoder: &Encoder, vectors: &[f32]) -> String {
    let settings = &project.settings.clusters;
    // The vectors themselves, not their keys: those of slides that were added later make other clusters. Part by part, because
    // a million vectors are not copied.
    let part = |part: &[f32]| {
        let bytes: Vec<u8> = part.iter().flat_map(|value| value.to_le_bytes()).collect();
        microtome_vault::checksum::sha256_hex(&bytes)
    };
    let sums: String = vectors.chunks(HASHED_VALUES).map(part).collect();
    Key::of(NAME, VERSION)
        .with("encoder", &encoder.sha256)
        .with("vectors", sums)
        .with("count", settings.count)
        .with("restarts", settings.restarts)
        .with("tiles", settings.most_tiles)
        .with("seed", project.settings.seed)
        .finish()
}

/// Puts the project's tiles together, unless that is done.
///
/// # Errors
/// `Usage` when embeddings are missing, or there are fewer tiles than clusters; `Limit`; `Cancelled`.
pub fn cluster(project: &Project, encoder: &Encoder, context: &Context<'_>) -> Result<Clusters> {
    let (vectors, tiles_of_slide) = embed::read_all(project, encoder, encoder.level(), context)?;
    let key = key_of(project, encoder, &vectors);
    if let Some(there) = read(project, context)?.filter(|there| there.key == key) {
        return Ok(there);
    }
    let settings = &project.settings.clusters;
    let points = Points::new(&vectors, encoder.dimensions(encoder.level()));
    if points.len() < settings.count {
        return Err(Error::usage(format!(
            "{} clusters are wanted of {} tiles",
            settings.count,
            points.len()
        ))
        .advise("ask for fewer clusters (--k), add slides, or make the step between tiles smaller"));
    }
    let mut found = found(
        points,
        settings.count,
        settings.restarts,
        settings.most_tiles,
        project.settings.seed,
        context,
    )?;
    let assignment = nearest(points, &found.centroids);
    let cosine = cosines(points, &found.centroids, &assignment);
    let stability = stability(points, &found, settings.most_tiles, project.settings.seed, context)?;
    let clusters = Clusters {
        key,
        dimensions: points.dimensions(),
        quality: qualities(&assignment, &cosine, &tiles_of_slide, &stability),
        centroids: std::mem::take(&mut found.centroids),
        assignment,
        cosine,
        tiles_of_slide,
        inertia: found.inertia,
    };
    write(project, &clusters)?;
    Ok(clusters)
}

fn rng(seed: u64, number: u64) -> impl FnMut() -> f64 {
    let mut random = stream(seed, Purpose::Clusters, number);
    move || random.random::<f64>()
}

/// `most` of the points at most, spread evenly.
fn sample(points: Points<'_>, most: usize) -> Vec<f32> {
    let count = points.len().min(most);
    (0..count).flat_map(|index| points.get(index * points.len() / count)).copied().collect()
}

/// The best of several beginnings, among a sample of the points.
pub(super) fn found(
    points: Points<'_>,
    count: usize,
    restarts: usize,
    most: usize,
    seed: u64,
    context: &Context<'_>,
) -> Result<Clustering> {
    let sample = sample(points, most.max(count));
    let sample = Points::new(&sample, points.dimensions());
    let settings = Settings { clusters: count, most_iterations: MOST_ITERATIONS, is_spherical: true };
    let mut best: Option<Clustering> = None;
    context.progress().begin("clusters", restarts);
    for restart in 0..restarts {
        context.check_cancelled()?;
        let next = k_means(sample, settings, &mut rng(seed, restart as u64));
        if best.as_ref().is_none_or(|best| next.inertia < best.inertia) {
            best = Some(next);
        }
        context.progress().advance(restart + 1, "");
    }
    context.progress().end();
    best.ok_or_else(|| Error::bug("no clusters were looked for"))
}

fn cosines(points: Points<'_>, centroids: &[f32], assignment: &[u32]) -> Vec<f32> {
    let of = |(point, cluster): (&[f32], &u32)| -> f32 {
        let centroid = &centroids[*cluster as usize * points.dimensions()..][..points.dimensions()];
        point.iter().zip(centroid).map(|(a, b)| a * b).sum()
    };
    points.iter().zip(assignment).map(of).collect()
}

/// For each cluster the mean over bootstraps of the largest Jaccard index with a cluster of the bootstrap.
pub(super) fn stability(
    points: Points<'_>,
    found: &Clustering,
    most: usize,
    seed: u64,
    context: &Context<'_>,
) -> Result<Vec<f64>> {
    let sample = sample(points, most);
    let sample = Points::new(&sample, points.dimensions());
    let count = found.centroids.len() / points.dimensions();
    let own = nearest(sample, &found.centroids);
    let settings = Settings { clusters: count, most_iterations: MOST_ITERATIONS / 4, is_spherical: true };
    let mut sums = vec![0.0; count];
    context.progress().begin("stability of the clusters", BOOTSTRAPS);
    for bootstrap in 0..BOOTSTRAPS {
        context.check_cancelled()?;
        let mut draw = rng(seed, 1_000 + bootstrap as u64);
        let drawn: Vec<f32> = (0..sample.len())
            .flat_map(|_| sample.get(((draw() * sample.len() as f64) as usize).min(sample.len() - 1)))
            .copied()
            .collect();
        let again = k_means(Points::new(&drawn, points.dimensions()), settings, &mut draw);
        let other = nearest(sample, &again.centroids);
        for (sum, best) in sums.iter_mut().zip(best_jaccard(&own, &other, count)) {
            *sum += best;
        }
        context.progress().advance(bootstrap + 1, "");
    }
    context.progress().end();
    Ok(sums.into_iter().map(|sum| sum / BOOTSTRAPS as f64).collect())
}

/// For each cluster of the first partition the largest Jaccard index with a cluster of the second.
fn best_jaccard(first: &[u32], second: &[u32], count: usize) -> Vec<f64> {
    let mut both = vec![0usize; count * count];
    let (mut of_first, mut of_second) = (vec![0usize; count], vec![0usize; count]);
    for (a, b) in first.iter().zip(second) {
        both[*a as usize * count + *b as usize] += 1;
        of_first[*a as usize] += 1;
        of_second[*b as usize] += 1;
    }
    let jaccard = |a: usize, b: usize| {
        let shared = both[a * count + b];
        shared as f64 / (of_first[a] + of_second[b] - shared).max(1) as f64
    };
    (0..count).map(|a| (0..count).map(|b| jaccard(a, b)).fold(0.0, f64::max)).collect()
}

fn qualities(
    assignment: &[u32],
    cosine: &[f32],
    tiles_of_slide: &[usize],
    stability: &[f64],
) -> Vec<Quality> {
    let slide_of_tile =
        tiles_of_slide.iter().enumerate().flat_map(|(slide, count)| std::iter::repeat_n(slide, *count));
    let mut slides = vec![std::collections::BTreeSet::new(); stability.len()];
    let mut sums = vec![(0usize, 0.0f64); stability.len()];
    for ((cluster, cosine), slide) in assignment.iter().zip(cosine).zip(slide_of_tile) {
        let cluster = *cluster as usize;
        slides[cluster].insert(slide);
        sums[cluster].0 += 1;
        sums[cluster].1 += f64::from(*cosine);
    }
    let quality =
        |(((tiles, sum), slides), stability): (((usize, f64), std::collections::BTreeSet<usize>), &f64)| {
            Quality {
                tiles,
                slides: slides.len(),
                compactness: sum / tiles.max(1) as f64,
                stability: *stability,
            }
        };
    sums.into_iter().zip(slides).zip(stability).map(quality).collect()
}

fn write(project: &Project, clusters: &Clusters) -> Result<()> {
    let group = GroupWriter::create(&project.array(NAME))?;
    let (count, tiles) = (clusters.count(), clusters.assignment.len());
    group.write("centroids", &[count, clusters.dimensions], &["cluster", "feature"], &clusters.centroids)?;
    group.write("assignment", &[tiles], &["tile"], &clusters.assignment)?;
    group.write("cosine", &[tiles], &["tile"], &clusters.cosine)?;
    let quality = |of: &Quality| json!({"tiles": of.tiles, "slides": of.slides, "compactness": of.compactness, "stability": of.stability});
    let names: Vec<String> = project.slides()?.into_iter().map(|slide| slide.name).collect();
    group.finish(&json!({
        "key": clusters.key,
        "inertia": clusters.inertia,
        "slides": names,
        "tiles_of_slide": clusters.tiles_of_slide,
        "quality": clusters.quality.iter().map(quality).collect::<Vec<Value>>(),
    }))?;
    Ok(())
}

/// The project's clusters, whatever they were made from.
///
/// # Errors
/// `Input` when they are damaged; `Limit`; `Io`.
pub fn read(project: &Project, context: &Context<'_>) -> Result<Option<Clusters>> {
    let path = project.array(NAME);
    let Some(group) = Group::open(&path)? else { return Ok(None) };
    let broken = || {
        Error::input("what is said of the clusters is damaged")
            .advise("remove the folder and run `microtome tissue cluster` again")
            .at(&path)
    };
    let centroids = group.read::<f32>("centroids", context.budget)?;
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_f64);
    let quality = |value: &Value| {
        Some(Quality {
            tiles: number(value, "tiles")? as usize,
            slides: number(value, "slides")? as usize,
            compactness: number(value, "compactness")?,
            stability: number(value, "stability")?,
        })
    };
    let list = |key: &str| group.attributes.get(key).and_then(Value::as_array).ok_or_else(broken);
    let count = |value: &Value| value.as_u64().and_then(|count| usize::try_from(count).ok());
    let clusters = Clusters {
        key: group.text("key").ok_or_else(broken)?.to_owned(),
        dimensions: *centroids.shape.get(1).ok_or_else(broken)?,
        centroids: centroids.values,
        assignment: group.read::<u32>("assignment", context.budget)?.values,
        cosine: group.read::<f32>("cosine", context.budget)?.values,
        tiles_of_slide: list("tiles_of_slide")?
            .iter()
            .map(count)
            .collect::<Option<_>>()
            .ok_or_else(broken)?,
        quality: list("quality")?.iter().map(quality).collect::<Option<_>>().ok_or_else(broken)?,
        inertia: number(&group.attributes, "inertia").ok_or_else(broken)?,
    };
    let tiles: usize = clusters.tiles_of_slide.iter().sum();
    let is_whole = clusters.assignment.len() == tiles
        && clusters.cosine.len() == tiles
        && clusters.quality.len() == clusters.count()
        && clusters.assignment.iter().all(|cluster| (*cluster as usize) < clusters.count());
    if is_whole { Ok(Some(clusters)) } else { Err(broken()) }
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
    let encoder = super::pretrain::encoder(project)?;
    let (vectors, _) = embed::read_all(project, &encoder, encoder.level(), context)?;
    match clusters.key == key_of(project, &encoder, &vectors) {
        true => Ok(clusters),
        false => Err(Error::usage("the clusters are of other tiles, embeddings or settings").advise(advice)),
    }
}

/// The centroids of another level of the encoder: means of the vectors there of each cluster's tiles, of length 1.
///
/// # Errors
/// Those of [`embed::read_all`].
pub fn centroids_of_level(
    project: &Project,
    encoder: &Encoder,
    clusters: &Clusters,
    level: usize,
    context: &Context<'_>,
) -> Result<Vec<f32>> {
    if level == encoder.level() {
        return Ok(clusters.centroids.clone());
    }
    let (vectors, _) = embed::read_all(project, encoder, level, context)?;
    let dimensions = encoder.dimensions(level);
    let mut sums = vec![0.0f64; clusters.count() * dimensions];
    for (vector, cluster) in vectors.chunks_exact(dimensions).zip(&clusters.assignment) {
        let sums = &mut sums[*cluster as usize * dimensions..][..dimensions];
        sums.iter_mut().zip(vector).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let mut centroids: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
    super::encoder::projection::normalise(&mut centroids, dimensions);
    Ok(centroids)
}

/// Cosines of vectors to centroids, both of length 1, `[vectors][centroids]`.
pub fn cosines_to(vectors: &[f32], centroids: &[f32], dimensions: usize) -> Vec<f32> {
    products(Points::new(vectors, dimensions), centroids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_its_own_best_match_and_half_a_cluster_is_half_found() {
        let first = [0, 0, 0, 0, 1, 1, 2, 2];
        assert_eq!(best_jaccard(&first, &first, 3), [1.0; 3]);
        let renamed = [2, 2, 2, 2, 0, 0, 1, 1];
        assert_eq!(best_jaccard(&first, &renamed, 3), [1.0; 3]);
        let split = [0, 0, 1, 1, 2, 2, 2, 2];
        assert_eq!(best_jaccard(&first, &split, 3), [0.5, 0.5, 0.5]);
    }
}
