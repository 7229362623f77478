//! What an artefact was made from, as one hash.

use microtome_vault::checksum::sha256_hex;
use std::fmt::Display;

/// Adds up what an artefact depends on, part by part.
#[derive(Clone, Debug)]
pub struct Key {
    text: String,
}

impl Key {
    /// For an artefact of this kind and version of what makes it: another version makes all anew.
    pub fn of(kind: &str, version: u32) -> Self {
        Self { text: format!("{kind} {version}\n") }
    }

    /// With one more part.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        let value = value.to_string();
        self.text.push_str(&format!("{name} {} {value}\n", value.len()));
        self
    }

    /// The key, in hexadecimal.
    pub fn finish(self) -> String {
        sha256_hex(self.text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cannot_be_mistaken_for_one_another() {
        let key = || Key::of("tiles", 1);
        let all = [
            key().finish(),
            Key::of("tiles", 2).finish(),
            key().with("a", 1).finish(),
            key().with("a", 1).with("b", 2).finish(),
            key().with("a", "1\nb 1 2").finish(),
        ];
        let distinct: std::collections::BTreeSet<&String> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(key().with("a", 1).finish(), all[2]);
    }
}
