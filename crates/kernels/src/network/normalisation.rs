//! Batch normalisation, as numbers of one channel: its moments, the affine map that it is, its backward pass.
//!
//! x̂ = (z − mean) / √(variance + ε) over images and pixels of a channel, y = γ·x̂ + β.

/// Mean and (biased) variance of one channel over images and pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Mean.
    pub mean: f32,
    /// Variance, divided by the number of values.
    pub variance: f32,
}

impl Moments {
    /// From Σz and Σz² of `count` values.
    pub(crate) fn from_sums([sum, squares]: [f64; 2], count: usize) -> Self {
        let count = count.max(1) as f64;
        let mean = sum / count;
        Self { mean: mean as f32, variance: (squares / count - mean * mean).max(0.0) as f32 }
    }
}

/// A channel's affine map: `scale * z + shift`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Factor.
    pub scale: f32,
    /// Summand.
    pub shift: f32,
}

impl Affine {
    /// Batch normalisation with the given moments, γ and β.
    pub fn normalising(moments: Moments, gamma: f32, beta: f32, epsilon: f32) -> Self {
        let scale = gamma / (moments.variance + epsilon).sqrt();
        Self { scale, shift: beta - moments.mean * scale }
    }
}

/// dz = of_g·g + of_z·z + constant, for one channel, and the gradient towards γ and β.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientTerms {
    /// Factor of g.
    pub of_g: f32,
    /// Factor of z.
    pub of_z: f32,
    /// Summand.
    pub constant: f32,
    /// The gradient towards γ.
    pub gamma: f32,
    /// The gradient towards β.
    pub beta: f32,
}

impl GradientTerms {
    /// From Σg and Σg·z of a channel over `pixels`: dz = γ/σ · (g − Σg/n − x̂·Σ(g·x̂)/n), with x̂ written out in z.
    pub fn new([sum_g, sum_gz]: [f64; 2], moments: Moments, gamma: f32, epsilon: f32, pixels: usize) -> Self {
        let count = pixels.max(1) as f64;
        let inverse_deviation = 1.0 / (f64::from(moments.variance) + f64::from(epsilon)).sqrt();
        let mean = f64::from(moments.mean);
        let sum_g_normalised = (sum_gz - mean * sum_g) * inverse_deviation;
        let of_g = f64::from(gamma) * inverse_deviation;
        let of_z = -of_g * sum_g_normalised / count * inverse_deviation;
        Self {
            of_g: of_g as f32,
            of_z: of_z as f32,
            constant: (-of_g * sum_g / count - of_z * mean) as f32,
            gamma: sum_g_normalised as f32,
            beta: sum_g as f32,
        }
    }
}
