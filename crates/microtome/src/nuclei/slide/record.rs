//! What was found in a tile, as a file: written when the tile is done, so that a run that was stopped need not do it again.
//!
//! A few words of the numbers, little endian: a mark, the version, the key of the run; then counts, the nuclei, the core's
//! confidence compressed; last the SHA-256 of all before. A file that does not fit in any of this is no record.

use crate::nuclei::measure::Nucleus;
use crate::nuclei::slide::tile::{Outlined, TileFound};
use microtome_kernels::region::{PixelBox, Region};
use microtome_vault::{Budget, Error, Result, checksum, disk};
use std::path::Path;

/// The mark of the file, with its version.
const MARK: &[u8; 8] = b"MTTILE\0\x02";
/// Largest record that is read.
const LARGEST: Budget = Budget::of_bytes(1 << 30);
/// Bytes of a nucleus without its pixels, and of what is said but once: how much room a record takes, about.
const NUCLEUS_BYTES: usize = 176;
const REST_BYTES: usize = 1024;
/// Level of Zstandard: confidence is noise, and more effort hardly makes it smaller.
const COMPRESSION: i32 = -3;

/// Writes what was found in a tile of the run `key`.
///
/// # Errors
/// `Io` when the disk refuses.
pub fn write(path: &Path, key: &str, found: &TileFound) -> Result<()> {
    let packed = zstd::bulk::compress(&found.confidence, COMPRESSION)
        .map_err(|error| Error::io("compressing a confidence map", &error).at(path))?;
    let of_nuclei = |one: &Outlined| NUCLEUS_BYTES + one.mask.len() / 8;
    let length = packed.len() + found.nuclei.iter().map(of_nuclei).sum::<usize>() + REST_BYTES;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(MARK);
    put_bytes(&mut bytes, key.as_bytes());
    put(&mut bytes, found.cut as u64);
    found.fields.iter().for_each(|count| put(&mut bytes, *count as u64));
    let (count, reason) = found.unreadable.as_ref().map_or((0, ""), |(count, reason)| (*count, reason));
    put(&mut bytes, count as u64);
    put_bytes(&mut bytes, reason.as_bytes());
    put(&mut bytes, found.nuclei.len() as u64);
    found.nuclei.iter().for_each(|one| put_nucleus(&mut bytes, one));
    put(&mut bytes, found.confidence.len() as u64);
    put_bytes(&mut bytes, &packed);
    bytes.extend_from_slice(checksum::sha256_hex(&bytes).as_bytes());
    disk::write_atomic(path, &bytes)
}

/// Reads it, if it is there, whole, and of the run `key`.
pub fn read(path: &Path, key: &str) -> Option<TileFound> {
    let bytes = disk::read_file_bounded(path, LARGEST).ok()?;
    let (content, sum) = bytes.split_at_checked(bytes.len().checked_sub(64)?)?;
    if sum != checksum::sha256_hex(content).as_bytes() {
        return None;
    }
    let mut rest = Reader(content.strip_prefix(MARK)?);
    if rest.bytes()? != key.as_bytes() {
        return None;
    }
    let cut = rest.number()? as usize;
    let fields = [rest.size()?, rest.size()?];
    let count = rest.number()? as usize;
    let reason = String::from_utf8(rest.bytes()?.to_vec()).ok()?;
    let nuclei = (0..rest.number()?).map(|_| rest.nucleus()).collect::<Option<Vec<Outlined>>>()?;
    let length = usize::try_from(rest.number()?).ok().filter(|length| *length as u64 <= LARGEST.bytes())?;
    let confidence = zstd::bulk::decompress(rest.bytes()?, length).ok().filter(|c| c.len() == length)?;
    Some(TileFound { nuclei, confidence, unreadable: (count > 0).then_some((count, reason)), cut, fields })
}

/// Appends a number.
pub(super) fn put(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

/// Appends bytes, after their number.
pub(super) fn put_bytes(bytes: &mut Vec<u8>, content: &[u8]) {
    put(bytes, content.len() as u64);
    bytes.extend_from_slice(content);
}

fn put_nucleus(bytes: &mut Vec<u8>, Outlined { nucleus, mask }: &Outlined) {
    let Nucleus { region, .. } = nucleus;
    let PixelBox { min_x_px, min_y_px, max_x_px, max_y_px } = region.bounds;
    put(bytes, nucleus.id.into());
    [region.area_px, min_x_px, min_y_px, max_x_px, max_y_px].iter().for_each(|n| put(bytes, *n as u64));
    let measured = [
        region.centroid_x_px,
        region.centroid_y_px,
        region.perimeter_px,
        region.eccentricity,
        region.solidity,
        region.major_axis_px,
        region.minor_axis_px,
        region.orientation_rad,
        nucleus.mean_haematoxylin,
        nucleus.mean_eosin,
        nucleus.mean_od_red,
        nucleus.mean_od_green,
        nucleus.mean_od_blue,
        nucleus.mean_confidence,
    ];
    measured.iter().for_each(|number| put(bytes, number.to_bits()));
    put(bytes, mask.len().div_ceil(8) as u64);
    let (eights, rest) = mask.as_chunks();
    bytes.extend(eights.iter().map(packed));
    if !rest.is_empty() {
        let mut last = [false; 8];
        last[..rest.len()].copy_from_slice(rest);
        bytes.push(packed(&last));
    }
}

/// Eight bits as a byte, the first as the lowest.
fn packed(bits: &[bool; 8]) -> u8 {
    // Moves bit 0 of byte i to bit 56 + i; no two products meet on the way.
    (u64::from_le_bytes(bits.map(u8::from)).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

/// The bits of a byte.
fn unpacked(byte: u8) -> [bool; 8] {
    std::array::from_fn(|i| byte >> i & 1 == 1)
}

/// What is left of a record.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// All of some bytes.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn float(&mut self) -> Option<f64> {
        self.number().map(f64::from_bits)
    }

    pub(super) fn size(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.size()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn nucleus(&mut self) -> Option<Outlined> {
        let id = u32::try_from(self.number()?).ok()?;
        let area_px = self.size()?;
        let bounds = PixelBox {
            min_x_px: self.size()?,
            min_y_px: self.size()?,
            max_x_px: self.size()?,
            max_y_px: self.size()?,
        };
        let region = Region {
            id,
            area_px,
            bounds,
            centroid_x_px: self.float()?,
            centroid_y_px: self.float()?,
            perimeter_px: self.float()?,
            eccentricity: self.float()?,
            solidity: self.float()?,
            major_axis_px: self.float()?,
            minor_axis_px: self.float()?,
            orientation_rad: self.float()?,
        };
        let nucleus = Nucleus {
            id,
            region,
            mean_haematoxylin: self.float()?,
            mean_eosin: self.float()?,
            mean_od_red: self.float()?,
            mean_od_green: self.float()?,
            mean_od_blue: self.float()?,
            mean_confidence: self.float()?,
        };
        let packed = self.bytes()?;
        let width = bounds.max_x_px.checked_sub(bounds.min_x_px)?;
        let count = bounds.max_y_px.checked_sub(bounds.min_y_px)?.checked_mul(width)?;
        (packed.len() == count.div_ceil(8)).then_some(())?;
        let mut mask = Vec::with_capacity(8 * packed.len());
        packed.iter().for_each(|byte| mask.extend_from_slice(&unpacked(*byte)));
        mask.truncate(count);
        Some(Outlined { nucleus, mask })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_the_bits_that_it_was_made_of() {
        for byte in 0..=255 {
            let bits = unpacked(byte);
            assert_eq!((packed(&bits), bits.map(u8::from).iter().sum()), (byte, byte.count_ones() as u8));
            assert_eq!((bits[0], bits[7]), (byte % 2 == 1, byte >= 128));
        }
    }

    fn found() -> TileFound {
        let number = |i: usize| (i as f64 * 1.7).sin();
        let nucleus = |i: usize| Outlined {
            nucleus: Nucleus {
                id: i as u32 + 1,
                region: Region {
                    id: i as u32 + 1,
                    area_px: 7 + i,
                    centroid_x_px: number(i),
                    centroid_y_px: number(i + 1),
                    bounds: PixelBox {
                        min_x_px: 100_000 + i,
                        min_y_px: 5,
                        max_x_px: 100_005 + i,
                        max_y_px: 9,
                    },
                    perimeter_px: number(i + 2),
                    eccentricity: number(i + 3),
                    solidity: number(i + 4),
                    major_axis_px: number(i + 5),
                    minor_axis_px: number(i + 6),
                    orientation_rad: number(i + 7),
                },
                mean_haematoxylin: number(i + 8),
                mean_eosin: number(i + 9),
                mean_od_red: number(i + 10),
                mean_od_green: number(i + 11),
                mean_od_blue: number(i + 12),
                mean_confidence: number(i + 13),
            },
            mask: (0..20).map(|at| (at * (i + 3)) % 5 < 2).collect(),
        };
        TileFound {
            nuclei: (0..9).map(nucleus).collect(),
            confidence: (0..500u32).map(|at| (at * 7919 % 251) as u8).collect(),
            unreadable: Some((2, "a reason".to_owned())),
            cut: 3,
            fields: [9, 4],
        }
    }

    #[test]
    fn a_record_is_read_back_and_any_other_byte_makes_it_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tile");
        write(&path, "key", &found()).unwrap();
        assert_eq!(read(&path, "key"), Some(found()));
        assert_eq!(read(&path, "other"), None);
        assert_eq!(read(&folder.path().join("none"), "key"), None);
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(3) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            disk::write_atomic(&path, &damaged).unwrap();
            assert_eq!(read(&path, "key"), None, "byte {at}");
            disk::write_atomic(&path, &whole[..at]).unwrap();
            assert_eq!(read(&path, "key"), None, "cut at {at}");
        }
    }
}
