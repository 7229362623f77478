//! From a picture to nuclei, by whatever method.

use super::best::{self, BestCalibration, Learned};
use super::choice::Sense;
use super::confidence::{ConfidenceMap, Part};
use super::config::{ConfigFile, Method};
use super::instances::{InstancesConfig, instances};
use super::measure::{Nucleus, measure};
use super::model::Model;
use super::stain::{StainCalibration, StainConfig};
use microtome_kernels::Labels;
use microtome_nets::confidence::REACH_PX as NETWORK_REACH_PX;
use microtome_nets::inference::FoldedNetwork;
use microtome_slide::{MicronsPerPixel, Picture};
use microtome_vault::{Error, Result};

/// A method, ready to be applied to one picture after the other.
pub struct Segmenter {
    stain: StainConfig,
    instances: InstancesConfig,
    engine: Engine,
}

enum Engine {
    Stain,
    Contrastive { network: FoldedNetwork, channel: usize, inverted: bool },
    Best { learned: Learned },
}

/// What was found in one picture.
pub struct Segmentation {
    /// How sure the method is of each pixel.
    pub confidence: ConfidenceMap,
    /// The nuclei.
    pub labels: Labels,
    /// What was measured of each.
    pub nuclei: Vec<Nucleus>,
}

impl Segmenter {
    /// The classical method.
    pub fn stain(config: &ConfigFile) -> Self {
        Self { stain: config.stain(), instances: config.instances(), engine: Engine::Stain }
    }

    /// A trained model, with the values it was trained with.
    ///
    /// # Errors
    /// `Input` when its weights are of another architecture.
    pub fn of_model(model: &Model) -> Result<Self> {
        let (record, config) = (&model.record, &model.record.config);
        let engine = match record.method {
            Method::Stain => return Err(Error::input("the stain method has no model")),
            Method::Best => {
                let learned = Learned::of(&model.weights, &config.best())?;
                check_channels(learned.channels(), best::TARGETS)?;
                Engine::Best { learned }
            }
            Method::Contrastive => {
                let network = FoldedNetwork::new(&model.weights, config.contrastive().epsilon)?;
                check_channels(network.channels(), record.channel + 1)?;
                Engine::Contrastive { network, channel: record.channel, inverted: record.inverted }
            }
        };
        Ok(Self { stain: config.stain(), instances: config.instances(), engine })
    }

    /// Reads off samples of one slide, or off one picture as its own sample, what is the same at each of its places.
    pub fn calibrate(&self, samples: &[Picture]) -> Calibration {
        match &self.engine {
            Engine::Best { .. } => Calibration::Best(BestCalibration::of(samples, &self.stain)),
            _ => Calibration::Stain(StainCalibration::of(samples, &self.stain)),
        }
    }

    /// The values by which each place of a slide is read, for methods that do so.
    pub fn reads_places(&self) -> Option<&StainConfig> {
        matches!(self.engine, Engine::Best { .. }).then_some(&self.stain)
    }

    /// How far around a place the method looks, in pixels, in a picture of resolution `mpp`.
    pub fn reach_px(&self, mpp: Option<MicronsPerPixel>) -> usize {
        match &self.engine {
            Engine::Stain => StainCalibration::reach_px(&self.stain),
            Engine::Contrastive { .. } => NETWORK_REACH_PX,
            Engine::Best { learned } => learned.reach_px(mpp),
        }
    }

    /// What the corners of windows must be multiples of, for windows to give what the whole gives, in pixels.
    pub fn grid_px(&self, mpp: Option<MicronsPerPixel>) -> usize {
        match &self.engine {
            Engine::Best { learned } => learned.grid_px(mpp),
            _ => 1,
        }
    }

    /// How sure the method is of a nucleus at each pixel of a part of a picture, or of a window of a slide. What lies
    /// around the part is looked at as far as [`Self::reach_px`].
    pub fn confidence(&self, picture: &Picture, part: Part, calibration: &Calibration) -> ConfidenceMap {
        match (&self.engine, calibration) {
            (Engine::Contrastive { network, channel, inverted }, _) => {
                channel_confidence(network, picture, part, *channel, *inverted)
            }
            (Engine::Best { learned }, Calibration::Best(calibration)) => {
                calibration.confidence(learned, picture, part)
            }
            (_, calibration) => calibration.stain().confidence(picture, part),
        }
    }

    /// How nuclei are made of confidence.
    pub fn instances_config(&self) -> &InstancesConfig {
        &self.instances
    }

    /// Cuts the nuclei out of a picture of the given resolution.
    pub fn segment(&self, picture: &Picture, mpp: Option<MicronsPerPixel>) -> Segmentation {
        let calibration = self.calibrate(std::slice::from_ref(picture));
        let confidence = self.confidence(picture, Part::whole(picture.size), &calibration);
        let labels = instances(&confidence, mpp, &self.instances);
        let nuclei = measure(&labels, &picture.rgb, &confidence.values, &calibration.stain().matrix);
        Segmentation { confidence, labels, nuclei }
    }
}

fn check_channels(channels: usize, needed: usize) -> Result<()> {
    match channels >= needed {
        true => Ok(()),
        false => Err(Error::input(format!("the model has {channels} output channels and needs {needed}"))),
    }
}

/// What a method reads off a whole picture or slide before it decides about any of its places.
#[derive(Clone, Debug, PartialEq)]
pub enum Calibration {
    /// Of methods that need the stain only.
    Stain(StainCalibration),
    /// Of the default method.
    Best(BestCalibration),
}

impl Calibration {
    /// The stain's part.
    pub fn stain(&self) -> &StainCalibration {
        match self {
            Self::Stain(stain) => stain,
            Self::Best(best) => &best.stain,
        }
    }

    /// The calibration as it is seen from a window of the slide, whose corner is this far to the right and down.
    pub fn seen_from(&self, x_px: usize, y_px: usize) -> Self {
        match self {
            Self::Stain(_) => self.clone(),
            Self::Best(best) => Self::Best(best.seen_from(x_px, y_px)),
        }
    }
}

fn channel_confidence(
    network: &FoldedNetwork,
    picture: &Picture,
    part: Part,
    channel: usize,
    inverted: bool,
) -> ConfidenceMap {
    let area = picture.size.area_px();
    let mut values = network.maps(&picture.rgb, picture.size);
    values.drain(..channel * area);
    values.truncate(area);
    if inverted {
        values.iter_mut().for_each(|value| *value = 1.0 - *value);
    }
    ConfidenceMap { size: part.size, values: part.cut(values, picture.size, 1) }
}

/// The mask of every channel and sense that a contrastive model offers, for the oracle that scoring shows beside our
/// choice.
///
/// # Errors
/// `Input` when the model is of another architecture.
pub fn all_channel_masks(model: &Model, picture: &Picture) -> Result<Vec<(Sense, Vec<bool>)>> {
    let network = FoldedNetwork::new(&model.weights, model.record.config.contrastive().epsilon)?;
    let area = picture.size.area_px();
    let maps = network.maps(&picture.rgb, picture.size);
    let senses = (0..network.channels()).flat_map(|channel| [(channel, false), (channel, true)]);
    Ok(senses
        .map(|(channel, inverted)| {
            let map = &maps[channel * area..][..area];
            let mask = map.iter().map(|value| (*value > 0.5) != inverted).collect();
            (Sense { channel, inverted }, mask)
        })
        .collect())
}
