//! JPEG-LS (ITU-T T.87), lossless and nearly so: what some scanners' DICOM files hold.
//!
//! Each sample is foretold from its neighbours (left `a`, above `b`, above to the left `c` and to the right `d`), and the error is
//! read as a Golomb code whose parameter the errors so far in the same context set. Where all neighbours are alike, whole runs are
//! read. The names of parameters are the standard's.

mod bits;
mod parameters;

use self::bits::Bits;
use self::parameters::Parameters;
use super::{damaged, unsupported};
use crate::Size;
use microtome_vault::{Budget, Result};

/// A decoded stream.
pub(crate) struct Frame {
    pub(crate) size: Size,
    /// `[height_px][width_px][channels]`
    pub(crate) samples: Vec<u16>,
    pub(crate) channels: usize,
    /// Bits of a sample.
    pub(crate) bits: u16,
}

/// How the components of a scan lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interleave {
    /// A component alone.
    None,
    /// A line of each in turn.
    Line,
    /// A sample of each in turn.
    Sample,
}

/// Decodes a stream of the extent `expected`.
///
/// # Errors
/// `Input` when it is damaged, of another extent, or of a kind that is not read; `Limit` when it exceeds the budget.
pub(crate) fn decode_stream(bytes: &[u8], expected: Size, budget: Budget) -> Result<Frame> {
    Stream::read(bytes, expected, budget)
}

struct Stream {
    frame: Option<Frame>,
    /// Names of the components.
    names: Vec<u8>,
    /// What is stated in place of the standard's own thresholds: MAXVAL, T1, T2, T3, RESET; 0 for the standard's.
    presets: [u16; 5],
    /// How many components have been decoded.
    done: usize,
}

fn broken(reason: &str) -> microtome_vault::Error {
    damaged("JPEG-LS", reason)
}

fn pair(bytes: &[u8], at: usize) -> Result<u16> {
    let pair = bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .ok_or_else(|| broken("a segment is too short"))?;
    Ok(u16::from_be_bytes(*pair))
}

impl Stream {
    fn read(bytes: &[u8], expected: Size, budget: Budget) -> Result<Frame> {
        let mut stream = Self { frame: None, names: Vec::new(), presets: [0; 5], done: 0 };
        let mut rest = bytes.strip_prefix(b"\xff\xd8").ok_or_else(|| broken("it does not begin as one"))?;
        loop {
            let [0xff, marker, behind @ ..] = rest else {
                return Err(broken("it has no marker where one must be"));
            };
            match marker {
                0xff => {
                    rest = &rest[1..];
                    continue;
                }
                0xd9 => {
                    let frame = stream.frame.filter(|frame| frame.channels == stream.done);
                    return frame.ok_or_else(|| broken("it ends before all components are there"));
                }
                _ => {}
            }
            let length = usize::from(pair(behind, 0)?);
            let content = behind.get(2..length).ok_or_else(|| broken("it ends within a segment"))?;
            rest = &behind[length..];
            match marker {
                0xf7 => stream.read_frame(content, expected, budget)?,
                0xf8 => stream.read_presets(content)?,
                0xda => rest = stream.read_scan(content, rest)?,
                0xdd => return Err(unsupported("JPEG-LS", "has restart markers")),
                // HP's transforms of colours.
                0xe8 if content.starts_with(b"mrfx") && content.get(4) != Some(&0) => {
                    return Err(unsupported("JPEG-LS", "has transformed colours"));
                }
                0xe0..=0xef | 0xfe => {}
                _ => return Err(broken("it has a segment of another kind of file")),
            }
        }
    }

    fn read_frame(&mut self, content: &[u8], expected: Size, budget: Budget) -> Result<()> {
        let size = Size::new(usize::from(pair(content, 3)?), usize::from(pair(content, 1)?));
        let (bits, channels) = (u16::from(content[0]), usize::from(*content.get(5).unwrap_or(&0)));
        if self.frame.is_some() || size != expected || !(2..=16).contains(&bits) {
            return Err(broken(&format!("it states {size} pixels of {bits} bits instead of {expected}")));
        }
        let listed =
            content.get(6..).filter(|listed| listed.len() == 3 * channels && matches!(channels, 1 | 3));
        let listed = listed.ok_or_else(|| broken("it has neither one component nor three"))?;
        if listed.chunks_exact(3).any(|one| one[1] != 0x11) {
            return Err(unsupported("JPEG-LS", "has components of different extents"));
        }
        self.names = listed.iter().copied().step_by(3).collect();
        budget.grant("one frame of this slide", size.area_px() as u64, 6 * channels as u64)?;
        self.frame = Some(Frame { size, samples: vec![0; size.area_px() * channels], channels, bits });
        Ok(())
    }

    fn read_presets(&mut self, content: &[u8]) -> Result<()> {
        if content.first() != Some(&1) {
            return Err(unsupported("JPEG-LS", "has tables, or a large extent"));
        }
        for (at, preset) in self.presets.iter_mut().enumerate() {
            *preset = pair(content, 1 + 2 * at)?;
        }
        Ok(())
    }

    /// Decodes a scan; gives what is behind it.
    fn read_scan<'a>(&mut self, content: &[u8], coded: &'a [u8]) -> Result<&'a [u8]> {
        let frame = self.frame.as_mut().ok_or_else(|| broken("a scan comes before the frame"))?;
        let count = usize::from(*content.first().unwrap_or(&0));
        let (Some(listed), Some([near, interleave, transform])) =
            (content.get(1..1 + 2 * count), content.get(1 + 2 * count..))
        else {
            return Err(broken("the header of a scan is too short"));
        };
        if *transform != 0 {
            return Err(unsupported("JPEG-LS", "has samples without their lowest bits"));
        }
        let named = self.names.get(self.done..self.done + count);
        let is_next = named.is_some_and(|names| names.iter().eq(listed.iter().step_by(2)));
        let interleave = match (interleave, count) {
            _ if count == 0 || !is_next || listed.iter().skip(1).step_by(2).any(|table| *table != 0) => None,
            (0, 1) => Some(Interleave::None),
            (1, 3) => Some(Interleave::Line),
            (2, 3) => Some(Interleave::Sample),
            _ => None,
        };
        let interleave = interleave.ok_or_else(|| broken("a scan is not of the frame's components"))?;
        let parameters = Parameters::of(frame.bits, u16::from(*near), self.presets)
            .ok_or_else(|| broken("thresholds are out of order"))?;
        let mut scan = Scan::new(parameters, Bits::new(coded), frame.size.width_px, count);
        let first = self.done;
        let Size { width_px, .. } = frame.size;
        for row in frame.samples.chunks_exact_mut(width_px * frame.channels) {
            scan.begin_line();
            let is_there = match interleave {
                Interleave::Sample => scan.read_samples(width_px),
                Interleave::None | Interleave::Line => {
                    (0..count).try_for_each(|index| scan.read_line(index, width_px))
                }
            };
            is_there.ok_or_else(|| broken("it ends too early, or its codes are none"))?;
            for (index, line) in scan.lines.iter().enumerate() {
                let places = row.iter_mut().skip(first + index).step_by(frame.channels);
                places.zip(&line.now[1..]).for_each(|(place, sample)| *place = *sample as u16);
            }
        }
        self.done += count;
        scan.bits.rest().ok_or_else(|| broken("a scan has no end"))
    }
}

/// Two lines of a component, each with a sample more on both sides.
struct Line {
    before: Vec<i32>,
    now: Vec<i32>,
}

/// Errors so far in a context.
#[derive(Clone, Copy)]
struct Context {
    /// Sum of their amounts.
    a: i32,
    /// Sum of them, less what was corrected; of interruptions of runs, how many were negative.
    b: i32,
    /// Correction.
    c: i32,
    /// How many.
    n: i32,
}

/// Contexts of three differences of nine kinds, without their signs.
const CONTEXTS: usize = 365;
/// Length of the runs that a bit stands for, as a power of two, by how well runs went so far.
const RUN_BITS: [u32; 32] =
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15];

struct Scan<'a> {
    parameters: Parameters,
    bits: Bits<'a>,
    lines: Vec<Line>,
    contexts: Vec<Context>,
    /// Of samples that end runs: where left and above differ, and where they do not.
    interruptions: [Context; 2],
    /// Place in [`RUN_BITS`] of each component.
    runs: Vec<usize>,
}

impl<'a> Scan<'a> {
    fn new(parameters: Parameters, bits: Bits<'a>, width_px: usize, count: usize) -> Self {
        let empty = vec![0; width_px + 2];
        let context = Context { a: ((parameters.range + 32) / 64).max(2), b: 0, c: 0, n: 1 };
        Self {
            parameters,
            bits,
            lines: (0..count).map(|_| Line { before: empty.clone(), now: empty.clone() }).collect(),
            contexts: vec![context; CONTEXTS],
            interruptions: [context; 2],
            runs: vec![0; count],
        }
    }

    fn begin_line(&mut self) {
        for line in &mut self.lines {
            std::mem::swap(&mut line.before, &mut line.now);
            let end = line.before.len() - 1;
            line.before[end] = line.before[end - 1];
            line.now[0] = line.before[1];
        }
    }

    /// Left, above, above left and above right of a sample.
    fn neighbours(&self, component: usize, x: usize) -> [i32; 4] {
        let Line { before, now } = &self.lines[component];
        [now[x - 1], before[x], before[x - 1], before[x + 1]]
    }

    fn differences([a, b, c, d]: [i32; 4]) -> [i32; 3] {
        [d - b, b - c, c - a]
    }

    fn is_even(&self, neighbours: [i32; 4]) -> bool {
        Self::differences(neighbours).iter().all(|difference| difference.abs() <= self.parameters.near)
    }

    /// A line of one component.
    fn read_line(&mut self, component: usize, width_px: usize) -> Option<()> {
        let mut x = 1;
        while x <= width_px {
            let neighbours = self.neighbours(component, x);
            if !self.is_even(neighbours) {
                self.lines[component].now[x] = self.read_regular(neighbours)?;
                x += 1;
                continue;
            }
            let (length, is_ended) = self.read_run(component, width_px + 1 - x)?;
            self.lines[component].now[x..x + length].fill(neighbours[0]);
            x += length;
            if !is_ended {
                let [a, b, ..] = self.neighbours(component, x);
                let is_alike = (a - b).abs() <= self.parameters.near;
                self.lines[component].now[x] =
                    self.read_interruption(a, b, is_alike, self.runs[component])?;
                self.runs[component] = self.runs[component].saturating_sub(1);
                x += 1;
            }
        }
        Some(())
    }

    /// A line of all components, sample by sample: they have their runs together.
    fn read_samples(&mut self, width_px: usize) -> Option<()> {
        let components = self.lines.len();
        let mut x = 1;
        while x <= width_px {
            if !(0..components).all(|component| self.is_even(self.neighbours(component, x))) {
                for component in 0..components {
                    let neighbours = self.neighbours(component, x);
                    self.lines[component].now[x] = self.read_regular(neighbours)?;
                }
                x += 1;
                continue;
            }
            let (length, is_ended) = self.read_run(0, width_px + 1 - x)?;
            for line in &mut self.lines {
                let left = line.now[x - 1];
                line.now[x..x + length].fill(left);
            }
            x += length;
            if !is_ended {
                for component in 0..components {
                    let [a, b, ..] = self.neighbours(component, x);
                    self.lines[component].now[x] = self.read_interruption(a, b, false, self.runs[0])?;
                }
                self.runs[0] = self.runs[0].saturating_sub(1);
                x += 1;
            }
        }
        Some(())
    }

    /// A sample in a context (T.87, A.4 to A.6).
    fn read_regular(&mut self, neighbours: [i32; 4]) -> Option<i32> {
        let parameters = self.parameters;
        let [q1, q2, q3] = Self::differences(neighbours).map(|difference| parameters.kind(difference));
        let place = 81 * q1 + 9 * q2 + q3;
        let sign = if place < 0 { -1 } else { 1 };
        let mut context = *self.contexts.get(place.unsigned_abs() as usize)?;
        let [a, b, c, _] = neighbours;
        let foretold = if c >= a.max(b) {
            a.min(b)
        } else if c <= a.min(b) {
            a.max(b)
        } else {
            a + b - c
        };
        let foretold = (foretold + sign * context.c).clamp(0, parameters.max_value);
        let k = golomb_parameter(context.a, context.n);
        let mapped = self.bits.golomb(k, parameters.limit, parameters.bits)? as i32;
        let is_swapped = parameters.near == 0 && k == 0 && 2 * context.b <= -context.n;
        let error = match (mapped % 2 == 0, is_swapped) {
            (true, false) => mapped / 2,
            (false, false) => -(mapped + 1) / 2,
            (false, true) => (mapped - 1) / 2,
            (true, true) => -(mapped / 2) - 1,
        };
        if error.abs() > parameters.range {
            return None;
        }
        context.b += error * parameters.step();
        context.a += error.abs();
        if context.n == parameters.reset {
            (context.a, context.b, context.n) = (context.a >> 1, context.b >> 1, context.n >> 1);
        }
        context.n += 1;
        if context.b <= -context.n {
            context.b = (context.b + context.n).max(1 - context.n);
            context.c = (context.c - 1).max(-128);
        } else if context.b > 0 {
            context.b = (context.b - context.n).min(0);
            context.c = (context.c + 1).min(127);
        }
        self.contexts[place.unsigned_abs() as usize] = context;
        Some(parameters.sample(foretold, sign * error))
    }

    /// The length of a run of at most `left` samples, and whether the line's end ended it (A.7.1).
    fn read_run(&mut self, component: usize, left: usize) -> Option<(usize, bool)> {
        let mut length = 0;
        let run = &mut self.runs[component];
        while self.bits.take(1)? == 1 {
            let step = 1 << RUN_BITS[*run];
            if length + step <= left {
                *run = (*run + 1).min(RUN_BITS.len() - 1);
            }
            length = (length + step).min(left);
            if length == left {
                return Some((length, true));
            }
        }
        length += self.bits.take(RUN_BITS[*run])? as usize;
        (length < left).then_some((length, false))
    }

    /// The sample that ends a run (A.7.2).
    fn read_interruption(&mut self, a: i32, b: i32, is_alike: bool, run: usize) -> Option<i32> {
        let parameters = self.parameters;
        let context = &mut self.interruptions[usize::from(is_alike)];
        let kind = i32::from(is_alike);
        let k = golomb_parameter(context.a + if is_alike { context.n >> 1 } else { 0 }, context.n);
        let limit = parameters.limit - RUN_BITS[run] - 1;
        let mapped = self.bits.golomb(k, limit, parameters.bits)? as i32;
        let (amount, is_odd) = ((mapped + kind + 1) / 2, (mapped + kind) % 2 == 1);
        if amount > parameters.range {
            return None;
        }
        let is_negative = (k != 0 || 2 * context.b >= context.n) == is_odd;
        let error = if is_negative { -amount } else { amount };
        context.b += i32::from(error < 0);
        context.a += (mapped + 1 - kind) >> 1;
        if context.n == parameters.reset {
            (context.a, context.b, context.n) = (context.a >> 1, context.b >> 1, context.n >> 1);
        }
        context.n += 1;
        Some(match is_alike {
            true => parameters.sample(a, error),
            false => parameters.sample(b, if a > b { -error } else { error }),
        })
    }
}

/// How many bits of an error are read as they are: the fewest for which `n` times two to their power reaches `a`.
fn golomb_parameter(a: i32, n: i32) -> u32 {
    (0..24).find(|k| i64::from(n) << k >= i64::from(a)).unwrap_or(24)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Streams of CharLS and their samples: see `make.py` there.
    const STREAMS: &[u8] = include_bytes!("../../tests/jpeg_ls/streams.bin");

    struct Sample {
        size: Size,
        channels: usize,
        bits: u16,
        bytes: &'static [u8],
        samples: Vec<u16>,
    }

    fn streams() -> Vec<Sample> {
        let (mut rest, mut streams) = (STREAMS, Vec::new());
        while let Some((head, behind)) = rest.split_first_chunk::<24>() {
            let number = |at: usize| u32::from_le_bytes(head[4 * at..][..4].try_into().unwrap()) as usize;
            let (size, channels) = (Size::new(number(0), number(1)), number(2));
            let (bytes, behind) = behind.split_at(number(4));
            let (samples, behind) = behind.split_at(2 * channels * size.area_px());
            let samples = samples.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
            streams.push(Sample { size, channels, bits: number(3) as u16, bytes, samples });
            rest = behind;
        }
        streams
    }

    #[test]
    fn streams_of_every_interleaving_and_depth_have_the_samples_of_charls() {
        let streams = streams();
        for (index, stream) in streams.iter().enumerate() {
            let frame = decode_stream(stream.bytes, stream.size, Budget::DEFAULT)
                .unwrap_or_else(|error| panic!("stream {index}: {error}"));
            assert_eq!((frame.size, frame.channels, frame.bits), (stream.size, stream.channels, stream.bits));
            assert!(frame.samples == stream.samples, "stream {index}");
        }
        assert_eq!(streams.len(), 36);
    }

    #[test]
    fn a_damaged_stream_is_samples_or_an_error() {
        let (mut decoded, mut refused) = (0, 0);
        for stream in streams() {
            for at in (0..stream.bytes.len()).step_by(3) {
                let mut bytes = stream.bytes.to_vec();
                bytes[at] ^= 1 << (at % 8);
                match decode_stream(&bytes, stream.size, Budget::DEFAULT) {
                    Ok(_) => decoded += 1,
                    Err(_) => refused += 1,
                }
                assert!(
                    decode_stream(&stream.bytes[..at], stream.size, Budget::DEFAULT).is_err(),
                    "cut at {at}"
                );
            }
        }
        assert!(decoded > 500 && refused > 500, "{decoded} decoded, {refused} refused");
    }

    /// A frame of one component, with thresholds, and a scan of the given bytes.
    fn stream_of(size: [u8; 2], bits: u8, reset: u16, near: u8, coded: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8, 0xff, 0xf7, 0, 11, bits, 0, size[1], 0, size[0], 1, 1, 0x11, 0];
        bytes.extend([0xff, 0xf8, 0, 13, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(reset.to_be_bytes());
        bytes.extend([0xff, 0xda, 0, 8, 1, 1, 0, near, 0, 0]);
        bytes.extend(coded);
        bytes.extend([0xff, 0xd9]);
        bytes
    }

    #[test]
    fn errors_beyond_all_bounds_are_refused_before_they_add_up() {
        let size = Size::new(60, 60);
        let mut refused = 0;
        for seed in 0..400u32 {
            // Long codes: few ones among zeros, and long runs of ones that are no markers.
            let byte = |at: u32| match (at * 7 + seed * 13) % 11 {
                0 => 0x7f,
                1 => (seed % 128) as u8,
                _ => u8::from((at + seed).is_multiple_of(3)),
            };
            let coded: Vec<u8> = (0..9000).map(byte).collect();
            for (bits, near) in [(16, 0), (16, 255), (8, 0), (8, 127), (2, 0)] {
                let bytes = stream_of([60, 60], bits, [0, 3, 255][seed as usize % 3], near, &coded);
                refused += usize::from(decode_stream(&bytes, size, Budget::DEFAULT).is_err());
            }
        }
        assert!(refused > 1000, "{refused}");
    }

    #[test]
    fn fill_bytes_and_comments_may_come_before_the_end() {
        let stream = &streams()[1];
        let whole = stream.bytes.strip_suffix(b"\xff\xd9").unwrap();
        for end in [&b"\xff\xff\xd9"[..], b"\xff\xfe\0\x04ab\xff\xd9"] {
            let bytes = [whole, end].concat();
            assert!(decode_stream(&bytes, stream.size, Budget::DEFAULT).unwrap().samples == stream.samples);
        }
    }

    #[test]
    fn samples_without_their_lowest_bits_are_refused() {
        let mut bytes = stream_of([1, 1], 8, 0, 0, &[0x80]);
        let at = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap() + 9;
        assert_eq!(bytes[at], 0);
        bytes[at] = 2;
        let refusal = decode_stream(&bytes, Size::new(1, 1), Budget::DEFAULT).err().unwrap().to_string();
        assert!(refusal.contains("without their lowest bits"), "{refusal}");
    }

    #[test]
    fn another_extent_and_too_much_memory_are_refused() {
        let stream = &streams()[1];
        let refusal = |size, budget| decode_stream(stream.bytes, size, budget).err().unwrap().to_string();
        assert!(refusal(Size::new(500, 500), Budget::DEFAULT).contains("instead of 500×500"));
        assert!(refusal(stream.size, Budget::of_bytes(10)).contains("memory"));
    }
}
