//! The map to look at: points in the colours of their clusters, and pictures of the tiles in their places.

use super::{Place, class_of};
use crate::context::Context;
use crate::export::png::{Samples, png_bytes};
use crate::project::Project;
use crate::project::database::Naming;
use crate::tissue::clusters::Clusters;
use crate::tissue::pictures;
use microtome_kernels::Size;
use microtome_vault::Result;
use std::collections::{BTreeMap, BTreeSet};

/// Side of the map of points.
const POINTS_PX: f64 = 900.0;
/// White around it.
const MARGIN_PX: f64 = 30.0;
/// Pictures along a side.
const PICTURES: usize = 40;
/// Side of a picture, in pixels.
const PICTURE_PX: usize = 36;
/// Hues of neighbouring numbers lie far apart: 360° by the golden ratio.
const HUE_STEP: f64 = 137.508;

/// Column and row of a picture.
type Cell = (usize, usize);

/// What turns places of the fit into places from 0 to 1.
struct Frame {
    low: [f32; 2],
    extent: f32,
}

impl Frame {
    fn of(places: &[Place]) -> Self {
        let bound = |axis: usize, fold: fn(f32, f32) -> f32, from: f32| {
            places.iter().map(|place| place.at[axis]).fold(from, fold)
        };
        let low = [0, 1].map(|axis| bound(axis, f32::min, f32::INFINITY));
        let high = [0, 1].map(|axis| bound(axis, f32::max, f32::NEG_INFINITY));
        Self { low, extent: (high[0] - low[0]).max(high[1] - low[1]).max(f32::MIN_POSITIVE) }
    }

    fn place(&self, at: [f32; 2]) -> [f64; 2] {
        [0, 1].map(|axis| f64::from((at[axis] - self.low[axis]) / self.extent))
    }
}

/// An SVG with a point for each tile, and each cluster's number where most of its tiles are. Clusters with a name have the colour of
/// their class.
pub(super) fn points(project: &Project, namings: &[Naming], places: &[Place]) -> String {
    let frame = Frame::of(places);
    let at =
        |place: [f32; 2]| frame.place(place).map(|side| MARGIN_PX + side * (POINTS_PX - 2.0 * MARGIN_PX));
    let colour = |cluster: usize| -> String {
        let class = class_of(namings, cluster).and_then(|name| project.settings.class(name).ok());
        match class {
            Some(class) => project.settings.classes[class].colour.clone(),
            None => format!("hsl({:.0} 55% 55%)", cluster as f64 * HUE_STEP % 360.0),
        }
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {POINTS_PX} {POINTS_PX}\" font-family=\"sans-serif\" font-size=\"15\" font-weight=\"bold\">\n\
         <rect width=\"{POINTS_PX}\" height=\"{POINTS_PX}\" fill=\"#fff\"/>\n"
    );
    let clusters: BTreeSet<usize> = places.iter().map(|place| place.cluster).collect();
    for cluster in &clusters {
        svg += &format!("<g fill=\"{}\" fill-opacity=\"0.7\">", colour(*cluster));
        for place in places.iter().filter(|place| place.cluster == *cluster) {
            let [x, y] = at(place.at);
            svg += &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
        }
        svg += "</g>\n";
    }
    for cluster in &clusters {
        let own: Vec<[f32; 2]> =
            places.iter().filter(|place| place.cluster == *cluster).map(|place| place.at).collect();
        let median = [0, 1].map(|axis| {
            let mut all: Vec<f32> = own.iter().map(|at| at[axis]).collect();
            all.sort_by(f32::total_cmp);
            all[all.len() / 2]
        });
        let [x, y] = at(median);
        let class = class_of(namings, *cluster).map_or(String::new(), |name| format!(" {}", escaped(name)));
        svg += &format!(
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" stroke=\"#fff\" stroke-width=\"3\" paint-order=\"stroke\">{cluster}{class}</text>\n",
            y + 5.0
        );
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// A PNG of tiles in their places: of those that share one, the nearest to its middle.
pub(super) fn tiles(
    project: &Project,
    clusters: &Clusters,
    places: &[Place],
    context: &Context<'_>,
) -> Result<Vec<u8>> {
    let frame = Frame::of(places);
    let mut of_cell: BTreeMap<Cell, (f64, usize)> = BTreeMap::new();
    for place in places {
        let at = frame.place(place.at).map(|side| side * PICTURES as f64);
        let cell = at.map(|side| (side as usize).min(PICTURES - 1));
        let off = [0, 1].map(|axis| at[axis] - cell[axis] as f64 - 0.5);
        let distance = off[0] * off[0] + off[1] * off[1];
        let best = of_cell.entry((cell[0], cell[1])).or_insert((f64::INFINITY, 0));
        if distance < best.0 {
            *best = (distance, place.tile);
        }
    }
    let size = Size::new(PICTURES * PICTURE_PX, PICTURES * PICTURE_PX);
    let mut rgb = vec![255u8; 3 * size.area_px()];
    let wanted = of_cell.into_iter().map(|(cell, (_, tile))| (tile, cell));
    for ((column, row), tile) in pictures::read(project, clusters, wanted, PICTURE_PX, context)? {
        for (y, line) in tile.chunks_exact(3 * PICTURE_PX).enumerate() {
            let at = size.index(column * PICTURE_PX, row * PICTURE_PX + y);
            rgb[3 * at..][..3 * PICTURE_PX].copy_from_slice(line);
        }
    }
    png_bytes(size, Samples::Rgb8(&rgb))
}
