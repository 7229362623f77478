//! How many clusters? What each number of clusters would give, without any truth, and which one we would take.
//!
//! More clusters are purer and each costs a name; too many come out otherwise each time. So we take the largest number whose
//! clusters come back nearly as well as those of the most stable one.

use super::clusters::search::{found, stability};
use super::embed::Embeddings;
use super::encoder::Encoder;
use crate::context::Context;
use crate::project::Project;
use microtome_kernels::kmeans::{Points, nearest, products};
use microtome_vault::{Error, Result, disk};
use std::path::PathBuf;

/// Restarts for each number of clusters.
const RESTARTS: usize = 3;
/// Tiles that are looked at.
const MOST_TILES: usize = 6_000;
/// How much less stable than the most stable the advised number may be.
const NEARLY: f64 = 0.05;
/// Extent of the plot.
const PLOT: [f64; 2] = [640.0, 360.0];
/// Colours of its lines: Okabe & Ito's.
const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];

/// What a number of clusters gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// K.
    pub clusters: usize,
    /// Share of the tiles' scatter that lies between clusters.
    pub explained: f64,
    /// Mean over tiles of how much of their cluster comes back in bootstraps (Jaccard; Hennig 2007).
    pub stability: f64,
    /// Mean over tiles of (b − a) / max(a, b), a and b the distances to the own and to the nearest other centroid: the
    /// simplified silhouette (Hruschka et al. 2006).
    pub silhouette: f64,
}

/// The candidates, which one we would take, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// By ascending K.
    pub candidates: Vec<Candidate>,
    /// The place of the advised one.
    pub advised: usize,
    /// The plot and the table.
    pub files: [PathBuf; 2],
}

impl Advice {
    /// The reasons, in a sentence.
    pub fn reason(&self) -> String {
        let own = &self.candidates[self.advised];
        let best = self.candidates.iter().map(|candidate| candidate.stability).fold(0.0, f64::max);
        format!(
            "{} clusters: {:.0} % of the scatter lies between them, and of a cluster {:.0} % comes back when tiles are drawn \
             anew, where the most stable number of clusters has {:.0} %",
            own.clusters,
            100.0 * own.explained,
            100.0 * own.stability,
            100.0 * best
        )
    }
}

/// Tries numbers of clusters on the project's tiles, and writes a plot and a table into `out`.
///
/// # Errors
/// `Usage` when embeddings are missing, or no number is possible; `Cancelled`; `Io`.
pub fn advise(
    project: &Project,
    encoder: &Encoder,
    numbers: &[usize],
    context: &Context<'_>,
) -> Result<Advice> {
    let level = encoder.level();
    let vectors = Embeddings::of(project, encoder, context)?.read(encoder, level, context)?;
    let dimensions = encoder.dimensions(level);
    let all = Points::new(&vectors, dimensions);
    let count = all.len().min(MOST_TILES);
    let sample: Vec<f32> = (0..count).flat_map(|index| all.get(index * all.len() / count)).copied().collect();
    let points = Points::new(&sample, dimensions);
    let mut numbers: Vec<usize> =
        numbers.iter().copied().filter(|k| (2..=points.len()).contains(k)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.is_empty() {
        return Err(Error::usage(format!(
            "numbers of clusters are 2 to {}, the number of tiles",
            points.len()
        )));
    }
    let scatter = total_scatter(points);
    let mut candidates = Vec::new();
    for clusters in numbers {
        let best = found(points, clusters, RESTARTS, count, project.settings.seed, context)?;
        let own = nearest(points, &best.centroids);
        let of_cluster = stability(points, &best, count, project.settings.seed, context)?;
        candidates.push(Candidate {
            clusters,
            explained: 1.0 - best.inertia / scatter.max(f64::MIN_POSITIVE),
            stability: own.iter().map(|cluster| of_cluster[*cluster as usize]).sum::<f64>() / count as f64,
            silhouette: silhouette(points, &best.centroids),
        });
    }
    let advised = advised(&candidates);
    let out = project.root.join("out");
    disk::create_folder_all(&out)?;
    let files = [out.join("advice.svg"), out.join("advice.csv")];
    disk::write_atomic(&files[0], plot(&candidates, advised).as_bytes())?;
    disk::write_atomic(&files[1], table(&candidates).as_bytes())?;
    Ok(Advice { candidates, advised, files })
}

fn advised(candidates: &[Candidate]) -> usize {
    let best = candidates.iter().map(|candidate| candidate.stability).fold(0.0, f64::max);
    candidates.iter().rposition(|candidate| candidate.stability >= best - NEARLY).unwrap_or(0)
}

/// Sum of squared distances to the mean.
fn total_scatter(points: Points<'_>) -> f64 {
    let mut mean = vec![0.0f64; points.dimensions()];
    points
        .iter()
        .for_each(|point| mean.iter_mut().zip(point).for_each(|(sum, value)| *sum += f64::from(*value)));
    mean.iter_mut().for_each(|sum| *sum /= points.len() as f64);
    let of = |point: &[f32]| {
        point.iter().zip(&mean).map(|(value, mean)| (f64::from(*value) - mean).powi(2)).sum::<f64>()
    };
    points.iter().map(of).sum()
}

fn silhouette(points: Points<'_>, centroids: &[f32]) -> f64 {
    let count = centroids.len() / points.dimensions();
    let of = |cosines: &[f32]| {
        let (mut first, mut second) = (f32::MIN, f32::MIN);
        for cosine in cosines {
            if *cosine > first {
                (first, second) = (*cosine, first);
            } else if *cosine > second {
                second = *cosine;
            }
        }
        // Of vectors of length 1, the squared distance is 2 − 2·cosine.
        let [a, b] = [first, second].map(|cosine| (2.0 - 2.0 * f64::from(cosine)).max(0.0).sqrt());
        if b > 0.0 { (b - a) / b } else { 0.0 }
    };
    products(points, centroids).chunks_exact(count).map(of).sum::<f64>() / points.len() as f64
}

fn table(candidates: &[Candidate]) -> String {
    let line = |own: &Candidate| {
        format!("{},{:.4},{:.4},{:.4}\n", own.clusters, own.explained, own.stability, own.silhouette)
    };
    let lines: String = candidates.iter().map(line).collect();
    format!("clusters,explained,stability,silhouette\n{lines}")
}

/// Three lines over the number of clusters, and a mark where we would take it.
fn plot(candidates: &[Candidate], advised: usize) -> String {
    let [width, height] = PLOT;
    let (left, right, top, bottom) = (50.0, width - 150.0, 20.0, height - 45.0);
    let count = candidates.len();
    let x = |index: usize| left + (right - left) * (index as f64 + 0.5) / count as f64;
    let y = |value: f64| bottom - (bottom - top) * value.clamp(0.0, 1.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for tick in 0..=5 {
        let value = f64::from(tick) / 5.0;
        svg += &format!(
            "<line x1=\"{left}\" x2=\"{right}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#ddd\"/><text x=\"{1:.1}\" y=\"{2:.1}\" text-anchor=\"end\">{value:.1}</text>\n",
            y(value),
            left - 6.0,
            y(value) + 4.0
        );
    }
    svg += &format!(
        "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{top}\" y2=\"{bottom}\" stroke=\"#999\" stroke-dasharray=\"4 3\"/>\n",
        x(advised)
    );
    for (index, candidate) in candidates.iter().enumerate() {
        let label = format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
            x(index),
            bottom + 18.0,
            candidate.clusters
        );
        svg += &label;
    }
    svg += &format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">clusters</text>\n",
        (left + right) / 2.0,
        height - 8.0
    );
    let series = |value: fn(&Candidate) -> f64| candidates.iter().map(value).collect::<Vec<f64>>();
    let lines = [
        ("stability", series(|own| own.stability)),
        ("explained", series(|own| own.explained)),
        ("silhouette", series(|own| own.silhouette)),
    ];
    for ((name, values), colour) in lines.into_iter().zip(COLOURS) {
        let points: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(index, value)| format!("{:.1},{:.1}", x(index), y(*value)))
            .collect();
        let last = y(values.last().copied().unwrap_or_default());
        svg += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/><text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>\n",
            points.join(" "),
            right + 8.0,
            last + 4.0
        );
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(clusters: usize, stability: f64) -> Candidate {
        Candidate { clusters, explained: 0.5, stability, silhouette: 0.2 }
    }

    #[test]
    fn the_largest_number_that_is_nearly_as_stable_as_the_best_is_advised() {
        let all =
            [(10, 0.70), (20, 0.72), (30, 0.68), (40, 0.60)].map(|(k, stability)| candidate(k, stability));
        assert_eq!(advised(&all), 2);
        assert_eq!(advised(&all[3..]), 0);
    }

    #[test]
    fn tiles_at_their_centroids_have_silhouette_one() {
        let values = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0];
        let points = Points::new(&values, 2);
        assert!((silhouette(points, &[1.0, 0.0, 0.0, 1.0]) - 1.0).abs() < 1e-9);
        assert!((total_scatter(points) - 4.0 / 3.0).abs() < 1e-9);
    }
}
