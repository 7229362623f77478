//! `--method stain`: nuclei by classical means, no learning. It is the yardstick of the learned methods, and their
//! teacher.
//!
//! Colour deconvolution gives haematoxylin; smoothed a little, thresholded by Otsu; opened, holes filled. Instances are
//! made of the confidence map as for every method (`super::instances`).

use super::confidence::{ConfidenceMap, Part};
use microtome_kernels::gaussian::{gaussian_blur_of, reach_px};
use microtome_kernels::stain::{MacenkoSettings, StainMatrix, concentration, macenko};
use microtome_kernels::threshold::{otsu, separability, sides};
use microtome_slide::Picture;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Which stain vectors deconvolution uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StainVectors {
    /// For each picture those of the two others whose haematoxylin parts it better, see [`StainMap::of`].
    Auto,
    /// Published vectors of haematoxylin and eosin (Ruifrok & Johnston 2001), the same for every picture.
    RuifrokJohnston,
    /// Estimated from each picture (Macenko et al. 2009); the published ones where that fails.
    Macenko,
}

/// Values of the classical method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StainConfig {
    /// Which stain vectors deconvolution uses.
    pub vectors: StainVectors,
    /// Standard deviation of the Gaussian that smooths haematoxylin, in pixels.
    pub smoothing_px: f32,
}

/// From haematoxylin to confidence: a logistic curve that is one half at the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slope {
    /// What parts nuclei from the rest by Otsu's criterion.
    pub threshold: f32,
    /// How far from it the odds are e to one.
    pub width: f32,
}

/// The logistic curve falls from 0.95 to 0.05 over about the distance of the two sides' means.
const STEEPNESS: f32 = 6.0;

impl Slope {
    /// The slope that parts `values`, as steep as the distance between the means of the two sides asks for; none where
    /// they have no contrast.
    pub fn of(values: &[f32]) -> Option<Self> {
        let threshold = otsu(values)?;
        let mean = |(count, sum): (f64, f64)| if count == 0.0 { f64::from(threshold) } else { sum / count };
        let [low, high] = sides(values, threshold).map(mean);
        let distance = ((high - low) as f32).max(1e-3);
        Some(Self { threshold, width: distance / STEEPNESS })
    }

    /// The slope by which nothing is a nucleus.
    pub const NEVER: Self = Self { threshold: 1e6, width: 1.0 };

    /// The slope of the same lower side, with the higher one far enough for a width of `least`.
    pub fn as_wide_as(self, least: f32) -> Self {
        let missing = (least - self.width).max(0.0);
        // Otsu's threshold lies in the middle of both sides' means.
        Self { threshold: self.threshold + 0.5 * STEEPNESS * missing, width: self.width + missing }
    }

    /// The slope between this one (`part` 0) and the other (1).
    pub fn towards(self, other: Self, part: f32) -> Self {
        let mix = |a: f32, b: f32| a + part * (b - a);
        Self { threshold: mix(self.threshold, other.threshold), width: mix(self.width, other.width) }
    }

    /// The log-odds of a nucleus at a value.
    pub fn log_odds(self, value: f32) -> f32 {
        (value - self.threshold) / self.width
    }
}

/// How the stain of a picture or slide is read, which is the same at each of its places.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StainCalibration {
    /// The vectors that are used.
    pub matrix: StainMatrix,
    /// What parts nuclei from the rest; none without contrast.
    pub slope: Option<Slope>,
    /// Standard deviation of the Gaussian that smooths haematoxylin, in pixels.
    pub smoothing_px: f32,
}

impl StainCalibration {
    /// Reads the stain off samples of one slide, or off one picture as its own sample.
    ///
    /// Estimated vectors fit most pictures better than published ones, but where there is one stain only, or colours that
    /// are not of a stain, the estimate parts shades of one stain and is useless. With [`StainVectors::Auto`] an estimate
    /// counts if its haematoxylin is plausible (within [`PLAUSIBLE_DEGREES`] of the published one) and parts the
    /// samples better (separability by Otsu's criterion).
    pub fn of(samples: &[Picture], config: &StainConfig) -> Self {
        let published = || Candidate::new(samples, StainMatrix::ruifrok_johnston(), config.smoothing_px);
        let estimate = || macenko(&pooled_rgb(samples), MacenkoSettings::PAPER);
        let with = |matrix| Candidate::new(samples, matrix, config.smoothing_px);
        let chosen = match config.vectors {
            StainVectors::RuifrokJohnston => published(),
            StainVectors::Macenko => estimate().map_or_else(published, with),
            StainVectors::Auto => match estimate().filter(is_plausible).map(with) {
                None => published(),
                Some(estimated) => {
                    let published = published();
                    if estimated.separability() > published.separability() { estimated } else { published }
                }
            },
        };
        chosen.calibration
    }

    /// Haematoxylin's concentration in optical density, smoothed; row-major.
    pub fn haematoxylin(&self, picture: &Picture) -> Vec<f32> {
        gaussian_blur_of(concentration(&picture.rgb, &self.matrix, 0), picture.size, self.smoothing_px)
    }

    /// How sure the stain is of a nucleus at each pixel of a part of a picture.
    pub fn confidence(&self, picture: &Picture, part: Part) -> ConfidenceMap {
        let Some(slope) = self.slope else {
            return ConfidenceMap { size: part.size, values: vec![0.0; part.size.area_px()] };
        };
        let mut values = part.cut(self.haematoxylin(picture), picture.size, 1);
        values.par_iter_mut().for_each(|value| *value = slope.log_odds(*value));
        ConfidenceMap::of_log_odds(part.size, values)
    }

    /// How far around a place the stain looks, in pixels.
    pub fn reach_px(config: &StainConfig) -> usize {
        reach_px(config.smoothing_px)
    }
}

/// Vectors, and how well their haematoxylin parts the samples.
struct Candidate {
    calibration: StainCalibration,
    haematoxylin: Vec<f32>,
}

impl Candidate {
    fn new(samples: &[Picture], matrix: StainMatrix, smoothing_px: f32) -> Self {
        let mut calibration = StainCalibration { matrix, slope: None, smoothing_px };
        let haematoxylin = pooled(samples, |sample| calibration.haematoxylin(sample));
        calibration.slope = Slope::of(&haematoxylin);
        Self { calibration, haematoxylin }
    }

    fn separability(&self) -> f64 {
        self.calibration.slope.map_or(0.0, |slope| separability(&self.haematoxylin, slope.threshold))
    }
}

/// What `values` gives of each sample, one after the other.
pub(super) fn pooled(samples: &[Picture], values: impl Fn(&Picture) -> Vec<f32> + Sync + Send) -> Vec<f32> {
    match samples {
        [only] => values(only),
        several => several.par_iter().map(values).collect::<Vec<_>>().concat(),
    }
}

fn pooled_rgb(samples: &[Picture]) -> Cow<'_, [u8]> {
    match samples {
        [only] => Cow::Borrowed(&only.rgb),
        several => {
            Cow::Owned(several.iter().map(|sample| sample.rgb.as_slice()).collect::<Vec<_>>().concat())
        }
    }
}

/// How far an estimated haematoxylin may lie from the published one, in degrees.
const PLAUSIBLE_DEGREES: f32 = 15.0;

fn is_plausible(estimated: &StainMatrix) -> bool {
    let published = StainMatrix::ruifrok_johnston();
    let cosine: f32 = estimated.vectors[0].iter().zip(published.vectors[0]).map(|(a, b)| a * b).sum();
    cosine > PLAUSIBLE_DEGREES.to_radians().cos()
}
