//! The label map: a grey picture whose values are the ids of the nuclei.
//!
//! PNG with 16 bits is what everything reads; it ends at 65,535, above which a TIFF with 32 bits takes its
//! place.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use microtome_kernels::Labels;
use microtome_vault::{Error, Result, disk};
use tiff::TiffError;
use tiff::encoder::{Compression, DeflateLevel, TiffEncoder, colortype};

use super::file_in;
use super::png::{Samples, write_png};

/// Writes `NAME.png` (16 bits, grey), or `NAME.tif` (32 bits, deflate) if an id is above 65,535, and returns
/// its path.
///
/// # Errors
/// `Io` when the disk refuses; `Input` when the map has no pixels; `Limit` when it is too large for a TIFF
/// file.
pub fn write_labels(folder: &Path, name: &str, labels: &Labels) -> Result<PathBuf> {
    let narrow: Option<Vec<u16>> = labels.ids.iter().map(|&id| u16::try_from(id).ok()).collect();
    match narrow {
        Some(ids) => {
            let path = file_in(folder, name, "png")?;
            write_png(&path, labels.size, Samples::Grey16(&ids))?;
            Ok(path)
        }
        None => {
            let path = file_in(folder, name, "tif")?;
            let bytes = tiff_bytes(labels).map_err(|error| error.at(&path))?;
            disk::write_atomic(&path, &bytes)?;
            Ok(path)
        }
    }
}

fn tiff_bytes(labels: &Labels) -> Result<Vec<u8>> {
    let too_large = || Error::limit(format!("a label map of {} pixels is too large for TIFF", labels.size));
    let width = u32::try_from(labels.size.width_px).map_err(|_| too_large())?;
    let height = u32::try_from(labels.size.height_px).map_err(|_| too_large())?;
    let failed = |error: TiffError| match error {
        TiffError::LimitsExceeded | TiffError::IntSizeError => too_large(),
        other => Error::bug(format!("a TIFF file could not be made ({other})")),
    };
    let mut bytes = Cursor::new(Vec::new());
    let encoder = TiffEncoder::new(&mut bytes).map_err(failed)?;
    let mut encoder = encoder.with_compression(Compression::Deflate(DeflateLevel::Balanced));
    encoder.write_image::<colortype::Gray32>(width, height, &labels.ids).map_err(failed)?;
    Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_kernels::Size;
    use tiff::decoder::{Decoder, DecodingResult};

    #[test]
    fn a_png_gives_the_ids_back() {
        let folder = tempfile::tempdir().unwrap();
        let ids = vec![0, 1, 255, 256, 65_535, 7];
        let labels = Labels { size: Size::new(3, 2), ids };
        let path = write_labels(folder.path(), "a.b", &labels).unwrap();
        assert_eq!(path, folder.path().join("a.b.png"));
        let picture = image::open(path).unwrap();
        assert_eq!(picture.color(), image::ColorType::L16);
        let read = picture.into_luma16();
        assert_eq!((read.width(), read.height()), (3, 2));
        assert_eq!(read.into_raw().into_iter().map(u32::from).collect::<Vec<_>>(), labels.ids);
    }

    #[test]
    fn seventy_thousand_nuclei_make_a_tiff() {
        let folder = tempfile::tempdir().unwrap();
        let labels = Labels { size: Size::new(350, 200), ids: (1..=70_000).collect() };
        let path = write_labels(folder.path(), "many", &labels).unwrap();
        assert_eq!(path, folder.path().join("many.tif"));
        let mut decoder = Decoder::new(Cursor::new(std::fs::read(path).unwrap())).unwrap();
        assert_eq!(decoder.dimensions().unwrap(), (350, 200));
        let DecodingResult::U32(ids) = decoder.read_image().unwrap() else { panic!("not 32 bits") };
        assert_eq!(ids, labels.ids);
    }

    #[test]
    fn an_empty_map_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write_labels(folder.path(), "none", &Labels::background(Size::new(0, 0))).is_err());
        assert!(write_labels(folder.path(), "../up", &Labels::background(Size::new(1, 1))).is_err());
    }
}
