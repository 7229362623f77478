//! Local contrast of the stain: a nucleus is darker than what lies around it, not than the whole picture.
//!
//! One threshold a picture takes dark stroma for nuclei and loses pale nuclei in pale tissue. Here a share of the
//! surroundings' haematoxylin is taken away first, at two scales, and Otsu decides on what is left; the two answers are
//! averaged as log-odds.

use super::confidence::{Part, SUREST};
use super::instances::Scale;
use super::reading::Field;
use super::stain::StainConfig;
use microtome_kernels::gaussian::{self, WideBlur, cell_px, gaussian_blur_of};
use microtome_slide::{MicronsPerPixel, Picture};
use rayon::prelude::*;

/// Standard deviation of the Gaussian that smooths haematoxylin, in µm.
const SMOOTHING_UM: f64 = 0.5;
/// Standard deviations of the Gaussians that are the surroundings, in µm: about one and two nuclei.
const SURROUNDINGS_UM: [f64; 2] = [6.25, 12.5];
/// Share of the surroundings' haematoxylin that is taken away.
const SHARE: f32 = 0.5;

/// Rows that a thread does at least: each needs room for a line.
const ROWS_A_TASK: usize = 16;

/// The local contrast at both scales, of each pixel of a picture; `haematoxylin` is not smoothed yet.
pub fn contrasts(picture: &Picture, haematoxylin: Vec<f32>, config: &StainConfig) -> [Vec<f32>; 2] {
    let smooth = smooth(picture, haematoxylin, config);
    SURROUNDINGS_UM.map(|surroundings_um| {
        let around = around(picture, &smooth, surroundings_um);
        let width_px = picture.size.width_px.max(1);
        let mut contrast = vec![0.0; smooth.len()];
        let rows = contrast.par_chunks_exact_mut(width_px).zip(smooth.par_chunks_exact(width_px)).enumerate();
        rows.with_min_len(ROWS_A_TASK).for_each_init(Vec::new, |line, (y, (contrast, smooth))| {
            around.row(y, line, contrast);
            contrast.iter_mut().zip(smooth).for_each(|(around, h)| *around = h - SHARE * *around);
        });
        contrast
    })
}

/// How sure the local contrast is of a nucleus at each pixel of a part of a picture, as log-odds: the mean of both scales.
/// `haematoxylin` is not smoothed yet, and of the whole picture.
pub fn log_odds(
    picture: &Picture,
    part: Part,
    haematoxylin: Vec<f32>,
    field: &Field,
    config: &StainConfig,
) -> Vec<f32> {
    let smooth = smooth(picture, haematoxylin, config);
    let field = field.seen_from(part.left_px, part.top_px);
    let mut sum = vec![0.0; part.size.area_px()];
    for (scale, surroundings_um) in SURROUNDINGS_UM.into_iter().enumerate() {
        let around = around(picture, &smooth, surroundings_um);
        let rows = sum.par_chunks_exact_mut(part.size.width_px.max(1)).enumerate();
        let room = || (Vec::new(), vec![0.0; picture.size.width_px]);
        rows.with_min_len(ROWS_A_TASK).for_each_init(room, |(line, surroundings), (y, sum)| {
            around.row(part.top_px + y, line, surroundings);
            let start = picture.size.index(part.left_px, part.top_px + y);
            let (smooth, around) = (&smooth[start..], &surroundings[part.left_px..]);
            field.for_blocks(y, part.size.width_px, |block, reading| {
                let slope = reading.slopes[scale];
                let values = smooth[block.clone()].iter().zip(&around[block.clone()]);
                for (sum, (h, around)) in sum[block].iter_mut().zip(values) {
                    *sum += 0.5 * slope.log_odds(h - SHARE * around).clamp(-SUREST, SUREST);
                }
            });
        });
    }
    sum
}

/// How far around a place the contrast looks, in pixels, in a picture of resolution `mpp`.
pub fn reach_px(config: &StainConfig, mpp: Option<MicronsPerPixel>) -> usize {
    let around_px = around_px(mpp, SURROUNDINGS_UM[1]);
    let smoothing_px = [config.smoothing_px, missing_px(config.smoothing_px, mpp)].map(gaussian::reach_px);
    smoothing_px.iter().sum::<usize>() + gaussian::reach_px(around_px) + cell_px(around_px)
}

/// What the corners of windows must be multiples of, for windows to give what the whole gives, in pixels.
pub fn grid_px(mpp: Option<MicronsPerPixel>) -> usize {
    cell_px(around_px(mpp, SURROUNDINGS_UM[1]))
}

/// Haematoxylin, smoothed for its contrast.
fn smooth(picture: &Picture, haematoxylin: Vec<f32>, config: &StainConfig) -> Vec<f32> {
    let smoothed = gaussian_blur_of(haematoxylin, picture.size, config.smoothing_px);
    gaussian_blur_of(smoothed, picture.size, missing_px(config.smoothing_px, picture.mpp))
}

/// What smoothing is missing where some was done before.
fn missing_px(smoothed_px: f32, mpp: Option<MicronsPerPixel>) -> f32 {
    let wanted_px = Scale::of(mpp).length_px(SMOOTHING_UM) as f32;
    // Gaussians in a row add their variances.
    (wanted_px.powi(2) - smoothed_px.powi(2)).max(0.0).sqrt()
}

/// Haematoxylin of the surroundings.
fn around(picture: &Picture, smooth: &[f32], surroundings_um: f64) -> WideBlur {
    WideBlur::of(smooth, picture.size, around_px(picture.mpp, surroundings_um))
}

fn around_px(mpp: Option<MicronsPerPixel>, surroundings_um: f64) -> f32 {
    Scale::of(mpp).length_px(surroundings_um) as f32
}
