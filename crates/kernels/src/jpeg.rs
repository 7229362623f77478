//! From the coefficients of JPEG (ITU-T T.81) to samples and colours, as libjpeg computes them.
//!
//! The standard leaves rounding open. What people compare with (OpenSlide, Pillow, tifffile) is the Independent JPEG Group's
//! arithmetic: the "slow" integer transform after Loeffler, Ligtenberg & Moschytz (ICASSP 1989) with constants of 13 bits,
//! "fancy" triangular upsampling of halved colour, and conversion with constants of 16 bits. All of it is whole numbers
//! here, too, so that samples are the same to the last bit, on every processor.

#![allow(unsafe_code)] // Loops are built for the processor's registers; `avx2` argues what it does with them.

#[cfg(any(target_arch = "x86_64", test))]
use crate::network::vector::Instructions;
use crate::network::vector::{Path, Vector, run_on};

#[cfg(target_arch = "x86_64")]
mod avx2;

/// Side of a block.
pub const BLOCK_PX: usize = 8;
/// The coefficients of a block, row by row: vertical frequencies down, horizontal ones to the right.
pub type Block = [i16; BLOCK_PX * BLOCK_PX];
/// A number in each column of a block.
type Line = [i32; BLOCK_PX];

/// Bits behind the point of the transform's constants.
const CONSTANT_BITS: u32 = 13;
/// Bits that are kept between the two passes.
const BETWEEN_BITS: u32 = 2;

/// Bits that the pass down the columns drops, and the one along the rows, which takes the transform's eighth, too.
const COLUMNS_DROP: u32 = CONSTANT_BITS - BETWEEN_BITS;
const ROWS_DROP: u32 = CONSTANT_BITS + BETWEEN_BITS + 3;

/// Cosines of the transform, with [`CONSTANT_BITS`] behind the point.
mod cosine {
    pub(super) const C0_298: i32 = 2446;
    pub(super) const C0_390: i32 = 3196;
    pub(super) const C0_541: i32 = 4433;
    pub(super) const C0_765: i32 = 6270;
    pub(super) const C0_899: i32 = 7373;
    pub(super) const C1_175: i32 = 9633;
    pub(super) const C1_501: i32 = 12299;
    pub(super) const C1_847: i32 = 15137;
    pub(super) const C1_961: i32 = 16069;
    pub(super) const C2_053: i32 = 16819;
    pub(super) const C2_562: i32 = 20995;
    pub(super) const C3_072: i32 = 25172;
}

/// Transforms blocks that lie side by side into eight rows of samples, `stride_px` apart.
///
/// # Panics
/// If the blocks are wider than a row, or the rows are not eight.
pub fn inverse_transform(
    blocks: &[Block],
    quantisation: &[u16; BLOCK_PX * BLOCK_PX],
    rows: &mut [u8],
    stride_px: usize,
) {
    assert!(blocks.len() * BLOCK_PX <= stride_px && rows.len() == BLOCK_PX * stride_px, "eight rows");
    let steps: [Line; BLOCK_PX] =
        std::array::from_fn(|v| std::array::from_fn(|u| i32::from(quantisation[v * BLOCK_PX + u])));
    transform_on(Path::best(), blocks, &steps, rows, stride_px);
}

fn transform_on(path: Path, blocks: &[Block], steps: &[Line; BLOCK_PX], rows: &mut [u8], stride_px: usize) {
    match path.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a `Path` is only made where the processor has its instructions; each of these has AVX2.
        Instructions::Avx512 | Instructions::Avx2 => unsafe {
            avx2::transform_blocks(blocks, steps, rows, stride_px);
        },
        _ => transform_blocks(blocks, steps, rows, stride_px),
    }
}

fn transform_blocks(blocks: &[Block], steps: &[Line; BLOCK_PX], rows: &mut [u8], stride_px: usize) {
    for (at, block) in blocks.iter().enumerate() {
        let samples = transform_block(block, steps);
        for (row, samples) in rows.chunks_exact_mut(stride_px).zip(&samples) {
            row[at * BLOCK_PX..][..BLOCK_PX].copy_from_slice(samples);
        }
    }
}

#[inline(always)]
fn transform_block(block: &Block, steps: &[Line; BLOCK_PX]) -> [[u8; BLOCK_PX]; BLOCK_PX] {
    if is_even(block) {
        return [[level_of_even(block, steps); BLOCK_PX]; BLOCK_PX];
    }
    let mut lines = [[0; BLOCK_PX]; BLOCK_PX];
    for ((line, numbers), steps) in lines.iter_mut().zip(block.as_chunks::<BLOCK_PX>().0).zip(steps) {
        for i in 0..BLOCK_PX {
            line[i] = i32::from(numbers[i]).wrapping_mul(steps[i]);
        }
    }
    // SAFETY: arrays need no instructions of their own.
    let rows = unsafe {
        let columns = pass::<_, COLUMNS_DROP>(lines);
        transposed(pass::<_, ROWS_DROP>(transposed(columns)))
    };
    let mut samples = [[0; BLOCK_PX]; BLOCK_PX];
    for (samples, row) in samples.iter_mut().zip(rows) {
        for i in 0..BLOCK_PX {
            samples[i] = row[i].saturating_add(128).clamp(0, 255) as u8;
        }
    }
    samples
}

/// Whether a block has one level only.
#[inline(always)]
fn is_even(block: &Block) -> bool {
    block[1..].iter().fold(0, |any, one| any | one) == 0
}

/// What both passes make of the first coefficient alone.
#[inline(always)]
fn level_of_even(block: &Block, steps: &[Line; BLOCK_PX]) -> u8 {
    let level = i32::from(block[0]).wrapping_mul(steps[0][0]).wrapping_add(4) >> 3;
    level.saturating_add(128).clamp(0, 255) as u8
}

#[inline(always)]
fn transposed(lines: [Line; BLOCK_PX]) -> [Line; BLOCK_PX] {
    let mut transposed = lines;
    for (u, line) in transposed.iter_mut().enumerate() {
        for v in 0..BLOCK_PX {
            line[v] = lines[v][u];
        }
    }
    transposed
}

/// A number of 32 bits in each column of a block, in whatever holds them. What does not fit is cut off.
///
/// # Safety
/// Of every function: the processor must have the instructions of the type.
trait Numbers: Copy {
    /// One number in all columns.
    unsafe fn all(number: i32) -> Self;
    unsafe fn sum(self, other: Self) -> Self;
    unsafe fn difference(self, other: Self) -> Self;
    unsafe fn times(self, factor: i32) -> Self;
    /// Without the last bits.
    unsafe fn without<const BITS: u32>(self) -> Self;
}

// Loops and not `array::map`, which is not always built into its caller, and then not for its registers.
impl Numbers for Line {
    #[inline(always)]
    unsafe fn all(number: i32) -> Self {
        [number; BLOCK_PX]
    }

    #[inline(always)]
    unsafe fn sum(mut self, other: Self) -> Self {
        for i in 0..BLOCK_PX {
            self[i] = self[i].wrapping_add(other[i]);
        }
        self
    }

    #[inline(always)]
    unsafe fn difference(mut self, other: Self) -> Self {
        for i in 0..BLOCK_PX {
            self[i] = self[i].wrapping_sub(other[i]);
        }
        self
    }

    #[inline(always)]
    unsafe fn times(mut self, factor: i32) -> Self {
        for value in &mut self {
            *value = value.wrapping_mul(factor);
        }
        self
    }

    #[inline(always)]
    unsafe fn without<const BITS: u32>(mut self) -> Self {
        for value in &mut self {
            *value >>= BITS;
        }
        self
    }
}

/// One-dimensional inverse transforms down the columns of eight lines, rounded to `DROPPED` bits fewer.
///
/// # Safety
/// As for [`Numbers`].
#[inline(always)]
unsafe fn pass<N: Numbers, const DROPPED: u32>(lines: [N; BLOCK_PX]) -> [N; BLOCK_PX] {
    use cosine::*;
    let [l0, l1, l2, l3, l4, l5, l6, l7] = lines;
    let mut lines = lines;
    unsafe {
        // Even frequencies: a rotation of 2 and 6, a butterfly of 0 and 4.
        let shared = l2.sum(l6).times(C0_541);
        let (low, high) = (shared.difference(l6.times(C1_847)), shared.sum(l2.times(C0_765)));
        let (plus, minus) =
            (l0.sum(l4).times(1 << CONSTANT_BITS), l0.difference(l4).times(1 << CONSTANT_BITS));
        let even = [plus.sum(high), minus.sum(low), minus.difference(low), plus.difference(high)];
        // Odd frequencies.
        let shared = l7.sum(l3).sum(l5.sum(l1)).times(C1_175);
        let of_37 = shared.difference(l7.sum(l3).times(C1_961));
        let of_15 = shared.difference(l5.sum(l1).times(C0_390));
        let (of_17, of_35) = (l7.sum(l1).times(C0_899), l5.sum(l3).times(C2_562));
        let odd = [
            l1.times(C1_501).difference(of_17).sum(of_15),
            l3.times(C3_072).difference(of_35).sum(of_37),
            l5.times(C2_053).difference(of_35).sum(of_15),
            l7.times(C0_298).difference(of_17).sum(of_37),
        ];
        let half = N::all(1 << (DROPPED - 1));
        for at in 0..BLOCK_PX / 2 {
            lines[at] = even[at].sum(odd[at]).sum(half).without::<DROPPED>();
            lines[7 - at] = even[at].difference(odd[at]).sum(half).without::<DROPPED>();
        }
    }
    lines
}

/// Twice as many columns: each new sample is three parts of the nearer old one and one part of the other, rounded up
/// and down in turn. Rows of one or two samples are only repeated, as libjpeg does.
///
/// # Panics
/// If `doubled` is not twice as long.
pub fn double_columns(row: &[u8], doubled: &mut [u8]) {
    assert_eq!(doubled.len(), 2 * row.len(), "twice as many samples");
    if row.len() <= 2 {
        return repeat_columns(row, doubled);
    }
    columns_on(Path::best(), row, doubled);
    let last = row.len() - 1;
    let between = |near: u8, far: u8, half: u16| ((3 * u16::from(near) + u16::from(far) + half) >> 2) as u8;
    doubled[0] = row[0];
    doubled[1] = between(row[0], row[1], 2);
    doubled[2 * last] = between(row[last], row[last - 1], 1);
    doubled[2 * last + 1] = row[last];
}

run_on!(fn columns_on = inner_columns(row: &[u8], doubled: &mut [u8]));

/// # Safety
/// None of its own: see `run_on!`.
#[inline(always)]
unsafe fn inner_columns<V: Vector, const OUTPUTS: usize, const VECTORS: usize>(
    row: &[u8],
    doubled: &mut [u8],
) {
    let places = doubled[2..].as_chunks_mut::<2>().0.iter_mut();
    let (before, middle, after) = (row, &row[1..], &row[2..]);
    for (place, ((before, middle), after)) in places.zip(before.iter().zip(middle).zip(after)) {
        let near = 3 * u16::from(*middle);
        *place = [((near + u16::from(*before) + 1) >> 2) as u8, ((near + u16::from(*after) + 2) >> 2) as u8];
    }
}

fn repeat_columns(row: &[u8], doubled: &mut [u8]) {
    doubled.as_chunks_mut::<2>().0.iter_mut().zip(row).for_each(|(place, sample)| *place = [*sample; 2]);
}

/// A row between two others: three parts of the nearer and one part of the other; `is_upper` of the two that lie in the
/// nearer one's height.
///
/// # Panics
/// If rows differ in length.
pub fn between_rows(near: &[u8], far: &[u8], is_upper: bool, between: &mut [u8]) {
    assert!(near.len() == between.len() && far.len() == between.len(), "rows of a length");
    let half = if is_upper { 1 } else { 2 };
    for ((between, near), far) in between.iter_mut().zip(near).zip(far) {
        *between = ((3 * u16::from(*near) + u16::from(*far) + half) >> 2) as u8;
    }
}

/// [`double_columns`] of a row between two others, rounded once. `sums` is room to work in.
///
/// # Panics
/// If lengths do not fit.
pub fn double_both(near: &[u8], far: &[u8], sums: &mut Vec<u16>, doubled: &mut [u8]) {
    assert!(doubled.len() == 2 * near.len() && far.len() == near.len(), "twice as many samples");
    if near.len() <= 2 {
        return repeat_columns(near, doubled);
    }
    sums.resize(near.len(), 0);
    both_on(Path::best(), near, far, sums, doubled);
    let last = near.len() - 1;
    doubled[0] = ((4 * sums[0] + 8) >> 4) as u8;
    doubled[1] = ((3 * sums[0] + sums[1] + 7) >> 4) as u8;
    doubled[2 * last] = ((3 * sums[last] + sums[last - 1] + 8) >> 4) as u8;
    doubled[2 * last + 1] = ((4 * sums[last] + 7) >> 4) as u8;
}

run_on!(fn both_on = inner_both(near: &[u8], far: &[u8], sums: &mut [u16], doubled: &mut [u8]));

/// # Safety
/// None of its own: see `run_on!`.
#[inline(always)]
unsafe fn inner_both<V: Vector, const OUTPUTS: usize, const VECTORS: usize>(
    near: &[u8],
    far: &[u8],
    sums: &mut [u16],
    doubled: &mut [u8],
) {
    for ((sum, near), far) in sums.iter_mut().zip(near).zip(far) {
        *sum = 3 * u16::from(*near) + u16::from(*far);
    }
    let places = doubled[2..].as_chunks_mut::<2>().0.iter_mut();
    let (before, middle, after) = (&*sums, &sums[1..], &sums[2..]);
    for (place, ((before, middle), after)) in places.zip(before.iter().zip(middle).zip(after)) {
        let near = 3 * middle;
        *place = [((near + before + 8) >> 4) as u8, ((near + after + 7) >> 4) as u8];
    }
}

/// Bits behind the point of the constants of colours.
const COLOUR_BITS: u32 = 16;
/// A half with them.
const COLOUR_HALF: i32 = 1 << (COLOUR_BITS - 1);
/// 1.402, 1.772, 0.71414 and 0.34414 (ITU-R BT.601) with [`COLOUR_BITS`].
const RED_OF_CR: i32 = 91_881;
const BLUE_OF_CB: i32 = 116_130;
const GREEN_OF_CR: i32 = 46_802;
const GREEN_OF_CB: i32 = 22_554;
/// Pixels that are converted at a time.
const PIXELS: usize = 32;

/// Red, green and blue, interleaved, of a row of luma and colour differences.
///
/// # Panics
/// If lengths do not fit.
pub fn rgb_of_ycbcr(luma: &[u8], blue: &[u8], red: &[u8], rgb: &mut [u8]) {
    let fits = blue.len() == luma.len() && red.len() == luma.len() && rgb.len() == 3 * luma.len();
    assert!(fits, "three samples a pixel");
    let path = Path::best();
    match path.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as for `transform_on`.
        Instructions::Avx512 | Instructions::Avx2 => unsafe { avx2::convert(luma, blue, red, rgb) },
        _ => convert(luma, blue, red, rgb, |planes, block| interleave(planes, block)),
    }
}

/// Converts blocks of pixels, which `interleave` puts in place; the last may be shorter.
#[inline(always)]
fn convert(
    luma: &[u8],
    blue: &[u8],
    red: &[u8],
    rgb: &mut [u8],
    interleave_block: impl Fn([[u8; PIXELS]; 3], &mut [u8; 3 * PIXELS]),
) {
    let planes = [luma, blue, red];
    let (blocks, rest) = rgb.as_chunks_mut::<{ 3 * PIXELS }>();
    let done = blocks.len() * PIXELS;
    let [luma, blue, red] = planes.map(|plane| plane.as_chunks::<PIXELS>().0);
    for (((luma, blue), red), block) in luma.iter().zip(blue).zip(red).zip(blocks) {
        interleave_block(converted(luma, blue, red), block);
    }
    let mut padded = [[0; PIXELS]; 3];
    for (padded, plane) in padded.iter_mut().zip(planes) {
        padded[..plane.len() - done].copy_from_slice(&plane[done..]);
    }
    interleave(converted(&padded[0], &padded[1], &padded[2]), rest);
}

#[inline(always)]
fn interleave(planes: [[u8; PIXELS]; 3], rgb: &mut [u8]) {
    for (i, pixel) in rgb.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        *pixel = [planes[0][i], planes[1][i], planes[2][i]];
    }
}

/// Planes of red, green and blue.
#[inline(always)]
fn converted(luma: &[u8; PIXELS], blue: &[u8; PIXELS], red: &[u8; PIXELS]) -> [[u8; PIXELS]; 3] {
    let mut planes = [[0; PIXELS]; 3];
    for i in 0..PIXELS {
        let (y, cb, cr) = (i32::from(luma[i]), i32::from(blue[i]) - 128, i32::from(red[i]) - 128);
        let red = y + ((RED_OF_CR * cr + COLOUR_HALF) >> COLOUR_BITS);
        let green = y + ((COLOUR_HALF - GREEN_OF_CB * cb - GREEN_OF_CR * cr) >> COLOUR_BITS);
        let blue = y + ((BLUE_OF_CB * cb + COLOUR_HALF) >> COLOUR_BITS);
        planes[0][i] = red.clamp(0, 255) as u8;
        planes[1][i] = green.clamp(0, 255) as u8;
        planes[2][i] = blue.clamp(0, 255) as u8;
    }
    planes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random, below 65,536.
    fn chance(seed: u32) -> impl FnMut() -> i32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as i32
        }
    }

    /// A block with some coefficients, the others zero.
    fn block(seed: u32) -> Block {
        let mut next = chance(seed);
        let mut block = [0; 64];
        for _ in 0..next() % 20 {
            block[(next() % 64) as usize] = (next() % 61 - 30) as i16;
        }
        block[0] = (next() % 200 - 100) as i16;
        block
    }

    const STEPS: [u16; 64] = [7; 64];

    /// The definition (T.81, A.3.3), in floating point.
    fn definition(block: &Block) -> [f64; 64] {
        let scale = |frequency: usize| if frequency == 0 { 0.5f64.sqrt() } else { 1.0 };
        let cosine = |at: usize, frequency: usize| {
            ((2 * at + 1) as f64 * frequency as f64 * std::f64::consts::PI / 16.0).cos()
        };
        std::array::from_fn(|at| {
            let (x, y) = (at % 8, at / 8);
            let term = |i: usize| {
                let (u, v) = (i % 8, i / 8);
                scale(u) * scale(v) * f64::from(block[i]) * 7.0 * cosine(x, u) * cosine(y, v)
            };
            ((0..64).map(term).sum::<f64>() / 4.0 + 128.0).clamp(0.0, 255.0)
        })
    }

    #[test]
    fn blocks_are_within_a_level_of_the_definition_and_the_same_on_every_path() {
        let blocks: Vec<Block> = (0..300).map(block).collect();
        let stride_px = 8 * blocks.len();
        let steps = STEPS.as_chunks::<8>().0.iter().map(|line| line.map(i32::from)).collect::<Vec<_>>();
        let rows_of = |path| {
            let mut rows = vec![0; 8 * stride_px];
            transform_on(path, &blocks, steps.as_slice().try_into().unwrap(), &mut rows, stride_px);
            rows
        };
        let rows = rows_of(Path(Instructions::Portable));
        for path in Path::available() {
            assert!(rows_of(path) == rows, "{}", path.name());
        }
        let mut best = vec![0; 8 * stride_px];
        inverse_transform(&blocks, &STEPS, &mut best, stride_px);
        assert!(best == rows);
        let mut off_by_more_than_half = 0;
        for (index, block) in blocks.iter().enumerate() {
            for (at, expected) in definition(block).into_iter().enumerate() {
                let sample = f64::from(rows[at / 8 * stride_px + 8 * index + at % 8]);
                assert!((sample - expected).abs() < 1.0, "block {index}: {sample} for {expected}");
                off_by_more_than_half += usize::from((sample - expected).abs() > 0.51);
            }
        }
        assert!(off_by_more_than_half < 64 * 300 / 20, "{off_by_more_than_half}");
    }

    #[test]
    fn coefficients_beyond_all_bounds_are_no_panic() {
        let wild: Vec<Block> = vec![[i16::MAX; 64], [i16::MIN; 64]];
        inverse_transform(&wild, &[u16::MAX; 64], &mut [0; 128], 16);
    }

    #[test]
    fn doubled_rows_are_three_parts_near_and_one_part_far() {
        let mut next = chance(5);
        for length in [1, 2, 3, 4, 17, 64, 131] {
            let mut row = || -> Vec<u8> { (0..length).map(|_| next() as u8).collect() };
            let (near, far) = (row(), row());
            let at = |row: &[u8], i: isize| u32::from(row[i.clamp(0, length as isize - 1) as usize]);
            let mut doubled = vec![0; 2 * length];
            double_columns(&near, &mut doubled);
            for (i, sample) in doubled.iter().enumerate() {
                let (middle, other) = ((i / 2) as isize, (i / 2) as isize + if i % 2 == 0 { -1 } else { 1 });
                let expected = (3 * at(&near, middle) + at(&near, other) + 1 + (i % 2) as u32) >> 2;
                let expected = if length <= 2 { at(&near, middle) } else { expected };
                assert_eq!(u32::from(*sample), expected, "{i} of {length}");
            }
            double_both(&near, &far, &mut Vec::new(), &mut doubled);
            for (i, sample) in doubled.iter().enumerate() {
                let (middle, other) = ((i / 2) as isize, (i / 2) as isize + if i % 2 == 0 { -1 } else { 1 });
                let sum = |i: isize| 3 * at(&near, i) + at(&far, i);
                let expected = (3 * sum(middle) + sum(other) + 8 - (i % 2) as u32) >> 4;
                let expected = if length <= 2 { at(&near, middle) } else { expected };
                assert_eq!(u32::from(*sample), expected, "{i} of {length}");
            }
            let mut between = vec![0; length];
            for (is_upper, half) in [(true, 1), (false, 2)] {
                between_rows(&near, &far, is_upper, &mut between);
                let expected =
                    |i: usize| ((3 * at(&near, i as isize) + at(&far, i as isize) + half) >> 2) as u8;
                assert!(between.iter().enumerate().all(|(i, sample)| *sample == expected(i)));
            }
        }
    }

    #[test]
    fn colours_are_within_a_level_of_the_definition_and_the_same_on_every_path() {
        let mut next = chance(9);
        for length in [1, 31, 32, 33, 200] {
            let mut plane = || -> Vec<u8> { (0..length).map(|_| next() as u8).collect() };
            let (luma, blue, red) = (plane(), plane(), plane());
            let mut rgb = vec![0; 3 * length];
            rgb_of_ycbcr(&luma, &blue, &red, &mut rgb);
            let mut portable = vec![0; 3 * length];
            convert(&luma, &blue, &red, &mut portable, |planes, block| interleave(planes, block));
            assert_eq!(rgb, portable);
            for (i, pixel) in rgb.as_chunks::<3>().0.iter().enumerate() {
                let [y, cb, cr] = [luma[i], blue[i], red[i]].map(f64::from);
                let (cb, cr) = (cb - 128.0, cr - 128.0);
                let expected = [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb];
                for (sample, expected) in pixel.iter().zip(expected) {
                    assert!((f64::from(*sample) - expected.clamp(0.0, 255.0)).abs() < 0.51, "{pixel:?}");
                }
            }
        }
    }
}
