//! `--method best`, the default: the stain's local contrast teaches a network, and both decide together.
//!
//! The stain of one picture takes every dark thing for a nucleus; the network, which learns from the stain of all
//! pictures together what a nucleus looks like, keeps what they have in common. Their log-odds are averaged. The network
//! sees stain concentrations normalised for each picture, or place of a slide, not colours, so that what it learned on one
//! scanner holds on another.

use super::cells::Cells;
use super::confidence::{ConfidenceMap, Part, SUREST};
use super::config::ConfigFile;
use super::contrast::{self, contrasts, log_odds};
use super::contrastive::Taught;
use super::inputs::Schooling;
use super::instances::{InstancesConfig, instances};
use super::reading::{BLOCK_PX, Field, Reading};
use super::stain::{Slope, StainCalibration, StainConfig, pooled};
use super::teaching::{CheckpointFolder, Keep, teach};
use crate::context::Context;
use microtome_kernels::Size;
use microtome_kernels::stain::concentration;
use microtome_kernels::threshold::separability;
use microtome_nets::confidence::REACH_PX as NETWORK_REACH_PX;
use microtome_nets::inference::FoldedNetwork;
use microtome_nets::soft_target::SoftTargetConfig;
use microtome_nets::training::{Objective, SoftTarget, Step, TrainingPicture, confidence_weights};
use microtome_nets::weights::Weights;
use microtome_slide::{MicronsPerPixel, Picture};
use microtome_vault::{Error, Result};
use rayon::prelude::*;

/// Output channels of the network: nucleus.
pub const TARGETS: usize = 1;

/// Values of the default method.
#[derive(Clone, Debug, PartialEq)]
pub struct BestConfig {
    /// How often a network is taught by what was found before.
    pub rounds: usize,
    /// Training steps a round.
    pub steps: usize,
    /// How finely the network sees, in µm per pixel; pictures that are finer are shrunk to about that for it.
    pub network_mpp: f64,
    /// The first teacher.
    pub stain: StainConfig,
    /// How what was found is made the next target.
    pub instances: InstancesConfig,
    /// The training of a round.
    pub training: SoftTargetConfig,
}

/// Share of the network in the mean of log-odds; the rest is the stain's local contrast.
const NETWORK_SHARE: f32 = 0.2;

/// How a picture or slide is read.
#[derive(Clone, Debug, PartialEq)]
pub struct BestCalibration {
    /// The stain of the whole, which nuclei are measured by.
    pub stain: StainCalibration,
    field: Field,
    config: StainConfig,
}

/// What a reading is made of: values of many pixels.
#[derive(Clone, Debug)]
pub struct Values {
    stain: StainCalibration,
    /// Contrast at both scales.
    contrast: [Vec<f32>; 2],
    /// Concentrations of haematoxylin and eosin.
    concentrations: [Vec<f32>; 2],
}

impl Values {
    /// Those of samples of one slide, or of one picture as its own sample.
    pub fn of(samples: &[Picture], config: &StainConfig) -> Self {
        let stain = StainCalibration::of(samples, config);
        let of_stain = |which| move |sample: &Picture| concentration(&sample.rgb, &stain.matrix, which);
        let concentrations = [pooled(samples, of_stain(0)), pooled(samples, of_stain(1))];
        let of_sample = |sample: &Picture| contrasts(sample, of_stain(0)(sample), config);
        let of_samples: Vec<[Vec<f32>; 2]> = samples.par_iter().map(of_sample).collect();
        let contrast = match <[_; 1]>::try_from(of_samples) {
            Ok([only]) => only,
            Err(several) => [0, 1].map(|scale: usize| {
                several.iter().map(|both| both[scale].as_slice()).collect::<Vec<_>>().concat()
            }),
        };
        Self { stain, contrast, concentrations }
    }

    /// The stain that they were read by.
    pub fn stain(&self) -> StainCalibration {
        self.stain
    }

    /// The reading that they make.
    pub fn reading(&self) -> Reading {
        let slope = |scale: usize| Slope::of(&self.contrast[scale]).unwrap_or(Slope::NEVER);
        Reading {
            inverse: self.stain.matrix.inverse().unwrap_or_default(),
            high_ends: [high_end(&self.concentrations[0]), high_end(&self.concentrations[1])],
            slopes: [slope(0), slope(1)],
        }
    }

    /// The reading that they make as those of a place of a slide, which as a whole is read otherwise.
    ///
    /// A place without nuclei can be parted, too, into the darker and the paler half of what is there. So what is not clearly of
    /// two kinds must stand out as far as nuclei of the slide do.
    pub fn reading_within(&self, slide: &Reading) -> Reading {
        let mut reading = self.reading();
        for (scale, slope) in reading.slopes.iter_mut().enumerate() {
            let doubt = doubt(separability(&self.contrast[scale], slope.threshold));
            *slope = slope.as_wide_as(doubt * slide.slopes[scale].width);
        }
        reading
    }
}

/// How little a separability (η of Otsu) speaks for values of two kinds, 0 to 1. It is a half for that of a normal distribution,
/// 2/π, which is of one kind.
fn doubt(separability: f64) -> f32 {
    const OF_NORMAL: f64 = 2.0 / std::f64::consts::PI;
    /// From no doubt to nothing else.
    const RANGE: f64 = 0.05;
    (0.5 + (OF_NORMAL - separability) / RANGE).clamp(0.0, 1.0) as f32
}

impl BestCalibration {
    /// Reads it off samples of one slide, or off one picture as its own sample: everywhere alike.
    pub fn of(samples: &[Picture], config: &StainConfig) -> Self {
        let values = Values::of(samples, config);
        Self { stain: values.stain, field: Field::everywhere(values.reading()), config: *config }
    }

    /// A slide that is read place by place.
    pub fn of_field(stain: StainCalibration, field: Field, config: &StainConfig) -> Self {
        Self { stain, field, config: *config }
    }

    /// The calibration as it is seen from a window of the slide.
    pub fn seen_from(&self, x_px: usize, y_px: usize) -> Self {
        Self { field: self.field.seen_from(x_px, y_px), ..*self }
    }

    /// How sure the stain's local contrast and the network, which gives log-odds, are together, at each pixel of a part
    /// of a picture.
    pub fn confidence(&self, learned: &Learned, picture: &Picture, part: Part) -> ConfidenceMap {
        let cells = learned.cells(picture.mpp);
        let seen = cells.whole(part.with_border(learned_reach_px(cells), picture.size), picture.size);
        let shrunk = cells.means(self.normalised(picture, seen), seen.size, 3);
        let mut of_cells = learned.network.maps(&shrunk, cells.count(seen.size));
        drop(shrunk);
        of_cells.iter_mut().for_each(|value| *value = value.clamp(-SUREST, SUREST));
        let mut log_odds = self.of_contrast(picture, part);
        cells.interpolate((&of_cells, seen), part, &mut log_odds, |mean, learned| {
            for (mean, learned) in mean.iter_mut().zip(learned) {
                *mean = (1.0 - NETWORK_SHARE) * *mean + NETWORK_SHARE * learned;
            }
        });
        ConfidenceMap::of_log_odds(part.size, log_odds)
    }

    /// The log-odds of the stain's local contrast alone.
    fn of_contrast(&self, picture: &Picture, part: Part) -> Vec<f32> {
        let haematoxylin = self.field.map(&picture.rgb, picture.size, |reading, pixels, mapped| {
            let [haematoxylin] = reading.concentrations(pixels, [1.0]);
            mapped.copy_from_slice(&haematoxylin[..mapped.len()]);
        });
        log_odds(picture, part, haematoxylin, &self.field, &self.config)
    }

    /// What the network sees instead of colours: haematoxylin, eosin and the residual, each on a scale of its picture or
    /// of its place in the slide.
    ///
    /// Interleaved `[height, width, 3]`, light where there is none, like a picture.
    fn normalised(&self, picture: &Picture, part: Part) -> Vec<u8> {
        let is_whole = part == Part::whole(picture.size);
        let of_part = (!is_whole).then(|| part.cut_of(&picture.rgb, picture.size, 3));
        let rgb = of_part.as_deref().unwrap_or(&picture.rgb);
        let field = self.field.seen_from(part.left_px, part.top_px);
        let seen = field.map(rgb, part.size, |reading, pixels, mapped| {
            let [h_scale, e_scale] = reading.high_ends.map(|high| 200.0 / high);
            let shares = reading.concentrations(pixels, [h_scale, e_scale, h_scale]);
            let mut light = [[0u8; BLOCK_PX]; 3];
            for ((light, shares), base) in light.iter_mut().zip(&shares).zip([0.0, 0.0, 100.0]) {
                light.iter_mut().zip(shares).for_each(|(light, share)| {
                    *light = (255.0 - (base + share).clamp(0.0, 255.0)) as u8;
                });
            }
            for (at, mapped) in mapped.iter_mut().enumerate() {
                *mapped = [light[0][at], light[1][at], light[2][at]];
            }
        });
        seen.into_flattened()
    }
}

/// A network, and how finely it sees.
pub struct Learned {
    network: FoldedNetwork,
    /// Side of its cells, in µm.
    cell_um: f64,
    stain: StainConfig,
}

impl Learned {
    /// The network of given weights, trained with the values of `config`.
    ///
    /// # Errors
    /// `Input` when the weights are of another architecture.
    pub fn of(weights: &Weights, config: &BestConfig) -> Result<Self> {
        let network = FoldedNetwork::of_log_odds(weights, config.training.epsilon)?;
        Ok(Self { network, cell_um: config.network_mpp, stain: config.stain })
    }

    /// Output channels of the network.
    pub fn channels(&self) -> usize {
        self.network.channels()
    }

    fn cells(&self, mpp: Option<MicronsPerPixel>) -> Cells {
        Cells::about(self.cell_um, mpp)
    }

    /// How far around a place the method looks, in pixels, in a picture of resolution `mpp`.
    pub fn reach_px(&self, mpp: Option<MicronsPerPixel>) -> usize {
        contrast::reach_px(&self.stain, mpp).max(learned_reach_px(self.cells(mpp)))
    }

    /// What the corners of windows must be multiples of, for windows to give what the whole gives, in pixels.
    pub fn grid_px(&self, mpp: Option<MicronsPerPixel>) -> usize {
        least_common_multiple(contrast::grid_px(mpp), self.cells(mpp).side_px())
    }
}

/// How far around a place the network looks, in pixels: from the cells on both sides of it.
fn learned_reach_px(cells: Cells) -> usize {
    match cells.side_px() {
        1 => NETWORK_REACH_PX,
        side_px => (NETWORK_REACH_PX + 2) * side_px,
    }
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    (1..=b).map(|factor| factor * a).find(|multiple| multiple.is_multiple_of(b)).unwrap_or(a * b)
}

/// Haematoxylin's high end, which becomes 1: this share of the pixels lies below.
const HIGH_SHARE: f64 = 0.99;
/// The high end of a picture without any stain, in optical density.
const LOWEST_HIGH_END: f32 = 0.05;

fn high_end(values: &[f32]) -> f32 {
    let mut sample: Vec<f32> = values.iter().step_by(values.len() / 100_000 + 1).copied().collect();
    let index = ((sample.len().saturating_sub(1)) as f64 * HIGH_SHARE) as usize;
    match sample.is_empty() {
        true => LOWEST_HIGH_END,
        false => sample.select_nth_unstable_by(index, f32::total_cmp).1.max(LOWEST_HIGH_END),
    }
}

/// What a round teaches about one picture.
struct Lesson {
    /// Extent of all of it, in cells.
    size: Size,
    seen: Vec<u8>,
    probability: Vec<u8>,
    weight: Vec<u8>,
}

/// Teaches a network on pictures, round after round.
///
/// # Errors
/// `Input` when no picture is as large as the smallest crop, `Cancelled`, `Io`.
pub fn learn(
    schooling: &Schooling,
    config: &ConfigFile,
    checkpoints: &CheckpointFolder,
    context: &Context<'_>,
) -> Result<Taught> {
    let best = config.best();
    let pictures = schooling.pictures.as_slice();
    let training = fit(&best, pictures)?;
    let calibrations: Vec<BestCalibration> = schooling
        .grouped()
        .collect::<Vec<_>>()
        .into_par_iter()
        .flat_map_iter(|group| calibrations_of_group(group, &best.stain))
        .collect();
    let mut taught: Option<Weights> = None;
    let mut curve: Vec<Step> = Vec::new();
    for round in 0..best.rounds {
        let lessons = lessons(pictures, &calibrations, &best, taught.as_ref())?;
        context.check_cancelled()?;
        let seen: Vec<TrainingPicture<'_>> = lessons.iter().map(training_picture).collect();
        let objective = Objective::SoftTarget(training.clone());
        let keep = Keep::Newest { every: training.epochs.div_ceil(8) };
        let stage =
            if best.rounds == 1 { "learning".to_owned() } else { format!("learning round {}", round + 1) };
        let last = teach(&stage, &seen, &objective, keep, checkpoints, context)?;
        check_converged(&last.curve)?;
        let earlier = curve.last().map_or(0, |step| step.epoch + 1);
        curve.extend(last.curve.iter().map(|step| Step { epoch: step.epoch + earlier, ..*step }));
        taught = Some(confidence_weights(&last));
    }
    let weights = taught.ok_or_else(|| Error::bug("no round was taught"))?;
    Ok(Taught { weights, choice: None, curve })
}

/// How each of some windows of one slide is read: as the places that they are in it. A picture is its own slide.
fn calibrations_of_group(group: &[Picture], config: &StainConfig) -> Vec<BestCalibration> {
    if let [_] = group {
        return vec![BestCalibration::of(group, config)];
    }
    let whole = Values::of(group, config);
    let (stain, whole) = (whole.stain, whole.reading());
    let of_window = |window: &Picture| {
        let reading = Values::of(std::slice::from_ref(window), config).reading_within(&whole);
        BestCalibration::of_field(stain, Field::everywhere(reading), config)
    };
    group.iter().map(of_window).collect()
}

/// A loss that is no number any more has made the weights worthless.
fn check_converged(curve: &[Step]) -> Result<()> {
    match curve.iter().position(|step| !step.loss.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::usage(format!("the training diverged in step {}", index + 1))
            .advise("choose a smaller best.learning_rate")),
    }
}

/// Crop, repeats and epochs that suit the pictures: crops as large as asked for, or as the largest picture allows; an
/// epoch of at least one full batch; as many epochs as the steps need.
fn fit(best: &BestConfig, pictures: &[Picture]) -> Result<SoftTargetConfig> {
    let in_cells = |picture: &Picture| Cells::about(best.network_mpp, picture.mpp).count(picture.size);
    let sides = pictures.iter().map(in_cells).map(|size| size.width_px.min(size.height_px));
    let crop_px = sides.clone().max().unwrap_or(0).min(best.training.crop_px);
    let usable = sides.filter(|side| *side >= crop_px).count();
    if usable == 0 || crop_px == 0 {
        return Err(Error::input("there is no picture to learn from"));
    }
    let repeats = best.training.batch.div_ceil(usable);
    let steps_an_epoch = (usable * repeats).div_ceil(best.training.batch);
    let epochs = best.steps.div_ceil(steps_an_epoch);
    Ok(SoftTargetConfig { crop_px, repeats, epochs, ..best.training.clone() })
}

fn lessons(
    pictures: &[Picture],
    calibrations: &[BestCalibration],
    best: &BestConfig,
    taught: Option<&Weights>,
) -> Result<Vec<Lesson>> {
    let learned = taught.map(|weights| Learned::of(weights, best)).transpose()?;
    let each = pictures.par_iter().zip(calibrations);
    Ok(each.map(|(picture, calibration)| lesson(picture, calibration, best, learned.as_ref())).collect())
}

fn lesson(
    picture: &Picture,
    calibration: &BestCalibration,
    best: &BestConfig,
    learned: Option<&Learned>,
) -> Lesson {
    let (whole, cells) = (Part::whole(picture.size), Cells::about(best.network_mpp, picture.mpp));
    let believed = match learned {
        None => ConfidenceMap::of_log_odds(picture.size, calibration.of_contrast(picture, whole)),
        Some(learned) => calibration.confidence(learned, picture, whole),
    };
    let found = instances(&believed, picture.mpp, &best.instances);
    // What cleaning decided is the target; what the map was unsure of counts little.
    let probability = found.ids.iter().map(|id| if *id > 0 { 255 } else { 0 }).collect();
    let weight = believed.values.iter().map(|p| (64.0 + 191.0 * (2.0 * p - 1.0).abs()) as u8).collect();
    Lesson {
        size: cells.count(picture.size),
        seen: cells.means(calibration.normalised(picture, whole), picture.size, 3),
        probability: cells.means(probability, picture.size, 1),
        weight: cells.means(weight, picture.size, 1),
    }
}

fn training_picture(lesson: &Lesson) -> TrainingPicture<'_> {
    let target = SoftTarget { probability: &lesson.probability, weight: &lesson.weight };
    TrainingPicture { size: lesson.size, rgb: &lesson.seen, target: Some(target) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nuclei::stain::StainVectors;

    /// Values of one kind, spread as a normal distribution is, and of two kinds if some are nuclei.
    fn values(nuclei: usize) -> Values {
        let stain = StainCalibration::of(
            &[],
            &StainConfig { vectors: StainVectors::RuifrokJohnston, smoothing_px: 1.0 },
        );
        let mut state = 1u64;
        let mut chance = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        // The sum of twelve evenly spread numbers is nearly normal, of variance 1.
        let mut normal = move || (0..12).map(|_| chance()).sum::<f32>() - 6.0;
        let contrast: Vec<f32> =
            (0..10_000).map(|i| 0.03 * normal() + if i < nuclei { 0.4 } else { 0.1 }).collect();
        Values {
            stain,
            contrast: [contrast.clone(), contrast.clone()],
            concentrations: [contrast.clone(), contrast],
        }
    }

    #[test]
    fn what_is_of_one_kind_stands_out_as_far_as_nuclei_of_the_slide_or_is_none() {
        let slide = values(1500).reading();
        let (empty, full) = (values(0), values(2000));
        assert_eq!(full.reading_within(&slide), full.reading());
        let (alone, within) = (empty.reading().slopes[0], empty.reading_within(&slide).slopes[0]);
        let share_above = |threshold: f32| {
            empty.contrast[0].iter().filter(|value| **value > threshold).count() as f32 / 10_000.0
        };
        assert!(share_above(alone.threshold) > 0.4, "half of what is there");
        assert!(share_above(within.threshold) < 0.3, "{within:?}");
        assert!(within.width > 0.3 * slide.slopes[0].width, "{within:?}");
    }

    #[test]
    fn doubt_is_a_half_where_a_normal_distribution_is_parted() {
        assert_eq!([0.0, 0.6, 2.0 / std::f64::consts::PI, 0.68, 1.0].map(doubt), [1.0, 1.0, 0.5, 0.0, 0.0]);
    }
}
