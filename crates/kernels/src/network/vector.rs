//! A register of floats, of 4, 8 or 16, so that each kernel is written once.
//!
//! A kernel is generic over [`Vector`] and `#[inline(always)]`; a caller compiled for the instruction set
//! (`#[target_feature]`, made by the `run_on!` macro) instantiates it, so that the whole loop nest is built for that
//! set.

pub(super) mod arithmetic;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

use std::sync::OnceLock;

/// Which instructions the kernels use. A value is proof that the processor has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path(pub(crate) Instructions);

/// The instruction sets that kernels are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// 16 floats a register.
    Avx512,
    /// 8 floats a register, fused multiply-add.
    Avx2,
    /// 4 floats a register, fused multiply-add, 32 registers: every 64-bit Arm processor that has a system.
    Neon,
    /// Whatever the compiler makes of arrays of 8 floats.
    Portable,
}

impl Instructions {
    /// Best first.
    const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Portable];

    /// Whether this processor has them.
    fn is_there(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            Self::Portable => true,
            _ => false,
        }
    }
}

impl Path {
    /// The best path that this processor has, unless `MICROTOME_VECTOR` names another one that it has.
    pub fn best() -> Self {
        static BEST: OnceLock<Path> = OnceLock::new();
        *BEST.get_or_init(|| {
            let wanted = std::env::var("MICROTOME_VECTOR").unwrap_or_default();
            let available = Self::available();
            available.iter().copied().find(|path| path.name() == wanted).unwrap_or(available[0])
        })
    }

    /// The paths that this processor has, best first; never empty.
    pub fn available() -> Vec<Self> {
        Instructions::ALL.iter().copied().filter(|set| set.is_there()).map(Self).collect()
    }

    /// The name that `MICROTOME_VECTOR` takes.
    pub fn name(self) -> &'static str {
        match self.0 {
            Instructions::Avx512 => "avx512",
            Instructions::Avx2 => "avx2",
            Instructions::Neon => "neon",
            Instructions::Portable => "portable",
        }
    }

    /// [`Vector::ROWS`] of the path.
    pub(crate) fn rows(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => x86::Avx512::ROWS,
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => x86::Avx2::ROWS,
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon => neon::Neon::ROWS,
            _ => Array8::ROWS,
        }
    }

    /// [`Vector::LANES`] of the path.
    pub(crate) fn lanes(self) -> usize {
        match self.0 {
            Instructions::Avx512 => 16,
            Instructions::Avx2 | Instructions::Portable => 8,
            Instructions::Neon => 4,
        }
    }

    /// Floats in the panel of outputs that one product of matrices holds in registers: `VECTORS` of [`run_on`]
    /// registers.
    pub(crate) fn panel(self) -> usize {
        match self.0 {
            Instructions::Avx512 => 32,
            Instructions::Avx2 | Instructions::Neon => 16,
            Instructions::Portable => 8,
        }
    }
}

/// A register of `LANES` floats.
///
/// # Safety
/// `load` and `store` touch `LANES` floats from the pointer on; the instruction set must be there.
pub(crate) trait Vector: Copy {
    const LANES: usize;
    /// Rows of accumulators, `VECTORS` of [`run_on`] registers each, that fit the register file beside two operands.
    const ROWS: usize;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// [`Self::store`] for what is not read again soon: past the caches where the processor can, so that memory is not
    /// read before it is written. `to` is aligned to the register; [`fence`] ends a run of such stores.
    #[inline(always)]
    unsafe fn store_past_caches(self, to: *mut f32) {
        unsafe { self.store(to) }
    }
    unsafe fn splat(value: f32) -> Self;
    /// `self + a * b`.
    unsafe fn plus_product(self, a: Self, b: Self) -> Self;
    /// `sums[o][v] + factors[o] * pixels[v]` for the `OUTPUTS` floats from `factors` on and the `VECTORS` registers from
    /// `pixels` on.
    #[inline(always)]
    unsafe fn plus_outer_product<const OUTPUTS: usize, const VECTORS: usize>(
        sums: [[Self; VECTORS]; OUTPUTS],
        factors: *const f32,
        pixels: *const f32,
    ) -> [[Self; VECTORS]; OUTPUTS] {
        unsafe { plain_outer_product(sums, factors, pixels) }
    }
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// The greater one; `other` where one is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// The lesser one; `other` where one is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// Nearest integer, ties to even.
    unsafe fn round(self) -> Self;
    /// 2 to the power of `self`, a whole number in -126..=127.
    unsafe fn exp2_whole(self) -> Self;
    /// `self > 0 ? yes : no`, lane by lane.
    unsafe fn where_positive(self, yes: Self, no: Self) -> Self;

    /// The floats at `offsets` from the pointer, lane by lane.
    #[inline(always)]
    unsafe fn gather(from: *const f32, offsets: &[i32; 16]) -> Self {
        let mut lanes = [0.0f32; 16];
        unsafe {
            for lane in 0..Self::LANES {
                lanes[lane] = *from.offset(offsets[lane] as isize);
            }
            Self::load(lanes.as_ptr())
        }
    }

    /// The first `count` floats, zero beyond them; nothing else is read.
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0f32; 16];
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count.min(Self::LANES));
            Self::load(lanes.as_ptr())
        }
    }

    /// Stores the first `count` floats; nothing else is written.
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        let mut lanes = [0.0f32; 16];
        unsafe {
            self.store(lanes.as_mut_ptr());
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count.min(Self::LANES));
        }
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Self::splat(0.0) }
    }

    /// e to the power of `self` for `self <= 0`, to 2 units in the last place; below -87 it gives about 1e-38; NaN
    /// stays NaN.
    ///
    /// Range reduction by ln 2 in two parts and a polynomial of degree 6 (the scheme of Cephes' `expf`).
    #[inline(always)]
    unsafe fn exp_of_negative(self) -> Self {
        unsafe {
            // With the bound in front, `max` and `min` hand a NaN on.
            let x = Self::zero().min(Self::splat(-87.0).max(self));
            let n = x.mul(Self::splat(std::f32::consts::LOG2_E)).round();
            let r = x.plus_product(n, Self::splat(-0.693_359_4)).plus_product(n, Self::splat(2.121_944_4e-4));
            let mut p = Self::splat(1.987_569_1e-4);
            for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5, 1.0, 1.0] {
                p = Self::splat(coefficient).plus_product(p, r);
            }
            p.mul(n.exp2_whole())
        }
    }

    /// The sum of the lanes, pairwise in a fixed order.
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let mut lanes = [0.0f32; 16];
        unsafe { self.store(lanes.as_mut_ptr()) };
        let mut half = Self::LANES / 2;
        while half > 0 {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
            half /= 2;
        }
        lanes[0]
    }
}

/// [`Vector::plus_outer_product`] as the compiler makes it.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // Loops over registers.
unsafe fn plain_outer_product<V: Vector, const OUTPUTS: usize, const VECTORS: usize>(
    mut sums: [[V; VECTORS]; OUTPUTS],
    factors: *const f32,
    pixels: *const f32,
) -> [[V; VECTORS]; OUTPUTS] {
    unsafe {
        let mut registers = [V::zero(); VECTORS];
        for v in 0..VECTORS {
            registers[v] = V::load(pixels.add(v * V::LANES));
        }
        for o in 0..OUTPUTS {
            let factor = V::splat(*factors.add(o));
            for v in 0..VECTORS {
                sums[o][v] = sums[o][v].plus_product(factor, registers[v]);
            }
        }
    }
    sums
}

/// Eight floats that the compiler vectorises as it can.
#[derive(Clone, Copy)]
pub(crate) struct Array8(pub(super) [f32; 8]);

impl Array8 {
    #[inline(always)]
    fn map2(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Vector for Array8 {
    const LANES: usize = 8;
    const ROWS: usize = 4;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 8])
    }
    #[inline(always)]
    unsafe fn plus_product(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + a.0[i] * b.0[i]))
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.map2(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.map2(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.map2(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.map2(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.map2(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // Adding and taking away 1.5 · 2^23 rounds to the nearest whole number, ties to even, for |x| < 2^22.
        const SHIFT: f32 = 12_582_912.0;
        Self(self.0.map(|a| (a + SHIFT) - SHIFT))
    }
    #[inline(always)]
    unsafe fn exp2_whole(self) -> Self {
        Self(self.0.map(|a| f32::from_bits(((a as i32 + 127) << 23) as u32)))
    }
    #[inline(always)]
    unsafe fn where_positive(self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|i| if self.0[i] > 0.0 { yes.0[i] } else { no.0[i] }))
    }
}

/// Asks for the cache line at `from`, which may lie anywhere, for reading; where the processor has no such
/// instruction, nothing happens.
#[inline(always)]
pub(crate) fn fetch(from: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: asking for a line reads nothing and faults nowhere.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// After this, other threads see what [`Vector::store_past_caches`] wrote before whatever is written next.
#[inline(always)]
pub(crate) fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every 64-bit x86 processor has the instruction.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// Makes `fn $name(path, arguments)` that runs the generic `$kernel::<V, OUTPUTS, VECTORS>` on the given path.
///
/// `OUTPUTS × VECTORS` accumulators, plus what is loaded, must fit the register file: 32 registers with AVX-512 and
/// NEON, 16 otherwise. NEON's registers are short: four of them make panels as wide as AVX2's, so that the products
/// of matrices load 10 registers for 24 multiply-adds (16 for 28 with two of them).
///
/// With `; 3 wide` AVX-512 runs with 8 × 3 accumulators instead of 8 × 2, AVX2 with 4 × 3 instead of 4 × 2: the kernel
/// multiplies by [`Vector::plus_outer_product`] then, because the compiler does not fit these into 16 registers.
macro_rules! run_on {
    ($visibility:vis fn $name:ident = $kernel:ident($($argument:ident: $type:ty),* $(,)?)) => {
        $crate::network::vector::run_on!($visibility fn $name = $kernel($($argument: $type),*); 2 wide);
    };
    ($visibility:vis fn $name:ident = $kernel:ident($($argument:ident: $type:ty),* $(,)?); $wide:literal wide) => {
        #[allow(clippy::too_many_arguments)] // Mirrors the kernel that it instantiates.
        $visibility fn $name(path: $crate::network::vector::Path, $($argument: $type),*) {
            use $crate::network::vector::{Array8, Instructions};
            #[cfg(target_arch = "x86_64")]
            use $crate::network::vector::x86;
            #[cfg(target_arch = "aarch64")]
            use $crate::network::vector::neon;

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            unsafe fn avx512($($argument: $type),*) {
                unsafe { $kernel::<x86::Avx512, 8, $wide>($($argument),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($argument: $type),*) {
                unsafe { $kernel::<x86::Avx2, 4, $wide>($($argument),*) }
            }
            // SAFETY: a `Path` is only made where the processor has its instructions; the kernel's own
            // demands on its arguments are the caller's.
            match path.0 {
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx512 => unsafe { avx512($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx2 => unsafe { avx2($($argument),*) },
                // The target itself has these instructions: no function of its own is needed to turn them on.
                #[cfg(target_arch = "aarch64")]
                Instructions::Neon => unsafe { $kernel::<neon::Neon, 4, 4>($($argument),*) },
                _ => unsafe { $kernel::<Array8, 4, 1>($($argument),*) },
            }
        }
    };
}
pub(crate) use run_on;

#[cfg(test)]
mod tests {
    use super::*;

    run_on!(fn sum_lanes = sum_kernel(values: &[f32; 16], sum: &mut f32));

    /// # Safety
    /// The instruction set of `V` must be there.
    #[inline(always)]
    unsafe fn sum_kernel<V: Vector, const OUTPUTS: usize, const VECTORS: usize>(
        values: &[f32; 16],
        sum: &mut f32,
    ) {
        // SAFETY: a register has 16 lanes at most.
        unsafe { *sum = V::load(values.as_ptr()).sum() };
    }

    #[test]
    fn lanes_are_added_halves_onto_one_another_on_every_path() {
        // Each order of additions gives another sum of these.
        let values: [f32; 16] = std::array::from_fn(|lane| 1.1f32.powi(7 * lane as i32 % 31) - 3.3);
        for path in Path::available() {
            let mut lanes = values[..path.lanes()].to_vec();
            while lanes.len() > 1 {
                let half = lanes.len() / 2;
                lanes = (0..half).map(|lane| lanes[lane] + lanes[lane + half]).collect();
            }
            let mut sum = 0.0;
            sum_lanes(path, &values, &mut sum);
            assert_eq!(sum, lanes[0], "{}", path.name());
        }
    }
}
