//! Local contrast of the stain: a nucleus is darker than what lies around it, not than the whole picture.
//!
//! One threshold a picture takes dark stroma for nuclei and loses pale nuclei in pale tissue. Here a share of the
//! surroundings' haematoxylin is taken away first, at two scales, and Otsu decides on what is left; the two answers are
//! averaged as log-odds.

use super::confidence::{ConfidenceMap, Part, mean_log_odds};
use super::instances::Scale;
use super::stain::{Slope, StainCalibration, StainConfig};
use microtome_kernels::gaussian::{gaussian_blur, reach_px};
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
        let smooth: Vec<Vec<f32>> = samples.iter().map(|sample| smooth(sample, stain)).collect();
        let slope = |surroundings_um: f64| {
            let mut of_sample = samples.iter().zip(&smooth).map(|(s, h)| contrast(s, h, surroundings_um));
            match samples.len() {
                1 => of_sample.next().and_then(|values| Slope::of(&values)),
                _ => Slope::of(&of_sample.flatten().collect::<Vec<_>>()),
            }
        };
        Self { stain: *stain, slopes: SURROUNDINGS_UM.map(slope) }
    }

    /// How sure the local contrast is of a nucleus at each pixel of a part of a picture.
    pub fn confidence(&self, picture: &Picture, part: Part) -> ConfidenceMap {
        let smooth = smooth(picture, &self.stain);
        let at_scale = |index: usize| {
            let values = match self.slopes[index] {
                None => vec![0.0; part.size.area_px()],
                Some(slope) => {
                    let contrast = contrast(picture, &smooth, SURROUNDINGS_UM[index]);
                    slope.confidence(&part.cut(contrast, picture.size, 1))
                }
            };
            ConfidenceMap { size: part.size, values }
        };
        mean_log_odds(&at_scale(0), &at_scale(1), 0.5)
    }

    /// How far around a place the contrast looks, in pixels, in a picture of resolution `mpp`.
    pub fn reach_px(config: &StainConfig, mpp: Option<MicronsPerPixel>) -> usize {
        let around_px = Scale::of(mpp).length_px(SURROUNDINGS_UM[1]) as f32;
        reach_px(config.smoothing_px) + reach_px(missing_px(config.smoothing_px, mpp)) + reach_px(around_px)
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

/// Haematoxylin without a share of that of its surroundings.
fn contrast(picture: &Picture, smooth: &[f32], surroundings_um: f64) -> Vec<f32> {
    let around_px = Scale::of(picture.mpp).length_px(surroundings_um) as f32;
    let mut around = gaussian_blur(smooth, picture.size, around_px);
    around.par_iter_mut().zip(smooth).for_each(|(around, h)| *around = h - SHARE * *around);
    around
}
