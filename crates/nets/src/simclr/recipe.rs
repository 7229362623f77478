//! How an encoder is taught: the paper's recipe, and ours for small machines.

use crate::resnet::Architecture;
use crate::training::Step;

/// Which views are made of a tile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ViewKind {
    /// SimCLR's: crop, flip, colour jitter, grey, blur.
    Photo,
    /// Ours: stains in units of their slide, turned by any angle.
    Stain(StainJitter),
}

/// How far our views are from one another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StainJitter {
    /// Between the middles of a tile and of its view, along each axis, in pixels, at most.
    pub shift_px: f32,
    /// Natural logarithm of the scale, at most.
    pub log_scale: f32,
    /// Deviation of the natural logarithm of a channel's gain.
    pub log_gain: f32,
    /// Deviation of a channel's shift, in deviations of the slide.
    pub offset: f32,
    /// Deviation of the noise of a pixel, likewise.
    pub noise: f32,
}

/// How the size of steps goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// The same from the first to the last.
    Constant,
    /// Up over some steps, then down to nothing along half a cosine (Loshchilov & Hutter 2017).
    Cosine {
        /// Steps on the way up.
        warm_up_steps: usize,
    },
}

/// Everything that decides a training, but for tiles and seed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// The encoder.
    pub architecture: Architecture,
    /// What is made of a tile.
    pub views: ViewKind,
    /// Side of a view, in pixels.
    pub view_px: usize,
    /// τ.
    pub temperature: f32,
    /// Tiles of a step, two views each.
    pub batch: usize,
    /// Tiles whose views are in memory at a time; a larger batch is gone through twice. All of a batch without it.
    pub tiles_at_once: Option<usize>,
    /// Passes over the tiles.
    pub epochs: usize,
    /// Of Adam.
    pub learning_rate: f64,
    /// How it goes.
    pub schedule: Schedule,
    /// Whether the projector has batch norm.
    pub is_projector_normalised: bool,
    /// Epochs without a smaller loss after which a training ends.
    pub patience: Option<usize>,
}

/// Steps that ours is taught for: a quarter of an hour on two cores. On GlaS 456 gave a mean Dice of 0.75 and 1,368 one of 0.78.
const OUR_STEPS: usize = 1_400;
/// A loss is smaller if it is so by this share.
const SMALLER: f64 = 0.001;

impl Recipe {
    /// The recipe of Pan et al. (2023), of their code.
    pub fn paper(architecture: Architecture) -> Self {
        Self {
            architecture,
            views: ViewKind::Photo,
            view_px: 128,
            temperature: 0.5,
            batch: 1024,
            tiles_at_once: None,
            epochs: 200,
            learning_rate: 3e-4,
            schedule: Schedule::Constant,
            is_projector_normalised: false,
            patience: None,
        }
    }

    /// Ours, for any of the networks.
    pub fn ours(architecture: Architecture) -> Self {
        let jitter = StainJitter { shift_px: 12.0, log_scale: 0.2, log_gain: 0.2, offset: 0.3, noise: 0.05 };
        Self {
            architecture,
            views: ViewKind::Stain(jitter),
            view_px: if architecture == Architecture::SMALL { 64 } else { 96 },
            temperature: 0.2,
            batch: 256,
            tiles_at_once: None,
            epochs: 12,
            learning_rate: 2e-3,
            schedule: Schedule::Cosine { warm_up_steps: 30 },
            is_projector_normalised: true,
            patience: Some(10),
        }
    }

    /// Ours, with as many passes over so many tiles as make [`OUR_STEPS`].
    pub fn ours_for(architecture: Architecture, tiles: usize) -> Self {
        let ours = Self::ours(architecture);
        let steps_an_epoch = (tiles / ours.batch).max(1);
        Self { epochs: OUR_STEPS.div_ceil(steps_an_epoch), ..ours }
    }

    /// Ours for the small encoder.
    pub fn small() -> Self {
        Self::ours(Architecture::SMALL)
    }

    /// The size of the `done`-th of `steps` steps.
    pub(crate) fn learning_rate_at(&self, done: usize, steps: usize) -> f64 {
        match self.schedule {
            Schedule::Constant => self.learning_rate,
            Schedule::Cosine { warm_up_steps } => {
                let warm_up = ((done + 1) as f64 / warm_up_steps.max(1) as f64).min(1.0);
                let part = done as f64 / steps.max(1) as f64;
                self.learning_rate * warm_up * 0.5 * (1.0 + (std::f64::consts::PI * part).cos())
            }
        }
    }

    /// Whether the loss has not become smaller for long.
    pub(crate) fn has_stopped(&self, curve: &[Step]) -> bool {
        let Some(patience) = self.patience else { return false };
        let mut means: Vec<f64> = Vec::new();
        for epoch in curve.chunk_by(|a, b| a.epoch == b.epoch) {
            means.push(epoch.iter().map(|step| f64::from(step.loss)).sum::<f64>() / epoch.len() as f64);
        }
        let Some((recent, before)) = means.len().checked_sub(patience).map(|at| (&means[at..], &means[..at]))
        else {
            return false;
        };
        let best = |means: &[f64]| means.iter().copied().fold(f64::INFINITY, f64::min);
        !before.is_empty() && best(recent) > best(before) * (1.0 - SMALLER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_up_then_down() {
        let recipe = Recipe::small();
        let rate = |done| recipe.learning_rate_at(done, 1000);
        assert!(rate(0) < rate(15) && rate(15) < rate(29) && rate(100) > rate(500) && rate(999) < 1e-5);
        assert_eq!(Recipe::paper(Architecture::RESNET18).learning_rate_at(7, 9), 3e-4);
    }

    #[test]
    fn a_training_ends_when_the_loss_stays() {
        let recipe = Recipe { patience: Some(2), ..Recipe::small() };
        let curve = |losses: &[f32]| -> Vec<Step> {
            losses.iter().enumerate().map(|(epoch, &loss)| Step { epoch, loss }).collect()
        };
        assert!(!recipe.has_stopped(&curve(&[5.0, 4.0, 3.9])));
        assert!(!recipe.has_stopped(&curve(&[5.0, 5.0])));
        assert!(recipe.has_stopped(&curve(&[5.0, 4.0, 4.0, 4.1])));
        assert!(!Recipe::paper(Architecture::RESNET18).has_stopped(&curve(&[4.0; 9])));
    }
}
