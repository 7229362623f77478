//! Winograd's F(4, 3) along a line: four outputs of three taps with six multiplications instead of twelve.
//!
//! Outputs are Aᵀ [(G g) ⊙ (Bᵀ d)] for inputs d and taps g. The points are 0, ±3/4, ±3/2 and ∞: their powers are
//! exact, and the errors are a quarter of those of the usual 0, ±1, ±2, ∞.

use super::vector::arithmetic::Arithmetic;

/// Points of the transformed domain.
pub(super) const POINTS: usize = 6;
/// The points ±A and ±B.
const A: f32 = 0.75;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;

/// M′(p) for M(x) = x (x² − A²) (x² − B²): what divides the weights at the points 0, ±A and ±B.
const AT_0: f32 = 1.0 / (A2 * B2);
const AT_A: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
const AT_B: f32 = 1.0 / (2.0 * B2 * (B2 - A2));

/// G g: the polynomial of coefficients `g` at each point, divided by M′.
#[inline(always)]
pub(super) unsafe fn weight_line<V: Arithmetic>(g: [V; 3]) -> [V; 6] {
    unsafe {
        let even_a = g[0].mul(V::splat(AT_A)).plus_product(V::splat(A2 * AT_A), g[2]);
        let even_b = g[0].mul(V::splat(AT_B)).plus_product(V::splat(B2 * AT_B), g[2]);
        [
            g[0].mul(V::splat(AT_0)),
            even_a.plus_product(V::splat(A * AT_A), g[1]),
            even_a.plus_product(V::splat(-A * AT_A), g[1]),
            even_b.plus_product(V::splat(B * AT_B), g[1]),
            even_b.plus_product(V::splat(-B * AT_B), g[1]),
            g[2],
        ]
    }
}

/// Gᵀ u.
#[inline(always)]
pub(super) unsafe fn weight_sums_line<V: Arithmetic>(u: [V; 6]) -> [V; 3] {
    unsafe {
        let (sum_a, difference_a) = (u[1].add(u[2]), u[1].sub(u[2]));
        let (sum_b, difference_b) = (u[3].add(u[4]), u[3].sub(u[4]));
        [
            u[0].mul(V::splat(AT_0)).plus_product(V::splat(AT_A), sum_a).plus_product(V::splat(AT_B), sum_b),
            difference_a.mul(V::splat(A * AT_A)).plus_product(V::splat(B * AT_B), difference_b),
            u[5].plus_product(V::splat(A2 * AT_A), sum_a).plus_product(V::splat(B2 * AT_B), sum_b),
        ]
    }
}

/// Gᵀ u, of single numbers in double precision.
pub(super) fn weight_sums(u: [f64; 6]) -> [f64; 3] {
    let [a, b, a2, b2] = [A, B, A2, B2].map(f64::from);
    let (at_0, at_a, at_b) = (1.0 / (a2 * b2), 1.0 / (2.0 * a2 * (a2 - b2)), 1.0 / (2.0 * b2 * (b2 - a2)));
    let (sum_a, difference_a) = (at_a * (u[1] + u[2]), at_a * a * (u[1] - u[2]));
    let (sum_b, difference_b) = (at_b * (u[3] + u[4]), at_b * b * (u[3] - u[4]));
    [at_0 * u[0] + sum_a + sum_b, difference_a + difference_b, a2 * sum_a + b2 * sum_b + u[5]]
}

/// Bᵀ d: each value is d(x) times M(x)/(x − p), coefficient by coefficient.
#[inline(always)]
pub(super) unsafe fn input_line<V: Arithmetic>(d: [V; 6]) -> [V; 6] {
    unsafe {
        let middle = V::splat(-(A2 + B2));
        let product = V::splat(A2 * B2);
        let (even_a, odd_a) =
            (d[4].plus_product(V::splat(-B2), d[2]), d[3].plus_product(V::splat(-B2), d[1]));
        let (even_b, odd_b) =
            (d[4].plus_product(V::splat(-A2), d[2]), d[3].plus_product(V::splat(-A2), d[1]));
        [
            d[4].plus_product(middle, d[2]).plus_product(product, d[0]),
            even_a.plus_product(V::splat(A), odd_a),
            even_a.plus_product(V::splat(-A), odd_a),
            even_b.plus_product(V::splat(B), odd_b),
            even_b.plus_product(V::splat(-B), odd_b),
            d[5].plus_product(middle, d[3]).plus_product(product, d[1]),
        ]
    }
}

/// A y: the polynomial of coefficients `y` at each point.
#[inline(always)]
pub(super) unsafe fn gradient_line<V: Arithmetic>(y: [V; 4]) -> [V; 6] {
    unsafe {
        let (a2, b2) = (V::splat(A2), V::splat(B2));
        let (even_a, odd_a) = (y[0].plus_product(a2, y[2]), y[1].plus_product(a2, y[3]));
        let (even_b, odd_b) = (y[0].plus_product(b2, y[2]), y[1].plus_product(b2, y[3]));
        [
            y[0],
            even_a.plus_product(V::splat(A), odd_a),
            even_a.plus_product(V::splat(-A), odd_a),
            even_b.plus_product(V::splat(B), odd_b),
            even_b.plus_product(V::splat(-B), odd_b),
            y[3],
        ]
    }
}

/// Aᵀ m: the sums of the points' powers.
#[inline(always)]
pub(super) unsafe fn output_line<V: Arithmetic>(m: [V; 6]) -> [V; 4] {
    unsafe {
        let (sum_a, difference_a) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (sum_b, difference_b) = (m[3].add(m[4]), m[3].sub(m[4]));
        [
            m[0].add(sum_a).add(sum_b),
            difference_a.mul(V::splat(A)).plus_product(V::splat(B), difference_b),
            sum_a.mul(V::splat(A2)).plus_product(V::splat(B2), sum_b),
            m[5].plus_product(V::splat(A * A2), difference_a).plus_product(V::splat(B * B2), difference_b),
        ]
    }
}
