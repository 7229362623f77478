//! Which colours a window has, and how well a place fits among them.

use microtome_kernels::Size;
use microtome_kernels::stain::optical_density;

/// Side of the squares whose mean colours are compared, in cells: a nucleus.
pub const SQUARE_CELLS: usize = 8;

/// Optical density in red, green and blue.
pub type Density = [f32; 3];

/// The mean optical density of each square of a picture of cells (interleaved RGB), row by row; the last of a row or column
/// may be cut.
pub fn densities_of_squares(rgb: &[u8], cells: Size) -> Vec<Density> {
    let squares = Size::new(cells.width_px.div_ceil(SQUARE_CELLS), cells.height_px.div_ceil(SQUARE_CELLS));
    let mut sums = vec![([0.0; 3], 0.0); squares.area_px()];
    for (y, row) in rgb.chunks_exact((3 * cells.width_px).max(1)).enumerate() {
        let sums = &mut sums[y / SQUARE_CELLS * squares.width_px..];
        for (x, pixel) in row.as_chunks::<3>().0.iter().enumerate() {
            let (sum, count): &mut (Density, f32) = &mut sums[x / SQUARE_CELLS];
            sum.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += optical_density(*value));
            *count += 1.0;
        }
    }
    sums.into_iter().map(|(sum, count)| sum.map(|sum| sum / count)).collect()
}

/// How colours are spread over a window: a normal distribution of the densities of its squares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Colours {
    mean: Density,
    /// Of the covariance.
    inverse: [[f32; 3]; 3],
    /// Logarithm of the covariance's determinant.
    log_determinant: f32,
}

/// Variance that is added to each colour's: squares of one colour are still noisy, 0.02 in optical density.
const LEAST_VARIANCE: f64 = 4e-4;
/// How much being spread counts against a window, beside half for normal distributions of independent squares: where two stains
/// meet, a window of both explains either, and is wrong for both.
const SPREAD_WEIGHT: f32 = 2.0;

impl Colours {
    /// Those of the squares of a window, of which there is at least one.
    pub fn of(squares: impl Iterator<Item = Density> + Clone) -> Self {
        let count = squares.clone().count().max(1) as f64;
        let sum_of = |value: &dyn Fn(Density) -> f64| squares.clone().map(value).sum::<f64>() / count;
        let mean: [f64; 3] = std::array::from_fn(|i| sum_of(&|density| f64::from(density[i])));
        let covariance: [[f64; 3]; 3] = std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                let product =
                    |density: Density| (f64::from(density[i]) - mean[i]) * (f64::from(density[j]) - mean[j]);
                sum_of(&product) + if i == j { LEAST_VARIANCE } else { 0.0 }
            })
        });
        let [first, second, third] = covariance;
        // Of a symmetric matrix: rows of the inverse are its columns.
        let rows = [cross(second, third), cross(third, first), cross(first, second)];
        let determinant: f64 = first.iter().zip(rows[0]).map(|(a, b)| a * b).sum();
        Self {
            mean: mean.map(|mean| mean as f32),
            inverse: rows.map(|row| row.map(|value| (value / determinant) as f32)),
            log_determinant: determinant.ln() as f32,
        }
    }

    /// How badly the squares of a place fit among these colours, on average: the lower, the better.
    pub fn misfit(&self, squares: impl Iterator<Item = Density>) -> f32 {
        let (mut sum, mut count) = (0.0, 0.0);
        for density in squares {
            let from_mean: Density = std::array::from_fn(|i| density[i] - self.mean[i]);
            let row = |i: usize| -> f32 { self.inverse[i].iter().zip(from_mean).map(|(a, b)| a * b).sum() };
            sum += (0..3).map(|i| from_mean[i] * row(i)).sum::<f32>();
            count += 1.0;
        }
        sum / count + SPREAD_WEIGHT * self.log_determinant
    }
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_have_the_mean_density_of_the_cells_that_they_have() {
        let size = Size::new(19, 9);
        let rgb: Vec<u8> = (0..3 * size.area_px()).map(|i| (i * 7919 % 251) as u8).collect();
        let densities = densities_of_squares(&rgb, size);
        assert_eq!(densities.len(), 3 * 2);
        for (at, density) in densities.iter().enumerate() {
            let inside = |cell: &usize| {
                let (x, y) = (cell % size.width_px, cell / size.width_px);
                (x / SQUARE_CELLS, y / SQUARE_CELLS) == (at % 3, at / 3)
            };
            for colour in 0..3 {
                let values: Vec<f64> = (0..size.area_px())
                    .filter(inside)
                    .map(|cell| f64::from(optical_density(rgb[3 * cell + colour])))
                    .collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                assert!((f64::from(density[colour]) - mean).abs() < 1e-5, "square {at}, colour {colour}");
            }
        }
    }

    fn around(middle: f32, spread: f32) -> impl Iterator<Item = Density> + Clone {
        (0..144).map(move |i| [7, 11, 13].map(|step| middle + spread * ((i * step % 17) as f32 / 8.0 - 1.0)))
    }

    #[test]
    fn misfit_is_that_of_a_normal_distribution() {
        // Independent colours: the covariance is diagonal, up to chance.
        let corners = (0..8).map(|i| [0, 1, 2].map(|bit| if i >> bit & 1 == 1 { 0.5 } else { 0.3f32 }));
        let colours = Colours::of(corners);
        let variance = 0.01 + LEAST_VARIANCE as f32;
        let at = [0.4, 0.4, 0.6];
        let expected = 0.2f32.powi(2) / variance + SPREAD_WEIGHT * 3.0 * variance.ln();
        assert!((colours.misfit([at].into_iter()) - expected).abs() < 1e-3);
    }

    #[test]
    fn a_place_fits_best_into_the_window_of_its_own_stain() {
        let (pale, dark) = (Colours::of(around(0.2, 0.05)), Colours::of(around(0.6, 0.05)));
        let both = Colours::of(around(0.2, 0.05).chain(around(0.6, 0.05)));
        let of =
            |middle: f32| [&pale, &dark, &both].map(|window| window.misfit(around(middle, 0.05).take(9)));
        let [own, other, mixed] = of(0.2);
        assert!(own < mixed && mixed < other, "{own} {mixed} {other}");
        let [other, own, mixed] = of(0.6);
        assert!(own < mixed && mixed < other, "{own} {mixed} {other}");
    }

    #[test]
    fn a_window_of_one_colour_has_finite_colours() {
        let colours = Colours::of(std::iter::repeat_n([0.0; 3], 144));
        assert!(colours.misfit(around(0.0, 0.5)).is_finite());
    }
}
