//! Local contrast of the stain: a nucleus is darker than what lies around it, not than the whole picture.
//!
//! One threshold a picture takes dark stroma for nuclei and loses pale nuclei in pale tissue. Here a share of the
//! surroundings' haematoxylin is taken away first, at two scales, and Otsu decides on what is left; the two answers are
//! averaged as log-odds.

use super::confidence::{Part, SUREST};
use super::instances::Scale;
use super::stain::{Slope, StainCalibration, StainConfig};
use microtome_kernels::gaussian::{cell_px, gaussian_blur, gaussian_blur_wide, reach_px};
use microtome_slide::{MicronsPerPixel, Picture};
use rayon::prelude::*;

/// Standard deviation of the Gaussian that smooths haematoxylin, in µm.
const SMOOTHING_UM: f64 = 0.5;
/// Standard deviations of the Gaussians that are the surroundings, in µm: about one and two nuclei.
const SURROUNDINGS_UM: [f64; 2] = [6.25, 12.5];
/// Share of the surroundings' haematoxylin that is taken away.
const SHARE: f32 = 0.5;

/// How the local contrast of a picture or slide is read, which is the same at each of its places.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContrastCalibration {
    stain: StainCalibration,
    slopes: [Option<Slope>; 2],
}

impl ContrastCalibration {
    /// Reads it off samples of one slide, or off one picture as its own sample.
    pub fn of(samples: &[Picture], stain: &StainCalibration) -> Self {
        let smooth: Vec<Vec<f32>> = samples.par_iter().map(|sample| smooth(sample, stain)).collect();
        let slope = |surroundings_um: f64| {
            let contrast = |(sample, smooth): (&Picture, &Vec<f32>)| -> Vec<f32> {
                let around = around(sample, smooth, surroundings_um);
                smooth.iter().zip(around).map(|(h, around)| h - SHARE * around).collect()
            };
            let of_samples: Vec<Vec<f32>> = samples.par_iter().zip(&smooth).map(contrast).collect();
            match &of_samples[..] {
                [only] => Slope::of(only),
                several => Slope::of(&several.concat()),
            }
        };
        Self { stain: *stain, slopes: SURROUNDINGS_UM.map(slope) }
    }

    /// How sure the local contrast is of a nucleus at each pixel of a part of a picture, as log-odds: the mean of both scales.
    pub fn log_odds(&self, picture: &Picture, part: Part) -> Vec<f32> {
        let smooth = smooth(picture, &self.stain);
        let mut sum = vec![0.0; part.size.area_px()];
        for (slope, surroundings_um) in self.slopes.iter().zip(SURROUNDINGS_UM) {
            let around = around(picture, &smooth, surroundings_um);
            let rows = sum.par_chunks_exact_mut(part.size.width_px.max(1)).enumerate();
            rows.for_each(|(y, sum)| {
                let start = picture.size.index(part.left_px, part.top_px + y);
                let row = smooth[start..].iter().zip(&around[start..]);
                for (sum, (h, around)) in sum.iter_mut().zip(row) {
                    let log_odds = slope.map_or(-SUREST, |slope| slope.log_odds(h - SHARE * around));
                    *sum += 0.5 * log_odds.clamp(-SUREST, SUREST);
                }
            });
        }
        sum
    }

    /// How far around a place the contrast looks, in pixels, in a picture of resolution `mpp`.
    pub fn reach_px(config: &StainConfig, mpp: Option<MicronsPerPixel>) -> usize {
        let around_px = around_px(mpp, SURROUNDINGS_UM[1]);
        let smoothing_px = reach_px(config.smoothing_px) + reach_px(missing_px(config.smoothing_px, mpp));
        smoothing_px + reach_px(around_px) + cell_px(around_px)
    }

    /// What the corners of windows must be multiples of, for windows to give what the whole gives, in pixels.
    pub fn grid_px(mpp: Option<MicronsPerPixel>) -> usize {
        cell_px(around_px(mpp, SURROUNDINGS_UM[1]))
    }
}

/// Haematoxylin, smoothed for its contrast.
fn smooth(picture: &Picture, stain: &StainCalibration) -> Vec<f32> {
    gaussian_blur(&stain.haematoxylin(picture), picture.size, missing_px(stain.smoothing_px, picture.mpp))
}

/// What smoothing is missing where some was done before.
fn missing_px(smoothed_px: f32, mpp: Option<MicronsPerPixel>) -> f32 {
    let wanted_px = Scale::of(mpp).length_px(SMOOTHING_UM) as f32;
    // Gaussians in a row add their variances.
    (wanted_px.powi(2) - smoothed_px.powi(2)).max(0.0).sqrt()
}

/// Haematoxylin of the surroundings.
fn around(picture: &Picture, smooth: &[f32], surroundings_um: f64) -> Vec<f32> {
    gaussian_blur_wide(smooth, picture.size, around_px(picture.mpp, surroundings_um))
}

fn around_px(mpp: Option<MicronsPerPixel>, surroundings_um: f64) -> f32 {
    Scale::of(mpp).length_px(surroundings_um) as f32
}
