//! Local contrast of the stain: a nucleus is darker than what lies around it, not than the whole picture.
//!
//! One threshold a picture takes dark stroma for nuclei and loses pale nuclei in pale tissue. Here a share of the
//! surroundings' haematoxylin is taken away first, at two scales, and Otsu decides on what is left; the two answers are
//! averaged as log-odds.

use super::confidence::{ConfidenceMap, mean_log_odds};
use super::instances::Scale;
use super::stain::StainMap;
use microtome_kernels::gaussian::gaussian_blur;
use microtome_kernels::threshold::otsu;
use microtome_slide::Picture;

/// Standard deviation of the Gaussian that smooths haematoxylin, in µm.
const SMOOTHING_UM: f64 = 0.5;
/// Standard deviations of the Gaussians that are the surroundings, in µm: about one and two nuclei.
const SURROUNDINGS_UM: [f64; 2] = [6.25, 12.5];
/// Share of the surroundings' haematoxylin that is taken away.
const SHARE: f32 = 0.5;

/// How sure the local contrast is of a nucleus at each pixel. `stain` was smoothed by `smoothed_px`.
pub fn confidence(picture: &Picture, stain: &StainMap, smoothed_px: f32) -> ConfidenceMap {
    let (size, scale) = (picture.size, Scale::of(picture.mpp));
    let wanted_px = scale.length_px(SMOOTHING_UM) as f32;
    // Gaussians in a row add their variances.
    let missing_px = (wanted_px.powi(2) - smoothed_px.powi(2)).max(0.0).sqrt();
    let smooth = gaussian_blur(&stain.haematoxylin, size, missing_px);
    let at_scale = |surroundings_um: f64| {
        let around = gaussian_blur(&smooth, size, scale.length_px(surroundings_um) as f32);
        let contrast: Vec<f32> = smooth.iter().zip(&around).map(|(h, around)| h - SHARE * around).collect();
        let threshold = otsu(&contrast);
        StainMap { haematoxylin: contrast, threshold, ..stain.clone() }.confidence(picture)
    };
    mean_log_odds(&at_scale(SURROUNDINGS_UM[0]), &at_scale(SURROUNDINGS_UM[1]), 0.5)
}
