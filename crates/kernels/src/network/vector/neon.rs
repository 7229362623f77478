//! The register of 64-bit Arm processors.
//!
//! Every such target with a system under it has these instructions; nothing is detected.

use super::Vector;
use super::arithmetic::{Arithmetic, ROOT_HALF};
use std::arch::aarch64::*;

/// Four floats with fused multiply-add.
#[derive(Clone, Copy)]
pub(crate) struct Neon(float32x4_t);

impl Vector for Neon {
    const LANES: usize = 4;
    const ROWS: usize = 6;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { vld1q_f32(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { vst1q_f32(to, self.0) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(unsafe { vdupq_n_f32(value) })
    }
    #[inline(always)]
    unsafe fn gather(from: *const f32, offsets: &[i32; 16]) -> Self {
        unsafe {
            let lanes = vld1q_dup_f32(from.offset(offsets[0] as isize));
            let lanes = vld1q_lane_f32::<1>(from.offset(offsets[1] as isize), lanes);
            let lanes = vld1q_lane_f32::<2>(from.offset(offsets[2] as isize), lanes);
            Self(vld1q_lane_f32::<3>(from.offset(offsets[3] as isize), lanes))
        }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        unsafe {
            let zero = vdupq_n_f32(0.0);
            Self(match count {
                0 => zero,
                1 => vld1q_lane_f32::<0>(from, zero),
                2 => vcombine_f32(vld1_f32(from), vdup_n_f32(0.0)),
                3 => vld1q_lane_f32::<2>(from.add(2), vcombine_f32(vld1_f32(from), vdup_n_f32(0.0))),
                _ => vld1q_f32(from),
            })
        }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        unsafe {
            match count {
                0 => (),
                1 => vst1q_lane_f32::<0>(to, self.0),
                2 => vst1_f32(to, vget_low_f32(self.0)),
                3 => {
                    vst1_f32(to, vget_low_f32(self.0));
                    vst1q_lane_f32::<2>(to.add(2), self.0);
                }
                _ => vst1q_f32(to, self.0),
            }
        }
    }
    #[inline(always)]
    unsafe fn plus_product(self, a: Self, b: Self) -> Self {
        Self(unsafe { vfmaq_f32(self.0, a.0, b.0) })
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(unsafe { vaddq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(unsafe { vsubq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(unsafe { vmulq_f32(self.0, other.0) })
    }
    // The processor's own maximum and minimum give NaN where one is NaN, whichever it is.
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(unsafe { vbslq_f32(vcgtq_f32(self.0, other.0), self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(unsafe { vbslq_f32(vcltq_f32(self.0, other.0), self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(unsafe { vrndnq_f32(self.0) })
    }
    #[inline(always)]
    unsafe fn exp2_whole(self) -> Self {
        unsafe {
            let exponent = vaddq_s32(vcvtnq_s32_f32(self.0), vdupq_n_s32(127));
            Self(vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
        }
    }
    #[inline(always)]
    unsafe fn where_positive(self, yes: Self, no: Self) -> Self {
        Self(unsafe { vbslq_f32(vcgtzq_f32(self.0), yes.0, no.0) })
    }
}

impl Arithmetic for Neon {
    #[inline(always)]
    unsafe fn scale_by_exp2(self, power: Self) -> Self {
        unsafe { self.mul(power.max(Self::splat(-126.0)).min(Self::splat(127.0)).exp2_whole()) }
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        let mut bytes = [0; 8];
        unsafe {
            std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), 4);
            let words = vmovl_u8(vld1_u8(bytes.as_ptr()));
            Self(vcvtq_f32_u32(vmovl_u16(vget_low_u16(words))))
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        let mut bytes = [0; 8];
        unsafe {
            let words = vmovn_u32(vcvtnq_u32_f32(self.0));
            vst1_u8(bytes.as_mut_ptr(), vmovn_u16(vcombine_u16(words, words)));
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, 4);
        }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(unsafe { vdivq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self(unsafe { vsqrtq_f32(self.0) })
    }
    #[inline(always)]
    unsafe fn where_equal(self, other: Self, yes: Self, no: Self) -> Self {
        Self(unsafe { vbslq_f32(vceqq_f32(self.0, other.0), yes.0, no.0) })
    }
    #[inline(always)]
    unsafe fn mantissa_and_exponent(self) -> (Self, Self) {
        unsafe {
            let bits = vreinterpretq_s32_f32(self.0);
            let exponent = vshrq_n_s32::<23>(vsubq_s32(bits, vdupq_n_s32(ROOT_HALF)));
            let mantissa = vsubq_s32(bits, vshlq_n_s32::<23>(exponent));
            (Self(vreinterpretq_f32_s32(mantissa)), Self(vcvtq_f32_s32(exponent)))
        }
    }
}
