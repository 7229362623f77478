//! PNG files: grey with 8 or 16 bits, and RGB.

use std::io::Write;
use std::path::Path;

use microtome_kernels::Size;
use microtome_vault::disk::AtomicWriter;
use microtome_vault::{Error, Result};
use png::{BitDepth, ColorType, Compression, Encoder, EncodingError};

/// The samples of a PNG file, row-major.
#[derive(Clone, Copy, Debug)]
pub enum Samples<'a> {
    /// One byte a pixel.
    Grey8(&'a [u8]),
    /// One number a pixel.
    Grey16(&'a [u16]),
    /// Three bytes a pixel, interleaved.
    Rgb8(&'a [u8]),
}

/// Writes a PNG file, whole or not at all.
///
/// # Errors
/// `Io` when the disk refuses; `Input` when the picture has no pixels or more than 2³¹ − 1 in a row; `Bug`
/// when the samples do not fill `size`.
pub fn write_png(path: &Path, size: Size, samples: Samples) -> Result<()> {
    let mut writer = AtomicWriter::create(path)?;
    encode(&mut writer, size, samples).map_err(|error| error.at(path))?;
    writer.commit()
}

/// The bytes of a PNG file.
///
/// # Errors
/// As [`write_png`], except for those of the disk.
pub fn png_bytes(size: Size, samples: Samples) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    encode(&mut bytes, size, samples)?;
    Ok(bytes)
}

fn encode(writer: impl Write, size: Size, samples: Samples) -> Result<()> {
    let side = |side_px: usize| u32::try_from(side_px).ok().filter(|&px| px > 0 && px < 1 << 31);
    let (Some(width), Some(height)) = (side(size.width_px), side(size.height_px)) else {
        return Err(Error::input(format!("a picture of {size} pixels cannot be saved as PNG")));
    };
    let (color, depth) = match samples {
        Samples::Grey8(_) => (ColorType::Grayscale, BitDepth::Eight),
        Samples::Grey16(_) => (ColorType::Grayscale, BitDepth::Sixteen),
        Samples::Rgb8(_) => (ColorType::Rgb, BitDepth::Eight),
    };
    let mut encoder = Encoder::new(writer, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    // A tenth of the time of the usual effort, for files that are somewhat larger.
    encoder.set_compression(Compression::Fast);
    let mut image = encoder.write_header().map_err(failed)?;
    match samples {
        Samples::Grey8(bytes) | Samples::Rgb8(bytes) => image.write_image_data(bytes),
        Samples::Grey16(values) => {
            image.write_image_data(&values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<u8>>())
        }
    }
    .map_err(failed)?;
    image.finish().map_err(failed)
}

fn failed(error: EncodingError) -> Error {
    match error {
        EncodingError::IoError(error) => Error::io("writing", &error),
        EncodingError::LimitsExceeded => Error::limit("this picture is too large for a PNG file"),
        other => Error::bug(format!("a PNG file could not be made ({other})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_vault::Fault;

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let fault = |size: Size, samples: Samples| {
            write_png(&folder.path().join("a.png"), size, samples).unwrap_err().fault()
        };
        assert_eq!(fault(Size::new(0, 3), Samples::Grey8(&[])), Fault::Input);
        assert_eq!(fault(Size::new(2, 2), Samples::Rgb8(&[0; 11])), Fault::Bug);
        assert_eq!(fault(Size::new(2, 2), Samples::Grey16(&[0; 5])), Fault::Bug);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
