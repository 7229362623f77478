//! What was found in a tile, as a file: written when the tile is done, so that a run that was stopped need not do it again.
//!
//! Counts, the nuclei, and the core's confidence compressed, in a [`sealed`] file.

use super::sealed::{self, Mark, Reader, Writer};
use crate::nuclei::measure::Nucleus;
use crate::nuclei::slide::tile::{Outlined, TileFound};
use microtome_kernels::region::{PixelBox, Region};
use microtome_vault::Result;
use std::path::Path;

const MARK: &Mark = b"MTTILE\0\x02";
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
    let of_nuclei = |one: &Outlined| NUCLEUS_BYTES + one.mask.len() / 8;
    let length = found.confidence.len() + found.nuclei.iter().map(of_nuclei).sum::<usize>() + REST_BYTES;
    let mut writer = Writer::new(MARK, key, length);
    writer.number(found.cut as u64);
    found.fields.iter().for_each(|count| writer.number(*count as u64));
    let (count, reason) = found.unreadable.as_ref().map_or((0, ""), |(count, reason)| (*count, reason));
    writer.number(count as u64);
    writer.bytes(reason.as_bytes());
    writer.number(found.nuclei.len() as u64);
    found.nuclei.iter().for_each(|one| write_nucleus(&mut writer, one));
    writer.number(found.confidence.len() as u64);
    writer.compressed(&found.confidence, COMPRESSION).map_err(|error| error.at(path))?;
    writer.finish(path)
}

/// Reads it, if it is there, whole, and of the run `key`.
pub fn read(path: &Path, key: &str) -> Option<TileFound> {
    sealed::read(path, MARK, key, |rest| {
        let cut = rest.size()?;
        let fields = [rest.size()?, rest.size()?];
        let count = rest.size()?;
        let reason = String::from_utf8(rest.bytes()?.to_vec()).ok()?;
        let nuclei = (0..rest.number()?).map(|_| read_nucleus(rest)).collect::<Option<Vec<Outlined>>>()?;
        let length = rest.size()?;
        let confidence = rest.decompressed(length)?;
        Some(TileFound {
            nuclei,
            confidence,
            unreadable: (count > 0).then_some((count, reason)),
            cut,
            fields,
        })
    })
}

fn write_nucleus(writer: &mut Writer, Outlined { nucleus, mask }: &Outlined) {
    let Nucleus { region, .. } = nucleus;
    let PixelBox { min_x_px, min_y_px, max_x_px, max_y_px } = region.bounds;
    writer.number(nucleus.id.into());
    [region.area_px, min_x_px, min_y_px, max_x_px, max_y_px].iter().for_each(|n| writer.number(*n as u64));
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
    measured.iter().for_each(|number| writer.float(*number));
    let (eights, rest) = mask.as_chunks();
    let mut last = [false; 8];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then(|| packed(&last));
    writer.many_bytes(mask.len().div_ceil(8), eights.iter().map(packed).chain(last));
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

fn read_nucleus(rest: &mut Reader<'_>) -> Option<Outlined> {
    let id = u32::try_from(rest.number()?).ok()?;
    let area_px = rest.size()?;
    let bounds = PixelBox {
        min_x_px: rest.size()?,
        min_y_px: rest.size()?,
        max_x_px: rest.size()?,
        max_y_px: rest.size()?,
    };
    let region = Region {
        id,
        area_px,
        bounds,
        centroid_x_px: rest.float()?,
        centroid_y_px: rest.float()?,
        perimeter_px: rest.float()?,
        eccentricity: rest.float()?,
        solidity: rest.float()?,
        major_axis_px: rest.float()?,
        minor_axis_px: rest.float()?,
        orientation_rad: rest.float()?,
    };
    let nucleus = Nucleus {
        id,
        region,
        mean_haematoxylin: rest.float()?,
        mean_eosin: rest.float()?,
        mean_od_red: rest.float()?,
        mean_od_green: rest.float()?,
        mean_od_blue: rest.float()?,
        mean_confidence: rest.float()?,
    };
    let packed = rest.bytes()?;
    let width = bounds.max_x_px.checked_sub(bounds.min_x_px)?;
    let count = bounds.max_y_px.checked_sub(bounds.min_y_px)?.checked_mul(width)?;
    (packed.len() == count.div_ceil(8)).then_some(())?;
    let mut mask = Vec::with_capacity(8 * packed.len());
    packed.iter().for_each(|byte| mask.extend_from_slice(&unpacked(*byte)));
    mask.truncate(count);
    Some(Outlined { nucleus, mask })
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_vault::disk;

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
