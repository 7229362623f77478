//! Registers of AVX-512 and AVX2.

use super::{Vector, plain_outer_product};
use std::arch::asm;
use std::arch::x86_64::*;

/// Lanes 8 to 15.
#[inline(always)]
unsafe fn upper(lanes: __m512) -> __m256 {
    // With what AVX-512 has from its first day: 64-bit halves.
    unsafe { _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(lanes))) }
}

/// The sum of eight lanes in the order of [`Vector::sum`]: halves onto one another.
#[inline(always)]
unsafe fn sum_of_8(lanes: __m256) -> f32 {
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
}

/// Sixteen floats.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(pub(in crate::network) __m512);

impl Vector for Avx512 {
    const LANES: usize = 16;
    const ROWS: usize = 14;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn store_past_caches(self, to: *mut f32) {
        unsafe { _mm512_stream_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn gather(from: *const f32, offsets: &[i32; 16]) -> Self {
        unsafe { Self(_mm512_i32gather_ps::<4>(_mm512_loadu_si512(offsets.as_ptr().cast()), from.cast())) }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe { sum_of_8(_mm256_add_ps(_mm512_castps512_ps256(self.0), upper(self.0))) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        let mask = ((1u32 << count.min(16)) - 1) as u16;
        Self(unsafe { _mm512_maskz_loadu_ps(mask, from) })
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        let mask = ((1u32 << count.min(16)) - 1) as u16;
        unsafe { _mm512_mask_storeu_ps(to, mask, self.0) }
    }
    #[inline(always)]
    unsafe fn plus_product(self, a: Self, b: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(unsafe { _mm512_roundscale_ps::<0>(self.0) })
    }
    #[inline(always)]
    unsafe fn exp2_whole(self) -> Self {
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent)))
        }
    }
    #[inline(always)]
    unsafe fn where_positive(self, yes: Self, no: Self) -> Self {
        unsafe {
            let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, _mm512_setzero_ps());
            Self(_mm512_mask_blend_ps(positive, no.0, yes.0))
        }
    }
}

/// All bits in the first `count` lanes.
#[inline(always)]
unsafe fn first_lanes(count: usize) -> __m256i {
    static LANES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    unsafe { _mm256_loadu_si256(LANES.as_ptr().add(8 - count.min(8)).cast()) }
}

/// Eight floats with fused multiply-add.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(pub(in crate::network) __m256);

/// [`Vector::plus_outer_product`] of four factors and three registers, in all sixteen registers.
///
/// # Safety
/// Four floats from `factors` on and 24 from `pixels` on can be read.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn plus_4_by_3(mut s: [__m256; 12], factors: *const f32, pixels: *const f32) -> [__m256; 12] {
    // SAFETY: it reads what the caller says, and changes the registers that are named.
    unsafe {
        asm!(
            "vmovups {p0}, [{pixels}]",
            "vmovups {p1}, [{pixels} + 32]",
            "vmovups {p2}, [{pixels} + 64]",
            "vbroadcastss {w}, [{factors}]",
            "vfmadd231ps {s00}, {w}, {p0}",
            "vfmadd231ps {s01}, {w}, {p1}",
            "vfmadd231ps {s02}, {w}, {p2}",
            "vbroadcastss {w}, [{factors} + 4]",
            "vfmadd231ps {s10}, {w}, {p0}",
            "vfmadd231ps {s11}, {w}, {p1}",
            "vfmadd231ps {s12}, {w}, {p2}",
            "vbroadcastss {w}, [{factors} + 8]",
            "vfmadd231ps {s20}, {w}, {p0}",
            "vfmadd231ps {s21}, {w}, {p1}",
            "vfmadd231ps {s22}, {w}, {p2}",
            "vbroadcastss {w}, [{factors} + 12]",
            "vfmadd231ps {s30}, {w}, {p0}",
            "vfmadd231ps {s31}, {w}, {p1}",
            "vfmadd231ps {s32}, {w}, {p2}",
            pixels = in(reg) pixels,
            factors = in(reg) factors,
            s00 = inout(ymm_reg) s[0],
            s01 = inout(ymm_reg) s[1],
            s02 = inout(ymm_reg) s[2],
            s10 = inout(ymm_reg) s[3],
            s11 = inout(ymm_reg) s[4],
            s12 = inout(ymm_reg) s[5],
            s20 = inout(ymm_reg) s[6],
            s21 = inout(ymm_reg) s[7],
            s22 = inout(ymm_reg) s[8],
            s30 = inout(ymm_reg) s[9],
            s31 = inout(ymm_reg) s[10],
            s32 = inout(ymm_reg) s[11],
            p0 = out(ymm_reg) _,
            p1 = out(ymm_reg) _,
            p2 = out(ymm_reg) _,
            w = out(ymm_reg) _,
            options(nostack, preserves_flags, readonly),
        );
    }
    s
}

impl Vector for Avx2 {
    const LANES: usize = 8;
    const ROWS: usize = 6;
    /// By hand for the shape that fills all sixteen registers: the compiler needs a seventeenth, and one sum goes
    /// through memory at each factor (measured: the forward pass takes a third longer).
    #[inline(always)]
    unsafe fn plus_outer_product<const OUTPUTS: usize, const VECTORS: usize>(
        mut sums: [[Self; VECTORS]; OUTPUTS],
        factors: *const f32,
        pixels: *const f32,
    ) -> [[Self; VECTORS]; OUTPUTS] {
        if OUTPUTS != 4 || VECTORS != 3 {
            return unsafe { plain_outer_product(sums, factors, pixels) };
        }
        let mut s = [unsafe { Self::zero() }.0; 12];
        for o in 0..OUTPUTS {
            for v in 0..VECTORS {
                s[o * 3 + v] = sums[o][v].0;
            }
        }
        let s = unsafe { plus_4_by_3(s, factors, pixels) };
        for o in 0..OUTPUTS {
            for v in 0..VECTORS {
                sums[o][v].0 = s[o * 3 + v];
            }
        }
        sums
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm256_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn store_past_caches(self, to: *mut f32) {
        unsafe { _mm256_stream_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(unsafe { _mm256_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        unsafe { Self(_mm256_maskload_ps(from, first_lanes(count))) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        unsafe { _mm256_maskstore_ps(to, first_lanes(count), self.0) }
    }
    #[inline(always)]
    unsafe fn gather(from: *const f32, offsets: &[i32; 16]) -> Self {
        unsafe { Self(_mm256_i32gather_ps::<4>(from, _mm256_loadu_si256(offsets.as_ptr().cast()))) }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe { sum_of_8(self.0) }
    }
    #[inline(always)]
    unsafe fn plus_product(self, a: Self, b: Self) -> Self {
        Self(unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) })
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm256_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(unsafe { _mm256_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }
    #[inline(always)]
    unsafe fn exp2_whole(self) -> Self {
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        }
    }
    #[inline(always)]
    unsafe fn where_positive(self, yes: Self, no: Self) -> Self {
        unsafe {
            let positive = _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, _mm256_setzero_ps());
            Self(_mm256_blendv_ps(no.0, yes.0, positive))
        }
    }
}
