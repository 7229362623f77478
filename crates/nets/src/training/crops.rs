//! Batches of random crops.

use super::Objective;
use crate::contrastive::loss::Crops;
use crate::inference::planar;
use microtome_kernels::Size;
use microtome_vault::{Error, Result};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// A picture to train on. There is no place for truth: targets are what a label-free method computed from `rgb`.
#[derive(Clone, Copy, Debug)]
pub struct TrainingPicture<'a> {
    /// Extent.
    pub size: Size,
    /// Interleaved RGB, `[height, width, 3]`.
    pub rgb: &'a [u8],
    /// Soft targets and their weights, for objectives that have targets.
    pub target: Option<SoftTarget<'a>>,
}

/// What a label-free method believes of each pixel of a picture.
#[derive(Clone, Copy, Debug)]
pub struct SoftTarget<'a> {
    /// `[targets, height, width]`, 0 to 255 for probabilities 0 to 1.
    pub probability: &'a [u8],
    /// `[height, width]`, 0 to 255: how much a pixel counts.
    pub weight: &'a [u8],
}

/// What happens to crops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Augmentation {
    /// Nothing, as in the paper.
    None,
    /// Flips, quarter turns, and each colour's optical density scaled and shifted a little: another stain and scanner.
    FlipsAndStain,
}

/// Crops and the targets under them.
pub(crate) struct Batch {
    pub(crate) crops: Crops,
    /// `[images, targets, height, width]`; empty without targets.
    pub(crate) probability: Vec<f32>,
    /// `[images, 1, height, width]`; empty without targets.
    pub(crate) weight: Vec<f32>,
}

/// All batches of a training.
pub(crate) struct Batches<'a> {
    pictures: Vec<TrainingPicture<'a>>,
    crop: Size,
    batch: usize,
    repeats: usize,
    epochs: usize,
    epsilon: f32,
    augmentation: Augmentation,
}

impl<'a> Batches<'a> {
    pub(crate) fn new(pictures: &[TrainingPicture<'a>], objective: &Objective) -> Result<Self> {
        let crop_px = objective.crop_px();
        let large_enough = |p: &&TrainingPicture<'_>| p.size.width_px.min(p.size.height_px) >= crop_px;
        let pictures: Vec<_> = pictures.iter().filter(large_enough).copied().collect();
        if pictures.is_empty() {
            return Err(Error::input(format!(
                "no picture is as large as the crop of {crop_px} × {crop_px} px"
            ))
            .advise(
                "ask for a smaller crop (contrastive.crop_px or best.crop_px), or give larger pictures",
            ));
        }
        Ok(Self {
            pictures,
            crop: Size::new(crop_px, crop_px),
            batch: objective.batch(),
            repeats: objective.repeats(),
            epochs: objective.epochs(),
            epsilon: objective.epsilon(),
            augmentation: objective.augmentation(),
        })
    }

    /// Steps of the whole training.
    pub(crate) fn steps(&self) -> usize {
        (self.pictures.len() * self.repeats).div_ceil(self.batch) * self.epochs
    }

    /// The batches of one epoch: each picture once (or as often as is asked for), in random order, at a random place.
    pub(crate) fn of_epoch(&self, random: &mut ChaCha8Rng) -> impl Iterator<Item = Batch> {
        let mut order: Vec<usize> =
            (0..self.pictures.len() * self.repeats).map(|i| i % self.pictures.len()).collect();
        order.shuffle(random);
        let places: Vec<Place> = order.into_iter().map(|picture| self.place(picture, random)).collect();
        let batches: Vec<Vec<Place>> = places.chunks(self.batch).map(<[Place]>::to_vec).collect();
        batches.into_iter().map(|places| self.cut(&places))
    }

    fn place(&self, picture: usize, random: &mut ChaCha8Rng) -> Place {
        let size = self.pictures[picture].size;
        let left = random.random_range(0..=size.width_px - self.crop.width_px);
        let top = random.random_range(0..=size.height_px - self.crop.height_px);
        let change = match self.augmentation {
            Augmentation::None => Change::NONE,
            Augmentation::FlipsAndStain => Change::random(random),
        };
        Place { picture, left, top, change }
    }

    fn cut(&self, places: &[Place]) -> Batch {
        let cut: Vec<[Vec<f32>; 3]> = places.par_iter().map(|place| self.cut_one(place)).collect();
        let all = |part: usize| cut.iter().map(|parts| parts[part].as_slice()).collect::<Vec<_>>().concat();
        let crops = Crops {
            images: places.len(),
            channels: 3,
            height_px: self.crop.height_px,
            width_px: self.crop.width_px,
            values: all(0),
        };
        Batch { crops, probability: all(1), weight: all(2) }
    }

    /// Colours, probabilities and weights of one crop.
    fn cut_one(&self, place: &Place) -> [Vec<f32>; 3] {
        let picture = &self.pictures[place.picture];
        let mut colours = planar(picture.rgb, picture.size, place.left, place.top, self.crop, self.epsilon);
        place.change.stain(&mut colours, self.crop);
        let window = |plane: &[u8]| self.window(plane, picture.size, place);
        let area = picture.size.area_px();
        let (probability, weight) = match picture.target {
            Some(target) => {
                (target.probability.chunks(area).flat_map(window).collect(), window(target.weight))
            }
            None => (Vec::new(), Vec::new()),
        };
        [colours, probability, weight].map(|planes| place.change.turn(planes, self.crop))
    }

    fn window(&self, plane: &[u8], size: Size, place: &Place) -> Vec<f32> {
        let rows = place.top..place.top + self.crop.height_px;
        rows.flat_map(|y| {
            let start = size.index(place.left, y);
            plane[start..start + self.crop.width_px].iter().map(|&value| f32::from(value) / 255.0)
        })
        .collect()
    }
}

/// Where a crop is cut and what is done to it.
#[derive(Clone, Copy)]
struct Place {
    picture: usize,
    left: usize,
    top: usize,
    change: Change,
}

/// One of the eight symmetries of the square, and a change of the stain.
#[derive(Clone, Copy)]
struct Change {
    flip: bool,
    transpose: bool,
    upside_down: bool,
    /// For each colour, factor and summand of the optical density.
    density: Option<[[f32; 2]; 3]>,
}

/// Optical densities are scaled by 1 ± this much in augmentation …
const DENSITY_FACTOR: f32 = 0.2;
/// … and shifted by at most this much.
const DENSITY_SHIFT: f32 = 0.03;

impl Change {
    const NONE: Self = Self { flip: false, transpose: false, upside_down: false, density: None };

    fn random(random: &mut ChaCha8Rng) -> Self {
        let (flip, transpose, upside_down) = (random.random(), random.random(), random.random());
        let mut pair = || {
            let factor = 1.0 + random.random_range(-DENSITY_FACTOR..DENSITY_FACTOR);
            [factor, random.random_range(-DENSITY_SHIFT..DENSITY_SHIFT)]
        };
        Self { flip, transpose, upside_down, density: Some([pair(), pair(), pair()]) }
    }

    /// x ↦ x^factor · e^−shift on each colour plane: optical density is −ln x.
    fn stain(&self, colours: &mut [f32], crop: Size) {
        let Some(density) = self.density else { return };
        for (plane, [factor, shift]) in colours.chunks_exact_mut(crop.area_px()).zip(density) {
            let scale = (-shift).exp();
            plane.iter_mut().for_each(|x| *x = (x.powf(factor) * scale).min(1.0));
        }
    }

    fn turn(&self, planes: Vec<f32>, crop: Size) -> Vec<f32> {
        if !(self.flip || self.transpose || self.upside_down) {
            return planes;
        }
        let side = crop.width_px;
        let source = |x: usize, y: usize| {
            let (x, y) = if self.transpose { (y, x) } else { (x, y) };
            let x = if self.flip { side - 1 - x } else { x };
            crop.index(x, if self.upside_down { side - 1 - y } else { y })
        };
        let turned = |plane: &[f32]| -> Vec<f32> {
            (0..crop.area_px()).map(|i| plane[source(i % side, i / side)]).collect()
        };
        planes.chunks_exact(crop.area_px()).flat_map(turned).collect()
    }
}
