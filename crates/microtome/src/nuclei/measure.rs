//! What is known of each nucleus: place and shape from its pixels, stain from the picture, confidence from
//! the map.
//!
//! Unmixing is linear, so the mean concentration of a nucleus is that of its mean optical density: one pass
//! over the pixels adds up densities and confidences by runs of one id, in scan order, and each nucleus is
//! unmixed once.

use microtome_kernels::Labels;
use microtome_kernels::region::{Region, measure_regions};
use microtome_kernels::runs::runs;
use microtome_kernels::stain::{StainMatrix, optical_density};

/// One nucleus, measured. Optical densities are to the base of ten.
#[derive(Clone, Debug, PartialEq)]
pub struct Nucleus {
    /// Id in the label map, from 1.
    pub id: u32,
    /// Place and shape, in pixels.
    pub region: Region,
    /// Mean concentration of haematoxylin, in optical density along its unit vector; may be negative.
    pub mean_haematoxylin: f64,
    /// Mean concentration of eosin, likewise.
    pub mean_eosin: f64,
    /// Mean optical density in red light, from 0 to 2.41.
    pub mean_od_red: f64,
    /// Mean optical density in green light.
    pub mean_od_green: f64,
    /// Mean optical density in blue light.
    pub mean_od_blue: f64,
    /// Mean of the confidence map, from 0 to 1. It ranks nuclei; it is no probability.
    pub mean_confidence: f64,
}

/// Measures all nuclei of a label map, sorted by id.
///
/// A confidence that is not a number counts as 0. If `stain` has no inverse, both concentrations are 0.
///
/// # Shapes
/// `rgb`: `[height, width, 3]`, interleaved; `confidence`: `[height, width]`, 0 to 1.
///
/// # Panics
/// If `labels`, `rgb` or `confidence` does not fill `labels.size`: no file can cause that, it is a defect in
/// the caller.
pub fn measure(labels: &Labels, rgb: &[u8], confidence: &[f32], stain: &StainMatrix) -> Vec<Nucleus> {
    let area_px = labels.size.area_px();
    assert_eq!(rgb.len(), 3 * area_px, "the picture does not fill {} RGB pixels", labels.size);
    assert_eq!(confidence.len(), area_px, "the confidence does not fill {} pixels", labels.size);
    let regions = measure_regions(labels);
    let sums = sums_of(&regions, labels, rgb, confidence);
    let inverse = stain.inverse().unwrap_or_default().map(|row| row.map(f64::from));
    regions.into_iter().zip(sums).map(|(region, sums)| sums.mean(region, &inverse)).collect()
}

/// Sums over the pixels of one nucleus.
#[derive(Clone, Copy, Default)]
struct Sums {
    density: [f64; 3],
    confidence: f64,
}

impl Sums {
    fn add(&mut self, rgb: &[u8], confidence: &[f32]) {
        for (pixel, &confidence) in rgb.as_chunks::<3>().0.iter().zip(confidence) {
            for (sum, &value) in self.density.iter_mut().zip(pixel) {
                *sum += f64::from(optical_density(value));
            }
            // The larger of NaN and 0 is 0.
            self.confidence += f64::from(confidence.max(0.0).clamp(0.0, 1.0));
        }
    }

    fn mean(self, region: Region, inverse: &[[f64; 3]; 3]) -> Nucleus {
        let count = region.area_px.max(1) as f64;
        let density = self.density.map(|sum| sum / count);
        let along =
            |stain: usize| density.iter().zip(inverse).map(|(density, row)| density * row[stain]).sum();
        let [mean_od_red, mean_od_green, mean_od_blue] = density;
        Nucleus {
            id: region.id,
            mean_haematoxylin: along(0),
            mean_eosin: along(1),
            mean_od_red,
            mean_od_green,
            mean_od_blue,
            mean_confidence: self.confidence / count,
            region,
        }
    }
}

/// The sums of each region, in their order. A nucleus is looked up once a run, not once a pixel.
fn sums_of(regions: &[Region], labels: &Labels, rgb: &[u8], confidence: &[f32]) -> Vec<Sums> {
    let mut sums = vec![Sums::default(); regions.len()];
    for (pixels, id) in runs(&labels.ids).filter(|(_, id)| *id > 0) {
        // Where ids have no gaps, as a rule, places are known.
        let place = match regions.get(id as usize - 1) {
            Some(region) if region.id == id => Some(id as usize - 1),
            _ => regions.binary_search_by_key(&id, |region| region.id).ok(),
        };
        if let Some(sums) = place.and_then(|place| sums.get_mut(place)) {
            sums.add(&rgb[3 * pixels.start..3 * pixels.end], &confidence[pixels]);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_kernels::Size;
    use microtome_kernels::stain::concentrations;

    fn labels() -> Labels {
        Labels { size: Size::new(4, 2), ids: vec![7, 7, 0, 2, 7, 0, 2, 2] }
    }

    #[test]
    fn nuclei_have_the_mean_of_their_own_pixels() {
        let labels = labels();
        let rgb: Vec<u8> = (0..24).map(|value| value * 9 + 20).collect();
        let confidence = [0.5, 0.7, 0.0, 0.25, 0.9, 0.0, 0.25, 1.0];
        let stain = StainMatrix::ruifrok_johnston();
        let nuclei = measure(&labels, &rgb, &confidence, &stain);
        assert_eq!(nuclei.iter().map(|nucleus| nucleus.id).collect::<Vec<_>>(), [2, 7]);
        assert!((nuclei[0].mean_confidence - 0.5).abs() < 1e-7);
        assert!((nuclei[1].mean_confidence - 0.7).abs() < 1e-7);
        let planes = concentrations(&rgb, &stain);
        let mean = |plane: usize| (planes[plane][0] + planes[plane][1] + planes[plane][4]) / 3.0;
        assert!((nuclei[1].mean_haematoxylin - f64::from(mean(0))).abs() < 1e-5);
        assert!((nuclei[1].mean_eosin - f64::from(mean(1))).abs() < 1e-5);
        let red = [3, 6, 7].map(|at| f64::from(optical_density(rgb[3 * at])));
        assert!((nuclei[0].mean_od_red - red.iter().sum::<f64>() / 3.0).abs() < 1e-9);
    }

    #[test]
    fn strange_confidences_and_stains_are_answered() {
        let confidence = [f32::NAN, 2.0, 0.0, -1.0, 1.0, 0.0, f32::INFINITY, 0.0];
        let parallel = StainMatrix::from_two([1.0, 0.0, 0.0], [1.0, 0.0, 0.0]);
        let nuclei = measure(&labels(), &[0; 24], &confidence, &parallel);
        assert!((nuclei[1].mean_confidence - 2.0 / 3.0).abs() < 1e-9);
        assert!((nuclei[0].mean_confidence - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!((nuclei[0].mean_haematoxylin, nuclei[0].mean_eosin), (0.0, 0.0));
        let nothing = Labels::background(Size::new(0, 0));
        assert!(measure(&nothing, &[], &[], &StainMatrix::ruifrok_johnston()).is_empty());
    }
}
