//! What losses, optimisers and pooling need beyond [`Vector`]: division, roots, logarithms, bytes, parts of registers.

use super::{Array8, Vector};

/// The rest of a register's arithmetic.
///
/// # Safety
/// As for [`Vector`]: pointers must be good for the floats or bytes named, and the instruction set must be there.
pub(crate) trait Arithmetic: Vector {
    /// `LANES` bytes as numbers.
    unsafe fn load_bytes(from: *const u8) -> Self;
    /// The lanes, whole numbers in 0..=255, as `LANES` bytes.
    unsafe fn store_bytes(self, to: *mut u8);
    unsafe fn div(self, other: Self) -> Self;
    unsafe fn sqrt(self) -> Self;
    /// `self` times 2 to the power of `power`, a whole number; below -126 the result may be zero, above 127 anything.
    unsafe fn scale_by_exp2(self, power: Self) -> Self;
    /// `self == other ? yes : no`, lane by lane.
    unsafe fn where_equal(self, other: Self, yes: Self, no: Self) -> Self;
    /// For positive normal numbers: (m, n) with `self = m · 2ⁿ` and m in √½..√2, about.
    unsafe fn mantissa_and_exponent(self) -> (Self, Self);

    /// The first `count` of `LANES` bytes as numbers; the other lanes are zero.
    #[inline(always)]
    unsafe fn load_first_bytes(from: *const u8, count: usize) -> Self {
        let mut bytes = [0; 16];
        // SAFETY: the caller gives `count <= LANES <= 16` bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), count);
            Self::load_bytes(bytes.as_ptr())
        }
    }

    /// The first `count` lanes as bytes.
    #[inline(always)]
    unsafe fn store_first_bytes(self, to: *mut u8, count: usize) {
        let mut bytes = [0; 16];
        // SAFETY: the caller gives room for `count <= LANES <= 16` bytes.
        unsafe {
            self.store_bytes(bytes.as_mut_ptr());
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, count);
        }
    }

    /// −|x|.
    #[inline(always)]
    unsafe fn minus_absolute(self) -> Self {
        unsafe { Self::zero().sub(self).min(self) }
    }

    /// e to the power of `self` for `self` in -2e38..=0, to 2e-7 of 1; for `self > 0` it gives anything, and costs half of
    /// [`Self::exp_of_negative`].
    ///
    /// 2^f for f in ±½ by a polynomial of degree 5 that is exact at 0 (relative error 1.2e-7, fitted to the least
    /// highest error); log₂ e is rounded once, which shows only where the result is tiny.
    #[inline(always)]
    unsafe fn exp_beside_one(self) -> Self {
        unsafe {
            let t = self.mul(Self::splat(std::f32::consts::LOG2_E));
            let n = t.round();
            let f = t.sub(n);
            let mut p = Self::splat(EXP2[0]);
            for coefficient in [EXP2[1], EXP2[2], EXP2[3], EXP2[4], 1.0] {
                p = Self::splat(coefficient).plus_product(p, f);
            }
            p.scale_by_exp2(n)
        }
    }

    /// ELU with α = 1: x for x > 0, else eˣ − 1, to 2e-7.
    #[inline(always)]
    unsafe fn elu(self) -> Self {
        unsafe { self.where_positive(self, self.exp_beside_one().sub(Self::splat(1.0))) }
    }

    /// [`Self::elu`] of several registers, which need each constant only once.
    #[inline(always)]
    unsafe fn elus<const REGISTERS: usize>(mut values: [Self; REGISTERS]) -> [Self; REGISTERS] {
        for value in &mut values {
            *value = unsafe { value.elu() };
        }
        values
    }

    /// ELU′: 1 for x > 0, else eˣ, to 2e-7.
    #[inline(always)]
    unsafe fn elu_slope(self) -> Self {
        unsafe { self.where_positive(Self::splat(1.0), self.exp_beside_one()) }
    }

    /// [`Arithmetic::elu_slope`] of several registers: one waits for itself where others could go on.
    #[inline(always)]
    unsafe fn elu_slopes<const REGISTERS: usize>(mut values: [Self; REGISTERS]) -> [Self; REGISTERS] {
        for value in &mut values {
            *value = unsafe { value.elu_slope() };
        }
        values
    }

    /// 1 / (1 + e⁻ˣ), to 4 units in the last place; below -87 it stays at about 1e-38. NaN stays NaN.
    #[inline(always)]
    unsafe fn sigmoid(self) -> Self {
        unsafe {
            let one = Self::splat(1.0);
            let e = self.minus_absolute().exp_of_negative();
            self.where_positive(one, e).div(one.add(e))
        }
    }

    /// ln x for positive normal numbers, to 2e-7 of max(1, |ln x|).
    #[inline(always)]
    unsafe fn ln(self) -> Self {
        unsafe {
            let (mantissa, exponent) = self.mantissa_and_exponent();
            let one = Self::splat(1.0);
            let series = mantissa.sub(one).div(mantissa.add(one)).twice_area_tangent();
            series.plus_product(exponent, Self::splat(std::f32::consts::LN_2))
        }
    }

    /// ln(1 + x) for x in 0..=1, to 4 units in the last place however small x is.
    #[inline(always)]
    unsafe fn ln_one_plus(self) -> Self {
        unsafe { self.div(self.add(Self::splat(2.0))).twice_area_tangent() }
    }

    /// 2·artanh(s) for |s| <= 1/3, by the odd series up to s¹⁵ (what is left out is below 2e-9 of the result).
    #[inline(always)]
    unsafe fn twice_area_tangent(self) -> Self {
        unsafe {
            let square = self.mul(self);
            let mut p = Self::splat(2.0 / 15.0);
            for divisor in [13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
                p = Self::splat(2.0 / divisor).plus_product(p, square);
            }
            p.mul(self)
        }
    }
}

/// Coefficients of 2^f from the fifth power down to the first.
#[allow(clippy::approx_constant)] // The first is fitted, and is not ln 2.
const EXP2: [f32; 5] = [1.326_472_7e-3, 9.671_513e-3, 5.550_733_6e-2, 0.240_222_42, 0.693_147];

/// Bits of √½: mantissas begin here, so that those of numbers near 1 are near 1 too.
pub(super) const ROOT_HALF: i32 = 0x3f35_04f3;

impl Arithmetic for Array8 {
    #[inline(always)]
    unsafe fn scale_by_exp2(self, power: Self) -> Self {
        unsafe { self.mul(power.max(Self::splat(-126.0)).min(Self::splat(127.0)).exp2_whole()) }
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        Self(unsafe { from.cast::<[u8; 8]>().read_unaligned() }.map(f32::from))
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        unsafe { to.cast::<[u8; 8]>().write_unaligned(self.0.map(|a| a as u8)) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.map2(other, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self(self.0.map(f32::sqrt))
    }
    #[inline(always)]
    unsafe fn where_equal(self, other: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|i| if self.0[i] == other.0[i] { yes.0[i] } else { no.0[i] }))
    }
    #[inline(always)]
    unsafe fn mantissa_and_exponent(self) -> (Self, Self) {
        let exponent = self.0.map(|a| (a.to_bits() as i32 - ROOT_HALF) >> 23);
        let mantissa = std::array::from_fn(|i| {
            f32::from_bits((self.0[i].to_bits() as i32 - (exponent[i] << 23)) as u32)
        });
        (Self(mantissa), Self(exponent.map(|n| n as f32)))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::x86::{Avx2, Avx512};
    use super::{Arithmetic, EXP2, ROOT_HALF, Vector};
    use std::arch::asm;
    use std::arch::x86_64::*;

    impl Arithmetic for Avx512 {
        #[inline(always)]
        unsafe fn scale_by_exp2(self, power: Self) -> Self {
            Self(unsafe { _mm512_scalef_ps(self.0, power.0) })
        }
        #[inline(always)]
        unsafe fn load_bytes(from: *const u8) -> Self {
            unsafe { Self(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())))) }
        }
        #[inline(always)]
        unsafe fn store_bytes(self, to: *mut u8) {
            unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(self.0))) }
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            Self(unsafe { _mm512_div_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn sqrt(self) -> Self {
            Self(unsafe { _mm512_sqrt_ps(self.0) })
        }
        #[inline(always)]
        unsafe fn where_equal(self, other: Self, yes: Self, no: Self) -> Self {
            unsafe {
                let equal = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, other.0);
                Self(_mm512_mask_blend_ps(equal, no.0, yes.0))
            }
        }
        #[inline(always)]
        unsafe fn mantissa_and_exponent(self) -> (Self, Self) {
            unsafe {
                let bits = _mm512_castps_si512(self.0);
                let exponent = _mm512_srai_epi32::<23>(_mm512_sub_epi32(bits, _mm512_set1_epi32(ROOT_HALF)));
                let mantissa = _mm512_sub_epi32(bits, _mm512_slli_epi32::<23>(exponent));
                (Self(_mm512_castsi512_ps(mantissa)), Self(_mm512_cvtepi32_ps(exponent)))
            }
        }
    }

    /// [`Arithmetic::exp_beside_one`] without conversions: 1.5 · 2²³ added to log₂ eˣ leaves its whole part in the lowest bits,
    /// from where it is added to the exponent of the polynomial. NaN stays NaN as arithmetic makes it, with nothing in its
    /// lowest bits.
    #[inline(always)]
    unsafe fn exp_beside_one(x: Avx2) -> Avx2 {
        unsafe {
            let (to_log2, large) = (Avx2::splat(std::f32::consts::LOG2_E), Avx2::splat(12_582_912.0));
            let least = Avx2::splat(-87.0).max(x);
            let shifted = large.plus_product(least, to_log2);
            let f = Avx2(_mm256_fmsub_ps(least.0, to_log2.0, shifted.sub(large).0));
            let mut p = Avx2::splat(EXP2[0]);
            for coefficient in [EXP2[1], EXP2[2], EXP2[3], EXP2[4], 1.0] {
                p = Avx2::splat(coefficient).plus_product(p, f);
            }
            let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(shifted.0));
            Avx2(_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p.0), exponent)))
        }
    }

    /// What the exponential of four registers is made with, in whole registers.
    #[repr(align(32))]
    struct Constants([[f32; 8]; 9]);

    static CONSTANTS: Constants = Constants([
        [-87.0; 8],
        [std::f32::consts::LOG2_E; 8],
        [12_582_912.0; 8],
        [EXP2[0]; 8],
        [EXP2[1]; 8],
        [EXP2[2]; 8],
        [EXP2[3]; 8],
        [EXP2[4]; 8],
        [1.0; 8],
    ]);

    /// [`exp_beside_one`] of `x0` to `x3` in all sixteen registers, four at a time: `f` is bounded by `bound`, and `p` becomes the
    /// exponentials. The compiler takes one after the other, reads each constant on its own, and waits.
    macro_rules! four_exps {
        ($x:expr, [$($bound:literal),*], [$($end:literal),*]) => {{
            let [mut x0, mut x1, mut x2, mut x3] = $x.map(|x| x.0);
            asm!(
                "vmovaps {p3}, [{k}]",
                "vmaxps {f0}, {p3}, {x0}",
                "vmaxps {f1}, {p3}, {x1}",
                "vmaxps {f2}, {p3}, {x2}",
                "vmaxps {f3}, {p3}, {x3}",
                $($bound,)*
                "vmovaps {s0}, [{k} + 32]",
                "vmovaps {s1}, {s0}",
                "vmovaps {s2}, {s0}",
                "vmovaps {s3}, {s0}",
                "vfmadd213ps {s0}, {f0}, [{k} + 64]",
                "vfmadd213ps {s1}, {f1}, [{k} + 64]",
                "vfmadd213ps {s2}, {f2}, [{k} + 64]",
                "vfmadd213ps {s3}, {f3}, [{k} + 64]",
                "vsubps {p0}, {s0}, [{k} + 64]",
                "vsubps {p1}, {s1}, [{k} + 64]",
                "vsubps {p2}, {s2}, [{k} + 64]",
                "vsubps {p3}, {s3}, [{k} + 64]",
                "vfmsub132ps {f0}, {p0}, [{k} + 32]",
                "vfmsub132ps {f1}, {p1}, [{k} + 32]",
                "vfmsub132ps {f2}, {p2}, [{k} + 32]",
                "vfmsub132ps {f3}, {p3}, [{k} + 32]",
                "vmovaps {p0}, [{k} + 96]",
                "vmovaps {p1}, {p0}",
                "vmovaps {p2}, {p0}",
                "vmovaps {p3}, {p0}",
                "vfmadd213ps {p0}, {f0}, [{k} + 128]",
                "vfmadd213ps {p1}, {f1}, [{k} + 128]",
                "vfmadd213ps {p2}, {f2}, [{k} + 128]",
                "vfmadd213ps {p3}, {f3}, [{k} + 128]",
                "vfmadd213ps {p0}, {f0}, [{k} + 160]",
                "vfmadd213ps {p1}, {f1}, [{k} + 160]",
                "vfmadd213ps {p2}, {f2}, [{k} + 160]",
                "vfmadd213ps {p3}, {f3}, [{k} + 160]",
                "vfmadd213ps {p0}, {f0}, [{k} + 192]",
                "vfmadd213ps {p1}, {f1}, [{k} + 192]",
                "vfmadd213ps {p2}, {f2}, [{k} + 192]",
                "vfmadd213ps {p3}, {f3}, [{k} + 192]",
                "vfmadd213ps {p0}, {f0}, [{k} + 224]",
                "vfmadd213ps {p1}, {f1}, [{k} + 224]",
                "vfmadd213ps {p2}, {f2}, [{k} + 224]",
                "vfmadd213ps {p3}, {f3}, [{k} + 224]",
                "vfmadd213ps {p0}, {f0}, [{k} + 256]",
                "vfmadd213ps {p1}, {f1}, [{k} + 256]",
                "vfmadd213ps {p2}, {f2}, [{k} + 256]",
                "vfmadd213ps {p3}, {f3}, [{k} + 256]",
                "vpslld {s0}, {s0}, 23",
                "vpslld {s1}, {s1}, 23",
                "vpslld {s2}, {s2}, 23",
                "vpslld {s3}, {s3}, 23",
                $($end,)*
                k = in(reg) CONSTANTS.0.as_ptr(),
                x0 = inout(ymm_reg) x0,
                x1 = inout(ymm_reg) x1,
                x2 = inout(ymm_reg) x2,
                x3 = inout(ymm_reg) x3,
                s0 = out(ymm_reg) _,
                s1 = out(ymm_reg) _,
                s2 = out(ymm_reg) _,
                s3 = out(ymm_reg) _,
                f0 = out(ymm_reg) _,
                f1 = out(ymm_reg) _,
                f2 = out(ymm_reg) _,
                f3 = out(ymm_reg) _,
                p0 = out(ymm_reg) _,
                p1 = out(ymm_reg) _,
                p2 = out(ymm_reg) _,
                p3 = out(ymm_reg) _,
                options(pure, readonly, nostack, preserves_flags),
            );
            [Avx2(x0), Avx2(x1), Avx2(x2), Avx2(x3)]
        }};
    }

    /// [`Arithmetic::elu`] of four registers; the sign chooses: at 0 both are 0.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn four_elus(x: [Avx2; 4]) -> [Avx2; 4] {
        // SAFETY: it reads the constants, and changes the registers that are named.
        unsafe {
            four_exps!(
                x,
                [],
                [
                    "vpaddd {p0}, {p0}, {s0}",
                    "vpaddd {p1}, {p1}, {s1}",
                    "vpaddd {p2}, {p2}, {s2}",
                    "vpaddd {p3}, {p3}, {s3}",
                    "vsubps {p0}, {p0}, [{k} + 256]",
                    "vsubps {p1}, {p1}, [{k} + 256]",
                    "vsubps {p2}, {p2}, [{k} + 256]",
                    "vsubps {p3}, {p3}, [{k} + 256]",
                    "vblendvps {x0}, {x0}, {p0}, {x0}",
                    "vblendvps {x1}, {x1}, {p1}, {x1}",
                    "vblendvps {x2}, {x2}, {p2}, {x2}",
                    "vblendvps {x3}, {x3}, {p3}, {x3}"
                ]
            )
        }
    }

    /// [`Arithmetic::elu_slope`] of four registers: e to the power of what is bounded by 0, where it is 1.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn four_elu_slopes(x: [Avx2; 4]) -> [Avx2; 4] {
        // SAFETY: as above.
        unsafe {
            four_exps!(
                x,
                [
                    "vxorps {s3}, {s3}, {s3}",
                    "vminps {f0}, {s3}, {f0}",
                    "vminps {f1}, {s3}, {f1}",
                    "vminps {f2}, {s3}, {f2}",
                    "vminps {f3}, {s3}, {f3}"
                ],
                [
                    "vpaddd {x0}, {p0}, {s0}",
                    "vpaddd {x1}, {p1}, {s1}",
                    "vpaddd {x2}, {p2}, {s2}",
                    "vpaddd {x3}, {p3}, {s3}"
                ]
            )
        }
    }

    impl Arithmetic for Avx2 {
        #[inline(always)]
        unsafe fn scale_by_exp2(self, power: Self) -> Self {
            unsafe { self.mul(power.max(Self::splat(-126.0)).min(Self::splat(127.0)).exp2_whole()) }
        }
        #[inline(always)]
        unsafe fn exp_beside_one(self) -> Self {
            unsafe { exp_beside_one(self) }
        }
        #[inline(always)]
        unsafe fn elu(self) -> Self {
            unsafe {
                let negative = exp_beside_one(self).sub(Self::splat(1.0));
                // The sign chooses: at 0 both are 0.
                Self(_mm256_blendv_ps(self.0, negative.0, self.0))
            }
        }
        #[inline(always)]
        unsafe fn elus<const REGISTERS: usize>(mut values: [Self; REGISTERS]) -> [Self; REGISTERS] {
            match <&[Self; 4]>::try_from(&values[..]) {
                Ok(&four) => values.copy_from_slice(&unsafe { four_elus(four) }),
                Err(_) => {
                    for value in &mut values {
                        *value = unsafe { value.elu() };
                    }
                }
            }
            values
        }
        #[inline(always)]
        unsafe fn elu_slopes<const REGISTERS: usize>(mut values: [Self; REGISTERS]) -> [Self; REGISTERS] {
            match <&[Self; 4]>::try_from(&values[..]) {
                Ok(&four) => values.copy_from_slice(&unsafe { four_elu_slopes(four) }),
                Err(_) => {
                    for value in &mut values {
                        *value = unsafe { value.elu_slope() };
                    }
                }
            }
            values
        }
        #[inline(always)]
        unsafe fn load_bytes(from: *const u8) -> Self {
            unsafe { Self(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())))) }
        }
        #[inline(always)]
        unsafe fn store_bytes(self, to: *mut u8) {
            unsafe {
                let numbers = _mm256_cvtps_epi32(self.0);
                let (low, high) = (_mm256_castsi256_si128(numbers), _mm256_extracti128_si256::<1>(numbers));
                let words = _mm_packus_epi32(low, high);
                _mm_storel_epi64(to.cast(), _mm_packus_epi16(words, words));
            }
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            Self(unsafe { _mm256_div_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn sqrt(self) -> Self {
            Self(unsafe { _mm256_sqrt_ps(self.0) })
        }
        #[inline(always)]
        unsafe fn where_equal(self, other: Self, yes: Self, no: Self) -> Self {
            unsafe {
                let equal = _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, other.0);
                Self(_mm256_blendv_ps(no.0, yes.0, equal))
            }
        }
        #[inline(always)]
        unsafe fn mantissa_and_exponent(self) -> (Self, Self) {
            unsafe {
                let bits = _mm256_castps_si256(self.0);
                let exponent = _mm256_srai_epi32::<23>(_mm256_sub_epi32(bits, _mm256_set1_epi32(ROOT_HALF)));
                let mantissa = _mm256_sub_epi32(bits, _mm256_slli_epi32::<23>(exponent));
                (Self(_mm256_castsi256_ps(mantissa)), Self(_mm256_cvtepi32_ps(exponent)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::vector::{Path, run_on};

    run_on!(fn bend = bend_kernel(
        values: &[f32; 16],
        elu: &mut [f32; 16],
        of_several: &mut [f32; 16],
        slope: &mut [f32; 16],
        elus: &mut [[f32; 16]; 4],
        slopes: &mut [[f32; 16]; 4],
    ));

    /// # Safety
    /// The instruction set of `V` must be there.
    #[inline(always)]
    unsafe fn bend_kernel<V: Arithmetic, const OUTPUTS: usize, const VECTORS: usize>(
        values: &[f32; 16],
        elu: &mut [f32; 16],
        of_several: &mut [f32; 16],
        slope: &mut [f32; 16],
        elus: &mut [[f32; 16]; 4],
        slopes: &mut [[f32; 16]; 4],
    ) {
        for at in (0..16).step_by(V::LANES) {
            // SAFETY: a register has 16 lanes at most, and 16 are whole registers.
            unsafe {
                let value = V::load(values.as_ptr().add(at));
                value.elu().store(elu.as_mut_ptr().add(at));
                V::elus([V::zero(), value, V::splat(-3.0)])[1].store(of_several.as_mut_ptr().add(at));
                value.elu_slope().store(slope.as_mut_ptr().add(at));
                for place in 0..4 {
                    let mut four = [V::zero(), V::splat(-3.0), V::splat(5.0), V::splat(-80.0)];
                    four[place] = value;
                    V::elus(four)[place].store(elus[place].as_mut_ptr().add(at));
                    V::elu_slopes(four)[place].store(slopes[place].as_mut_ptr().add(at));
                }
            }
        }
    }

    #[test]
    fn elu_and_its_slope_are_right_to_two_ten_millionths_on_every_path_and_nan_stays_nan() {
        let wide = (0..160_000).map(|i| (i as f32 - 120_000.0) / 1000.0);
        let near_zero = (0..600).map(|i| (if i % 2 == 0 { 1.0 } else { -1.0 }) * 1.1f32.powi(-i));
        let odd = [0.0, -0.0, f32::INFINITY, -1e38, -87.5, f32::MAX, f32::NAN, -f32::NAN];
        let all: Vec<f32> = wide.chain(near_zero).chain(odd).collect();
        assert_eq!(all.len() % 16, 0, "none is left out");
        for path in Path::available() {
            for chunk in all.chunks_exact(16) {
                let values: [f32; 16] = chunk.try_into().unwrap();
                let [mut elu, mut of_several, mut slope] = [[0.0; 16]; 3];
                let [mut elus, mut slopes] = [[[0.0; 16]; 4]; 2];
                bend(path, &values, &mut elu, &mut of_several, &mut slope, &mut elus, &mut slopes);
                for lane in 0..16 {
                    let x = f64::from(values[lane]);
                    let case = format!("{} of {x}", path.name());
                    assert_eq!(elu[lane].to_bits(), of_several[lane].to_bits(), "{case}");
                    for place in 0..4 {
                        assert_eq!(
                            elu[lane].to_bits(),
                            elus[place][lane].to_bits(),
                            "{case} in place {place}"
                        );
                        assert_eq!(
                            slope[lane].to_bits(),
                            slopes[place][lane].to_bits(),
                            "{case} in place {place}"
                        );
                    }
                    if x.is_nan() {
                        assert!(elu[lane].is_nan() && slope[lane].is_nan(), "{case}");
                    } else if x > 0.0 {
                        assert_eq!((elu[lane], slope[lane]), (values[lane], 1.0), "{case}");
                    } else {
                        assert!((f64::from(elu[lane]) - x.exp_m1()).abs() < 2e-7, "{case}: {}", elu[lane]);
                        assert!((f64::from(slope[lane]) - x.exp()).abs() < 2e-7, "{case}: {}", slope[lane]);
                    }
                }
            }
        }
    }
}
