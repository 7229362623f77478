//! TIFF 6.0 and BigTIFF, by the `tiff` crate: strips and tiles, chunky and planar, 1 to 16 bits.
//!
//! The crate reads tags and decompresses; what samples mean is decided here, since it refuses palettes and
//! leaves the colours of JPEG tiles unconverted. [`pages`] chooses the page, [`layout`] reads how its samples
//! lie, [`chunks`] decodes its strips or tiles, [`resolution`] finds its microns per pixel.

mod chunks;
pub(crate) mod layout;
mod pages;
pub(crate) mod resolution;

use microtome_vault::{Budget, Result};
use tiff::decoder::{Decoder, Limits};

use super::colour::{Model, to_rgb};
use super::{Decoded, damaged, foreign, grant_pixels};
use layout::Layout;

/// A decoder over the bytes of a whole file.
type TiffDecoder = Decoder<pages::IsolatedPage>;

/// Decodes the content of a TIFF file: its largest page.
pub(super) fn decode(bytes: Vec<u8>, budget: Budget) -> Result<Decoded> {
    let page = pages::largest(&bytes).ok_or_else(|| damaged("TIFF", "its first directory cannot be read"))?;
    if page.size.width_px == 0 || page.size.height_px == 0 {
        return Err(damaged("TIFF", format!("it has {} pixels", page.size)));
    }
    grant_pixels(budget, page.size, 3)?;
    let length = bytes.len();
    let source = pages::IsolatedPage::new(bytes, &page)
        .ok_or_else(|| damaged("TIFF", "its directory cannot be read"))?;
    let mut decoder = foreign("TIFF", || Decoder::new(source))?.with_limits(limits(length, budget));
    foreign("TIFF", || decoder.next_image())?;

    let layout = Layout::read(&mut decoder, &page)?;
    layout.grant(budget)?;
    let samples = chunks::decode(&mut decoder, &layout, budget)?;
    let mpp = resolution::mpp(&mut decoder);
    let mut warnings = page.warnings();
    warnings.extend(layout.warnings());
    warnings.extend(samples.warning);
    let model = if samples.is_rgb { &Model::Rgb } else { &layout.model };
    let (rgb, is_transparent) = to_rgb(samples.samples, layout.channels, model, layout.alpha);
    if is_transparent {
        warnings.push("transparent pixels were put on white".to_owned());
    }
    Ok(Decoded { size: layout.size, rgb, mpp, warnings })
}

/// How much larger a tag's value is in memory than in the file.
const VALUE_EXPANSION: usize = 32;

/// The crate's own limits are constants that refuse genuine pictures of many strips: what a value or a strip
/// may take follows from the length of the file, within the budget.
fn limits(length_bytes: usize, budget: Budget) -> Limits {
    let budget = usize::try_from(budget.bytes()).unwrap_or(usize::MAX);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = budget;
    limits.intermediate_buffer_size = budget;
    limits.ifd_value_size = length_bytes.saturating_mul(VALUE_EXPANSION).min(budget);
    limits
}
