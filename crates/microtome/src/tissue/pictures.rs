//! Tiles as pictures of one size, to be looked at.

use super::clusters::Clusters;
use super::tiles;
use crate::context::Context;
use crate::project::Project;
use microtome_kernels::Size;
use microtome_kernels::resample::downsample_area;
use microtome_vault::Result;
use rayon::prelude::*;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Reads tiles, each with what it is for, as squares of `side_px`; each slide is opened once. In the order of slides.
///
/// # Errors
/// Those of reading; `Cancelled`.
pub fn read<T: Copy + Sync + Send>(
    project: &Project,
    clusters: &Clusters,
    wanted: impl IntoIterator<Item = (usize, T)>,
    side_px: usize,
    context: &Context<'_>,
) -> Result<Vec<(T, Vec<u8>)>> {
    let mut of_slide: BTreeMap<usize, Vec<(usize, T)>> = BTreeMap::new();
    for (tile, purpose) in wanted {
        let (slide, number) = clusters.place_of(tile);
        of_slide.entry(slide).or_default().push((number, purpose));
    }
    let slides = project.slides()?;
    let mut pictures = Vec::new();
    context.progress().begin("pictures of tiles", of_slide.len());
    for (done, (slide, wanted)) in of_slide.into_iter().enumerate() {
        context.check_cancelled()?;
        let Some(slide) = slides.get(slide) else { continue };
        let Some(list) = tiles::read(project, slide, context)? else { continue };
        let open = slide.open(context)?;
        let view = tiles::view(&open, slide.mpp, &project.settings.tiles)?;
        let stored = Size::new(list.side_px, list.side_px);
        let read = |(number, purpose): &(usize, T)| -> Result<(T, Vec<u8>)> {
            let corner = list.corners_px.get(*number).copied().unwrap_or_default();
            let rgb = view.region(corner, stored, context.budget)?.rgb;
            Ok((*purpose, in_size(rgb, stored.width_px, Size::new(side_px, side_px))))
        };
        pictures.extend(wanted.par_iter().map(read).collect::<Result<Vec<_>>>()?);
        context.progress().advance(done + 1, &slide.name);
    }
    context.progress().end();
    Ok(pictures)
}

/// A square picture in another size.
fn in_size(rgb: Vec<u8>, side_px: usize, shown: Size) -> Vec<u8> {
    match side_px.cmp(&shown.width_px) {
        Ordering::Equal => rgb,
        Ordering::Greater => downsample_area(&rgb, Size::new(side_px, side_px), shown),
        Ordering::Less => {
            let place = |at: usize| at * side_px / shown.width_px;
            let pixels = (0..shown.area_px())
                .map(|at| 3 * (place(at / shown.width_px) * side_px + place(at % shown.width_px)));
            pixels.flat_map(|at| [rgb[at], rgb[at + 1], rgb[at + 2]]).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_grow_and_shrink() {
        let rgb: Vec<u8> = (0..4).flat_map(|pixel| [pixel * 10; 3]).collect();
        let grown = in_size(rgb.clone(), 2, Size::new(4, 4));
        let row = |from: &[u8]| from.iter().flat_map(|value| [*value; 3]).collect::<Vec<u8>>();
        assert_eq!(
            grown,
            [row(&[0, 0, 10, 10]), row(&[0, 0, 10, 10]), row(&[20, 20, 30, 30]), row(&[20, 20, 30, 30])]
                .concat()
        );
        assert_eq!(in_size(grown, 4, Size::new(2, 2)), rgb);
        assert_eq!(in_size(rgb.clone(), 2, Size::new(2, 2)), rgb);
    }
}
