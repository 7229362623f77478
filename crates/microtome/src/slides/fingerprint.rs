//! Which file a slide is, without reading all of it.

use microtome_vault::{Error, Result, checksum, disk};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes at both ends of a file that tell it from others.
const END_BYTES: u64 = 1 << 20;

/// What tells a slide's file from others without reading all of it: SHA-256 of its length and both its ends.
///
/// # Errors
/// Those of reading.
pub fn fingerprint(path: &Path) -> Result<String> {
    let failed = |error: std::io::Error| Error::io("reading", &error).at(path);
    let mut file = disk::open_file(path)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut bytes = length.to_le_bytes().to_vec();
    for start in [0, length.saturating_sub(END_BYTES)] {
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        (&mut file).take(END_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    }
    Ok(checksum::sha256_hex(&bytes))
}
