//! Label maps in TIFF files: one page of whole numbers, with 32 bits where there are more than 65,535 nuclei.

use std::io::Cursor;

use microtome_kernels::{Labels, Size};
use microtome_vault::{Budget, Error, Result};
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::{PhotometricInterpretation, Tag};
use tiff::{ColorType, TiffError};

use super::label_map::{granted_size, id_of, labels_of, unpacked};

/// Bytes that one tag may take: offsets of a million strips.
const TAG_BYTES: usize = 16 << 20;

/// The ids in the bytes of a TIFF file.
///
/// # Errors
/// `Input` for a damaged file, one in colour, inverted, with several pages, or with numbers that are no ids;
/// `Limit` for one that is too large.
pub(crate) fn decode(bytes: &[u8], budget: Budget) -> Result<Labels> {
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(damaged)?.with_limits(limits(budget));
    let (width, height) = decoder.dimensions().map_err(damaged)?;
    let ColorType::Gray(bits) = decoder.colortype().map_err(damaged)? else {
        return Err(Error::input("a TIFF in colour, not a label map").advise("save ids as grey values"));
    };
    // The decoder would invert the values, and nobody can tell whether the ids were meant before or after.
    let photometric: Option<u16> =
        decoder.find_tag_unsigned(Tag::PhotometricInterpretation).map_err(damaged)?;
    if photometric == Some(PhotometricInterpretation::WhiteIsZero.to_u16()) {
        return Err(
            Error::input("a TIFF of inverted grey, whose zero is white").advise("save it with black as zero")
        );
    }
    if decoder.more_images() {
        return Err(
            Error::input("a TIFF of several pages, not a label map").advise("save the label map as one page")
        );
    }
    let size = granted_size(width.into(), height.into(), u64::from(bits).div_ceil(8), budget)?;
    let samples = decoder.read_image().map_err(damaged)?;
    labels_of(size, ids_of(samples, size, bits)?)
}

fn limits(budget: Budget) -> Limits {
    let bytes = usize::try_from(budget.bytes()).unwrap_or(usize::MAX);
    let mut limits = Limits::default();
    (limits.decoding_buffer_size, limits.intermediate_buffer_size) = (bytes, bytes);
    limits.ifd_value_size = TAG_BYTES.min(bytes);
    limits
}

fn ids_of(samples: DecodingResult, size: Size, bits: u8) -> Result<Vec<u32>> {
    match samples {
        DecodingResult::U8(values) if bits < 8 => Ok(unpacked(&values, size.width_px, bits)),
        DecodingResult::U8(values) => Ok(values.into_iter().map(u32::from).collect()),
        DecodingResult::U16(values) => Ok(values.into_iter().map(u32::from).collect()),
        DecodingResult::U32(values) => Ok(values),
        DecodingResult::U64(values) => values.into_iter().map(|value| id_of(value as f64)).collect(),
        DecodingResult::I8(values) => values.into_iter().map(|value| id_of(value.into())).collect(),
        DecodingResult::I16(values) => values.into_iter().map(|value| id_of(value.into())).collect(),
        DecodingResult::I32(values) => values.into_iter().map(|value| id_of(value.into())).collect(),
        DecodingResult::I64(values) => values.into_iter().map(|value| id_of(value as f64)).collect(),
        DecodingResult::F32(values) => values.into_iter().map(|value| id_of(value.into())).collect(),
        DecodingResult::F64(values) => values.into_iter().map(id_of).collect(),
        DecodingResult::F16(_) => {
            Err(Error::input("a TIFF of 16-bit fractions").advise("save ids as whole numbers"))
        }
    }
}

fn damaged(error: TiffError) -> Error {
    match error {
        TiffError::LimitsExceeded => Error::limit("this TIFF needs more memory than the budget"),
        other => Error::input(format!("a TIFF that cannot be read ({other})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiff::encoder::{TiffEncoder, colortype};

    fn encoded<Colour: colortype::ColorType>(pages: usize, width: u32, data: &[Colour::Inner]) -> Vec<u8>
    where
        [Colour::Inner]: tiff::encoder::TiffValue,
    {
        let mut bytes = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut bytes).unwrap();
        for _ in 0..pages {
            encoder.write_image::<Colour>(width, 1, data).unwrap();
        }
        bytes.into_inner()
    }

    fn ids(tiff: &[u8]) -> Vec<u32> {
        decode(tiff, Budget::DEFAULT).unwrap().ids
    }

    #[test]
    fn values_are_ids_at_every_depth() {
        assert_eq!(ids(&encoded::<colortype::Gray8>(1, 2, &[0, 255])), [0, 255]);
        assert_eq!(ids(&encoded::<colortype::Gray16>(1, 2, &[65_535, 1])), [65_535, 1]);
        assert_eq!(ids(&encoded::<colortype::Gray32>(1, 2, &[70_000, 3])), [70_000, 3]);
        assert_eq!(ids(&encoded::<colortype::Gray32Float>(1, 2, &[4.0, 0.0])), [4, 0]);
    }

    #[test]
    fn what_is_no_label_map_is_refused() {
        let error = |tiff: &[u8]| decode(tiff, Budget::DEFAULT).unwrap_err().to_string();
        assert!(error(&encoded::<colortype::RGB8>(1, 1, &[1, 2, 3])).contains("in colour"));
        assert!(error(&encoded::<colortype::Gray8>(2, 1, &[1])).contains("several pages"));
        assert!(error(&encoded::<colortype::GrayI16>(1, 1, &[-1])).contains("-1 is not an id"));
        assert!(error(&encoded::<colortype::Gray64Float>(1, 1, &[0.5])).contains("0.5 is not an id"));
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_survived() {
        let tiff = encoded::<colortype::Gray16>(1, 8, &[1, 2, 3, 4, 5, 6, 7, 8]);
        for at in 0..tiff.len() {
            let _ = decode(&tiff[..at], Budget::of_bytes(1 << 20));
            let mut broken = tiff.clone();
            broken[at] ^= 0x55;
            let _ = decode(&broken, Budget::of_bytes(1 << 20));
        }
    }
}
