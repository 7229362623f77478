//! Colour to stain: optical density, unmixing into haematoxylin and eosin, and stain vectors found in a
//! picture.
//!
//! Light that passes a stain is absorbed exponentially (Lambert and Beer), so that optical densities of
//! stains add up and a 3 × 3 matrix takes them apart (Ruifrok & Johnston, 2001). Vectors that fit one picture
//! are estimated by the method of Macenko et al. (2009).

use rayon::prelude::*;
use std::sync::LazyLock;

/// Pixels that one thread converts at a time; fixed, so that the partition never depends on the machine.
const BLOCK_PX: usize = 1 << 14;

static DENSITY_OF_VALUE: LazyLock<[f32; 256]> =
    LazyLock::new(|| std::array::from_fn(|value| (255.0 / value.max(1) as f64).log10() as f32));

/// Optical density of one colour value, `-log10(max(value, 1) / 255)`: 0 for 255, 2.41 for 1 and for 0.
#[inline]
pub fn optical_density(value: u8) -> f32 {
    DENSITY_OF_VALUE[usize::from(value)]
}

/// Three stains as directions in optical density space: how strongly each absorbs red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StainMatrix {
    /// Unit vectors over (red, green, blue): haematoxylin, eosin, and a residual for what is neither.
    pub vectors: [[f32; 3]; 3],
}

impl StainMatrix {
    /// Haematoxylin and eosin as measured by Ruifrok & Johnston (2001); the residual is orthogonal to both.
    pub fn ruifrok_johnston() -> Self {
        Self::from_two([0.650, 0.704, 0.286], [0.072, 0.990, 0.105])
    }

    /// Two stains of any length, normalised; the residual is their cross product. Stains that are parallel or
    /// zero give a matrix without [`inverse`](Self::inverse).
    pub fn from_two(haematoxylin: [f32; 3], eosin: [f32; 3]) -> Self {
        let haematoxylin = unit(haematoxylin.map(f64::from));
        let eosin = unit(eosin.map(f64::from));
        let residual = unit(cross(haematoxylin, eosin));
        Self { vectors: [haematoxylin, eosin, residual].map(|vector| vector.map(|x| x as f32)) }
    }

    /// The matrix that takes an optical density (row vector over red, green, blue) to concentrations (row
    /// vector over the stains); none if the stains are not linearly independent.
    pub fn inverse(&self) -> Option<[[f32; 3]; 3]> {
        const SMALLEST_DETERMINANT: f64 = 1e-6;
        let [first, second, third] = self.vectors.map(|vector| vector.map(f64::from));
        let columns = [cross(second, third), cross(third, first), cross(first, second)];
        let determinant = dot(first, columns[0]);
        let invertible = determinant.is_finite() && determinant.abs() > SMALLEST_DETERMINANT;
        let inverse = [0, 1, 2].map(|colour| columns.map(|column| (column[colour] / determinant) as f32));
        invertible.then_some(inverse)
    }
}

/// Concentrations of the three stains, one plane each in the order of `stains`, from interleaved RGB bytes.
///
/// A concentration is in units of optical density along its unit vector, and may be negative. Bytes after the
/// last whole pixel are ignored. If `stains` has no inverse there is nothing to unmix and all concentrations
/// are 0: call [`StainMatrix::inverse`] first where the matrix was not made by this module.
pub fn concentrations(rgb: &[u8], stains: &StainMatrix) -> [Vec<f32>; 3] {
    let mut planes = [0, 1, 2].map(|_| vec![0.0; rgb.len() / 3]);
    let Some(inverse) = stains.inverse() else { return planes };
    let [first, second, third] = &mut planes;
    let blocks = first.par_chunks_mut(BLOCK_PX).zip(second.par_chunks_mut(BLOCK_PX));
    let blocks = blocks.zip(third.par_chunks_mut(BLOCK_PX)).zip(rgb.par_chunks(3 * BLOCK_PX));
    blocks.for_each(|(((first, second), third), rgb)| unmix(rgb, &inverse, first, second, third));
    planes
}

/// Concentration of one of the stains, by its index: a plane of [`concentrations`].
pub fn concentration(rgb: &[u8], stains: &StainMatrix, stain: usize) -> Vec<f32> {
    map_concentrations(rgb, stains, |concentrations| concentrations[stain])
}

/// What `map` makes of the concentrations of the three stains, pixel by pixel; see [`concentrations`].
pub fn map_concentrations<T: Copy + Default + Send>(
    rgb: &[u8],
    stains: &StainMatrix,
    map: impl Fn([f32; 3]) -> T + Sync,
) -> Vec<T> {
    let inverse = stains.inverse().unwrap_or_default();
    let mut mapped = vec![T::default(); rgb.len() / 3];
    let blocks = mapped.par_chunks_mut(BLOCK_PX).zip(rgb.par_chunks(3 * BLOCK_PX));
    blocks.for_each(|(mapped, rgb)| {
        let density = &*DENSITY_OF_VALUE;
        for (pixel, mapped) in rgb.as_chunks::<3>().0.iter().zip(mapped) {
            let [red, green, blue] = pixel.map(|value| density[usize::from(value)]);
            let along =
                |stain: usize| red * inverse[0][stain] + green * inverse[1][stain] + blue * inverse[2][stain];
            *mapped = map([along(0), along(1), along(2)]);
        }
    });
    mapped
}

fn unmix(rgb: &[u8], inverse: &[[f32; 3]; 3], first: &mut [f32], second: &mut [f32], third: &mut [f32]) {
    let density = &*DENSITY_OF_VALUE;
    let pixels = rgb.as_chunks::<3>().0;
    for (((pixel, first), second), third) in pixels.iter().zip(first).zip(second).zip(third) {
        let [red, green, blue] = pixel.map(|value| density[usize::from(value)]);
        let along =
            |stain: usize| red * inverse[0][stain] + green * inverse[1][stain] + blue * inverse[2][stain];
        (*first, *second, *third) = (along(0), along(1), along(2));
    }
}

/// What [`macenko`] looks at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MacenkoSettings {
    /// Pixels with an optical density below this in any colour are background; the paper has 0.15.
    pub od_floor: f32,
    /// Percentage of pixels beyond each of the two stain vectors, which makes them robust; the paper has 1.
    pub percentile: f32,
}

impl MacenkoSettings {
    /// The numbers of the paper.
    pub const PAPER: Self = Self { od_floor: 0.15, percentile: 1.0 };
}

impl Default for MacenkoSettings {
    fn default() -> Self {
        Self::PAPER
    }
}

/// Above this many pixels [`macenko`] looks at every n-th only, n odd.
const MACENKO_SAMPLE_PX: usize = 1_000_000;

/// With fewer stained pixels than this the percentiles of the angle are noise.
const MACENKO_FEWEST_PX: usize = 100;

/// Stain vectors of a picture (interleaved RGB bytes), by Macenko et al., "A method for normalizing histology
/// slides for quantitative analysis" (ISBI 2009).
///
/// Stained pixels lie near the plane of the two leading eigenvectors of their covariance; within it, the
/// vectors at the lowest and highest percentile of the angle are the stains. Haematoxylin is the one with the
/// larger ratio of red to blue. None if fewer than 100 of the pixels looked at are stained, or if they all
/// have one colour.
pub fn macenko(rgb: &[u8], settings: MacenkoSettings) -> Option<StainMatrix> {
    let densities = stained_densities(rgb, settings.od_floor);
    if densities.len() < MACENKO_FEWEST_PX {
        return None;
    }
    let (mean, covariance) = mean_and_covariance(&densities);
    let [along, across] = stain_plane(mean, covariance)?;
    let percentile = f64::from(settings.percentile).clamp(0.0, 50.0);
    let (low, high) = angles_at(&densities, [along, across], percentile / 100.0);
    stains_at_angles(low, high, along, across)
}

fn stained_densities(rgb: &[u8], od_floor: f32) -> Vec<[f32; 3]> {
    let pixels = rgb.as_chunks::<3>().0;
    // Odd, because widths are often even: an even step would visit few columns.
    let stride = pixels.len().div_ceil(MACENKO_SAMPLE_PX).max(1) | 1;
    let stride = if pixels.len() <= MACENKO_SAMPLE_PX { 1 } else { stride };
    let densities = pixels.iter().step_by(stride).map(|pixel| pixel.map(optical_density));
    densities.filter(|density| density.iter().all(|&od| od > od_floor)).collect()
}

/// Mean and covariance over (red, green, blue); sums of fixed blocks are added up in order.
fn mean_and_covariance(densities: &[[f32; 3]]) -> ([f64; 3], [[f64; 3]; 3]) {
    let count = densities.len() as f64;
    let sums = densities.par_chunks(BLOCK_PX).map(block_sums).collect::<Vec<_>>();
    let mut total = [0.0; 9];
    for sum in sums {
        total.iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
    }
    let [r, g, b, rr, gg, bb, rg, rb, gb] = total.map(|sum| sum / count);
    let covariance = [
        [rr - r * r, rg - r * g, rb - r * b],
        [rg - r * g, gg - g * g, gb - g * b],
        [rb - r * b, gb - g * b, bb - b * b],
    ];
    ([r, g, b], covariance)
}

fn block_sums(densities: &[[f32; 3]]) -> [f64; 9] {
    let mut sums = [0.0; 9];
    for density in densities {
        let [r, g, b] = density.map(f64::from);
        let terms = [r, g, b, r * r, g * g, b * b, r * g, r * b, g * b];
        sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
    }
    sums
}

/// An orthonormal basis of the plane of the two leading eigenvectors. Its first axis is where the mean falls
/// into the plane, not an eigenvector: angles from it stay far from ±π, and no sign is left to chance.
fn stain_plane(mean: [f64; 3], covariance: [[f64; 3]; 3]) -> Option<[[f64; 3]; 2]> {
    const SMALLEST_VARIANCE: f64 = 1e-9;
    let (variances, vectors) = eigen_symmetric(covariance);
    let [_, second, third] = descending(variances);
    let well_defined = variances[second] > SMALLEST_VARIANCE && variances[second] > variances[third];
    let normal = vectors[third];
    let along = unit(std::array::from_fn(|i| mean[i] - dot(mean, normal) * normal[i]));
    (well_defined && dot(along, along) > 0.5).then(|| [along, cross(normal, along)])
}

fn stains_at_angles(low: f64, high: f64, along: [f64; 3], across: [f64; 3]) -> Option<StainMatrix> {
    const SMALLEST_ANGLE: f64 = 1e-3;
    let at = |angle: f64| std::array::from_fn(|i| (angle.cos() * along[i] + angle.sin() * across[i]) as f32);
    let (one, other): ([f32; 3], [f32; 3]) = (at(low), at(high));
    let red_to_blue = |stain: [f32; 3]| stain[0] / stain[2].max(1e-6);
    let swap = red_to_blue(one) < red_to_blue(other);
    let (haematoxylin, eosin) = if swap { (other, one) } else { (one, other) };
    (high - low > SMALLEST_ANGLE).then(|| StainMatrix::from_two(haematoxylin, eosin))
}

/// The angles from `along` towards `across` below which, and above which, a fraction of the densities lie.
///
/// Where all lie less than a right angle away, which they do unless colours are odd, tangents have the same order and are
/// cheap: only those two are made angles.
fn angles_at(densities: &[[f32; 3]], [along, across]: [[f64; 3]; 2], fraction: f64) -> (f64, f64) {
    let place = |density: &[f32; 3]| {
        let density = density.map(f64::from);
        (dot(density, along), dot(density, across))
    };
    let is_near =
        densities.par_chunks(BLOCK_PX).all(|block| block.iter().all(|density| place(density).0 > 0.0));
    let of_each = |angle: fn((f64, f64)) -> f64| -> Vec<f64> {
        densities.par_iter().with_min_len(BLOCK_PX).map(|density| angle(place(density))).collect()
    };
    let (mut values, to_angle): (Vec<f64>, fn(f64) -> f64) = match is_near {
        true => (of_each(|(x, y)| y / x), f64::atan),
        false => (of_each(|(x, y)| y.atan2(x)), |angle| angle),
    };
    [fraction, 1.0 - fraction].map(|fraction| quantile(&mut values, fraction, to_angle)).into()
}

/// The value at a fraction of the sorted order, interpolated linearly between what `of` makes of its neighbours; reorders
/// `values`. `of` keeps their order.
fn quantile(values: &mut [f64], fraction: f64, of: fn(f64) -> f64) -> f64 {
    let rank = fraction * (values.len() - 1) as f64;
    let (_, &mut low, above) = values.select_nth_unstable_by(rank as usize, f64::total_cmp);
    let next = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    let (low, next) = (of(low), of(next));
    low + (next - low) * rank.fract()
}

/// Eigenvalues and unit eigenvectors (`vectors[i]` for `values[i]`) of a symmetric matrix, by Jacobi's
/// rotations.
fn eigen_symmetric(mut matrix: [[f64; 3]; 3]) -> ([f64; 3], [[f64; 3]; 3]) {
    const SWEEPS: usize = 32;
    let mut vectors = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    for _ in 0..SWEEPS {
        for (p, q) in [(0, 1), (0, 2), (1, 2)] {
            rotate_away(&mut matrix, &mut vectors, p, q);
        }
    }
    ([0, 1, 2].map(|i| matrix[i][i]), vectors)
}

/// One Jacobi rotation: makes `matrix[p][q]` zero.
fn rotate_away(matrix: &mut [[f64; 3]; 3], vectors: &mut [[f64; 3]; 3], p: usize, q: usize) {
    if matrix[p][q] == 0.0 {
        return;
    }
    let theta = (matrix[q][q] - matrix[p][p]) / (2.0 * matrix[p][q]);
    let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    for row in matrix.iter_mut() {
        (row[p], row[q]) = (cosine * row[p] - sine * row[q], sine * row[p] + cosine * row[q]);
    }
    for rows in [matrix, vectors] {
        let (at_p, at_q) = (rows[p], rows[q]);
        rows[p] = std::array::from_fn(|i| cosine * at_p[i] - sine * at_q[i]);
        rows[q] = std::array::from_fn(|i| sine * at_p[i] + cosine * at_q[i]);
    }
}

fn descending(values: [f64; 3]) -> [usize; 3] {
    let mut order = [0, 1, 2];
    order.sort_by(|&a: &usize, &b: &usize| values[b].total_cmp(&values[a]));
    order
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// The vector at length 1; the zero vector, and one that is not finite, become zero.
fn unit(vector: [f64; 3]) -> [f64; 3] {
    let length = dot(vector, vector).sqrt();
    let usable = length.is_finite() && length > 1e-12;
    vector.map(|x| if usable { x / length } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jacobi_takes_a_matrix_apart() {
        let matrix = [[2.0, -0.7, 0.3], [-0.7, 1.0, 0.2], [0.3, 0.2, 0.5]];
        let (values, vectors) = eigen_symmetric(matrix);
        for (value, vector) in values.into_iter().zip(vectors) {
            for i in 0..3 {
                assert!((dot(matrix[i], vector) - value * vector[i]).abs() < 1e-12);
            }
        }
        assert!((values.iter().sum::<f64>() - 3.5).abs() < 1e-12);
    }

    #[test]
    fn angles_by_tangents_are_the_angles() {
        let axes = [[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0]];
        let at = |angle: f64| [0, 1, 2].map(|i| (angle.cos() * axes[0][i] + angle.sin() * axes[1][i]) as f32);
        let near: Vec<[f32; 3]> =
            (0..1001).map(|i| at((f64::from(i * 7919 % 1001) - 500.0) / 400.0)).collect();
        let (low, high) = angles_at(&near, axes, 0.01);
        assert!((low + 1.225).abs() < 1e-6 && (high - 1.225).abs() < 1e-6, "{low} {high}");
        // One beyond the right angle, whose tangent would be that of another.
        let mut far = near;
        far.push(at(3.0));
        let (low, high) = angles_at(&far, axes, 0.0);
        assert!((low + 1.25).abs() < 1e-6 && (high - 3.0).abs() < 1e-6, "{low} {high}");
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&mut [4.0, 1.0, 3.0, 2.0], 0.5, |value| value), 2.5);
        assert_eq!(quantile(&mut [7.0], 0.99, |value| value), 7.0);
        assert_eq!(quantile(&mut [2.0, 1.0], 1.0, |value| value), 2.0);
        assert_eq!(quantile(&mut [4.0, 1.0, 3.0, 2.0], 0.5, |value| value * value), 6.5);
    }
}
