//! How the pixels of a frame are stored (PS3.5, section 10), and what they mean.

use microtome_vault::{Budget, Result};

use super::super::source::Tile;
use super::instance::Header;
use crate::Size;
use crate::formats::colour::{Alpha, Model, to_rgb};
use crate::formats::jpeg::{self, Output};
use crate::formats::jpeg_2000::{self, Colours};
use crate::formats::jpeg_ls;
use crate::formats::{damaged, unsupported};

/// What frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Raw,
    Jpeg,
    Jpeg2000,
    JpegLs,
}

impl Syntax {
    /// From its unique identifier.
    ///
    /// # Errors
    /// `Input` when it is not read, with its name.
    pub(super) fn of(identifier: &str) -> Result<Self> {
        const ALL: &str = "1.2.840.10008.1.2";
        let name = match identifier.strip_prefix(ALL).unwrap_or("?") {
            "" | ".1" => return Ok(Self::Raw),
            ".4.50" | ".4.51" => return Ok(Self::Jpeg),
            ".4.80" | ".4.81" => return Ok(Self::JpegLs),
            ".4.90" | ".4.91" => return Ok(Self::Jpeg2000),
            ".1.99" => "deflate of the whole file",
            ".2" => "numbers with the highest byte first",
            ".4.57" | ".4.70" => "lossless JPEG",
            ".4.110" | ".4.111" | ".4.112" => "JPEG XL",
            ".4.201" | ".4.202" | ".4.203" => "high-throughput JPEG 2000",
            ".5" => "run lengths",
            _ => return Err(unsupported("DICOM", format!("has the transfer syntax {identifier}"))),
        };
        Err(unsupported("DICOM", format!("is stored as {name}")))
    }

    /// In words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Raw => "none",
            Self::Jpeg => "JPEG",
            Self::Jpeg2000 => "JPEG 2000",
            Self::JpegLs => "JPEG-LS",
        }
    }

    /// The pixels of a frame of extent `size`.
    ///
    /// # Errors
    /// `Input` when it is damaged or of a kind that is not read; `Limit` when it exceeds the budget.
    pub(super) fn decode(self, bytes: Vec<u8>, header: &Header, size: Size, budget: Budget) -> Result<Tile> {
        let (found, rgb) = match self {
            Self::Raw => (size, raw(bytes, header, size, budget)?),
            Self::Jpeg => {
                // As in TIFF: RGB may be there as it is, which the stream does not say.
                let output = if header.photometric == "RGB" { Output::RgbAsStated } else { Output::Rgb };
                let frame = jpeg::decode_stream(&bytes, output, budget)?;
                let model = if frame.channels == 1 { Model::Grey } else { Model::Rgb };
                (frame.size, to_rgb(frame.samples, frame.channels, &model, Alpha::None).0)
            }
            // The transforms of colour that DICOM names are stated by the stream, too.
            Self::Jpeg2000 => {
                let frame = jpeg_2000::decode_stream(&bytes, Colours::AsStated, budget)?;
                (frame.size, frame.rgb)
            }
            Self::JpegLs => {
                let frame = jpeg_ls::decode_stream(&bytes, size, budget)?;
                let [allocated, stored] = header.bits;
                if frame.channels != usize::from(header.samples_per_pixel) || frame.bits > allocated {
                    let (channels, bits) = (frame.channels, frame.bits);
                    return Err(damaged(
                        "DICOM",
                        format!("a frame has {channels} components of {bits} bits"),
                    ));
                }
                let samples = frame.samples.iter().map(|sample| to_8_bits(*sample, stored)).collect();
                (frame.size, coloured(samples, frame.channels, header)?)
            }
        };
        if found.width_px < size.width_px || found.height_px < size.height_px {
            return Err(damaged("DICOM", format!("a frame has {found} pixels instead of {size}")));
        }
        Ok(Tile { size: found, rgb })
    }
}

fn raw(bytes: Vec<u8>, header: &Header, size: Size, budget: Budget) -> Result<Vec<u8>> {
    let area_px = size.area_px();
    let channels = usize::from(header.samples_per_pixel);
    budget.grant("one frame of this slide", area_px as u64, 6)?;
    let [allocated, stored] = header.bits;
    if bytes.len() < area_px * channels * usize::from(allocated / 8) {
        return Err(damaged("DICOM", "a frame holds too few pixels"));
    }
    let samples: Vec<u8> = match (allocated, header.is_planar && channels == 3) {
        (16, _) => {
            bytes.as_chunks().0.iter().map(|pair| to_8_bits(u16::from_le_bytes(*pair), stored)).collect()
        }
        (_, true) => {
            let plane = |channel: usize| &bytes[channel * area_px..][..area_px];
            let planes = [plane(0), plane(1), plane(2)];
            (0..area_px).flat_map(|at| planes.map(|plane| plane[at])).collect()
        }
        _ => bytes,
    };
    let mut rgb = coloured(samples, channels, header)?;
    rgb.truncate(3 * area_px);
    Ok(rgb)
}

/// Red, green and blue of samples of 8 bits, by what the file says that they are.
fn coloured(samples: Vec<u8>, channels: usize, header: &Header) -> Result<Vec<u8>> {
    let model = match header.photometric.as_str() {
        "MONOCHROME1" => Model::InvertedGrey,
        "MONOCHROME2" => Model::Grey,
        "RGB" if channels == 3 => Model::Rgb,
        "YBR_FULL" if channels == 3 => Model::YCbCr,
        other => return Err(unsupported("DICOM", format!("has pixels of the kind {other}"))),
    };
    Ok(to_rgb(samples, channels, &model, Alpha::None).0)
}

/// A sample of `bits` bits as 8, to the nearest.
fn to_8_bits(sample: u16, bits: u16) -> u8 {
    let most = (1u32 << bits) - 1;
    let sample = u32::from(sample).min(most);
    ((sample * 255 + most / 2) / most) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_any_depth_span_the_greys() {
        for bits in 1..=16u16 {
            let most = ((1u32 << bits) - 1) as u16;
            assert_eq!([0, most, u16::MAX].map(|sample| to_8_bits(sample, bits)), [0, 255, 255], "{bits}");
        }
        assert_eq!([8, 9].map(|sample| to_8_bits(sample, 12)), [0, 1]);
    }

    #[test]
    fn planes_and_kinds_of_raw_frames() {
        let header = |photometric: &str, is_planar, samples_per_pixel| {
            let mut header = Header::default();
            header.photometric = photometric.to_owned();
            (header.is_planar, header.samples_per_pixel, header.bits) =
                (is_planar, samples_per_pixel, [8, 8]);
            header
        };
        let of =
            |bytes: &[u8], header: Header| raw(bytes.to_vec(), &header, Size::new(2, 1), Budget::DEFAULT);
        assert_eq!(of(&[1, 2, 3, 4, 5, 6], header("RGB", true, 3)).unwrap(), [1, 3, 5, 2, 4, 6]);
        assert_eq!(of(&[1, 2, 3, 4, 5, 6], header("RGB", false, 3)).unwrap(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(of(&[1, 2, 9], header("MONOCHROME1", false, 1)).unwrap(), [254, 254, 254, 253, 253, 253]);
        assert!(of(&[1, 2, 3, 4, 5], header("RGB", false, 3)).unwrap_err().to_string().contains("too few"));
        let palette = of(&[1, 2], header("PALETTE COLOR", false, 1)).unwrap_err();
        assert!(palette.to_string().contains("PALETTE COLOR"));
    }

    #[test]
    fn syntaxes_that_are_not_read_are_named() {
        let refusal = |identifier: &str| Syntax::of(identifier).unwrap_err().to_string();
        assert!(refusal("1.2.840.10008.1.2.4.70").contains("lossless JPEG"));
        assert!(refusal("1.2.840.10008.1.2.9").contains("1.2.840.10008.1.2.9"));
        assert!(refusal("1.2.3").contains("1.2.3"));
        assert_eq!(Syntax::of("1.2.840.10008.1.2.4.91").unwrap(), Syntax::Jpeg2000);
    }
}
