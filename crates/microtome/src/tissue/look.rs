//! How a slide looks as a whole: how strongly it is stained. What is learned of tissue is learned in these units.

use crate::context::Context;
use crate::slides::view::View;
use microtome_kernels::Size;
use microtome_kernels::stain::optical_density;
use microtome_kernels::views::stain::{StainStatistics, StainSums};
use microtome_vault::{Error, Result};
use serde_json::{Value, json};

/// Tiles of a slide that are looked at, spread evenly; a picture is looked at as a whole.
const TILES: usize = 256;
/// Pictures up to this extent are looked at as a whole.
const WHOLE_PX: usize = 16_000_000;

/// Means and standard deviations over a slide's tissue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Of haematoxylin, eosin, mean optical density.
    pub stain: StainStatistics,
    /// Of the optical density of red, green, blue.
    pub density_mean: [f32; 3],
    /// Likewise.
    pub density_deviation: [f32; 3],
}

/// Sums of optical densities, of which there are 256 values a colour.
#[derive(Default)]
struct Sums {
    stain: StainSums,
    counts: Vec<[u64; 3]>,
}

impl Sums {
    fn add(&mut self, rgb: &[u8]) {
        self.stain.add(rgb);
        self.counts.resize(256, [0; 3]);
        for pixel in rgb.as_chunks::<3>().0 {
            for (colour, value) in pixel.iter().enumerate() {
                self.counts[usize::from(*value)][colour] += 1;
            }
        }
    }

    fn look(&self) -> Look {
        let mut look =
            Look { stain: self.stain.statistics(), density_mean: [0.0; 3], density_deviation: [1.0; 3] };
        for colour in 0..3 {
            let sum = |term: &dyn Fn(f64) -> f64| -> f64 {
                let all = self.counts.iter().enumerate();
                all.map(|(value, counts)| counts[colour] as f64 * term(optical_density(value as u8).into()))
                    .sum()
            };
            let count = sum(&|_| 1.0).max(1.0);
            let mean = sum(&|density| density) / count;
            let variance = sum(&|density| (density - mean) * (density - mean)) / count;
            look.density_mean[colour] = mean as f32;
            // A picture of one colour has none.
            look.density_deviation[colour] = variance.max(1e-6).sqrt() as f32;
        }
        look
    }
}

impl Look {
    /// That of a view, from its tiles of which these are the corners; small pictures are taken as a whole.
    ///
    /// # Errors
    /// Those of reading.
    pub fn of(
        view: &View<'_>,
        corners_px: &[[i64; 2]],
        side_px: usize,
        context: &Context<'_>,
    ) -> Result<Self> {
        let mut sums = Sums::default();
        if view.size.area_px() <= WHOLE_PX {
            sums.add(&view.region([0, 0], view.size, context.budget)?.rgb);
            return Ok(sums.look());
        }
        let count = corners_px.len().min(TILES);
        for index in 0..count {
            let corner = corners_px[index * corners_px.len() / count];
            sums.add(&view.region(corner, Size::new(side_px, side_px), context.budget)?.rgb);
        }
        Ok(sums.look())
    }

    /// That of a slide whose pixels nobody looked at.
    pub fn unknown() -> Self {
        let (mean, deviation) = ([0.0; 3], [1.0; 3]);
        let stain = StainStatistics { mean, deviation };
        Self { stain, density_mean: mean, density_deviation: deviation }
    }

    /// As it is kept beside what was computed with it.
    pub fn to_json(self) -> Value {
        json!({
            "stain_mean": self.stain.mean,
            "stain_deviation": self.stain.deviation,
            "density_mean": self.density_mean,
            "density_deviation": self.density_deviation,
        })
    }

    /// One that was kept.
    ///
    /// # Errors
    /// `Input` when it is damaged.
    pub fn from_json(value: &Value) -> Result<Self> {
        let three = |key: &str| -> Option<[f32; 3]> {
            let all = value.get(key)?.as_array()?.iter();
            let values: Option<Vec<f32>> =
                all.map(|value| value.as_f64().map(|value| value as f32)).collect();
            values?.try_into().ok()
        };
        let both = |key: &str| three(&format!("{key}_mean")).zip(three(&format!("{key}_deviation")));
        let (stain, density) = both("stain").zip(both("density")).ok_or_else(|| {
            Error::input("what is known of a slide's stain is damaged")
                .advise("remove the slide's arrays and run the stage again")
        })?;
        Ok(Self {
            stain: StainStatistics { mean: stain.0, deviation: stain.1 },
            density_mean: density.0,
            density_deviation: density.1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_kept_and_read_back() {
        let mut sums = Sums::default();
        sums.add(&[200, 100, 150, 90, 80, 70, 255, 255, 255]);
        let look = sums.look();
        let text = look.to_json().to_string();
        assert_eq!(Look::from_json(&serde_json::from_str(&text).unwrap()).unwrap(), look);
        assert!(Look::from_json(&Value::Null).is_err());
        let mean = [200u8, 90, 255].map(|v| f64::from(optical_density(v))).iter().sum::<f64>() / 3.0;
        assert!((f64::from(look.density_mean[0]) - mean).abs() < 1e-6);
    }
}
