//! Streams of JPEG, to the last bit what libjpeg-turbo decodes.

mod common;

use common::Reader;
use microtome_slide::Size;

const STREAMS: &[u8] = include_bytes!("jpeg/streams.bin");

struct Stream<'a> {
    size: Size,
    bytes: &'a [u8],
    rgb: &'a [u8],
}

fn streams() -> Vec<Stream<'static>> {
    let mut rest = STREAMS;
    let mut streams = Vec::new();
    while let Some((head, behind)) = rest.split_first_chunk::<16>() {
        let number = |at: usize| u32::from_le_bytes(head[4 * at..][..4].try_into().unwrap()) as usize;
        let size = Size::new(number(0), number(1));
        let (bytes, behind) = behind.split_at(number(2));
        let (rgb, behind) = behind.split_at(3 * size.area_px());
        streams.push(Stream { size, bytes, rgb });
        rest = behind;
    }
    streams
}

#[test]
fn small_pictures_of_every_sampling_have_libjpegs_pixels() {
    let reader = Reader::new();
    let streams = streams();
    for (index, stream) in streams.iter().enumerate() {
        let picture = reader.read(stream.bytes).unwrap();
        assert_eq!(picture.size, stream.size, "stream {index}");
        assert!(picture.rgb == stream.rgb, "stream {index} of {}", stream.size);
        assert!(picture.warnings.is_empty(), "stream {index}: {:?}", picture.warnings);
    }
    assert_eq!(streams.len(), 60);
}

#[test]
fn a_stream_with_any_byte_changed_is_a_picture_or_an_error() {
    let reader = Reader::new();
    let mut read = 0;
    for stream in streams().iter().step_by(7) {
        for at in (2..stream.bytes.len()).step_by(3) {
            let mut bytes = stream.bytes.to_vec();
            bytes[at] ^= 1 << (at % 8);
            read += usize::from(reader.read(&bytes).is_ok());
        }
    }
    assert!(read > 300, "{read} of them are pictures still");
}
