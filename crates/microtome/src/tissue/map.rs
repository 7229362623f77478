//! A map of the tiles: t-SNE (van der Maaten & Hinton 2008, Barnes-Hut 2014) puts those that are alike side by side. As a table, as
//! points in the colours of their clusters, and as pictures in their places.
//!
//! The fit runs on one thread: its sums depend on how work is shared out, and the same tiles are to give the same map.

mod picture;

use super::clusters::Clusters;
use super::embed::Embeddings;
use super::encoder::Encoder;
use super::tiles;
use crate::context::Context;
use crate::project::Project;
use crate::project::database::Naming;
use bhtsne::{Neighbor, tSNE};
use microtome_kernels::kmeans::{Points, products};
use microtome_vault::{Error, Result, disk};
use rayon::prelude::*;
use std::path::PathBuf;

/// How many neighbours of a tile count, about.
const PERPLEXITY: f32 = 30.0;
/// Neighbours that are looked at: those beyond weigh next to nothing.
const NEIGHBOURS: usize = 90;
/// Tiles that a map has at least: each needs neighbours, three for a perplexity of 1.
const FEWEST: usize = 4;
/// Steps of the fit.
const EPOCHS: usize = 500;
/// How much farther away things may be taken together; Barnes & Hut's θ.
const THETA: f32 = 0.5;
/// Standard deviation of the places that the fit begins with.
const START: f32 = 1e-2;
/// Steps of the power iteration for these.
const POWER_STEPS: usize = 30;
/// Tiles that are compared with all others at a time.
const BLOCK: usize = 256;

/// A tile in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Its number among all tiles of the project.
    pub tile: usize,
    /// Where it is on the map.
    pub at: [f32; 2],
    /// Its cluster.
    pub cluster: usize,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// The tiles.
    pub places: Vec<Place>,
    /// Table, points, pictures.
    pub files: [PathBuf; 3],
}

/// Puts at most `most` tiles, spread evenly, in their places, and writes `map.csv`, `map.svg` and `map.png` into `out`.
///
/// # Errors
/// `Usage` when there are too few tiles; those of reading; `Cancelled`; `Io`.
pub fn map(
    project: &Project,
    encoder: &Encoder,
    clusters: &Clusters,
    most: usize,
    context: &Context<'_>,
) -> Result<Map> {
    let all = Embeddings::of(project, encoder, context)?.read(encoder, encoder.level(), context)?;
    let points = Points::new(&all, clusters.dimensions);
    let count = points.len().min(most);
    if count < FEWEST {
        return Err(Error::usage(format!("{count} tiles make no map")).advise(format!("it takes {FEWEST}")));
    }
    let chosen: Vec<usize> = (0..count).map(|index| index * points.len() / count).collect();
    let vectors: Vec<f32> = chosen.iter().flat_map(|tile| points.get(*tile)).copied().collect();
    drop(all);
    let at = fitted(Points::new(&vectors, clusters.dimensions), context)?;
    let place = |(tile, at): (&usize, &[f32; 2])| Place {
        tile: *tile,
        at: *at,
        cluster: clusters.assignment[*tile] as usize,
    };
    let places: Vec<Place> = chosen.iter().zip(&at).map(place).collect();
    let out = project.root.join("out");
    disk::create_folder_all(&out)?;
    let files = ["map.csv", "map.svg", "map.png"].map(|name| out.join(name));
    let namings = project.database.namings(&clusters.key)?;
    disk::write_atomic(&files[0], &table(project, clusters, &namings, &places, context)?)?;
    disk::write_atomic(&files[1], picture::points(project, &namings, &places).as_bytes())?;
    disk::write_atomic(&files[2], &picture::tiles(project, clusters, &places, context)?)?;
    Ok(Map { places, files })
}

/// Places of vectors of length 1.
fn fitted(points: Points<'_>, context: &Context<'_>) -> Result<Vec<[f32; 2]>> {
    let neighbours = neighbours(points, NEIGHBOURS.min(points.len() - 1));
    let samples: Vec<&[f32]> = points.iter().collect();
    // A perplexity needs three times as many neighbours.
    let perplexity = PERPLEXITY.min((points.len() - 1) as f32 / 3.0).max(1.0);
    let start = principal_places(points);
    context.progress().begin("map of the tiles", EPOCHS);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .map_err(|error| Error::bug(format!("no thread could be started ({error})")))?;
    let progress = context.progress();
    let step = move |epoch: usize, _: &[f32]| {
        if epoch.is_multiple_of(50) {
            progress.advance(epoch, "");
        }
    };
    let fit = || {
        let mut fit: tSNE<'_, f32, &[f32], 2> = tSNE::new(&samples);
        fit.perplexity(perplexity).epochs(EPOCHS).initial_embedding(start).epoch_callback(step);
        fit.barnes_hut_with_neighbors(THETA, &neighbours).embedding()
    };
    let found = pool.install(fit);
    context.progress().end();
    context.check_cancelled()?;
    Ok(found.as_chunks::<2>().0.to_vec())
}

/// The nearest others of each point, the nearest first.
fn neighbours(points: Points<'_>, count: usize) -> Vec<Vec<Neighbor<f32>>> {
    let values: Vec<f32> = points.iter().flatten().copied().collect();
    let blocks: Vec<usize> = (0..points.len()).step_by(BLOCK).collect();
    let of_block = |first: &usize| -> Vec<Vec<Neighbor<f32>>> {
        let last = (first + BLOCK).min(points.len());
        let own = Points::new(
            &values[first * points.dimensions()..last * points.dimensions()],
            points.dimensions(),
        );
        let cosines = products(own, &values);
        let nearest = |(index, row): (usize, &[f32])| {
            let mut order: Vec<usize> = (0..row.len()).filter(|other| *other != first + index).collect();
            let nearer = |a: &usize, b: &usize| row[*b].total_cmp(&row[*a]).then(a.cmp(b));
            if count < order.len() {
                order.select_nth_unstable_by(count, nearer);
                order.truncate(count);
            }
            order.sort_by(nearer);
            // Of vectors of length 1, the squared distance is 2 − 2·cosine.
            let distance = |other: usize| (2.0 - 2.0 * row[other]).max(0.0).sqrt();
            order.into_iter().map(|other| Neighbor { index: other, distance: distance(other) }).collect()
        };
        cosines.chunks_exact(points.len()).enumerate().map(nearest).collect()
    };
    blocks.par_iter().flat_map_iter(of_block).collect()
}

/// The first two principal components, as small places to begin with: what is far apart as a whole stays so.
fn principal_places(points: Points<'_>) -> Vec<f32> {
    let (count, dimensions) = (points.len(), points.dimensions());
    let mut mean = vec![0.0f64; dimensions];
    points.iter().for_each(|point| mean.iter_mut().zip(point).for_each(|(sum, v)| *sum += f64::from(*v)));
    mean.iter_mut().for_each(|sum| *sum /= count as f64);
    let mut axes: Vec<Vec<f64>> = Vec::new();
    let mut places = vec![0.0f32; 2 * count];
    for axis in 0..2 {
        // Any beginning that is no component's opposite will do.
        let mut direction: Vec<f64> = (0..dimensions).map(|d| 1.0 + (d * (axis + 3) % 7) as f64).collect();
        let (mut along, mut last) = (vec![0.0f64; count], Vec::new());
        for _ in 0..POWER_STEPS {
            for axis in &axes {
                let shared: f64 = direction.iter().zip(axis).map(|(a, b)| a * b).sum();
                direction.iter_mut().zip(axis).for_each(|(value, axis)| *value -= shared * axis);
            }
            let length = direction.iter().map(|value| value * value).sum::<f64>().sqrt();
            direction.iter_mut().for_each(|value| *value /= length.max(f64::MIN_POSITIVE));
            for (along, point) in along.iter_mut().zip(points.iter()) {
                let centred = point.iter().zip(&mean).map(|(value, mean)| f64::from(*value) - mean);
                *along = centred.zip(&direction).map(|(value, own)| value * own).sum();
            }
            let mut next = vec![0.0f64; dimensions];
            for (along, point) in along.iter().zip(points.iter()) {
                for ((next, value), mean) in next.iter_mut().zip(point).zip(&mean) {
                    *next += along * (f64::from(*value) - mean);
                }
            }
            last = std::mem::replace(&mut direction, next);
        }
        axes.push(last);
        let deviation = (along.iter().map(|own| own * own).sum::<f64>() / count as f64).sqrt();
        for (place, along) in places.as_chunks_mut::<2>().0.iter_mut().zip(&along) {
            place[axis] = (along / deviation.max(f64::MIN_POSITIVE)) as f32 * START;
        }
    }
    places
}

fn table(
    project: &Project,
    clusters: &Clusters,
    namings: &[Naming],
    places: &[Place],
    context: &Context<'_>,
) -> Result<Vec<u8>> {
    let slides = project.slides()?;
    let mut corners = Vec::new();
    for slide in &slides {
        corners.push(tiles::corners_in_level0(project, slide, context)?);
    }
    let failed = |error: csv::Error| Error::bug(format!("the table cannot be written ({error})"));
    let mut table = csv::Writer::from_writer(Vec::new());
    table
        .write_record(["slide", "x_in_level0", "y_in_level0", "map_x", "map_y", "cluster", "class"])
        .map_err(failed)?;
    for place in places {
        let (slide, number) = clusters.place_of(place.tile);
        let [x, y] = corners.get(slide).and_then(|own| own.get(number)).copied().unwrap_or_default();
        let name = slides.get(slide).map_or("", |slide| &slide.name);
        table
            .write_record([
                name.to_owned(),
                x.to_string(),
                y.to_string(),
                format!("{:.4}", place.at[0]),
                format!("{:.4}", place.at[1]),
                place.cluster.to_string(),
                class_of(namings, place.cluster).unwrap_or_default().to_owned(),
            ])
            .map_err(failed)?;
    }
    table.into_inner().map_err(|error| Error::bug(error.to_string()))
}

/// What a cluster was named.
fn class_of(namings: &[Naming], cluster: usize) -> Option<&str> {
    namings.iter().find(|naming| naming.cluster == cluster).and_then(|naming| naming.class.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Silent;
    use microtome_vault::Budget;
    use std::sync::atomic::AtomicBool;

    /// Three groups of points on the unit sphere.
    fn groups() -> Vec<f32> {
        let mut values = Vec::new();
        for index in 0..240 {
            let mut point = [0.05f32, 0.05, 0.05, 0.05];
            point[index % 3] = 1.0;
            point[3] += (index as f32 * 0.37).sin() * 0.1;
            point[(index + 1) % 3] += (index as f32 * 0.11).cos() * 0.05;
            let length = point.iter().map(|value| value * value).sum::<f32>().sqrt();
            values.extend(point.map(|value| value / length));
        }
        values
    }

    #[test]
    fn groups_lie_apart_on_the_map_and_the_map_is_always_the_same() {
        let (values, cancelled) = (groups(), AtomicBool::new(false));
        let context = Context::new(1, Budget::DEFAULT, &Silent, &cancelled);
        let points = Points::new(&values, 4);
        let places = fitted(points, &context).unwrap();
        assert_eq!(places, fitted(points, &context).unwrap());
        let nearest = |own: usize| {
            let distance = |other: usize| {
                (places[own][0] - places[other][0]).powi(2) + (places[own][1] - places[other][1]).powi(2)
            };
            (0..places.len())
                .filter(|other| *other != own)
                .min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
        };
        let right = (0..places.len()).filter(|own| nearest(*own).unwrap() % 3 == own % 3).count();
        assert_eq!(right, places.len());
    }

    #[test]
    fn the_smallest_map_is_drawn() {
        let (values, cancelled) = (groups(), AtomicBool::new(false));
        let context = Context::new(1, Budget::DEFAULT, &Silent, &cancelled);
        let places = fitted(Points::new(&values[..4 * FEWEST], 4), &context).unwrap();
        assert!(places.len() == FEWEST && places.iter().flatten().all(|side| side.is_finite()));
    }

    #[test]
    fn neighbours_are_the_nearest() {
        let values = groups();
        let points = Points::new(&values, 4);
        let found = neighbours(points, 5);
        let distance = |a: usize, b: usize| -> f32 {
            points.get(a).iter().zip(points.get(b)).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
        };
        for own in [0, 100, 239] {
            let mut all: Vec<f32> =
                (0..240).filter(|other| *other != own).map(|other| distance(own, other)).collect();
            all.sort_by(f32::total_cmp);
            for (neighbour, wanted) in found[own].iter().zip(all) {
                // A root of what is left of 2 − 2·cosine in single precision.
                assert!((neighbour.distance - wanted).abs() < 1e-3, "{} {wanted}", neighbour.distance);
            }
        }
    }

    #[test]
    fn the_start_follows_the_principal_axes() {
        // Ten times as wide along one axis as along another, and nothing along the third.
        let values: Vec<f32> =
            (0..100).flat_map(|i| [10.0 * (i as f32 * 0.7).sin(), (i as f32 * 1.3).cos(), 2.0]).collect();
        let places = principal_places(Points::new(&values, 3));
        let correlation = |axis: usize, value: usize| {
            let both: Vec<(f32, f32)> =
                (0..100).map(|i| (places[2 * i + axis], values[3 * i + value])).collect();
            let mean = |of: &dyn Fn(&(f32, f32)) -> f32| both.iter().map(of).sum::<f32>() / 100.0;
            let (a, b) = (mean(&|p| p.0), mean(&|p| p.1));
            let covariance = mean(&|p| (p.0 - a) * (p.1 - b));
            covariance / (mean(&|p| (p.0 - a).powi(2)) * mean(&|p| (p.1 - b).powi(2))).sqrt()
        };
        assert!(correlation(0, 0).abs() > 0.99 && correlation(1, 1).abs() > 0.99);
    }
}
