//! The queries where vectors were imported: each tile is asked about, and its answer painted over its square.

use super::{Method, Nearness, Places, QuerySettings};
use crate::context::Context;
use crate::project::settings::IGNORED;
use crate::slides::view::View;
use crate::tissue::clusters::cosines_to;
use crate::tissue::dictionary::Dictionary;
use crate::tissue::embed::OfSlide;
use crate::tissue::encoder::imported::LEVEL;
use crate::tissue::query::cells::{classes_of, highest};
use crate::tissue::query::fine;
use crate::tissue::tiles::TileList;
use microtome_kernels::Size;
use microtome_kernels::gaussian::gaussian_blur;
use microtome_vault::{Error, Result};
use std::ops::Range;

/// Places to the side of a tile: where tiles overlap, what they say is added up.
const PLACES_A_TILE: usize = 4;

/// Asks a dictionary about every tile.
///
/// # Errors
/// `Usage` when the method looks between tiles; `Limit` when the answer does not fit the budget.
pub fn ask(
    dictionary: &Dictionary,
    view: &View<'_>,
    tiles: &OfSlide,
    settings: &QuerySettings,
    context: &Context<'_>,
) -> Result<Places> {
    let TileList { corners_px, side_px: tile_px, .. } = &tiles.list;
    let side_px = tile_px.div_ceil(PLACES_A_TILE);
    let size = Size::new(view.size.width_px.div_ceil(side_px), view.size.height_px.div_ceil(side_px));
    let classes = dictionary.classes.len();
    context.budget.grant("the classes of this slide", size.area_px() as u64, 8 * classes as u64 + 16)?;
    let (weights, cosines) = weights(dictionary, &tiles.read(context)?, settings)?;
    let mut nearness = Nearness::default();
    cosines.iter().for_each(|cosine| nearness.add(*cosine));
    let mut sums = vec![vec![0.0f32; size.area_px()]; classes];
    let mut counts = vec![0.0f32; size.area_px()];
    for (tile, corner) in corners_px.iter().enumerate() {
        let columns = covered(corner[0], *tile_px, side_px, size.width_px);
        for row in covered(corner[1], *tile_px, side_px, size.height_px) {
            for column in columns.clone() {
                let at = size.index(column, row);
                counts[at] += 1.0;
                sums.iter_mut().zip(&weights).for_each(|(sum, weights)| sum[at] += weights[tile]);
            }
        }
    }
    let is_covered: Vec<bool> = counts.iter().map(|count| *count > 0.0).collect();
    if settings.method == Method::Fine {
        let sigma = settings.smoothing_px / side_px as f32;
        sums.iter_mut().chain([&mut counts]).for_each(|map| *map = gaussian_blur(map, size, sigma));
    }
    let (mut class, mut confidence) = (vec![IGNORED; size.area_px()], vec![0; size.area_px()]);
    for at in (0..size.area_px()).filter(|at| is_covered[*at]) {
        let best =
            (0..classes).fold(0, |best, next| if sums[next][at] > sums[best][at] { next } else { best });
        let share = sums[best][at] / counts[at].max(f32::MIN_POSITIVE);
        if share >= settings.least_confidence {
            class[at] = best as u8;
        }
        confidence[at] = (share * 254.0).round().clamp(0.0, 254.0) as u8;
    }
    Ok(Places { size, side_px, class, confidence, nearness: nearness.median() })
}

/// How much each class weighs in each tile, and the cosine to the nearest prototype.
fn weights(
    dictionary: &Dictionary,
    vectors: &[f32],
    settings: &QuerySettings,
) -> Result<(Vec<Vec<f32>>, Vec<f32>)> {
    let dimensions = dictionary.encoder.dimensions(LEVEL);
    let cosines = cosines_to(vectors, &dictionary.centroids[&LEVEL], dimensions);
    match settings.method {
        Method::Fine => Ok(fine::weights(dictionary, LEVEL, &cosines, settings.temperature)),
        Method::Direct => {
            let (nearest, nearness) = highest(&cosines, dictionary.prototypes.len());
            let of_tile = classes_of(dictionary, &nearest);
            let own =
                |class: usize| of_tile.iter().map(move |of| f32::from(u8::from(usize::from(*of) == class)));
            Ok(((0..dictionary.classes.len()).map(|class| own(class).collect()).collect(), nearness))
        }
        Method::Cluster => Err(Error::usage(
            "the cluster query puts cells of a picture together, and imported vectors have none",
        )
        .advise("ask with --method direct or fine")),
    }
}

/// Places whose middles a tile covers along one axis.
fn covered(corner_px: i64, tile_px: usize, side_px: usize, places: usize) -> Range<usize> {
    let side = side_px as i64;
    // Middles lie at side · place + side / 2.
    let first = |px: i64| (px - side / 2 + side - 1).div_euclid(side).max(0) as usize;
    first(corner_px).min(places)..first(corner_px + tile_px as i64).min(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_covers_the_places_whose_middles_lie_in_it() {
        assert_eq!(covered(0, 64, 16, 100), 0..4);
        assert_eq!(covered(64, 64, 16, 100), 4..8);
        // Middles at 8, 24, 40 …: 9 to 73 holds those from 24 to 72.
        assert_eq!(covered(9, 64, 16, 100), 1..5);
        assert_eq!(covered(-20, 64, 16, 100), 0..3);
        assert_eq!(covered(90, 64, 16, 6), 6..6);
    }
}
