//! Label maps in picture files: the values are ids. A map of one value is a mask, and its parts become the
//! nuclei.

use std::path::Path;

use microtome_kernels::components::{Connectivity, label_components};
use microtome_kernels::{Labels, Size};
use microtome_vault::{Budget, Error, Result, disk};

use super::{instance_png, instance_tiff};

/// How a file was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpretation {
    /// Each value is the id of a nucleus.
    Instances,
    /// All foreground has one value, in several parts: each 8-connected part was taken as a nucleus. (With
    /// one part, or none, both readings are the same, and it is [`Interpretation::Instances`].)
    MaskComponents,
    /// Polygons, filled in the order of the file, later ones over earlier ones.
    Polygons {
        /// Regions without an area, such as arrows and rulers, that were left out.
        left_out: usize,
    },
}

impl Interpretation {
    /// Regions that were left out because they have no area.
    pub fn regions_left_out(self) -> usize {
        match self {
            Self::Polygons { left_out } => left_out,
            Self::Instances | Self::MaskComponents => 0,
        }
    }
}

/// A label map that was read from a file, and how it was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelMap {
    /// The ids.
    pub labels: Labels,
    /// How the file was understood.
    pub interpretation: Interpretation,
}

/// Reads a predicted label map, ours or another program's, from an 8- or 16-bit PNG or an 8-, 16- or 32-bit
/// TIFF, told apart by content. Truth is never read with this: [`super::read_truth`] keeps it under its key.
///
/// # Errors
/// `Input` for anything else, `Limit` for a map that is too large, `Io`.
pub fn read_prediction(path: impl AsRef<Path>) -> Result<LabelMap> {
    let path = path.as_ref();
    let bytes = disk::read_file_bounded(path, Budget::DEFAULT)?;
    decode(&bytes, Budget::DEFAULT).map_err(|error| error.at(path))
}

/// The label map in the bytes of a PNG or TIFF file.
pub(crate) fn decode(bytes: &[u8], budget: Budget) -> Result<LabelMap> {
    let labels = if bytes.starts_with(b"\x89PNG") {
        instance_png::decode(bytes, budget)?
    } else if bytes.starts_with(b"II") || bytes.starts_with(b"MM") {
        instance_tiff::decode(bytes, budget)?
    } else {
        let help = "label maps are PNG (8 or 16 bit) or TIFF (8, 16 or 32 bit) files without loss";
        return Err(Error::input("not a label map, neither PNG nor TIFF").advise(help));
    };
    Ok(interpreted(labels))
}

/// Splits a mask of one value into its parts, and leaves every other map as it is.
fn interpreted(labels: Labels) -> LabelMap {
    let foreground = || labels.ids.iter().filter(|&&id| id > 0);
    let first = foreground().next();
    if first.is_some() && foreground().all(|id| Some(id) == first) {
        let parts = label_components(&labels.mask(), labels.size, Connectivity::Eight);
        if parts.highest_id() > 1 {
            return LabelMap { labels: parts, interpretation: Interpretation::MaskComponents };
        }
    }
    LabelMap { labels, interpretation: Interpretation::Instances }
}

/// The extent that a file claims, once memory for its ids and for `bytes_a_pixel` of raw samples is granted.
pub(crate) fn granted_size(width: u64, height: u64, bytes_a_pixel: u64, budget: Budget) -> Result<Size> {
    let too_large = || Error::limit(format!("a label map of {width}×{height} pixels is too large"));
    let area_px = width.checked_mul(height).ok_or_else(too_large)?;
    if area_px == 0 {
        return Err(Error::input(format!("a label map of {width}×{height} pixels is empty")));
    }
    budget.grant("this label map", area_px, bytes_a_pixel + 4)?;
    let in_memory = |length_px: u64| usize::try_from(length_px).map_err(|_| too_large());
    Ok(Size::new(in_memory(width)?, in_memory(height)?))
}

/// The id that a number stands for.
///
/// # Errors
/// `Input` for what is not a whole number from 0 to 4,294,967,295.
pub(crate) fn id_of(value: f64) -> Result<u32> {
    // Not a number compares false, too.
    if value >= 0.0 && value <= f64::from(u32::MAX) && value.fract() == 0.0 {
        return Ok(value as u32);
    }
    let what = format!("the value {value} is not an id");
    Err(Error::input(what).advise("ids are whole numbers: 0 for background, 1, 2, 3 … for nuclei"))
}

/// Labels of a size, once there is an id for each pixel.
pub(crate) fn labels_of(size: Size, ids: Vec<u32>) -> Result<Labels> {
    if ids.len() != size.area_px() {
        return Err(Error::input(format!("{} values for {size} pixels", ids.len())));
    }
    Ok(Labels { size, ids })
}

/// Samples of 1, 2, 4 or 8 bits, the first in the highest bits, in rows that begin at whole bytes.
///
/// # Shapes
/// `packed`: `[rows, ceil(samples_a_row * bits / 8)]`; the answer: `[rows, samples_a_row]`.
pub(crate) fn unpacked(packed: &[u8], samples_a_row: usize, bits: u8) -> Vec<u32> {
    let bits = usize::from(bits.clamp(1, 8));
    let a_byte = 8 / bits;
    let row_bytes = samples_a_row.div_ceil(a_byte).max(1);
    let sample = |row: &[u8], index: usize| {
        let byte = row.get(index / a_byte).copied().unwrap_or(0);
        let shift = 8 - bits * (index % a_byte + 1);
        (u32::from(byte) >> shift) & ((1 << bits) - 1)
    };
    packed
        .chunks_exact(row_bytes)
        .flat_map(|row| (0..samples_a_row).map(move |index| sample(row, index)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ids: &[u32]) -> LabelMap {
        interpreted(Labels { size: Size::new(ids.len(), 1), ids: ids.to_vec() })
    }

    #[test]
    fn a_map_of_one_value_in_parts_is_a_mask() {
        let mask = map(&[255, 0, 255, 255]);
        assert_eq!(
            (mask.labels.ids.as_slice(), mask.interpretation),
            (&[1, 0, 2, 2][..], Interpretation::MaskComponents)
        );
    }

    #[test]
    fn other_maps_stay_as_they_are() {
        for ids in [&[0, 0][..], &[0, 9, 9], &[7, 7], &[1, 0, 2, 1]] {
            let read = map(ids);
            assert_eq!((read.labels.ids.as_slice(), read.interpretation), (ids, Interpretation::Instances));
        }
    }

    #[test]
    fn ids_are_whole_numbers() {
        assert_eq!((id_of(0.0).unwrap(), id_of(4_294_967_295.0).unwrap()), (0, u32::MAX));
        for value in [-1.0, 0.5, 4_294_967_296.0, f64::NAN, f64::INFINITY] {
            assert!(id_of(value).is_err(), "{value}");
        }
    }

    #[test]
    fn sizes_pass_the_budget() {
        let budget = Budget::of_bytes(1 << 20);
        assert_eq!(granted_size(256, 256, 4, budget).unwrap(), Size::new(256, 256));
        assert!(granted_size(1 << 20, 1, 4, budget).is_err());
        assert!(granted_size(u64::MAX, u64::MAX, 4, budget).is_err());
        assert!(granted_size(0, 5, 4, budget).is_err());
    }

    #[test]
    fn samples_unpack_from_the_highest_bit() {
        assert_eq!(unpacked(&[0b1010_0000, 0b0100_0000], 3, 1), [1, 0, 1, 0, 1, 0]);
        assert_eq!(unpacked(&[0x1f, 0x20], 3, 4), [1, 15, 2]);
        assert_eq!(unpacked(&[7, 8], 2, 8), [7, 8]);
    }

    #[test]
    fn what_is_neither_png_nor_tiff_is_an_input_error() {
        for bytes in [&b""[..], b"\x89PNG", b"II", b"II*\0", b"MM\0*\0\0\0\x08", b"GIF89a"] {
            assert_eq!(decode(bytes, Budget::DEFAULT).unwrap_err().fault(), microtome_vault::Fault::Input);
        }
    }
}
