//! A picture of what went wrong, as in the figures of papers: colours over the picture in grey.
//!
//! Legend: [`FOUND`] (blue) covers pixels that are nucleus in both maps, [`MISSED`] (vermilion) those of the
//! truth only, [`FALSE`] (yellow) those of the prediction only. A full line in vermilion runs around each
//! true nucleus that has no match (IoU above one half), in yellow around each predicted one without a match:
//! a wrong merge or split shows, too, where all pixels are right. The three colours are of the palette of
//! Okabe & Ito, which people with any colour vision tell apart.

use microtome_kernels::{Labels, Size};
use microtome_vault::{Budget, Error, Result, disk};
use rayon::prelude::*;
use std::path::Path;

use super::ScoringKey;
use super::overlaps::{Nucleus, Overlap, Overlaps};
use super::run_pictures::RunPictures;
use crate::export::png::{Samples, write_png};
use crate::truth::{Pair, Truth, read_prediction, read_truth};

/// Pixels of a nucleus in both maps: blue.
pub const FOUND: [u8; 3] = [86, 180, 233];
/// Pixels and outlines of the truth that were missed: vermilion.
pub const MISSED: [u8; 3] = [213, 94, 0];
/// Pixels and outlines of the prediction that are not in the truth: yellow.
pub const FALSE: [u8; 3] = [240, 228, 66];

/// The errors of `predicted` drawn over the picture.
///
/// # Shapes
/// `rgb` and the answer: `[height, width, 3]`, interleaved.
///
/// # Errors
/// `Input` when picture, prediction and truth are not of one size.
pub fn error_picture(rgb: &[u8], size: Size, predicted: &Labels, truth: &Truth) -> Result<Vec<u8>> {
    let truth = truth.labels(&ScoringKey(()));
    let overlaps = Overlaps::between(predicted, truth)?;
    if size != truth.size || rgb.len() != predicted.ids.len() * 3 {
        return Err(Error::input(format!("the picture is {size} pixels, its truth is {}", truth.size)));
    }
    let matched = |side: fn(&Overlap) -> usize| overlaps.matches().map(side).collect::<Vec<usize>>();
    let missed = without_match(&overlaps.truth, matched(|pair| pair.truth));
    let false_ids = without_match(&overlaps.predicted, matched(|pair| pair.predicted));
    let (missed_lines, false_lines) = (outlines(truth, &missed), outlines(predicted, &false_ids));
    let mut picture = Vec::with_capacity(rgb.len());
    for (at, pixel) in rgb.chunks_exact(3).enumerate() {
        let is = |mask: &[bool]| mask.get(at).copied().unwrap_or(false);
        let owned = |labels: &Labels| labels.ids.get(at).is_some_and(|&id| id > 0);
        picture.extend(match (is(&missed_lines), is(&false_lines), owned(truth), owned(predicted)) {
            (true, ..) => MISSED,
            (_, true, ..) => FALSE,
            (.., true, true) => blended(pixel, FOUND),
            (.., true, false) => blended(pixel, MISSED),
            (.., false, true) => blended(pixel, FALSE),
            _ => grey(pixel),
        });
    }
    Ok(picture)
}

/// Writes `FOLDER/NAME.png` for each pair: over the picture where the run's pictures are at hand, else over white.
///
/// # Errors
/// Those of reading predictions, truths and pictures, and of writing.
pub fn write_all(predicted: &Path, pairs: &[Pair], folder: &Path, budget: Budget) -> Result<()> {
    let pictures = RunPictures::of(predicted);
    disk::create_folder_all(folder)?;
    pairs.par_iter().try_for_each(|pair| {
        let labels = read_prediction(&pair.predicted)?.labels;
        let truth = read_truth(&pair.truth, Some(labels.size))?;
        let picture = pictures.as_ref().map(|pictures| pictures.read(pair, budget)).transpose()?.flatten();
        let rgb = picture.map_or_else(|| vec![255; labels.ids.len() * 3], |picture| picture.rgb);
        let drawn = error_picture(&rgb, labels.size, &labels, &truth)?;
        write_png(&folder.join(format!("{}.png", pair.name)), labels.size, Samples::Rgb8(&drawn))
    })
}

/// Ids of the nuclei whose position is not among the matched ones, ascending.
fn without_match(nuclei: &[Nucleus], mut matched: Vec<usize>) -> Vec<u32> {
    matched.sort_unstable();
    let is_free = |position: &usize| matched.binary_search(position).is_err();
    nuclei
        .iter()
        .enumerate()
        .filter(|(position, _)| is_free(position))
        .map(|(_, nucleus)| nucleus.id)
        .collect()
}

/// Pixels of the given nuclei (ids ascending) that have an edge neighbour of another id, or lie at the
/// picture's border.
fn outlines(labels: &Labels, ids: &[u32]) -> Vec<bool> {
    let Size { width_px: width, height_px: height } = labels.size;
    let id_at = |x: usize, y: usize| labels.ids.get(labels.size.index(x, y)).copied().unwrap_or(0);
    let is_edge = |x: usize, y: usize, id: u32| {
        let inside = x > 0 && y > 0 && x + 1 < width && y + 1 < height;
        !inside || [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)].iter().any(|&(x, y)| id_at(x, y) != id)
    };
    let positions = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let of_pixel = |(x, y)| {
        let id = id_at(x, y);
        id > 0 && is_edge(x, y, id) && ids.binary_search(&id).is_ok()
    };
    positions.map(of_pixel).collect()
}

/// Luma of ITU-R BT.601 in 1/256, moved halfway to white so that the colours stand out.
fn grey(pixel: &[u8]) -> [u8; 3] {
    let [red, green, blue] = [0, 1, 2].map(|channel| u32::from(pixel.get(channel).copied().unwrap_or(0)));
    let luma = (77 * red + 150 * green + 29 * blue) >> 8;
    [((luma + 255) / 2) as u8; 3]
}

/// Five eighths of the colour over three of the grey picture.
fn blended(pixel: &[u8], colour: [u8; 3]) -> [u8; 3] {
    let [below, ..] = grey(pixel);
    colour.map(|channel| ((u32::from(channel) * 5 + u32::from(below) * 3) / 8) as u8)
}

#[cfg(test)]
mod tests {
    use super::super::overlaps::tests::row;
    use super::*;

    fn square(id_at: impl Fn(usize, usize) -> u32) -> Labels {
        let size = Size::new(7, 7);
        let ids = (0..49).map(|index| id_at(index % 7, index / 7)).collect();
        Labels { size, ids }
    }

    fn pixel(picture: &[u8], x: usize, y: usize) -> [u8; 3] {
        let start = (y * 7 + x) * 3;
        [picture[start], picture[start + 1], picture[start + 2]]
    }

    #[test]
    fn a_match_is_filled_and_its_errors_are_tinted() {
        let inside = |x: usize, from: usize| u32::from((from..from + 4).contains(&x));
        let truth = Truth::for_tests("t", square(|x, _| inside(x, 1)));
        let picture =
            error_picture(&[255; 147], Size::new(7, 7), &square(|x, _| inside(x, 2)), &truth).unwrap();
        let white = [255; 3];
        assert_eq!(pixel(&picture, 0, 3), white);
        assert_eq!(pixel(&picture, 1, 3), blended(&white, MISSED));
        assert_eq!(pixel(&picture, 2, 3), blended(&white, FOUND));
        assert_eq!(pixel(&picture, 5, 3), blended(&white, FALSE));
    }

    #[test]
    fn a_wrong_split_shows_where_all_pixels_are_right() {
        let truth = Truth::for_tests("t", square(|x, _| u32::from(x < 6)));
        let split = square(|x, _| if x < 3 { 1 } else { 2 * u32::from(x < 6) });
        let picture = error_picture(&[0; 147], Size::new(7, 7), &split, &truth).unwrap();
        assert_eq!(pixel(&picture, 5, 3), MISSED);
        assert_eq!(pixel(&picture, 2, 3), FALSE);
        assert_eq!(pixel(&picture, 1, 3), blended(&[0; 3], FOUND));
    }

    #[test]
    fn other_sizes_are_refused() {
        let truth = Truth::for_tests("t", row(&[1, 0]));
        assert!(error_picture(&[0; 6], Size::new(1, 2), &row(&[1, 0]), &truth).is_err());
        assert!(error_picture(&[0; 5], Size::new(2, 1), &row(&[1, 0]), &truth).is_err());
        assert!(error_picture(&[], Size::new(0, 0), &row(&[]), &Truth::for_tests("e", row(&[]))).is_err());
    }
}
