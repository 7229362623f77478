//! Which format a file has, by its first bytes, and what all formats share.

mod bmp;
pub(crate) mod colour;
pub(crate) mod jpeg;
pub(crate) mod jpeg_2000;
pub(crate) mod jpeg_ls;
mod png;
pub(crate) mod tiff;

use std::fmt::Display;

use microtome_vault::{Budget, Error, Result};

use crate::{MicronsPerPixel, Size};

/// What a file says, in the form that pictures have.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) size: Size,
    /// `[height_px][width_px][3]`
    pub(crate) rgb: Vec<u8>,
    pub(crate) mpp: Option<MicronsPerPixel>,
    pub(crate) warnings: Vec<String>,
}

/// Decodes the content of a picture file.
pub(crate) fn decode(bytes: Vec<u8>, budget: Budget) -> Result<Decoded> {
    let head = bytes.get(..HEAD_BYTES).unwrap_or(&bytes);
    if head.starts_with(b"\x89PNG\r\n\x1a\n") {
        png::decode(&bytes, budget)
    } else if head.starts_with(b"\xff\xd8\xff") {
        jpeg::decode(&bytes, budget)
    } else if is_bmp(head) {
        bmp::decode(&bytes, budget)
    } else if is_tiff(head) {
        tiff::decode(bytes, budget)
    } else {
        Err(not_a_picture(head))
    }
}

/// As much of a file as is looked at to tell what it is.
pub(crate) const HEAD_BYTES: usize = 132;

/// Whether a file begins as DICOM files do.
pub(crate) fn is_dicom(head: &[u8]) -> bool {
    head.get(128..132) == Some(b"DICM")
}

/// TIFF and BigTIFF, in either byte order.
pub(crate) fn is_tiff(head: &[u8]) -> bool {
    [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| head.starts_with(*magic))
}

/// A picture that is no TIFF file.
pub(crate) fn is_picture(head: &[u8]) -> bool {
    head.starts_with(b"\x89PNG\r\n\x1a\n") || head.starts_with(b"\xff\xd8\xff") || is_bmp(head)
}

/// "BM" alone begins many a text: the size of the second header must be one of those that exist, too.
fn is_bmp(head: &[u8]) -> bool {
    let header_bytes = head.get(14..18).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    head.starts_with(b"BM") && matches!(header_bytes, Some(12 | 16 | 40 | 52 | 56 | 64 | 108 | 124))
}

const CONVERT: &str = "pictures are read from PNG, JPEG, BMP and TIFF files; convert it to one of them";

/// Formats that people have and that are not read: where the mark is, the mark, the name.
const FOREIGN: [(usize, &[u8], &str); 14] = [
    (4, b"jP  \r\n", "a JPEG 2000 file"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 file"),
    (0, b"\xff\x0a", "a JPEG XL file"),
    (4, b"JXL \r\n", "a JPEG XL file"),
    (0, b"GIF8", "a GIF file"),
    (8, b"WEBP", "a WebP file"),
    (4, b"ftyp", "a HEIC, AVIF or video file"),
    (128, b"DICM", "a DICOM file"),
    (0, b"ZISRAWFILE", "a CZI file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy file"),
    (0, b"%PDF", "a PDF file"),
    (0, b"PK\x03\x04", "a ZIP file"),
    (0, b"\x1f\x8b", "a gzip file"),
];

/// What a file is that is not read.
pub(crate) fn foreign_name(head: &[u8]) -> Option<&'static str> {
    let has = |at: usize, mark: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(mark));
    FOREIGN.iter().find(|(at, mark, _)| has(*at, mark)).map(|(_, _, name)| *name)
}

fn not_a_picture(head: &[u8]) -> Error {
    if head.is_empty() {
        return Error::input("this file is empty").advise("copy it again from its source");
    }
    if let Some(name) = foreign_name(head) {
        return Error::input(format!("this is {name}, which is not read")).advise(CONVERT);
    }
    match beginning_of_text(head) {
        Some(text) => Error::input(format!("this is not a picture: it begins with the text “{text}”")),
        None => Error::input("this is not a picture that can be read").advise(CONVERT),
    }
}

/// The first words, if the file begins with text.
fn beginning_of_text(head: &[u8]) -> Option<String> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = match str::from_utf8(head) {
        Ok(text) => text,
        // The last character may be cut.
        Err(error) if error.error_len().is_none() => str::from_utf8(head.get(..error.valid_up_to())?).ok()?,
        Err(_) => return None,
    };
    let is_text = text.chars().all(|letter| !letter.is_control() || letter.is_ascii_whitespace());
    let line = text.trim_start().lines().next()?;
    is_text.then(|| line.chars().take(32).collect())
}

/// A file that has the mark of a format and breaks its rules.
pub(crate) fn damaged(format: &str, reason: impl Display) -> Error {
    Error::input(format!("this {format} file cannot be decoded ({reason})"))
        .advise("it may be damaged: copy it again from its source, or open it in a viewer and save it as PNG")
}

/// A file that is sound and of a kind that is not read.
pub(crate) fn unsupported(format: &str, kind: impl Display) -> Error {
    Error::input(format!("this {format} file {kind}, which is not read"))
        .advise("open it in a viewer and save it as 8-bit RGB, PNG or TIFF")
}

/// One call to a decoder that others wrote ([`microtome_vault::foreign`]).
pub(crate) fn foreign<T, E: Display>(
    format: &str,
    call: impl FnOnce() -> std::result::Result<T, E>,
) -> Result<T> {
    match microtome_vault::foreign::call(call) {
        Some(outcome) => outcome.map_err(|error| damaged(format, error)),
        None => Err(damaged(format, "its decoder gave up")),
    }
}

/// Takes memory for decoded samples, if the budget allows. `bytes_per_pixel` counts all that is alive at
/// once.
fn grant_pixels(budget: Budget, size: Size, bytes_per_pixel: usize) -> Result<()> {
    let what = format!("this picture of {size} pixels");
    let area_px = (size.width_px as u64).saturating_mul(size.height_px as u64);
    budget
        .grant(&what, area_px, bytes_per_pixel as u64)
        .map(|_| ())
        .map_err(|error| error.advise("cut it into smaller pictures, or raise the memory budget"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        decode(bytes.to_vec(), Budget::DEFAULT).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_a_picture_is_named() {
        assert!(refusal(b"").starts_with("this file is empty"));
        assert_eq!(refusal(b"BMW\nAudi"), "this is not a picture: it begins with the text “BMW”");
        assert!(refusal("Größe ".repeat(40).as_bytes()).contains("“Größe Größe "));
        assert!(refusal(b"\xff\x4f\xff\x51\0\0").contains("a JPEG 2000 file"));
        assert!(refusal(b"\0\0\0\x0cjP  \r\n\x87\n").contains("a JPEG 2000 file"));
        assert!(refusal(&[0; 200]).starts_with("this is not a picture that can be read"));
        let mut dicom = vec![0; 128];
        dicom.extend(b"DICM\x02\0");
        assert!(refusal(&dicom).contains("a DICOM file"));
    }

    #[test]
    fn a_decoder_that_panics_costs_one_file() {
        let caught: Result<()> =
            foreign("TIFF", || -> std::result::Result<(), String> { panic!("on purpose") });
        assert!(caught.unwrap_err().to_string().contains("its decoder gave up"));
    }
}
