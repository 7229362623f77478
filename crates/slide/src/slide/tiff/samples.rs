//! Samples of tiles that are numbers one after the other: decompressed, put side by side, in 8 bits.

use std::io::Read;

use microtome_vault::{Budget, Result};

use crate::Size;
use crate::formats::colour::{Alpha, Model, sample_from_16_bits};
use crate::formats::tiff::layout::compression;
use crate::formats::{damaged, foreign, unsupported};

/// How samples lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Samples a pixel.
    pub(super) channels: usize,
    /// Bits a sample: 8 or 16.
    pub(super) bits: usize,
    /// Whether each channel has a tile of its own.
    pub(super) is_planar: bool,
    /// Whether samples of 16 bits begin with their lower half.
    pub(super) is_little_endian: bool,
    /// Whether each sample of a row is the difference to the one before.
    pub(super) has_differences: bool,
}

impl Layout {
    /// Tiles at a place.
    pub(super) fn planes(self) -> usize {
        if self.is_planar { self.channels } else { 1 }
    }

    /// Samples a pixel in a tile.
    fn channels_of_tile(self) -> usize {
        if self.is_planar { 1 } else { self.channels }
    }

    /// `[pixels][channels]` from one or more tiles of a place.
    pub(super) fn side_by_side(self, mut planes: Vec<Vec<u8>>) -> Vec<u8> {
        if planes.len() == 1 {
            return planes.remove(0);
        }
        let mut samples = vec![0; planes.iter().map(Vec::len).sum()];
        for (channel, plane) in planes.iter().enumerate() {
            let places = samples.iter_mut().skip(channel).step_by(self.channels);
            places.zip(plane).for_each(|(to, sample)| *to = *sample);
        }
        samples
    }

    /// Samples in 8 bits from those of a tile `width_px` wide.
    fn in_8_bits(self, mut bytes: Vec<u8>, width_px: usize) -> Vec<u8> {
        let (channels, row) = (self.channels_of_tile(), width_px * self.channels_of_tile());
        if self.bits == 8 {
            if self.has_differences {
                for row in bytes.chunks_exact_mut(row) {
                    (channels..row.len()).for_each(|at| row[at] = row[at].wrapping_add(row[at - channels]));
                }
            }
            return bytes;
        }
        let of_pair = if self.is_little_endian { u16::from_le_bytes } else { u16::from_be_bytes };
        let mut samples: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|pair| of_pair(*pair)).collect();
        if self.has_differences {
            for row in samples.chunks_exact_mut(row) {
                (channels..row.len()).for_each(|at| row[at] = row[at].wrapping_add(row[at - channels]));
            }
        }
        samples.into_iter().map(sample_from_16_bits).collect()
    }
}

/// The samples of a tile, `[height_px][width_px][channels]`, or of one plane of it.
///
/// # Errors
/// `Input` when the tile is damaged, or compressed in a way that is not read; `Limit` when it exceeds the budget.
pub(super) fn decompressed(
    compression: u16,
    mut bytes: Vec<u8>,
    layout: Layout,
    size: Size,
    budget: Budget,
) -> Result<Vec<u8>> {
    let area_px = (size.width_px as u64).saturating_mul(size.height_px as u64);
    let pixel_bytes = (layout.channels * layout.bits / 8) as u64;
    // All planes are there at once.
    budget.grant(&format!("one tile of this slide, {size} pixels,"), area_px, pixel_bytes)?;
    let length = size.area_px() * layout.channels_of_tile() * layout.bits / 8;
    let mut samples = Vec::new();
    match compression {
        compression::NONE => {
            bytes.truncate(length);
            samples = bytes;
        }
        compression::LZW => samples = foreign("TIFF", || Ok::<_, String>(lzw(&bytes, length)))?,
        compression::DEFLATE | compression::OLD_DEFLATE => {
            let decoder = flate2::read::ZlibDecoder::new(bytes.as_slice());
            foreign("TIFF", || decoder.take(length as u64).read_to_end(&mut samples))?;
        }
        compression::ZSTANDARD => {
            let decoder = foreign("TIFF", || zstd::stream::read::Decoder::new(bytes.as_slice()))?;
            foreign("TIFF", || decoder.take(length as u64).read_to_end(&mut samples))?;
        }
        other => {
            return Err(unsupported("TIFF", format!("is compressed with {}", compression::name(other))));
        }
    }
    if samples.len() < length {
        return Err(damaged("TIFF", "a tile holds too few pixels"));
    }
    Ok(layout.in_8_bits(samples, size.width_px))
}

/// What the samples mean.
pub(super) fn model_of(photometric: u64, channels: usize, alpha: Alpha) -> Option<Model> {
    Some(match (photometric, channels) {
        (0, _) => Model::InvertedGrey,
        // What Python writes when it is not told that an array is RGB.
        (1, 3) if alpha == Alpha::None => Model::Rgb,
        (1, _) => Model::Grey,
        (2, 3..) => Model::Rgb,
        _ => return None,
    })
}

/// At most `length` bytes out of an LZW stream; fewer where it ends or is damaged.
fn lzw(mut stream: &[u8], length: usize) -> Vec<u8> {
    let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
    let (mut bytes, mut done) = (vec![0; length], 0);
    while done < length {
        // A call may stop early, with all of the stream in its buffers.
        let step = decoder.decode_bytes(stream, &mut bytes[done..]);
        stream = &stream[step.consumed_in..];
        done += step.consumed_out;
        if !matches!(step.status, Ok(weezl::LzwStatus::Ok)) {
            break;
        }
    }
    bytes.truncate(done);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(channels: usize, bits: usize, is_planar: bool) -> Layout {
        Layout { channels, bits, is_planar, is_little_endian: true, has_differences: false }
    }

    #[test]
    fn samples_of_16_bits_are_put_together_in_either_order_before_they_are_differences() {
        // Two rows of two pixels of two channels.
        let samples: [u16; 8] = [0x00ff, 0x1000, 0x80ff, 0x0001, 0xffff, 0x0000, 0x0001, 0xffff];
        let sums = samples
            .chunks_exact(4)
            .flat_map(|row| [row[0], row[1], row[2].wrapping_add(row[0]), row[3].wrapping_add(row[1])]);
        let expected: Vec<u8> = sums.map(sample_from_16_bits).collect();
        for is_little_endian in [true, false] {
            let bytes = samples.iter().flat_map(|sample| match is_little_endian {
                true => sample.to_le_bytes(),
                false => sample.to_be_bytes(),
            });
            let layout = Layout { is_little_endian, has_differences: true, ..layout(2, 16, false) };
            assert_eq!(layout.in_8_bits(bytes.collect(), 2), expected);
        }
    }

    #[test]
    fn planes_are_put_side_by_side() {
        let planes = vec![vec![1, 2, 3], vec![4, 5, 6]];
        assert_eq!(layout(2, 8, true).side_by_side(planes), [1, 4, 2, 5, 3, 6]);
        assert_eq!(layout(3, 8, false).side_by_side(vec![vec![1, 2, 3]]), [1, 2, 3]);
        let differences = Layout { has_differences: true, ..layout(2, 8, true) };
        assert_eq!(differences.in_8_bits(vec![1, 1, 1, 250, 10, 0], 3), [1, 2, 3, 250, 4, 4]);
    }

    #[test]
    fn a_tile_must_be_whole_and_within_the_budget() {
        let size = Size::new(4, 2);
        let read = |bytes: usize, budget| {
            decompressed(
                compression::NONE,
                vec![0; bytes],
                layout(3, 16, false),
                size,
                Budget::of_bytes(budget),
            )
        };
        assert_eq!(read(48, 1 << 20).unwrap().len(), 24);
        assert_eq!(read(99, 1 << 20).unwrap().len(), 24);
        assert!(read(47, 1 << 20).unwrap_err().to_string().contains("too few pixels"));
        assert_eq!(read(48, 40).unwrap_err().fault(), microtome_vault::Fault::Limit);
    }
}
