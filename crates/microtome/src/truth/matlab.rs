//! The variable `inst_map` of MATLAB MAT-files, version 5 to 7 (CoNSeP), after the published format
//! description: a header of 128 bytes, then data elements, each a tag and its bytes padded to eight; those of
//! type `miCOMPRESSED` are zlib streams of one `miMATRIX` element.
//!
//! A variable is read from a stream, so that only as much is inflated as is asked for: a bomb is never
//! unpacked.

use std::io::{ErrorKind, Read};

use flate2::read::ZlibDecoder;
use microtome_kernels::{Labels, Size};
use microtome_vault::{Budget, Error, Result};

use super::label_map::{Interpretation, LabelMap, granted_size, id_of};

/// The variable that holds the label map.
const VARIABLE: &str = "inst_map";
const HEADER_BYTES: usize = 128;
/// HDF5's signature, with which the content of a version 7.3 file begins.
const HDF5_SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
const MI_INT32: u32 = 5;
const MI_UINT32: u32 = 6;
const MI_MATRIX: u32 = 14;
const MI_COMPRESSED: u32 = 15;
/// Array classes that hold plain numbers: `mxDOUBLE_CLASS` to `mxUINT64_CLASS`.
const NUMERIC_CLASSES: std::ops::RangeInclusive<u32> = 6..=15;
const COMPLEX_FLAG: u32 = 0x0800;
/// Longest list of dimensions, and longest name, that are believed; MATLAB's own names end at 63 bytes.
const LONGEST_PREFIX_BYTES: usize = 256;
/// Other variables that an error names.
const NAMES_SHOWN: usize = 8;

/// The label map in the bytes of a MAT-file. Ids may be of any numeric class; columns become rows.
///
/// # Errors
/// `Input` for a file that is damaged, of another version, without `inst_map`, or whose `inst_map` is not a
/// matrix of ids; `Limit` for one that is too large.
pub(crate) fn read(bytes: &[u8], budget: Budget) -> Result<LabelMap> {
    let order = byte_order(bytes)?;
    let mut rest = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let mut other_names = Vec::new();
    while rest.len() >= 8 {
        let tag = Tag::read(&mut rest, order)?;
        let (element, after) = rest.split_at_checked(tag.bytes).ok_or_else(cut_off)?;
        let variable = match tag.kind {
            MI_COMPRESSED => read_compressed(element, order, budget)?,
            MI_MATRIX => read_variable(&mut { element }, order, budget)?,
            _ => Variable::Other(String::new()),
        };
        match variable {
            Variable::InstMap(labels) => {
                return Ok(LabelMap { labels, interpretation: Interpretation::Instances });
            }
            Variable::Other(name) => other_names.push(name),
        }
        let padding = if tag.kind == MI_COMPRESSED { 0 } else { padding_after(tag.bytes) };
        rest = after.get(padding..).unwrap_or_default();
    }
    Err(no_inst_map(other_names))
}

#[derive(Clone, Copy)]
enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    /// The bytes of one number, lowest first.
    fn lowest_first<const N: usize>(self, bytes: &[u8]) -> [u8; N] {
        let mut array = [0; N];
        array.iter_mut().zip(bytes).for_each(|(to, &from)| *to = from);
        if matches!(self, Self::Big) {
            array.reverse();
        }
        array
    }
}

fn byte_order(bytes: &[u8]) -> Result<ByteOrder> {
    let is_hdf5 =
        [0, 512].iter().any(|&at| bytes.get(at..).is_some_and(|rest| rest.starts_with(HDF5_SIGNATURE)));
    if is_hdf5 || bytes.starts_with(b"MATLAB 7.3") {
        let what = "a MATLAB 7.3 file, which is HDF5 inside and is not read";
        return Err(Error::input(what).advise("load it in MATLAB and save it with -v7"));
    }
    match bytes.get(126..HEADER_BYTES) {
        Some(b"IM") => Ok(ByteOrder::Little),
        Some(b"MI") => Ok(ByteOrder::Big),
        _ => Err(Error::input("not a MATLAB MAT-file of version 5 to 7").advise("save it with -v7")),
    }
}

enum Variable {
    InstMap(Labels),
    Other(String),
}

fn read_compressed(element: &[u8], order: ByteOrder, budget: Budget) -> Result<Variable> {
    let mut inflated = ZlibDecoder::new(element);
    let tag = Tag::read(&mut inflated, order)?;
    if tag.kind != MI_MATRIX {
        return Ok(Variable::Other(String::new()));
    }
    let variable = read_variable(&mut inflated, order, budget)?;
    if let Variable::InstMap(_) = variable {
        // At most the padding is left; reading on to the end compares the checksum.
        let mut rest = [0; 16];
        while inflated.read(&mut rest).map_err(|error| unreadable(&error))? > 0 {}
    }
    Ok(variable)
}

/// A variable: array flags, dimensions, name, real part. Reads no further than the name if it is another one.
fn read_variable(reader: &mut dyn Read, order: ByteOrder, budget: Budget) -> Result<Variable> {
    let flags = read_prefix(reader, order, MI_UINT32)?;
    let class_and_flags = order.u32(first_four(&flags));
    let dimensions = read_prefix(reader, order, MI_INT32)?;
    let name = read_name(reader, order)?;
    if name != VARIABLE {
        return Ok(Variable::Other(name));
    }
    if !NUMERIC_CLASSES.contains(&(class_and_flags & 0xff)) || class_and_flags & COMPLEX_FLAG != 0 {
        let what = format!("{VARIABLE} is not a plain matrix of real numbers");
        return Err(Error::input(what).advise("save it as double(full(inst_map))"));
    }
    let size = size_of(&dimensions, order, budget)?;
    read_ids(reader, order, size).map(Variable::InstMap)
}

fn size_of(dimensions: &[u8], order: ByteOrder, budget: Budget) -> Result<Size> {
    let lengths: Vec<u32> = dimensions.chunks_exact(4).map(|four| order.u32(first_four(four))).collect();
    match lengths.as_slice() {
        [height, width, others @ ..] if others.iter().all(|&length| length == 1) => {
            granted_size((*width).into(), (*height).into(), 0, budget)
        }
        _ => Err(Error::input(format!("{VARIABLE} has dimensions {lengths:?}, a label map has two"))),
    }
}

/// The real part, column by column. Its numbers may be stored shorter than their class.
fn read_ids(reader: &mut dyn Read, order: ByteOrder, size: Size) -> Result<Labels> {
    let tag = Tag::read(reader, order)?;
    let number = Number::of_type(tag.kind)?;
    if tag.bytes as u128 != size.area_px() as u128 * number.bytes() as u128 {
        return Err(Error::input(format!("{VARIABLE} has {} bytes for {size} numbers", tag.bytes)));
    }
    // Memory for a column is in proportion to the labels, which were granted.
    let mut labels = Labels::background(size);
    let mut column = vec![0; size.height_px * number.bytes()];
    let mut inline = tag.inline.as_slice();
    for x in 0..size.width_px {
        let source: &mut dyn Read = if tag.is_inline { &mut inline } else { &mut *reader };
        source.read_exact(&mut column).map_err(|error| unreadable(&error))?;
        for (y, bytes) in column.chunks_exact(number.bytes()).enumerate() {
            if let Some(id) = labels.ids.get_mut(size.index(x, y)) {
                *id = id_of(number.value(bytes, order))?;
            }
        }
    }
    Ok(labels)
}

/// How a number is stored.
#[derive(Clone, Copy)]
enum Number {
    Int8,
    Uint8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Single,
    Double,
    Int64,
    Uint64,
}

impl Number {
    fn of_type(kind: u32) -> Result<Self> {
        let types = [
            (1, Self::Int8),
            (2, Self::Uint8),
            (3, Self::Int16),
            (4, Self::Uint16),
            (MI_INT32, Self::Int32),
            (MI_UINT32, Self::Uint32),
            (7, Self::Single),
            (9, Self::Double),
            (12, Self::Int64),
            (13, Self::Uint64),
        ];
        let found = types.into_iter().find(|&(code, _)| code == kind).map(|(_, number)| number);
        found.ok_or_else(|| Error::input(format!("a damaged MAT-file: {kind} is no type of number")))
    }

    fn bytes(self) -> usize {
        match self {
            Self::Int8 | Self::Uint8 => 1,
            Self::Int16 | Self::Uint16 => 2,
            Self::Int32 | Self::Uint32 | Self::Single => 4,
            Self::Double | Self::Int64 | Self::Uint64 => 8,
        }
    }

    /// The number as a double: exact for every id, and no id for what is not exact.
    fn value(self, bytes: &[u8], order: ByteOrder) -> f64 {
        match self {
            Self::Int8 => i8::from_le_bytes(order.lowest_first(bytes)).into(),
            Self::Uint8 => u8::from_le_bytes(order.lowest_first(bytes)).into(),
            Self::Int16 => i16::from_le_bytes(order.lowest_first(bytes)).into(),
            Self::Uint16 => u16::from_le_bytes(order.lowest_first(bytes)).into(),
            Self::Int32 => i32::from_le_bytes(order.lowest_first(bytes)).into(),
            Self::Uint32 => u32::from_le_bytes(order.lowest_first(bytes)).into(),
            Self::Single => f32::from_le_bytes(order.lowest_first(bytes)).into(),
            Self::Double => f64::from_le_bytes(order.lowest_first(bytes)),
            Self::Int64 => i64::from_le_bytes(order.lowest_first(bytes)) as f64,
            Self::Uint64 => u64::from_le_bytes(order.lowest_first(bytes)) as f64,
        }
    }
}

/// Type and length of a data element. Elements of up to four bytes may lie inside their tag.
struct Tag {
    kind: u32,
    bytes: usize,
    is_inline: bool,
    inline: [u8; 4],
}

impl Tag {
    fn read(reader: &mut dyn Read, order: ByteOrder) -> Result<Self> {
        let mut words = [[0; 4]; 2];
        for word in &mut words {
            reader.read_exact(word).map_err(|error| unreadable(&error))?;
        }
        let [first, inline] = words;
        let first = order.u32(first);
        let (kind, short_bytes) = (first & 0xffff, first >> 16);
        match short_bytes {
            0 => Ok(Self { kind: first, bytes: order.u32(inline) as usize, is_inline: false, inline }),
            1..=4 => Ok(Self { kind, bytes: short_bytes as usize, is_inline: true, inline }),
            _ => Err(Error::input(format!("a damaged MAT-file: {first:#x} is no tag"))),
        }
    }

    /// The element's bytes, with the padding after them taken from the reader.
    fn content(&self, reader: &mut dyn Read) -> Result<Vec<u8>> {
        if self.is_inline {
            return Ok(self.inline.iter().copied().take(self.bytes).collect());
        }
        if self.bytes > LONGEST_PREFIX_BYTES {
            return Err(Error::input(format!(
                "a damaged MAT-file: {} bytes of dimensions or name",
                self.bytes
            )));
        }
        let mut content = vec![0; self.bytes + padding_after(self.bytes)];
        reader.read_exact(&mut content).map_err(|error| unreadable(&error))?;
        content.truncate(self.bytes);
        Ok(content)
    }
}

fn read_prefix(reader: &mut dyn Read, order: ByteOrder, kind: u32) -> Result<Vec<u8>> {
    let tag = Tag::read(reader, order)?;
    if tag.kind != kind {
        return Err(Error::input(format!("a damaged MAT-file: type {} where {kind} belongs", tag.kind)));
    }
    tag.content(reader)
}

fn read_name(reader: &mut dyn Read, order: ByteOrder) -> Result<String> {
    let name = Tag::read(reader, order)?.content(reader)?;
    Ok(String::from_utf8_lossy(&name).into_owned())
}

fn first_four(bytes: &[u8]) -> [u8; 4] {
    bytes.first_chunk().copied().unwrap_or_default()
}

/// Bytes up to the next multiple of eight.
fn padding_after(bytes: usize) -> usize {
    (8 - bytes % 8) % 8
}

fn no_inst_map(mut names: Vec<String>) -> Error {
    names.retain(|name| !name.is_empty());
    names.truncate(NAMES_SHOWN);
    Error::input(format!("a MAT-file without the variable {VARIABLE} (it has {names:?})"))
}

fn cut_off() -> Error {
    Error::input("a MAT-file that is cut off").advise("copy it again")
}

fn unreadable(error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => cut_off(),
        _ => Error::input(format!("a damaged MAT-file ({error})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_vault::Fault;

    // Written by tests/metrics_golden/make_golden.py with scipy.
    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!("../../tests/metrics_golden/matlab/", $name, ".mat")).as_slice()
        };
    }

    const IDS: [u32; 8] = [0, 1, 1, 70_000, 2, 0, 300, 255];
    const IDS_MOD_256: [u32; 8] = [0, 1, 1, 112, 2, 0, 44, 255];

    fn read_fixture(bytes: &[u8]) -> Result<LabelMap> {
        read(bytes, Budget::of_bytes(1 << 20))
    }

    fn error_of(bytes: &[u8]) -> String {
        let error = read_fixture(bytes).unwrap_err();
        assert_eq!(error.fault(), Fault::Input, "{error}");
        error.to_string()
    }

    #[test]
    fn every_numeric_class_is_read_and_columns_become_rows() {
        let wide = [
            fixture!("double_compressed"),
            fixture!("double_plain"),
            fixture!("single"),
            fixture!("int32"),
            fixture!("uint32"),
            fixture!("int64"),
            fixture!("uint64"),
        ];
        for bytes in wide {
            let map = read_fixture(bytes).unwrap();
            assert_eq!((map.labels.size, map.labels.ids.as_slice()), (Size::new(4, 2), &IDS[..]));
        }
        for bytes in [fixture!("uint8"), fixture!("int16"), fixture!("uint16"), fixture!("big_endian")] {
            let ids = read_fixture(bytes).map(|map| map.labels.ids);
            // int16 holds all of them: the largest is 255.
            assert_eq!(ids.unwrap(), IDS_MOD_256);
        }
        assert_eq!(read_fixture(fixture!("inline")).unwrap().labels.ids, [3, 0]);
    }

    #[test]
    fn what_is_no_label_map_is_an_input_error_that_says_why() {
        assert!(
            error_of(fixture!("without")).contains("without the variable inst_map (it has [\"type_map\"")
        );
        assert!(error_of(fixture!("nested")).contains("(it has [\"result\"])"));
        assert!(error_of(fixture!("complex")).contains("not a plain matrix"));
        assert!(error_of(fixture!("sparse")).contains("full(inst_map)"));
        assert!(error_of(fixture!("three_dimensions")).contains("[2, 2, 2]"));
        assert!(error_of(fixture!("negative")).contains("is not an id"));
        assert!(error_of(fixture!("empty")).contains("is empty"));
        assert!(error_of(b"").contains("not a MATLAB MAT-file"));
        assert!(error_of(&fixture!("double_plain")[..600]).contains("cut off"));
    }

    #[test]
    fn version_7_3_is_named_with_what_to_do() {
        let mut file = vec![b' '; 600];
        file[512..520].copy_from_slice(HDF5_SIGNATURE);
        assert!(error_of(&file).contains("save it with -v7"));
        assert!(error_of(b"MATLAB 7.3 MAT-file, Platform: GLNXA64").contains("7.3"));
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_inflated() {
        assert_eq!(read_fixture(fixture!("bomb")).unwrap_err().fault(), Fault::Limit);
        assert_eq!(read(fixture!("bomb"), Budget::DEFAULT).unwrap().labels.size, Size::new(4096, 4096));
    }

    #[test]
    fn a_wrong_checksum_is_damage() {
        let mut bytes = fixture!("single").to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        assert!(error_of(&bytes).contains("damaged MAT-file"));
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_survived() {
        for fixture in
            [fixture!("double_compressed"), fixture!("uint32"), fixture!("inline"), fixture!("big_endian")]
        {
            assert!((0..fixture.len() - 8).all(|length| read_fixture(&fixture[..length]).is_err()));
            for (at, flip) in (0..fixture.len()).flat_map(|at| [(at, 0x01), (at, 0x80), (at, 0xff)]) {
                let mut broken = fixture.to_vec();
                broken[at] ^= flip;
                let _ = read_fixture(&broken);
            }
        }
    }
}
