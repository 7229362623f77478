//! `--method stain`: nuclei by classical means, no learning. It is the yardstick of the learned methods, and their
//! teacher.
//!
//! Colour deconvolution gives haematoxylin; smoothed a little, thresholded by Otsu; opened, holes filled. Instances are
//! made of the confidence map as for every method (`super::instances`).

use super::confidence::ConfidenceMap;
use microtome_kernels::gaussian::gaussian_blur;
use microtome_kernels::stain::{MacenkoSettings, StainMatrix, concentrations, macenko};
use microtome_kernels::threshold::{otsu, separability};
use microtome_slide::Picture;

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
    ///
    /// Estimated vectors fit most pictures better than published ones, but where there is one stain only, or colours that
    /// are not of a stain, the estimate parts shades of one stain and is useless. With [`StainVectors::Auto`] an estimate
    /// counts if its haematoxylin is plausible (within [`PLAUSIBLE_DEGREES`] of the published one) and parts the
    /// picture better (separability by Otsu's criterion).
    pub fn of(picture: &Picture, config: &StainConfig) -> Self {
        let published = || Self::with(picture, StainMatrix::ruifrok_johnston(), config.smoothing_px);
        let estimate = || macenko(&picture.rgb, MacenkoSettings::PAPER);
        let with = |matrix| Self::with(picture, matrix, config.smoothing_px);
        match config.vectors {
            StainVectors::RuifrokJohnston => published(),
            StainVectors::Macenko => estimate().map_or_else(published, with),
            StainVectors::Auto => match estimate().filter(is_plausible).map(with) {
                None => published(),
                Some(estimated) => {
                    let published = published();
                    if estimated.separability() > published.separability() { estimated } else { published }
                }
            },
        }
    }

    fn with(picture: &Picture, matrix: StainMatrix, smoothing_px: f32) -> Self {
        let [haematoxylin, ..] = concentrations(&picture.rgb, &matrix);
        let haematoxylin = gaussian_blur(&haematoxylin, picture.size, smoothing_px);
        let threshold = otsu(&haematoxylin);
        Self { matrix, haematoxylin, threshold }
    }

    fn separability(&self) -> f64 {
        self.threshold.map_or(0.0, |threshold| separability(&self.haematoxylin, threshold))
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

/// How far an estimated haematoxylin may lie from the published one, in degrees.
const PLAUSIBLE_DEGREES: f32 = 15.0;

fn is_plausible(estimated: &StainMatrix) -> bool {
    let published = StainMatrix::ruifrok_johnston();
    let cosine: f32 = estimated.vectors[0].iter().zip(published.vectors[0]).map(|(a, b)| a * b).sum();
    cosine > PLAUSIBLE_DEGREES.to_radians().cos()
}
