//! JPEG 2000 (ISO/IEC 15444-1), by the `hayro-jpeg2000` crate: the streams in tiles of slides.

use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};
use microtome_vault::{Budget, Result};

use super::colour::{Alpha, Model, to_rgb};
use super::{damaged, foreign, unsupported};
use crate::Size;

/// What the components are, where the file around a stream says so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Colours {
    /// What the stream makes them out to be.
    AsStated,
    /// Luma and two colour differences.
    YCbCr,
}

/// A decoded stream.
pub(crate) struct Frame {
    pub(crate) size: Size,
    /// `[height_px][width_px][3]`
    pub(crate) rgb: Vec<u8>,
}

/// Bytes a pixel while a stream is decoded: coefficients and samples of three components as floats, and some more.
const BYTES_PER_PIXEL: u64 = 40;

/// Decodes one stream of 8 bits a component, grey or of three colours.
pub(crate) fn decode_stream(bytes: &[u8], colours: Colours, budget: Budget) -> Result<Frame> {
    let outline =
        Outline::of(bytes).ok_or_else(|| damaged("JPEG 2000", "it does not begin with its size"))?;
    let area_px = (outline.size.width_px as u64).saturating_mul(outline.size.height_px as u64);
    budget.grant("one tile of this slide, in JPEG 2000,", area_px, BYTES_PER_PIXEL)?;
    // A code block of 64 x 64 takes a bit at least.
    if area_px / (8 * 4096) > bytes.len() as u64 {
        return Err(damaged("JPEG 2000", format!("its {} bytes cannot hold {}", bytes.len(), outline.size)));
    }
    if outline.bits != 8 || !matches!(outline.components, 1 | 3) {
        let (components, bits) = (outline.components, outline.bits);
        return Err(unsupported("JPEG 2000", format!("has {components} components of {bits} bits")));
    }
    let samples = foreign("JPEG 2000", || {
        let image = Image::new(bytes, &DecodeSettings::default())?;
        let mut context = DecoderContext::default();
        let size = Size::new(image.width() as usize, image.height() as usize);
        Ok::<_, hayro_jpeg2000::DecodeError>((size, image.decode(&mut context)?.data_u8()))
    })?;
    let (size, samples) = samples;
    if size != outline.size || samples.len() != size.area_px() * outline.components {
        return Err(damaged("JPEG 2000", "it states its size twice"));
    }
    let model = match (outline.components, colours) {
        (1, _) => Model::Grey,
        // Subsampled differences are recognised and converted by the decoder itself.
        (_, Colours::YCbCr) if !outline.is_subsampled => Model::YCbCr,
        _ => Model::Rgb,
    };
    Ok(Frame { size, rgb: to_rgb(samples, outline.components, &model, Alpha::None).0 })
}

/// What the first marker segment says.
struct Outline {
    size: Size,
    components: usize,
    bits: u8,
    is_subsampled: bool,
}

impl Outline {
    /// Of a bare codestream: start of codestream, size marker, its length and capabilities, then extent and offset of the
    /// picture, extent and offset of its tiles, four bytes a number each; then the number of components and three bytes each:
    /// bits less one, and subsampling across and down.
    fn of(bytes: &[u8]) -> Option<Self> {
        if !bytes.starts_with(b"\xff\x4f\xff\x51") {
            return None;
        }
        let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let extent = |end: u32, start: u32| end.checked_sub(start).map(|length| length as usize);
        let size = Size::new(extent(number(8)?, number(16)?)?, extent(number(12)?, number(20)?)?);
        let components = usize::from(u16::from_be_bytes(bytes.get(40..42)?.try_into().ok()?));
        let each = bytes.get(42..)?.chunks_exact(3).take(components);
        let first = *each.clone().next()?.first()?;
        Some(Self {
            size,
            components,
            bits: if each.clone().all(|component| component[0] == first) { first.wrapping_add(1) } else { 0 },
            is_subsampled: each.clone().any(|component| component[1..] != [1, 1]),
        })
    }
}
