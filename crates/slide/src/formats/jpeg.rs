//! JPEG (ITU-T T.81): 8 bits, baseline and progressive, grey, YCbCr, RGB, CMYK. Also the streams inside TIFF files.
//!
//! Streams of the kind that slides hold are decoded here, to libjpeg's last bit (`sequential`); others, and those that are
//! damaged, by the `zune-jpeg` crate.

mod huffman;
mod sequential;

use microtome_vault::{Budget, Error, Result};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use self::sequential::{Colours, Stream};
use super::{Decoded, damaged, foreign, grant_pixels};
use crate::{MicronsPerPixel, Size};

/// The highest extent that a JPEG file can state.
const LARGEST_PX: usize = u16::MAX as usize;

/// In which form samples are wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Output {
    /// Red, green and blue, whatever the stream holds.
    Rgb,
    /// Red, green and blue: converted from YCbCr if the stream says that it holds that, else its components.
    RgbAsStated,
    /// The components of the stream as they are.
    Components,
}

/// A decoded stream.
pub(crate) struct Frame {
    pub(crate) size: Size,
    /// `[height_px][width_px][channels]`
    pub(crate) samples: Vec<u8>,
    pub(crate) channels: usize,
    /// Why parts of the picture may be wrong, if they may be.
    pub(crate) damage: Option<String>,
}

/// Decodes the content of a JPEG file.
pub(crate) fn decode(bytes: &[u8], budget: Budget) -> Result<Decoded> {
    let frame = decode_stream(bytes, Output::Rgb, budget)?;
    let warning =
        frame.damage.map(|reason| format!("the JPEG data are damaged, parts may be wrong ({reason})"));
    let warnings = warning.into_iter().collect();
    Ok(Decoded { size: frame.size, rgb: frame.samples, mpp: Outline::of(bytes).mpp, warnings })
}

/// A stream inside of a TIFF file with the `tables` that all its streams share, if there are any, put before it.
pub(crate) fn with_tables(tables: &[u8], stream: &[u8]) -> Vec<u8> {
    if tables.is_empty() {
        return stream.to_vec();
    }
    let without_end = tables.strip_suffix(b"\xff\xd9").unwrap_or(tables);
    [without_end, stream.strip_prefix(b"\xff\xd8").unwrap_or(stream)].concat()
}

/// A stream that holds red, green and blue without saying so, with Adobe's header that says it: decoders take three
/// components for YCbCr else.
pub(crate) fn marked_as_rgb(stream: Vec<u8>) -> Vec<u8> {
    const ADOBE: &[u8] = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00";
    if Outline::of(&stream).is_ycbcr || !stream.starts_with(b"\xff\xd8") {
        return stream;
    }
    [&stream[..2], ADOBE, &stream[2..]].concat()
}

/// Decodes one stream, from its start-of-image marker to its end-of-image marker.
///
/// A stream that ends too early is an error. One that is complete and breaks the rules is decoded as far as
/// possible, as other readers do, and says so in [`Frame::damage`].
pub(crate) fn decode_stream(bytes: &[u8], output: Output, budget: Budget) -> Result<Frame> {
    let outline = Outline::of(bytes);
    if let Some(unmarked) = outline.without_adobe_rgb(bytes) {
        let frame = decode_stream(&unmarked, Output::Components, budget)?;
        // A damaged stream may state two frames, of which the decoder takes another.
        return match frame.channels {
            3 => Ok(frame),
            _ => Err(damaged("JPEG", "it states its components twice")),
        };
    }
    if let Some(frame) = decode_exactly(bytes, output, budget, &outline)? {
        return Ok(frame);
    }
    let strict = decode_with(bytes, output, budget, &outline, true);
    match strict {
        Err(Refusal::Damage(error)) if outline.has_end => {
            let tolerant = decode_with(bytes, output, budget, &outline, false);
            tolerant.map(|frame| Frame { damage: Some(error), ..frame }).map_err(Refusal::into_error)
        }
        outcome if outline.has_end => outcome.map_err(Refusal::into_error),
        Ok(_) => Err(damaged("JPEG", "it ends before its end-of-image marker")),
        Err(refusal) => Err(refusal.into_error()),
    }
}

/// Decodes a sound stream of the common kind.
fn decode_exactly(bytes: &[u8], output: Output, budget: Budget, outline: &Outline) -> Result<Option<Frame>> {
    let Some(stream) = Stream::of(bytes) else { return Ok(None) };
    let colours = match output {
        // Red, green and blue that only their names tell.
        Output::Rgb if stream.is_named_rgb() => return Ok(None),
        Output::RgbAsStated if !outline.is_ycbcr => Colours::AsTheyAre,
        Output::Rgb | Output::RgbAsStated => Colours::Converted,
        Output::Components => Colours::AsTheyAre,
    };
    let size = stream.size;
    let channels = if colours == Colours::Converted { 3 } else { stream.components() };
    grant_pixels(budget, size, channels)?;
    refuse_impossible(size, bytes.len())?;
    Ok(stream.decode(colours).map(|samples| Frame { size, samples, channels, damage: None }))
}

/// Why a stream is not decoded: beyond doubt, or because the decoder was told to be strict.
enum Refusal {
    Final(Error),
    Damage(String),
}

impl Refusal {
    fn into_error(self) -> Error {
        match self {
            Refusal::Final(error) => error,
            Refusal::Damage(reason) => damaged("JPEG", reason),
        }
    }
}

fn decode_with(
    bytes: &[u8],
    output: Output,
    budget: Budget,
    outline: &Outline,
    is_strict: bool,
) -> std::result::Result<Frame, Refusal> {
    let options = DecoderOptions::default()
        .set_max_width(LARGEST_PX)
        .set_max_height(LARGEST_PX)
        .set_strict_mode(is_strict)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    call(|| decoder.decode_headers())?;
    let stated = decoder.info().zip(decoder.input_colorspace());
    let (info, components) = stated.ok_or(Refusal::Final(damaged("JPEG", "it has no frame")))?;
    let size = Size::new(usize::from(info.width), usize::from(info.height));
    let colour = match output {
        Output::RgbAsStated if !outline.is_ycbcr => components,
        Output::Rgb | Output::RgbAsStated => ColorSpace::RGB,
        Output::Components => components,
    };
    decoder.set_options(options.jpeg_set_out_colorspace(colour));

    let channels = colour.num_components();
    // Of a stream with several scans, all coefficients are kept until the last: 16 bits a component.
    let coefficients = if outline.scans > 1 { 2 * components.num_components() } else { 0 };
    grant_pixels(budget, size, channels + coefficients).map_err(Refusal::Final)?;
    refuse_impossible(size, bytes.len()).map_err(Refusal::Final)?;
    let mut samples = vec![0; size.area_px() * channels];
    call(|| decoder.decode_into(&mut samples))?;
    Ok(Frame { size, samples, channels, damage: None })
}

/// A call to the decoder whose refusal may be due to strictness.
fn call<E: std::fmt::Display>(
    call: impl FnOnce() -> std::result::Result<(), E>,
) -> std::result::Result<(), Refusal> {
    let mut reason = String::new();
    let outcome =
        foreign("JPEG", || call().inspect_err(|error| reason = error.to_string().trim().replace('\n', " ")));
    match outcome {
        Err(error) if reason.is_empty() => Err(Refusal::Final(error)),
        Err(_) => Err(Refusal::Damage(reason)),
        Ok(()) => Ok(()),
    }
}

/// The most pixels that a byte of entropy-coded data can stand for: each block of 8×8 takes a bit at least,
/// and a block of subsampled colour covers up to 4×4 as many pixels as one of luma.
const PIXELS_PER_BYTE: usize = 8 * 64 * 16;

/// A tiny file that declares a huge picture would keep the decoder busy painting it grey.
fn refuse_impossible(size: Size, length_bytes: usize) -> Result<()> {
    if size.area_px() / PIXELS_PER_BYTE > length_bytes {
        return Err(damaged("JPEG", format!("its {length_bytes} bytes cannot hold {size} pixels")));
    }
    Ok(())
}

/// What the markers of a stream say, read without decoding.
#[derive(Default)]
struct Outline {
    scans: usize,
    /// Whether the end-of-image marker is there.
    has_end: bool,
    mpp: Option<MicronsPerPixel>,
    /// Whether it says that its colours are YCbCr: by a JFIF or Adobe header, or by subsampling them.
    is_ycbcr: bool,
    components: usize,
    /// Where Adobe's header lies that says that components are no YCbCr.
    adobe_untransformed: Option<std::ops::Range<usize>>,
}

impl Outline {
    fn of(bytes: &[u8]) -> Self {
        let mut outline = Self::default();
        // `None` when the bytes end before the picture does.
        let _ = outline.walk(bytes);
        outline
    }

    fn walk(&mut self, bytes: &[u8]) -> Option<()> {
        let mut rest = bytes.get(2..)?;
        loop {
            rest = rest.get(rest.iter().position(|&byte| byte == 0xff)?..)?;
            let marker = *rest.get(1)?;
            match marker {
                0xd9 => {
                    self.has_end = true;
                    return Some(());
                }
                // Fill bytes, entropy-coded 255s, restart markers and others without content.
                0xff => rest = rest.get(1..)?,
                0x00 | 0x01 | 0xd0..=0xd8 => rest = rest.get(2..)?,
                _ => {
                    let length = usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]));
                    let content = rest.get(4..2 + length.max(2))?;
                    if marker == 0xee && content.starts_with(b"Adobe") && content.get(11) == Some(&0) {
                        let start = bytes.len() - rest.len();
                        self.adobe_untransformed = Some(start..start + 2 + length);
                    }
                    self.note_segment(marker, content);
                    rest = rest.get(2 + length.max(2)..)?;
                }
            }
        }
    }

    /// A stream of red, green and blue that Adobe's header marks as such, without that header: the decoder takes the mark
    /// for that of inks, and the components of what is left are what is wanted.
    fn without_adobe_rgb(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let header = self.adobe_untransformed.clone().filter(|_| self.components == 3)?;
        Some([bytes.get(..header.start)?, bytes.get(header.end..)?].concat())
    }

    fn note_segment(&mut self, marker: u8, content: &[u8]) {
        match marker {
            0xda => self.scans += 1,
            0xe0 if content.starts_with(b"JFIF\0") => {
                self.is_ycbcr = true;
                self.mpp = self.mpp.or(mpp_of_jfif(content));
            }
            // The last byte of Adobe's header: 1 is YCbCr.
            0xee if content.starts_with(b"Adobe") => self.is_ycbcr = content.get(11) == Some(&1),
            // Start of frame, baseline or progressive: six bytes, then three a component, the middle one the
            // sampling.
            0xc0..=0xc2 => {
                self.components = content.get(5).copied().map_or(0, usize::from);
                let samplings: Vec<_> = content.iter().skip(7).step_by(3).collect();
                self.is_ycbcr |= samplings.iter().any(|sampling| **sampling != *samplings[0]);
            }
            _ => {}
        }
    }
}

/// The density in a JFIF header: `JFIF\0`, version (2 bytes), unit, horizontal and vertical density.
fn mpp_of_jfif(content: &[u8]) -> Option<MicronsPerPixel> {
    let content = content.strip_prefix(b"JFIF\0")?;
    let unit_um = match content.get(2)? {
        1 => 25_400.0,
        2 => 10_000.0,
        _ => return None,
    };
    let density_at =
        |at: usize| Some(f64::from(u16::from_be_bytes([*content.get(at)?, *content.get(at + 1)?])));
    MicronsPerPixel::plausible_square(unit_um / density_at(3)?, unit_um / density_at(5)?)
}
