//! The five similarities s(a, b) of attended patches, each for all pairs at once.
//!
//! Every one of them is a matrix product plus terms of one patch alone, so that no loop over patches is needed.

use burn::tensor::{DType, FloatDType, Tensor, TensorData};

/// Grey level of red, green and blue (ITU-R 601-2, as in the published code's framework).
const GREY: [f32; 3] = [0.2989, 0.587, 0.114];
/// Bins of the joint histogram, at 0, 1/24 … 1.
const BINS: usize = 25;
/// Width of a bin's Gaussian.
const BANDWIDTH: f32 = 0.9;
/// The smallest float that is still normal: logarithms of it are finite.
const SMALLEST: f32 = 1e-38;

/// How attended patches are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Similarity {
    /// Minus the mean squared difference.
    MeanSquaredError,
    /// Mean of a·log₂ b + (1−a)·log₂(1−b).
    CrossEntropy,
    /// Cosine of the feature network's outputs.
    FeaturisedCosine,
    /// Mutual information in bits of grey levels, from a joint histogram of 25 soft bins.
    MutualInformation,
    /// Minus the Kullback–Leibler divergence of grey levels, log-values clamped at −100.
    KullbackLeibler,
}

/// Attended patches, ready to be compared: `[patches, values]`.
///
/// For all but the featurised cosine, values are channel by channel, row by row (`channels × patch²`); for the
/// featurised cosine they are features.
pub type Attended = Tensor<2>;

impl Similarity {
    /// s(a, b) of each row of `a` with each row of `b`.
    ///
    /// # Shapes
    /// - a `[m, values]`, b `[n, values]`, output `[m, n]`
    pub fn matrix(self, a: Attended, b: Attended) -> Tensor<2> {
        match self {
            Self::MeanSquaredError => mean_squared_error(a, b),
            Self::CrossEntropy => cross_entropy(a, b),
            Self::FeaturisedCosine => cosine(a, b),
            Self::MutualInformation => mutual_information(grey(a), grey(b)),
            Self::KullbackLeibler => kullback_leibler(grey(a), grey(b)),
        }
    }
}

/// a·bᵀ.
fn products(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    a.matmul(b.transpose())
}

/// −mean (a−b)² = −(|a|² + |b|² − 2ab) / values.
fn mean_squared_error(a: Attended, b: Attended) -> Tensor<2> {
    let values = a.dims()[1] as f32;
    let squares = |t: &Tensor<2>| t.clone().square().sum_dim(1);
    let (a_squares, b_squares) = (squares(&a), squares(&b).transpose());
    (products(a, b) * 2.0 - a_squares - b_squares) / values
}

fn clamped_log2(t: Tensor<2>) -> Tensor<2> {
    (t.clamp_min(SMALLEST).log() / std::f32::consts::LN_2).clamp_min(-100.0)
}

/// mean a·log₂ b + (1−a)·log₂(1−b) = (a·(log₂ b − log₂(1−b)) + Σ log₂(1−b)) / values.
fn cross_entropy(a: Attended, b: Attended) -> Tensor<2> {
    let values = a.dims()[1] as f32;
    let (log_b, log_rest) = (clamped_log2(b.clone()), clamped_log2(b.neg() + 1.0));
    let rest = log_rest.clone().sum_dim(1).transpose();
    (products(a, log_b - log_rest) + rest) / values
}

fn cosine(a: Attended, b: Attended) -> Tensor<2> {
    let unit = |t: Tensor<2>| {
        let length = t.clone().square().sum_dim(1).sqrt().clamp_min(1e-8);
        t / length
    };
    products(unit(a), unit(b))
}

/// Grey levels of RGB patches; patches of one channel are grey already.
///
/// # Shapes
/// - input `[patches, 3 × pixels]`, output `[patches, pixels]`
fn grey(attended: Attended) -> Tensor<2> {
    let [patches, values] = attended.dims();
    let planes = attended.reshape([patches, 3, values / 3]);
    let plane = |channel: usize| planes.clone().narrow(1, channel, 1).squeeze_dim::<2>(1);
    plane(0) * GREY[0] + plane(1) * GREY[1] + plane(2) * GREY[2]
}

/// −(1/pixels) Σ b·(ln b − ln a): the framework's divergence of log-values, averaged over the pixels.
fn kullback_leibler(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let pixels = a.dims()[1] as f32;
    let log = |t: Tensor<2>| t.clamp_min(SMALLEST).log().clamp_min(-100.0);
    let (log_a, log_b) = (log(a), log(b));
    let b = log_b.clone().exp();
    let own = (b.clone() * log_b).sum_dim(1).transpose();
    (products(log_a, b) - own) / pixels
}

/// Σ p_xy log₂(p_xy / (p_x p_y)) with p_xy the joint histogram of a pair, normalised to 1.
///
/// The published code normalises by the sum over all pairs of a call instead, which divides each value by their
/// number and adds a constant; here each pair has its own histogram, which is what the paper defines.
///
/// Bins this wide leave about 1e-6 bits, the small difference of large sums: computed in double precision.
fn mutual_information(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let ([m, _], [n, _]) = (a.dims(), b.dims());
    let (a, b) = (a.cast(FloatDType::F64), b.cast(FloatDType::F64));
    let joint = soft_bins(a).matmul(soft_bins(b).transpose());
    let joint = joint.reshape([m, BINS, n, BINS]).swap_dims(1, 2).reshape([m * n, BINS, BINS]);
    let total = joint.clone().sum_dim(1).sum_dim(2);
    let p_xy = joint / (total + 1e-10);
    let p_x = p_xy.clone().sum_dim(2);
    let p_y = p_xy.clone().sum_dim(1);
    let ratio = p_xy.clone().clamp_min(SMALLEST) / (p_x * p_y).clamp_min(SMALLEST);
    let information = p_xy * ratio.log() / std::f32::consts::LN_2;
    information.sum_dim(1).sum_dim(2).reshape([m, n]).cast(FloatDType::F32)
}

/// The membership of each pixel in each bin, exp(−½((value − centre)/bandwidth)²).
///
/// # Shapes
/// - input `[patches, pixels]`, output `[patches × 25, pixels]`
fn soft_bins(values: Tensor<2>) -> Tensor<2> {
    let [patches, pixels] = values.dims();
    let centres: Vec<f64> = (0..BINS).map(|bin| bin as f64 / (BINS - 1) as f64).collect();
    let centres =
        Tensor::<1>::from_data(TensorData::from(centres.as_slice()), (&values.device(), DType::F64))
            .reshape([1, BINS, 1]);
    let distance = (values.unsqueeze_dim::<3>(1) - centres) / BANDWIDTH;
    (distance.square() * -0.5).exp().reshape([patches * BINS, pixels])
}
