//! Batches of views. What chance decides is drawn in one thread, in the order of the tiles; all threads make the views.

use super::recipe::{Recipe, StainJitter, ViewKind};
use super::tiles::TrainingTiles;
use crate::random::{Purpose, stream};
use microtome_kernels::Size;
use microtome_kernels::views::photo::{Crop, Jitter, PhotoScratch, PhotoView, photo_view};
use microtome_kernels::views::stain::{StainScratch, StainView, stain_view};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// All batches of a training.
pub(super) struct Batches<'a> {
    tiles: &'a TrainingTiles<'a>,
    recipe: &'a Recipe,
    batch: usize,
    seed: u64,
}

/// What becomes of a tile.
#[derive(Clone, Copy, Debug)]
enum View {
    Photo(PhotoView),
    /// With the seed of its noise.
    Stain(StainView, u64),
}

impl<'a> Batches<'a> {
    pub(super) fn new(tiles: &'a TrainingTiles<'a>, recipe: &'a Recipe, seed: u64) -> Self {
        Self { tiles, recipe, batch: recipe.batch.clamp(2, tiles.len()), seed }
    }

    /// Steps of the whole training.
    pub(super) fn steps(&self) -> usize {
        self.recipe.epochs * (self.tiles.len() / self.batch)
    }

    pub(super) fn view_px(&self) -> usize {
        self.recipe.view_px
    }

    /// The batches of an epoch, views `[2 × tiles, side, side, 3]` each; tiles that do not fill a batch wait for another
    /// epoch.
    pub(super) fn of_epoch(&self, epoch: usize) -> impl Iterator<Item = Vec<f32>> {
        let mut random = stream(self.seed, Purpose::Views, epoch as u64);
        let mut order: Vec<usize> = (0..self.tiles.len()).collect();
        order.shuffle(&mut random);
        let whole = order.len() / self.batch;
        (0..whole).map(move |index| {
            let own = &order[index * self.batch..][..self.batch];
            let mut twice: Vec<(usize, View)> =
                own.iter().map(|tile| (*tile, self.drawn(&mut random))).collect();
            twice.extend(own.iter().map(|tile| (*tile, self.drawn(&mut random))).collect::<Vec<_>>());
            self.made(&twice)
        })
    }

    fn drawn(&self, random: &mut ChaCha8Rng) -> View {
        let size = self.tiles.size();
        match self.recipe.views {
            ViewKind::Photo => View::Photo(photo(size, random)),
            ViewKind::Stain(jitter) => View::Stain(stain(size, jitter, random), random.random()),
        }
    }

    fn made(&self, views: &[(usize, View)]) -> Vec<f32> {
        let side = self.recipe.view_px;
        let mut pixels = vec![0.0; views.len() * 3 * side * side];
        pixels.par_chunks_exact_mut(3 * side * side).zip(views).for_each_init(
            || (PhotoScratch::default(), StainScratch::default()),
            |(of_photo, of_stain), (out, (tile, view))| {
                let (rgb, size) = (self.tiles.rgb(*tile), self.tiles.size());
                match view {
                    View::Photo(view) => photo_view(rgb, size, side, view, of_photo, out),
                    View::Stain(view, seed) => {
                        stain_view(rgb, size, self.tiles.statistics(*tile), side, view, of_stain, out);
                        add_noise(out, *seed, self.recipe.views);
                    }
                }
            },
        );
        pixels
    }
}

/// A view as torchvision draws it for SimCLR: crop of 8 to 100 % of the area and 3/4 to 4/3 in proportion, flip one half,
/// jitter (0.8, 0.8, 0.8, 0.2) four fifths, grey one fifth, blur one half.
fn photo(size: Size, random: &mut ChaCha8Rng) -> PhotoView {
    let crop = crop(size, random);
    let is_flipped = random.random_bool(0.5);
    let jitter = random.random_bool(0.8).then(|| {
        let mut factor = || random.random_range(0.2..=1.8f32);
        let (brightness, contrast, saturation) = (factor(), factor(), factor());
        let hue = random.random_range(-0.2..=0.2f32);
        let mut steps = [
            Jitter::Brightness(brightness),
            Jitter::Contrast(contrast),
            Jitter::Saturation(saturation),
            Jitter::Hue(hue),
        ];
        steps.shuffle(random);
        steps
    });
    let is_grey = random.random_bool(0.2);
    let blur_sigma_px = random.random_bool(0.5).then(|| random.random_range(0.1..=2.0f32));
    PhotoView { crop, is_flipped, jitter, is_grey, blur_sigma_px }
}

/// A rectangle of random area and proportion; after ten that do not fit, the largest in the middle.
fn crop(size: Size, random: &mut ChaCha8Rng) -> Crop {
    let area = size.area_px() as f64;
    let log_ratio = (3.0f64 / 4.0).ln()..=(4.0f64 / 3.0).ln();
    for _ in 0..10 {
        let wanted = area * random.random_range(0.08..=1.0f64);
        let ratio = random.random_range(log_ratio.clone()).exp();
        let width = (wanted * ratio).sqrt().round() as usize;
        let height = (wanted / ratio).sqrt().round() as usize;
        if (1..=size.width_px).contains(&width) && (1..=size.height_px).contains(&height) {
            let top = random.random_range(0..=size.height_px - height);
            let left = random.random_range(0..=size.width_px - width);
            return Crop { left, top, size: Size::new(width, height) };
        }
    }
    let side = size.width_px.min(size.height_px);
    let (left, top) = ((size.width_px - side) / 2, (size.height_px - side) / 2);
    Crop { left, top, size: Size::new(side, side) }
}

fn stain(size: Size, jitter: StainJitter, random: &mut ChaCha8Rng) -> StainView {
    let mut between = |most: f32| random.random_range(-1.0..=1.0f32) * most;
    let shift = [between(jitter.shift_px), between(jitter.shift_px)];
    let scale = between(jitter.log_scale).exp();
    let (sine, cosine) = between(std::f32::consts::PI).sin_cos();
    let mirror = if between(1.0) < 0.0 { -1.0 } else { 1.0 };
    let mut gain = [0.0; 3].map(|_: f32| (normal(random) * jitter.log_gain).exp());
    let shifts = [0.0; 3].map(|_: f32| normal(random) * jitter.offset);
    gain.iter_mut().for_each(|gain| *gain = gain.clamp(0.25, 4.0));
    StainView {
        centre_px: [size.width_px as f32 / 2.0 + shift[0], size.height_px as f32 / 2.0 + shift[1]],
        right_px: [mirror * scale * cosine, mirror * scale * sine],
        down_px: [-scale * sine, scale * cosine],
        gain,
        shift: shifts,
    }
}

/// By the method of Box and Muller.
fn normal(random: &mut ChaCha8Rng) -> f32 {
    let (radius, angle): (f32, f32) = (1.0 - random.random::<f32>(), random.random());
    (-2.0 * radius.ln()).sqrt() * (std::f32::consts::TAU * angle).cos()
}

/// Adds noise that is nearly normal: the sum of four uniform numbers, which one multiplication gives.
fn add_noise(pixels: &mut [f32], seed: u64, views: ViewKind) {
    let ViewKind::Stain(StainJitter { noise, .. }) = views else { return };
    if noise == 0.0 {
        return;
    }
    // Four numbers of 16 bits have variance (2^32 − 1)/3; their sum is brought to 1.
    let scale = noise / (4.0f32 / 12.0).sqrt() / 65_536.0;
    let mut state = seed;
    for pixel in pixels {
        // SplitMix64 (Steele et al. 2014).
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let sum: u64 = (0..4).map(|part| (mixed >> (16 * part)) & 0xFFFF).sum();
        *pixel += (sum as f32 - 131_070.0) * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_kernels::views::stain::StainStatistics;

    #[test]
    fn crops_have_the_areas_and_proportions_that_are_asked_for() {
        let size = Size::new(128, 128);
        let mut random = stream(1, Purpose::Views, 0);
        let crops: Vec<Crop> = (0..4000).map(|_| crop(size, &mut random)).collect();
        let shares: Vec<f64> =
            crops.iter().map(|crop| crop.size.area_px() as f64 / size.area_px() as f64).collect();
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        // Uniform from 0.08 to 1, less what does not fit: 0.480 in 40,000 draws by the same rule in Python.
        assert!((0.46..0.49).contains(&mean), "{mean}");
        assert!(shares.iter().all(|share| (0.07..=1.0).contains(share)));
        for crop in crops {
            let ratio = crop.size.width_px as f64 / crop.size.height_px as f64;
            assert!((0.72..=1.39).contains(&ratio), "{ratio}");
            assert!(crop.left + crop.size.width_px <= 128 && crop.top + crop.size.height_px <= 128);
        }
    }

    #[test]
    fn noise_has_the_deviation_that_is_asked_for() {
        let mut pixels = vec![0.0; 40_000];
        let jitter = StainJitter { shift_px: 0.0, log_scale: 0.0, log_gain: 0.0, offset: 0.0, noise: 0.5 };
        add_noise(&mut pixels, 3, ViewKind::Stain(jitter));
        let mean = pixels.iter().sum::<f32>() / 40_000.0;
        let variance = pixels.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / 40_000.0;
        assert!(mean.abs() < 0.01 && (variance.sqrt() - 0.5).abs() < 0.01, "{mean} {variance}");
    }

    #[test]
    fn an_epoch_draws_the_same_on_any_number_of_threads_and_another_the_next_time() {
        let rgb = vec![120; 5 * 3 * 32 * 32];
        let statistics = [StainStatistics { mean: [0.2; 3], deviation: [0.1; 3] }];
        let tiles = TrainingTiles::new(32, &rgb, &statistics, vec![0; 5]);
        for recipe in [
            Recipe { batch: 2, view_px: 16, ..Recipe::small() },
            Recipe { batch: 2, view_px: 16, ..Recipe::paper(crate::resnet::Architecture::RESNET18) },
        ] {
            let batches = Batches::new(&tiles, &recipe, 4);
            let epoch = |number: usize| -> Vec<Vec<f32>> { batches.of_epoch(number).collect() };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
            let first = epoch(0);
            assert_eq!((first.len(), first[0].len()), (2, 4 * 3 * 16 * 16));
            assert!(pool.install(|| epoch(0)) == first && epoch(1) != first);
        }
    }
}
