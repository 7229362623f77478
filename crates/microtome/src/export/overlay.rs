//! The picture with the outline of each nucleus drawn on it.
//!
//! A line runs inside the nucleus, along its edge: nothing outside is covered, and two nuclei that touch keep
//! a line each. The colour was chosen by looking at it on H&E from several laboratories, as it is and as
//! people without red or green vision see it (to them it is yellow): light against dark nuclei and pink
//! tissue, and no colour of a stain.

use std::path::{Path, PathBuf};

use microtome_kernels::{Labels, Size};
use microtome_vault::{Error, Result};

use super::file_in;
use super::png::{Samples, write_png};

/// The colour of outlines (red, green, blue).
pub const OUTLINE: [u8; 3] = [140, 255, 0];

/// Pictures wider than this get lines of two pixels: on a screen they are shown reduced.
const WIDE_PX: usize = 1500;

/// Writes `NAME.png` (RGB), the picture with outlines of one pixel, two if it is wider than 1500 pixels.
///
/// # Shapes
/// `rgb`: `[height, width, 3]`, interleaved.
///
/// # Errors
/// `Io` when the disk refuses; `Input` when the picture has no pixels; `Bug` when `rgb` and `labels` differ
/// in size.
pub fn write_overlay(folder: &Path, name: &str, rgb: &[u8], labels: &Labels) -> Result<PathBuf> {
    let path = file_in(folder, name, "png")?;
    let line_px = if labels.size.width_px > WIDE_PX { 2 } else { 1 };
    write_png(&path, labels.size, Samples::Rgb8(&draw_outlines(rgb, labels, line_px)?))?;
    Ok(path)
}

/// The picture with outlines of `line_px` pixels, at most 254; nuclei that are thinner are filled.
///
/// # Errors
/// `Bug` when `rgb` and `labels` differ in size.
pub fn draw_outlines(rgb: &[u8], labels: &Labels, line_px: u8) -> Result<Vec<u8>> {
    let area_px = labels.size.area_px();
    if labels.ids.len() != area_px || rgb.len() != 3 * area_px {
        return Err(Error::bug(format!("picture and labels do not both have {} pixels", labels.size)));
    }
    let mut picture = rgb.to_vec();
    let line_px = line_px.min(u8::MAX - 1);
    for ((pixel, &id), depth) in picture.as_chunks_mut().0.iter_mut().zip(&labels.ids).zip(depths(labels)) {
        if id > 0 && depth <= line_px {
            *pixel = OUTLINE;
        }
    }
    Ok(picture)
}

/// The colour of the line around tissue.
pub const TISSUE: [u8; 3] = [0, 90, 255];

/// The picture with a line around the tissue, on its outside; `is_tissue` is asked for columns and rows.
pub fn draw_tissue(mut rgb: Vec<u8>, size: Size, is_tissue: impl Fn(usize, usize) -> bool) -> Vec<u8> {
    let mut above: Vec<bool> = Vec::new();
    for y in 0..size.height_px {
        let row: Vec<bool> = (0..size.width_px).map(|x| is_tissue(x, y)).collect();
        for (x, &here) in row.iter().enumerate() {
            let left = x.checked_sub(1).map(|left| (row[left], size.index(left, y)));
            let up = above.get(x).map(|above| (*above, size.index(x, y - 1)));
            for (_, other) in left.into_iter().chain(up).filter(|(other, _)| *other != here) {
                let at = if here { other } else { size.index(x, y) };
                rgb[3 * at..3 * at + 3].copy_from_slice(&TISSUE);
            }
        }
        above = row;
    }
    rgb
}

/// How many steps over edges lead from each pixel to one of another id, or out of the picture; 255 means that
/// many or more. Two passes, as in the city-block transform of Rosenfeld & Pfaltz (1966), here for all ids at
/// once.
fn depths(labels: &Labels) -> Vec<u8> {
    let Size { width_px, height_px } = labels.size;
    let mut depths = vec![u8::MAX; labels.ids.len()];
    for y in 0..height_px {
        for x in 0..width_px {
            let before = [(x > 0).then(|| labels.size.index(x, y) - 1), above(labels.size, x, y)];
            deepen(labels, &mut depths, labels.size.index(x, y), before);
        }
    }
    for y in (0..height_px).rev() {
        for x in (0..width_px).rev() {
            let at = labels.size.index(x, y);
            let after = [(x + 1 < width_px).then_some(at + 1), (y + 1 < height_px).then_some(at + width_px)];
            deepen(labels, &mut depths, at, after);
        }
    }
    depths
}

fn above(size: Size, x: usize, y: usize) -> Option<usize> {
    y.checked_sub(1).map(|y| size.index(x, y))
}

/// One step deeper than the shallower of two neighbours; a neighbour of another id, or none, is the outside.
fn deepen(labels: &Labels, depths: &mut [u8], at: usize, neighbours: [Option<usize>; 2]) {
    let steps = neighbours.map(|neighbour| match neighbour {
        Some(neighbour) if labels.ids[neighbour] == labels.ids[at] => depths[neighbour].saturating_add(1),
        _ => 1,
    });
    depths[at] = depths[at].min(steps[0]).min(steps[1]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, pixel by pixel: how many erosions by the 4-neighbourhood a pixel survives.
    fn depths_by_erosion(labels: &Labels) -> Vec<u8> {
        let Size { width_px: width, height_px: height } = labels.size;
        let mut depths = vec![0u8; labels.ids.len()];
        for depth in 1..=u8::MAX {
            let done = depths.clone();
            for (at, mine) in depths.iter_mut().enumerate().filter(|(_, mine)| **mine == 0) {
                let (x, y) = ((at % width) as isize, (at / width) as isize);
                let is_out = |(dx, dy): (isize, isize)| {
                    let (x, y) = (x + dx, y + dy);
                    let inside = (0..width as isize).contains(&x) && (0..height as isize).contains(&y);
                    let other = (y * width as isize + x) as usize;
                    !inside || labels.ids[other] != labels.ids[at] || done[other] > 0
                };
                if [(0, 1), (1, 0), (0, -1), (-1, 0)].into_iter().any(is_out) {
                    *mine = depth;
                }
            }
        }
        depths
    }

    fn random_labels(seed: u64, size: Size) -> Labels {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        let mut labels = Labels::background(size);
        for id in 1..=6 {
            let (x, y) = (next() % size.width_px, next() % size.height_px);
            let (right, bottom) =
                ((x + next() % 12).min(size.width_px), (y + next() % 12).min(size.height_px));
            (y..bottom).for_each(|y| (x..right).for_each(|x| labels.ids[size.index(x, y)] = id));
        }
        labels
    }

    #[test]
    fn two_passes_equal_erosion() {
        for seed in 0..20 {
            let labels = random_labels(seed, Size::new(3 + seed as usize, 17));
            assert_eq!(depths(&labels), depths_by_erosion(&labels), "seed {seed}");
        }
        assert!(depths(&Labels::background(Size::new(0, 0))).is_empty());
    }

    #[test]
    fn only_the_boundary_of_nuclei_changes() {
        let labels = random_labels(5, Size::new(24, 24));
        let rgb: Vec<u8> = (0..3 * 24 * 24).map(|value| (value % 200) as u8).collect();
        let drawn = draw_outlines(&rgb, &labels, 1).unwrap();
        let depths = depths_by_erosion(&labels);
        for at in 0..labels.ids.len() {
            let is_line = labels.ids[at] > 0 && depths[at] == 1;
            let expected = if is_line { &OUTLINE } else { &rgb[3 * at..3 * at + 3] };
            assert_eq!(&drawn[3 * at..3 * at + 3], expected);
        }
    }

    #[test]
    fn touching_nuclei_keep_a_line_each() {
        let labels = Labels { size: Size::new(8, 5), ids: [1, 1, 1, 1, 2, 2, 2, 2].repeat(5) };
        let drawn = draw_outlines(&[9; 120], &labels, 1).unwrap();
        let is_line = |x: usize| drawn[3 * (2 * 8 + x)..][..3] == OUTLINE;
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6, 7].map(is_line),
            [true, false, false, true, true, false, false, true]
        );
    }

    #[test]
    fn wide_pictures_have_wider_lines_and_sizes_must_agree() {
        let folder = tempfile::tempdir().unwrap();
        let labels = Labels { size: Size::new(1501, 7), ids: vec![1; 1501 * 7] };
        let path = write_overlay(folder.path(), "wide", &vec![0; 3 * 1501 * 7], &labels).unwrap();
        let drawn = image::open(path).unwrap().into_rgb8();
        assert_eq!(drawn.pixels().filter(|pixel| pixel.0 != OUTLINE).count(), 1497 * 3);
        assert!(write_overlay(folder.path(), "wrong", &[0; 3], &labels).is_err());
    }
}
