//! The transform and the colours in registers of AVX2: the same whole numbers.

use super::{BLOCK_PX, Block, COLUMNS_DROP, Line, Numbers, PIXELS, ROWS_DROP, is_even, level_of_even, pass};
use std::arch::x86_64::*;

/// A line of a block, a number in each lane.
type Lanes = __m256i;

/// [`super::transform_blocks`].
///
/// # Safety
/// The processor must have AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn transform_blocks(
    blocks: &[Block],
    steps: &[Line; BLOCK_PX],
    rows: &mut [u8],
    stride_px: usize,
) {
    for (at, block) in blocks.iter().enumerate() {
        let samples = match is_even(block) {
            true => [[level_of_even(block, steps); BLOCK_PX]; BLOCK_PX],
            false => transform_block(block, steps),
        };
        for (row, samples) in rows.chunks_exact_mut(stride_px).zip(&samples) {
            row[at * BLOCK_PX..][..BLOCK_PX].copy_from_slice(samples);
        }
    }
}

#[target_feature(enable = "avx2")]
fn transform_block(block: &Block, steps: &[Line; BLOCK_PX]) -> [[u8; BLOCK_PX]; BLOCK_PX] {
    let mut lines = [_mm256_setzero_si256(); BLOCK_PX];
    let numbers = block.as_chunks::<BLOCK_PX>().0;
    for ((line, numbers), steps) in lines.iter_mut().zip(numbers).zip(steps) {
        // SAFETY: eight numbers of 16 bits, and eight of 32.
        let (numbers, steps) =
            unsafe { (_mm_loadu_si128(numbers.as_ptr().cast()), _mm256_loadu_si256(steps.as_ptr().cast())) };
        *line = _mm256_mullo_epi32(_mm256_cvtepi16_epi32(numbers), steps);
    }
    // SAFETY: this function is called where the processor has AVX2.
    let rows = unsafe {
        let columns = pass::<_, COLUMNS_DROP>(lines);
        transposed(pass::<_, ROWS_DROP>(transposed(columns)))
    };
    let mut samples = [[0; BLOCK_PX]; BLOCK_PX];
    let zero_level = _mm256_set1_epi32(128);
    for (samples, rows) in samples.as_chunks_mut::<4>().0.iter_mut().zip(rows.as_chunks::<4>().0) {
        let [a, b, c, d] = rows.map(|row| _mm256_add_epi32(row, zero_level));
        // Halves of lines come in turn out of this: the first of all four, then the second.
        let bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        // SAFETY: four lines of eight bytes.
        unsafe { _mm256_storeu_si256(samples.as_mut_ptr().cast(), bytes) };
    }
    samples
}

#[target_feature(enable = "avx2")]
fn transposed(lines: [Lanes; BLOCK_PX]) -> [Lanes; BLOCK_PX] {
    let [a, b, c, d, e, f, g, h] = lines;
    let pairs = |a: Lanes, b: Lanes| [_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)];
    let ([ab0, ab1], [cd0, cd1], [ef0, ef1], [gh0, gh1]) =
        (pairs(a, b), pairs(c, d), pairs(e, f), pairs(g, h));
    let fours = |a: Lanes, b: Lanes| [_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b)];
    let ([ad0, ad1], [ad2, ad3]) = (fours(ab0, cd0), fours(ab1, cd1));
    let ([eh0, eh1], [eh2, eh3]) = (fours(ef0, gh0), fours(ef1, gh1));
    let lower = |a: Lanes, b: Lanes| _mm256_permute2x128_si256::<0x20>(a, b);
    let upper = |a: Lanes, b: Lanes| _mm256_permute2x128_si256::<0x31>(a, b);
    [
        lower(ad0, eh0),
        lower(ad1, eh1),
        lower(ad2, eh2),
        lower(ad3, eh3),
        upper(ad0, eh0),
        upper(ad1, eh1),
        upper(ad2, eh2),
        upper(ad3, eh3),
    ]
}

impl Numbers for Lanes {
    #[inline(always)]
    unsafe fn all(number: i32) -> Self {
        unsafe { _mm256_set1_epi32(number) }
    }

    #[inline(always)]
    unsafe fn sum(self, other: Self) -> Self {
        unsafe { _mm256_add_epi32(self, other) }
    }

    #[inline(always)]
    unsafe fn difference(self, other: Self) -> Self {
        unsafe { _mm256_sub_epi32(self, other) }
    }

    #[inline(always)]
    unsafe fn times(self, factor: i32) -> Self {
        unsafe { _mm256_mullo_epi32(self, _mm256_set1_epi32(factor)) }
    }

    #[inline(always)]
    unsafe fn without<const BITS: u32>(self) -> Self {
        unsafe { _mm256_sra_epi32(self, _mm_cvtsi32_si128(BITS as i32)) }
    }
}

/// [`super::convert`].
///
/// # Safety
/// The processor must have AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn convert(luma: &[u8], blue: &[u8], red: &[u8], rgb: &mut [u8]) {
    super::convert(luma, blue, red, rgb, |planes, block| {
        for (at, block) in block.as_chunks_mut::<{ 3 * LANES }>().0.iter_mut().enumerate() {
            let part = |plane: &[u8; PIXELS]| -> __m128i {
                // SAFETY: `PIXELS` is a multiple of the lanes.
                unsafe { _mm_loadu_si128(plane.as_ptr().add(at * LANES).cast()) }
            };
            interleave_lanes(planes.each_ref().map(part), block);
        }
    });
}

/// Bytes of a register of 128 bits.
const LANES: usize = 16;
const _: () = assert!(PIXELS.is_multiple_of(LANES));

/// Which byte of a plane goes where in each third of the pixels; nothing goes where 128 stands.
const PLACES: [[[u8; LANES]; 3]; 3] = places();

const fn places() -> [[[u8; LANES]; 3]; 3] {
    let mut places = [[[128; LANES]; 3]; 3];
    let mut at = 0;
    while at < 3 * LANES {
        places[at % 3][at / LANES][at % LANES] = (at / 3) as u8;
        at += 1;
    }
    places
}

#[target_feature(enable = "avx2")]
fn interleave_lanes(planes: [__m128i; 3], rgb: &mut [u8; 3 * LANES]) {
    for (third, rgb) in rgb.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let mut bytes = _mm_setzero_si128();
        for (plane, places) in planes.iter().zip(&PLACES) {
            // SAFETY: sixteen bytes.
            let places = unsafe { _mm_loadu_si128(places[third].as_ptr().cast()) };
            bytes = _mm_or_si128(bytes, _mm_shuffle_epi8(*plane, places));
        }
        // SAFETY: sixteen bytes.
        unsafe { _mm_storeu_si128(rgb.as_mut_ptr().cast(), bytes) };
    }
}
