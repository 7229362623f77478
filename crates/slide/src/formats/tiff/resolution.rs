//! Microns per pixel, from wherever microscopes and their programs write it into a TIFF file.

use tiff::decoder::ifd::Value;
use tiff::tags::Tag;

use super::TiffDecoder;
use crate::MicronsPerPixel;

/// The resolution of the decoder's current image, if it is plausible: from the description (Aperio, OME-XML,
/// ImageJ), else from the tags of TIFF itself.
pub(super) fn mpp(decoder: &mut TiffDecoder) -> Option<MicronsPerPixel> {
    let densities = [Tag::XResolution, Tag::YResolution].map(|tag| density(decoder, tag));
    let description = match decoder.find_tag(Tag::ImageDescription) {
        Ok(Some(Value::Ascii(text))) => text,
        _ => String::new(),
    };
    let unit = decoder.find_tag_unsigned::<u16>(Tag::ResolutionUnit).ok()?.unwrap_or(INCH);
    of_slide(&description, densities, unit)
}

/// TIFF's number for pixels in an inch, which is meant where none is given.
pub(crate) const INCH: u16 = 2;

/// The resolution that a description states, or else pixels (across and down) in a unit, if it is plausible.
pub(crate) fn of_slide(description: &str, densities: [Option<f64>; 2], unit: u16) -> Option<MicronsPerPixel> {
    from_aperio(description)
        .or_else(|| from_ome(description))
        .or_else(|| from_density(densities, unit, description))
}

/// Aperio writes `…|AppMag = 20|…`, OME-XML `NominalMagnification="20"`.
pub(crate) fn objective_power(description: &str) -> Option<f64> {
    let aperio = description.split('|').find_map(|field| field.trim().strip_prefix("AppMag"));
    let aperio = aperio.and_then(|field| field.trim_start().strip_prefix('='));
    let ome = || description.split("NominalMagnification=\"").nth(1)?.split('"').next();
    let power: f64 = aperio.or_else(ome)?.trim().parse().ok()?;
    (power.is_finite() && power > 0.0).then_some(power)
}

/// Pixels in one unit of resolution.
fn density(decoder: &mut TiffDecoder, tag: Tag) -> Option<f64> {
    match decoder.find_tag(tag).ok()?? {
        Value::Rational(numerator, denominator) => Some(f64::from(numerator) / f64::from(denominator)),
        Value::Float(value) => Some(f64::from(value)),
        Value::Double(value) => Some(value),
        _ => None,
    }
}

fn from_density(densities: [Option<f64>; 2], unit: u16, description: &str) -> Option<MicronsPerPixel> {
    let unit_um = match unit {
        _ if description.starts_with("ImageJ=") => imagej_unit_um(description)?,
        INCH => 25_400.0,
        3 => 10_000.0,
        _ => return None,
    };
    MicronsPerPixel::plausible_square(unit_um / densities[0]?, unit_um / densities[1]?)
}

/// ImageJ writes `unit=micron` on a line of its description, and pixels in that unit into the tags of TIFF.
fn imagej_unit_um(description: &str) -> Option<f64> {
    match description.lines().find_map(|line| line.strip_prefix("unit="))?.trim() {
        "micron" | "microns" | "um" | "µm" | "μm" | "\\u00B5m" => Some(1.0),
        "mm" => Some(1_000.0),
        "cm" => Some(10_000.0),
        "inch" => Some(25_400.0),
        _ => None,
    }
}

/// Aperio writes `…|MPP = 0.4990|…`.
fn from_aperio(description: &str) -> Option<MicronsPerPixel> {
    let field = description.split('|').find_map(|field| field.trim().strip_prefix("MPP"))?;
    let number = field.trim_start().strip_prefix('=')?.trim().parse().ok()?;
    MicronsPerPixel::plausible(number)
}

/// OME-XML writes `<Pixels … PhysicalSizeX="0.5" PhysicalSizeXUnit="µm" …>`; the first image counts.
fn from_ome(description: &str) -> Option<MicronsPerPixel> {
    let pixels = description.split("<Pixels").nth(1)?.split('>').next()?;
    let attribute = |name: &str| {
        let values = pixels.split(name).skip(1).filter_map(|after| after.trim_start().strip_prefix('='));
        values.filter_map(|value| value.trim_start().strip_prefix('"')?.split('"').next()).next()
    };
    let length = |size: &str, unit: &str| {
        let unit_um = match attribute(unit).unwrap_or("µm") {
            "µm" | "μm" | "um" | "&#181;m" | "&#xB5;m" | "&#xb5;m" => 1.0,
            "nm" => 1e-3,
            "mm" => 1e3,
            _ => return None,
        };
        attribute(size)?.parse::<f64>().ok().map(|number| number * unit_um)
    };
    let mpp_x = length("PhysicalSizeX", "PhysicalSizeXUnit")?;
    MicronsPerPixel::plausible_square(mpp_x, length("PhysicalSizeY", "PhysicalSizeYUnit").unwrap_or(mpp_x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_of_scanners_are_understood() {
        let mpp = |number| MicronsPerPixel::plausible(number);
        let aperio = "Aperio Image Library\r\n2220x2967 JPEG/RGB Q=30|AppMag = 20|MPP = 0.4990|Left = 25.6";
        assert_eq!(from_aperio(aperio), mpp(0.499));
        assert_eq!(from_aperio("MPP = none|MPPX = 3"), None);
        assert_eq!(objective_power(aperio), Some(20.0));
        assert_eq!(objective_power(r#"<Objective NominalMagnification="40.0"/>"#), Some(40.0));
        assert_eq!(objective_power("AppMag = -1|"), None);
        assert_eq!(
            from_ome(
                r#"<OME><Pixels ID="0" PhysicalSizeX="0.5" PhysicalSizeXUnit="µm" PhysicalSizeY="0.5"/>"#
            ),
            mpp(0.5)
        );
        assert_eq!(from_ome(r#"<Pixels PhysicalSizeXUnit="nm" PhysicalSizeX="250">"#), mpp(0.25));
        assert_eq!(from_ome(r#"<Pixels PhysicalSizeX="250">"#), None);
        assert_eq!(from_ome(r#"<Pixels PhysicalSizeX="#), None);
        assert_eq!(from_ome(""), None);
        assert_eq!(imagej_unit_um("ImageJ=1.53\nunit=micron\n"), Some(1.0));
        assert_eq!(imagej_unit_um("ImageJ=1.53\nunit=pixel\n"), None);
    }
}
