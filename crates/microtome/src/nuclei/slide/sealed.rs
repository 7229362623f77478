//! Files in which a run keeps what a later start goes on with.
//!
//! Numbers of eight bytes, little endian, and runs of bytes after their number: first a mark with the version, then the key
//! of the run, last the SHA-256 of all before. A file that does not fit in any of this is none.

use microtome_vault::{Budget, Error, Result, checksum, disk};
use std::path::Path;

/// The mark of a kind of file, with its version.
pub(super) type Mark = [u8; 8];
/// Largest file that is read.
const LARGEST: Budget = Budget::of_bytes(1 << 30);
/// Letters of the sum at the end.
const SUM_BYTES: usize = 64;

/// A file that is being written.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// A file of the run `key`, with room for about so many bytes.
    pub(super) fn new(mark: &Mark, key: &str, capacity: usize) -> Self {
        let mut writer = Self(Vec::with_capacity(capacity + mark.len() + key.len() + SUM_BYTES));
        writer.0.extend_from_slice(mark);
        writer.bytes(key.as_bytes());
        writer
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn float(&mut self, number: f64) {
        self.number(number.to_bits());
    }

    pub(super) fn bytes(&mut self, content: &[u8]) {
        self.many_bytes(content.len(), content.iter().copied());
    }

    /// [`Self::bytes`] that are made on the way.
    pub(super) fn many_bytes(&mut self, length: usize, content: impl Iterator<Item = u8>) {
        self.number(length as u64);
        let before = self.0.len();
        self.0.extend(content);
        debug_assert_eq!(self.0.len() - before, length, "as many as were announced");
    }

    /// Bytes, compressed by Zstandard.
    ///
    /// # Errors
    /// `Io` when the library refuses.
    pub(super) fn compressed(&mut self, content: &[u8], level: i32) -> Result<()> {
        let packed = zstd::bulk::compress(content, level)
            .map_err(|error| Error::io("compressing what a tile leaves", &error))?;
        self.bytes(&packed);
        Ok(())
    }

    /// Puts the file at `path`.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub(super) fn finish(self, path: &Path) -> Result<()> {
        let Self(mut bytes) = self;
        let sum = checksum::sha256_hex(&bytes);
        bytes.extend_from_slice(sum.as_bytes());
        disk::write_atomic(path, &bytes)
    }
}

/// What `parse` makes of the file at `path`, if it is there, whole, and of the run `key`.
pub(super) fn read<T>(
    path: &Path,
    mark: &Mark,
    key: &str,
    parse: impl FnOnce(&mut Reader<'_>) -> Option<T>,
) -> Option<T> {
    let bytes = disk::read_file_bounded(path, LARGEST).ok()?;
    let (content, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM_BYTES)?)?;
    if sum != checksum::sha256_hex(content).as_bytes() {
        return None;
    }
    let mut rest = Reader(content.strip_prefix(mark)?);
    if rest.bytes()? != key.as_bytes() {
        return None;
    }
    parse(&mut rest).filter(|_| rest.0.is_empty())
}

/// What is left of a file.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    pub(super) fn float(&mut self) -> Option<f64> {
        self.number().map(f64::from_bits)
    }

    pub(super) fn size(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.size()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// Bytes that were compressed, `length` of them, and no more than a file may have.
    pub(super) fn decompressed(&mut self, length: usize) -> Option<Vec<u8>> {
        let packed = self.bytes().filter(|_| length as u64 <= LARGEST.bytes())?;
        zstd::bulk::decompress(packed, length).ok().filter(|plain| plain.len() == length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &Mark = b"MTTEST\0\x01";

    fn content(rest: &mut Reader<'_>) -> Option<(u64, f64, [Vec<u8>; 3])> {
        let plain = |rest: &mut Reader<'_>| Some(rest.bytes()?.to_vec());
        Some((rest.number()?, rest.float()?, [plain(rest)?, plain(rest)?, rest.decompressed(1000)?]))
    }

    #[test]
    fn what_is_written_is_read_back_and_any_other_byte_makes_it_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut writer = Writer::new(MARK, "key", 100);
        writer.number(u64::MAX);
        writer.float(-0.25);
        writer.bytes(b"");
        writer.many_bytes(3, [1, 2, 3].into_iter());
        writer.compressed(&[7; 1000], 1).unwrap();
        writer.finish(&path).unwrap();
        let read_it = |mark, key| read(&path, mark, key, content);
        assert_eq!(read_it(MARK, "key"), Some((u64::MAX, -0.25, [vec![], vec![1, 2, 3], vec![7; 1000]])));
        assert_eq!(read_it(MARK, "ke"), None);
        assert_eq!(read_it(b"MTTEST\0\x02", "key"), None);
        assert_eq!(read(&path, MARK, "key", |rest| rest.number()), None, "something is left");
        assert_eq!(read(&folder.path().join("none"), MARK, "key", content), None);
        for length in [999, 1001, usize::MAX] {
            let of_other_length = |rest: &mut Reader<'_>| {
                rest.number()?;
                rest.float()?;
                rest.bytes()?;
                rest.bytes()?;
                Some(rest.decompressed(length))
            };
            assert_eq!(read(&path, MARK, "key", of_other_length), Some(None), "{length}");
        }
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            disk::write_atomic(&path, &damaged).unwrap();
            assert_eq!(read_it(MARK, "key"), None, "byte {at}");
            disk::write_atomic(&path, &whole[..at]).unwrap();
            assert_eq!(read_it(MARK, "key"), None, "cut at {at}");
        }
    }
}
