//! From a confidence map to separate nuclei: mask, cleaning, markers, watershed.

use super::confidence::ConfidenceMap;
use microtome_kernels::components::{Connectivity, Piece, Pieces, areas_px, label_components};
use microtome_kernels::distance::distance_to_background_px;
use microtome_kernels::gaussian::gaussian_blur_of;
use microtome_kernels::maxima::h_maxima;
use microtome_kernels::morphology::{close_disk, fill_holes, fill_small_holes, open_disk, remove_small};
use microtome_kernels::watershed::watershed;
use microtome_kernels::{Labels, Size};
use microtome_slide::MicronsPerPixel;
use rayon::prelude::*;

/// Resolution at which the defaults in pixels were meant: 40×.
const REFERENCE_MPP: f64 = 0.25;

/// How the mask is cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleaning {
    /// Opening with a disk of 0.5 µm, small holes filled.
    Standard,
    /// The paper's: opening and closing with a disk of 3 px, then with one of 1 px.
    Paper,
    /// None.
    None,
}

/// How touching nuclei are parted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separation {
    /// Watershed of the distance to the background.
    Distance,
    /// None: connected components.
    Components,
}

/// Values of the step from confidence to instances. Lengths in µm take a picture of unknown resolution for one at
/// 0.25 µm/px.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InstancesConfig {
    /// A pixel belongs to a nucleus where the confidence is above this.
    pub threshold: f32,
    /// How the mask is cleaned.
    pub cleaning: Cleaning,
    /// How touching nuclei are parted.
    pub separation: Separation,
    /// Smallest nucleus, in µm².
    pub min_area_um2: f64,
    /// Largest hole that is filled, in µm².
    pub max_hole_um2: f64,
    /// How much deeper than the saddle between them two centres must lie in the distance map to be two nuclei, in µm.
    pub marker_depth_um: f64,
    /// Standard deviation of the Gaussian that smooths the distance map before centres are sought, in µm.
    pub marker_smoothing_um: f64,
}

/// Lengths and areas of a picture in its own pixels.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    microns: f64,
}

impl Scale {
    /// The scale of a picture; of unknown resolution, 0.25 µm/px is taken.
    pub fn of(mpp: Option<MicronsPerPixel>) -> Self {
        Self { microns: mpp.map_or(REFERENCE_MPP, MicronsPerPixel::microns) }
    }

    /// The side of a pixel, in µm.
    pub fn microns(self) -> f64 {
        self.microns
    }

    /// A length in pixels.
    pub fn length_px(self, um: f64) -> f64 {
        um / self.microns
    }

    /// An area in pixels.
    pub fn area_px(self, um2: f64) -> f64 {
        um2 / (self.microns * self.microns)
    }
}

/// Separates the nuclei of a confidence map; ids follow the scan.
pub fn instances(
    confidence: &ConfidenceMap,
    mpp: Option<MicronsPerPixel>,
    config: &InstancesConfig,
) -> Labels {
    let mut labels = instances_in_any_order(confidence, mpp, config);
    labels.renumber();
    labels
}

/// [`instances`] before they are numbered by the scan, for who drops some of them first.
pub fn instances_in_any_order(
    confidence: &ConfidenceMap,
    mpp: Option<MicronsPerPixel>,
    config: &InstancesConfig,
) -> Labels {
    let (size, scale) = (confidence.size, Scale::of(mpp));
    let mask: Vec<bool> = confidence.values.par_iter().map(|&value| value > config.threshold).collect();
    let mask = clean(mask, size, scale, config);
    let min_area_px = scale.area_px(config.min_area_um2);
    match config.separation {
        Separation::Components => {
            let mut labels = label_components(&mask, size, Connectivity::Eight);
            drop_small(&mut labels, min_area_px);
            labels
        }
        Separation::Distance => separate(mask, size, scale, (config, min_area_px)),
    }
}

/// The paper's radii, in pixels.
const PAPER_RADII_PX: [usize; 2] = [3, 1];
/// Radius of the standard opening, in µm.
const OPENING_UM: f64 = 0.5;

fn clean(mask: Vec<bool>, size: Size, scale: Scale, config: &InstancesConfig) -> Vec<bool> {
    match config.cleaning {
        Cleaning::None => mask,
        Cleaning::Paper => PAPER_RADII_PX
            .iter()
            .fold(mask, |mask, &radius_px| close_disk(&open_disk(&mask, size, radius_px), size, radius_px)),
        Cleaning::Standard => {
            let opened = open_disk(&mask, size, scale.length_px(OPENING_UM).round() as usize);
            let hole_px = scale.area_px(config.max_hole_um2);
            let filled = match hole_px.is_finite() {
                true => fill_small_holes(&opened, size, hole_px as usize),
                false => fill_holes(&opened, size),
            };
            remove_small(&filled, size, scale.area_px(config.min_area_um2).ceil() as usize)
        }
    }
}

/// Parts touching nuclei: each piece of the mask is flooded from its centres. Pieces have nothing to do with one another but
/// that the distances are smoothed over all of them, so that most, which have one centre, need no flood. What is smaller than
/// the least area is dropped, here where pieces are lists of runs and parts are small maps.
fn separate(
    mask: Vec<bool>,
    size: Size,
    scale: Scale,
    (config, min_area_px): (&InstancesConfig, f64),
) -> Labels {
    let distance = distance_to_background_px(&mask, size);
    let smooth = gaussian_blur_of(distance, size, scale.length_px(config.marker_smoothing_um) as f32);
    let pieces = Pieces::of(&mask, size, Connectivity::Eight);
    drop(mask);
    let depth_px = scale.length_px(config.marker_depth_um) as f32;
    let of_number = |number: usize| {
        let piece = pieces.piece(number);
        match part(piece, size, &smooth, depth_px) {
            None => {
                let area_px: usize = piece.runs.iter().map(|run| run.range().len()).sum();
                if area_px as f64 >= min_area_px { Found::One } else { Found::Nothing }
            }
            Some(mut labels) => {
                drop_small(&mut labels, min_area_px);
                Found::Several(Box::new(labels))
            }
        }
    };
    let found: Vec<Found> = (0..pieces.count()).into_par_iter().map(of_number).collect();
    // Ids take the room of the distances: the library collects what it maps in its place.
    let mut ids: Vec<u32> = smooth.into_iter().map(|_| 0).collect();
    let mut next = 0;
    for (number, found) in found.into_iter().enumerate() {
        let piece = pieces.piece(number);
        match found {
            Found::Nothing => {}
            Found::One => {
                next += 1;
                piece.runs.iter().for_each(|run| ids[run.range()].fill(next));
            }
            Found::Several(labels) => {
                for (y, row) in labels.ids.chunks_exact(labels.size.width_px).enumerate() {
                    let start = size.index(piece.bounds.min_x_px, piece.bounds.min_y_px + y);
                    for (to, from) in ids[start..].iter_mut().zip(row).filter(|(_, from)| **from > 0) {
                        *to = next + from;
                    }
                }
                next += labels.highest_id();
            }
        }
    }
    Labels { size, ids }
}

/// What a piece of the mask is.
enum Found {
    /// Too small.
    Nothing,
    /// A nucleus, all of it.
    One,
    /// Several, as a map of its bounds.
    Several(Box<Labels>),
}

/// The nuclei of one piece of the mask of a picture, in its bounds; none if it is a single one.
fn part(piece: Piece<'_>, picture: Size, smooth: &[f32], depth_px: f32) -> Option<Labels> {
    let bounds = piece.bounds;
    let size = Size::new(bounds.max_x_px - bounds.min_x_px, bounds.max_y_px - bounds.min_y_px);
    // Smoothing spreads into the background, where no centre may lie.
    let mut inside = vec![f32::NEG_INFINITY; size.area_px()];
    for run in piece.runs {
        let (row, column) = (run.range().start / picture.width_px, run.range().start % picture.width_px);
        let start = size.index(column - bounds.min_x_px, row - bounds.min_y_px);
        let at = start..start + run.range().len();
        inside[at].copy_from_slice(&smooth[run.range()]);
    }
    let markers = h_maxima(&inside, size, depth_px);
    if markers.highest_id() < 2 {
        return None;
    }
    // Heights of the mask are finite.
    let mask = inside.iter().map(|height| *height > f32::NEG_INFINITY).collect();
    let mut elevation = inside;
    elevation.iter_mut().for_each(|height| *height = -*height);
    Some(watershed(elevation, markers, mask, Connectivity::Eight))
}

fn drop_small(labels: &mut Labels, min_area_px: f64) {
    let is_small: Vec<bool> = areas_px(labels).into_iter().map(|area| (area as f64) < min_area_px).collect();
    labels.ids.par_iter_mut().filter(|id| is_small[**id as usize]).for_each(|id| *id = 0);
}
