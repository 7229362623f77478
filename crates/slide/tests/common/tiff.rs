//! TIFF files that are made for a test.

/// The tags of a directory.
pub(crate) type Tags = Vec<(u16, Value)>;

/// A tag of a directory: number, kind (2 text, 3 and 4 numbers, 16 long numbers), values.
#[derive(Clone)]
pub(crate) enum Value {
    Numbers(u16, Vec<u64>),
    Text(&'static str),
}

/// Directories in a row, some with directories of their own, in either byte order and width of offsets.
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
    is_little_endian: bool,
    is_big: bool,
}

impl Writer {
    /// An empty file.
    pub(crate) fn new(is_little_endian: bool, is_big: bool) -> Self {
        let mut writer = Self { bytes: Vec::new(), is_little_endian, is_big };
        writer.bytes.extend(if is_little_endian { b"II" } else { b"MM" });
        writer.put(if is_big { 43 } else { 42 }, 2);
        if is_big {
            writer.put(8, 2);
            writer.put(0, 2);
        }
        writer.put(0, writer.offset_width());
        writer
    }

    pub(crate) fn offset_width(&self) -> usize {
        if self.is_big { 8 } else { 4 }
    }

    fn digits(&self, value: u64, width: usize) -> Vec<u8> {
        let little = value.to_le_bytes()[..width].to_vec();
        if self.is_little_endian { little } else { little.into_iter().rev().collect() }
    }

    fn put(&mut self, value: u64, width: usize) {
        self.bytes.extend(self.digits(value, width));
    }

    /// Puts an offset over another.
    pub(crate) fn overwrite(&mut self, at: usize, value: u64) {
        let digits = self.digits(value, self.offset_width());
        self.bytes[at..at + digits.len()].copy_from_slice(&digits);
    }

    /// Appends a directory; gives where it begins and where the offset of the next stands.
    pub(crate) fn directory(&mut self, tags: &[(u16, Value)]) -> (u64, usize) {
        let mut entries = Vec::new();
        for (tag, value) in tags {
            let (kind, count, bytes) = match value {
                Value::Text(text) => (2, text.len() + 1, [text.as_bytes(), b"\0"].concat()),
                Value::Numbers(kind, numbers) => {
                    let width =
                        [0, 0, 0, 2, 4][usize::from((*kind).min(4))] * if *kind == 16 { 2 } else { 1 };
                    (*kind, numbers.len(), numbers.iter().flat_map(|&n| self.digits(n, width)).collect())
                }
            };
            let mut field = bytes.clone();
            if bytes.len() > self.offset_width() {
                field = self.digits(self.bytes.len() as u64, self.offset_width());
                self.bytes.extend(bytes);
            }
            field.resize(self.offset_width(), 0);
            entries.push((*tag, kind, count as u64, field));
        }
        let start = self.bytes.len() as u64;
        self.put(entries.len() as u64, if self.is_big { 8 } else { 2 });
        for (tag, kind, count, field) in entries {
            self.put(tag.into(), 2);
            self.put(kind.into(), 2);
            self.put(count, self.offset_width());
            self.bytes.extend(field);
        }
        let next_at = self.bytes.len();
        self.put(0, self.offset_width());
        (start, next_at)
    }

    /// The file of these directories, one after the other.
    pub(crate) fn chain(mut self, directories: &[Tags]) -> Vec<u8> {
        let mut next_at = self.offset_width();
        for tags in directories {
            let (start, next) = self.directory(tags);
            self.overwrite(next_at, start);
            next_at = next;
        }
        self.bytes
    }
}

/// A tag of one number.
pub(crate) fn numbers(tag: u16, value: u64) -> (u16, Value) {
    (tag, Value::Numbers(4, vec![value]))
}

/// Appends a tag.
pub(crate) fn with(mut tags: Tags, more: (u16, Value)) -> Tags {
    tags.push(more);
    tags
}
