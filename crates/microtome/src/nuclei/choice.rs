//! Which epoch, which output channel and which sense of it is nuclei, chosen without any truth.
//!
//! The reference chooses epoch and channel by Dice against ground truth. Here every candidate (epoch, channel, as it is
//! or inverted) is compared with the haematoxylin of the same pictures: its mask with the mask of Otsu's threshold, by
//! Dice. Nuclei are what holds haematoxylin, so that the candidate that agrees best is the nuclei channel, and a
//! constant or inverted channel agrees badly. The mean entropy (how undecided a channel is) parts equals.

use super::stain::{StainCalibration, StainConfig};
use microtome_kernels::Size;
use microtome_kernels::network::entropy::binary_entropy_bits;
use microtome_nets::inference::FoldedNetwork;
use microtome_nets::random::{Purpose, stream};
use microtome_nets::weights::Weights;
use microtome_slide::Picture;
use microtome_vault::{Error, Result};
use rand::Rng;
use rayon::prelude::*;

/// Side of the windows in which candidates are compared, in pixels.
const WINDOW_PX: usize = 320;
/// Most pictures that are looked at.
const MOST_WINDOWS: usize = 16;

/// A part of a picture, and where its stain says nuclei are.
pub struct Window {
    size: Size,
    rgb: Vec<u8>,
    stained: Vec<bool>,
}

/// An epoch's channel in one sense, and what speaks for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Output channel, from 0.
    pub channel: usize,
    /// Whether nuclei are where the confidence is low.
    pub inverted: bool,
    /// Dice between the channel's mask and the haematoxylin's, mean over the windows.
    pub stain_agreement: f64,
    /// Mean binary entropy, in bits.
    pub entropy_bits: f64,
    /// Share of pixels that the mask covers.
    pub coverage: f64,
}

/// A channel in one sense: what an oracle may choose instead of us, when truth is at hand for scoring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// Output channel, from 0.
    pub channel: usize,
    /// Whether nuclei are where the confidence is low.
    pub inverted: bool,
}

/// What was chosen, and among what.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The best.
    pub chosen: Candidate,
    /// All channels and senses of the chosen epoch, and the best of every other epoch, in order.
    pub candidates: Vec<Candidate>,
}

/// One window of each of some pictures, evenly spread over the list, at places that `seed` decides.
pub fn windows(pictures: &[Picture], stain: &StainConfig, seed: u64) -> Vec<Window> {
    let mut random = stream(seed, Purpose::Choice, 0);
    let every = pictures.len().div_ceil(MOST_WINDOWS).max(1);
    let places: Vec<(&Picture, [u64; 2])> =
        pictures.iter().step_by(every).map(|picture| (picture, [random.random(), random.random()])).collect();
    places.into_par_iter().map(|(picture, place)| window(picture, stain, place)).collect()
}

fn window(picture: &Picture, stain: &StainConfig, place: [u64; 2]) -> Window {
    let stain = StainCalibration::of(std::slice::from_ref(picture), stain);
    let haematoxylin = stain.haematoxylin(picture);
    let size = Size::new(picture.size.width_px.min(WINDOW_PX), picture.size.height_px.min(WINDOW_PX));
    let left = (place[0] % (picture.size.width_px - size.width_px + 1) as u64) as usize;
    let top = (place[1] % (picture.size.height_px - size.height_px + 1) as u64) as usize;
    let rows = || (top..top + size.height_px).map(|y| picture.size.index(left, y));
    let threshold = stain.slope.map_or(f32::INFINITY, |slope| slope.threshold);
    let row = |start: usize| haematoxylin[start..start + size.width_px].iter().map(|h| *h > threshold);
    Window {
        size,
        rgb: rows().flat_map(|start| &picture.rgb[3 * start..3 * (start + size.width_px)]).copied().collect(),
        stained: rows().flat_map(row).collect(),
    }
}

/// Chooses among the weights of all epochs (`epochs[i]` after epoch i + 1).
///
/// # Errors
/// `Bug` when there is no epoch; `Input` when weights are not of this architecture.
pub fn choose(epochs: &[Weights], epsilon: f32, windows: &[Window]) -> Result<Choice> {
    let of_epochs: Vec<Vec<Candidate>> = epochs
        .iter()
        .enumerate()
        .map(|(epoch, weights)| candidates(epoch + 1, &FoldedNetwork::new(weights, epsilon)?, windows))
        .collect::<Result<_>>()?;
    let best = |candidates: &[Candidate]| candidates.iter().copied().reduce(better);
    let all: Vec<Candidate> = of_epochs.concat();
    let chosen = best(&all).ok_or_else(|| Error::bug("a training without epochs has no candidates"))?;
    let shown = of_epochs.iter().enumerate().flat_map(|(epoch, candidates)| {
        if epoch + 1 == chosen.epoch { candidates.clone() } else { best(candidates).into_iter().collect() }
    });
    Ok(Choice { chosen, candidates: shown.collect() })
}

/// Agreement decides, then certainty, then the earlier.
fn better(a: Candidate, b: Candidate) -> Candidate {
    let order =
        (a.stain_agreement.total_cmp(&b.stain_agreement)).then(b.entropy_bits.total_cmp(&a.entropy_bits));
    if order.is_lt() { b } else { a }
}

fn candidates(epoch: usize, network: &FoldedNetwork, windows: &[Window]) -> Result<Vec<Candidate>> {
    let tallies: Vec<Vec<[Tally; 2]>> = windows
        .iter()
        .map(|window| {
            let maps = network.maps(&window.rgb, window.size);
            maps.par_chunks(window.size.area_px()).map(|map| Tally::of_both_senses(window, map)).collect()
        })
        .collect();
    let senses = (0..network.channels()).flat_map(|channel| [(channel, false), (channel, true)]);
    Ok(senses
        .map(|(channel, inverted)| {
            let mean = |f: fn(&Tally) -> f64| {
                let sum: f64 = tallies.iter().map(|window| f(&window[channel][usize::from(inverted)])).sum();
                sum / tallies.len().max(1) as f64
            };
            Candidate {
                epoch,
                channel,
                inverted,
                stain_agreement: mean(|tally| tally.agreement),
                entropy_bits: mean(|tally| tally.entropy_bits),
                coverage: mean(|tally| tally.coverage),
            }
        })
        .collect())
}

/// A candidate in one window.
struct Tally {
    agreement: f64,
    entropy_bits: f64,
    coverage: f64,
}

impl Tally {
    /// A channel as it is, and inverted.
    fn of_both_senses(window: &Window, map: &[f32]) -> [Self; 2] {
        let area = window.size.area_px();

        let above = map.iter().filter(|&&value| value > 0.5).count();
        let stained = window.stained.iter().filter(|&&stained| stained).count();
        let both =
            map.iter().zip(&window.stained).filter(|&(&value, &stained)| value > 0.5 && stained).count();
        let mut entropy = vec![0.0; area];
        binary_entropy_bits(map, &mut entropy);
        let entropy_bits = entropy.iter().map(|&bits| f64::from(bits)).sum::<f64>() / area.max(1) as f64;
        let tally = |mine: usize, both: usize| Self {
            agreement: 2.0 * both as f64 / (mine + stained).max(1) as f64,
            entropy_bits,
            coverage: mine as f64 / area.max(1) as f64,
        };
        [tally(above, both), tally(area - above, stained - both)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(stain_agreement: f64, entropy_bits: f64) -> Candidate {
        Candidate { epoch: 1, channel: 0, inverted: false, stain_agreement, entropy_bits, coverage: 0.3 }
    }

    #[test]
    fn agreement_decides_and_certainty_parts_equals() {
        assert_eq!(better(candidate(0.6, 0.9), candidate(0.5, 0.1)).stain_agreement, 0.6);
        assert_eq!(better(candidate(0.6, 0.9), candidate(0.6, 0.1)).entropy_bits, 0.1);
    }

    #[test]
    fn a_channel_and_its_inverse_are_counted_in_their_sense() {
        let stained = vec![true, true, false, false];
        let window = Window { size: Size::new(2, 2), rgb: vec![0; 12], stained };
        let maps = [0.9, 0.8, 0.1, 0.6];
        let [as_it_is, inverted] = Tally::of_both_senses(&window, &maps);
        assert_eq!(as_it_is.agreement, 2.0 * 2.0 / 5.0);
        assert_eq!(inverted.agreement, 0.0);
        assert_eq!(as_it_is.coverage, 0.75);
    }
}
