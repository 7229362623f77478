//! `--method stain`: nuclei by classical means, no learning. It is the yardstick of the learned methods, and their
//! teacher.
//!
//! Colour deconvolution gives haematoxylin; smoothed a little, thresholded by Otsu; opened, holes filled. Instances are
//! made of the confidence map as for every method (`super::instances`).

use super::confidence::ConfidenceMap;
use microtome_kernels::gaussian::gaussian_blur;
use microtome_kernels::stain::{MacenkoSettings, StainMatrix, concentrations, macenko};
use microtome_kernels::threshold::otsu;
use microtome_slide::Picture;

/// Which stain vectors deconvolution uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StainVectors {
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

/// A picture's stain: how much haematoxylin each pixel holds.
#[derive(Clone, Debug)]
pub struct StainMap {
    /// The vectors that were used.
    pub matrix: StainMatrix,
    /// Haematoxylin's concentration in optical density, smoothed; row-major.
    pub haematoxylin: Vec<f32>,
    /// What parts nuclei from the rest by Otsu's criterion; none for a picture without contrast.
    pub threshold: Option<f32>,
}

impl StainMap {
    /// Deconvolves a picture.
    pub fn of(picture: &Picture, config: &StainConfig) -> Self {
        let matrix = stain_matrix(picture, config.vectors);
        let [haematoxylin, ..] = concentrations(&picture.rgb, &matrix);
        let haematoxylin = gaussian_blur(&haematoxylin, picture.size, config.smoothing_px);
        let threshold = otsu(&haematoxylin);
        Self { matrix, haematoxylin, threshold }
    }

    /// How sure the stain is of a nucleus at each pixel: a logistic curve that is one half at the threshold, and as
    /// steep as the distance between the mean haematoxylin of the two sides asks for.
    pub fn confidence(&self, picture: &Picture) -> ConfidenceMap {
        let values = match self.threshold {
            None => vec![0.0; self.haematoxylin.len()],
            Some(threshold) => {
                let width = self.class_distance(threshold) / STEEPNESS;
                let logistic = |h: &f32| 1.0 / (1.0 + (-(h - threshold) / width).exp());
                self.haematoxylin.iter().map(logistic).collect()
            }
        };
        ConfidenceMap { size: picture.size, values }
    }

    fn class_distance(&self, threshold: f32) -> f32 {
        let mean = |above: bool| {
            let side = self.haematoxylin.iter().filter(|h| (**h > threshold) == above);
            let (sum, count) = side.fold((0.0, 0u32), |(sum, n), h| (sum + f64::from(*h), n + 1));
            if count == 0 { f64::from(threshold) } else { sum / f64::from(count) }
        };
        ((mean(true) - mean(false)) as f32).max(1e-3)
    }
}

/// The logistic curve falls from 0.95 to 0.05 over about the distance of the two sides' means.
const STEEPNESS: f32 = 6.0;

/// The stain vectors of a picture.
pub fn stain_matrix(picture: &Picture, vectors: StainVectors) -> StainMatrix {
    let estimated = match vectors {
        StainVectors::Macenko => macenko(&picture.rgb, MacenkoSettings::PAPER),
        StainVectors::RuifrokJohnston => None,
    };
    estimated.unwrap_or_else(StainMatrix::ruifrok_johnston)
}
