//! From the samples of a file to red, green and blue on white.

/// What the first samples of a pixel mean; further samples are passed over.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Model {
    /// Black is 0.
    Grey,
    /// White is 0.
    InvertedGrey,
    /// Red, green, blue.
    Rgb,
    /// Luma and two colour differences, full range (ITU-R BT.601, as in JFIF).
    YCbCr,
    /// Inks; 0 is none.
    Cmyk,
    /// An index into a table; one beyond it is black.
    Palette(Vec<[u8; 3]>),
}

impl Model {
    /// How many samples of a pixel the model needs.
    pub(crate) fn channels(&self) -> usize {
        match self {
            Model::Grey | Model::InvertedGrey | Model::Palette(_) => 1,
            Model::Rgb | Model::YCbCr => 3,
            Model::Cmyk => 4,
        }
    }
}

/// What the sample after those of the model means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Alpha {
    /// There is none.
    None,
    /// How opaque the colour is.
    Straight,
    /// The same, and the colour has been multiplied by it already.
    Premultiplied,
}

/// Bytes a pixel that [`to_rgb`] needs at once, for `channels` samples a pixel.
pub(crate) fn bytes_per_pixel(channels: usize) -> usize {
    if channels < 3 { channels + 3 } else { channels }
}

/// Interleaved 8-bit samples, `channels` a pixel, to RGB; in place where there is room.
/// The second value says whether anything was not opaque.
pub(crate) fn to_rgb(samples: Vec<u8>, channels: usize, model: &Model, alpha: Alpha) -> (Vec<u8>, bool) {
    let at = model.channels();
    if alpha == Alpha::None || channels <= at {
        return (model_to_rgb(samples, channels, model, |rgb, _| rgb), false);
    }
    let is_transparent = samples.chunks_exact(channels).any(|pixel| pixel[at] != 255);
    let rgb = match alpha {
        Alpha::Premultiplied => model_to_rgb(samples, channels, model, |rgb, pixel| {
            rgb.map(|colour| colour.saturating_add(255 - pixel[at]))
        }),
        _ => model_to_rgb(samples, channels, model, |rgb, pixel| {
            rgb.map(|colour| over_white(colour, pixel[at]))
        }),
    };
    (rgb, is_transparent)
}

fn model_to_rgb(
    samples: Vec<u8>,
    channels: usize,
    model: &Model,
    finish: impl Fn([u8; 3], &[u8]) -> [u8; 3],
) -> Vec<u8> {
    match model {
        Model::Grey => map_pixels(samples, channels, |pixel| finish([pixel[0]; 3], pixel)),
        Model::InvertedGrey => map_pixels(samples, channels, |pixel| finish([255 - pixel[0]; 3], pixel)),
        // Without further samples there is nothing to finish either.
        Model::Rgb if channels == 3 => samples,
        Model::Rgb => map_pixels(samples, channels, |pixel| finish([pixel[0], pixel[1], pixel[2]], pixel)),
        Model::YCbCr => map_pixels(samples, channels, |pixel| finish(ycbcr_to_rgb(pixel), pixel)),
        Model::Cmyk => map_pixels(samples, channels, |pixel| finish(cmyk_to_rgb(pixel), pixel)),
        Model::Palette(table) => {
            let look_up = |index: u8| table.get(usize::from(index)).copied().unwrap_or_default();
            map_pixels(samples, channels, |pixel| finish(look_up(pixel[0]), pixel))
        }
    }
}

/// `channels` is the length of each pixel that `rgb_of` gets, and at least what the model needs.
fn map_pixels(mut samples: Vec<u8>, channels: usize, rgb_of: impl Fn(&[u8]) -> [u8; 3]) -> Vec<u8> {
    let count = samples.len() / channels;
    if channels < 3 {
        let mut rgb = Vec::with_capacity(3 * count);
        samples.chunks_exact(channels).for_each(|pixel| rgb.extend_from_slice(&rgb_of(pixel)));
        return rgb;
    }
    for index in 0..count {
        let rgb = rgb_of(&samples[channels * index..channels * (index + 1)]);
        samples[3 * index..3 * index + 3].copy_from_slice(&rgb);
    }
    samples.truncate(3 * count);
    samples
}

/// A colour seen through its transparency on white, rounded to the nearest.
fn over_white(colour: u8, alpha: u8) -> u8 {
    let (colour, alpha) = (u32::from(colour), u32::from(alpha));
    ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

fn ycbcr_to_rgb(pixel: &[u8]) -> [u8; 3] {
    let [luma, blue, red] = [pixel[0], pixel[1], pixel[2]].map(f32::from);
    let (blue, red) = (blue - 128.0, red - 128.0);
    // A cast from float saturates.
    [luma + 1.402 * red, luma - 0.344_136 * blue - 0.714_136 * red, luma + 1.772 * blue]
        .map(|value| value.round() as u8)
}

/// Without a colour profile: each ink takes its share of the light.
fn cmyk_to_rgb(pixel: &[u8]) -> [u8; 3] {
    let light = |ink: u8| 255 - u32::from(ink);
    [pixel[0], pixel[1], pixel[2]].map(|ink| ((light(ink) * light(pixel[3]) + 127) / 255) as u8)
}

/// A 16-bit sample as 8 bits, to the nearest: 65,535 is 257 × 255.
pub(crate) fn sample_from_16_bits(sample: u16) -> u8 {
    ((u32::from(sample) + 128) / 257) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_rgb_on_white() {
        let rgb =
            |samples: &[u8], channels, model: Model, alpha| to_rgb(samples.to_vec(), channels, &model, alpha);
        assert_eq!(rgb(&[7, 9], 1, Model::Grey, Alpha::None), (vec![7, 7, 7, 9, 9, 9], false));
        assert_eq!(rgb(&[7, 9], 2, Model::InvertedGrey, Alpha::None), (vec![248; 3], false));
        assert_eq!(
            rgb(&[7, 0, 9, 255], 2, Model::Grey, Alpha::Straight),
            (vec![255, 255, 255, 9, 9, 9], true)
        );
        assert_eq!(rgb(&[100, 0, 200, 51], 4, Model::Rgb, Alpha::Straight), (vec![224, 204, 244], true));
        assert_eq!(rgb(&[20, 0, 250, 51], 4, Model::Rgb, Alpha::Premultiplied), (vec![224, 204, 255], true));
        assert_eq!(rgb(&[1, 2, 3, 255], 4, Model::Rgb, Alpha::Straight), (vec![1, 2, 3], false));
        assert_eq!(
            rgb(&[1, 2, 3, 4, 5, 6, 7, 8], 4, Model::Rgb, Alpha::None),
            (vec![1, 2, 3, 5, 6, 7], false)
        );
        assert_eq!(rgb(&[0, 255, 0, 0], 4, Model::Cmyk, Alpha::None), (vec![255, 0, 255], false));
        assert_eq!(rgb(&[76, 85, 255], 3, Model::YCbCr, Alpha::None), (vec![254, 0, 0], false));
        let table = Model::Palette(vec![[1, 2, 3], [4, 5, 6]]);
        assert_eq!(rgb(&[1, 2], 1, table, Alpha::None), (vec![4, 5, 6, 0, 0, 0], false));
    }

    #[test]
    fn sixteen_bits_round_to_the_nearest_eight() {
        assert!((0..=255u8).all(|value| sample_from_16_bits(u16::from(value) * 257) == value));
        assert_eq!([128, 129].map(sample_from_16_bits), [0, 1]);
    }
}
