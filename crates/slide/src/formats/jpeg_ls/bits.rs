//! The bits of a scan of JPEG-LS: after a byte of ones the next one has seven bits (ITU-T T.87, A.1).

pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The byte that is being read, and how many of its bits are left.
    byte: u8,
    left: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, byte: 0, left: 0 }
    }

    /// Goes on to the next byte; none at a marker, or at the end.
    fn next_byte(&mut self) -> Option<()> {
        let next = *self.bytes.get(self.at)?;
        let is_stuffed = self.byte == 0xff && self.at > 0;
        let is_marker = next == 0xff && self.bytes.get(self.at + 1).is_none_or(|behind| *behind >= 0x80);
        if is_marker || (is_stuffed && next >= 0x80) {
            return None;
        }
        (self.byte, self.left) = (next, if is_stuffed { 7 } else { 8 });
        self.at += 1;
        Some(())
    }

    /// The next bits, up to 24, as a number.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        let (mut number, mut wanted) = (0, count);
        while wanted > 0 {
            if self.left == 0 {
                self.next_byte()?;
            }
            let some = wanted.min(self.left);
            let bits = (u32::from(self.byte) >> (self.left - some)) & ((1 << some) - 1);
            number = (number << some) | bits;
            (wanted, self.left) = (wanted - some, self.left - some);
        }
        Some(number)
    }

    /// A Golomb code with `k` bits as they are, no longer than `limit`, of errors of `bits` bits (A.5.3).
    pub(super) fn golomb(&mut self, k: u32, limit: u32, bits: u32) -> Option<u32> {
        let longest = limit.checked_sub(bits + 1)?;
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
            if zeros > longest {
                return None;
            }
        }
        match zeros < longest {
            true => Some((zeros << k) + self.take(k)?),
            false => Some(self.take(bits)? + 1),
        }
    }

    /// The bytes from the marker behind the scan on.
    pub(super) fn rest(&self) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.at..)?;
        // A last byte of ones is followed by one that holds no bits.
        let rest = if self.byte == 0xff && rest.first() == Some(&0) { &rest[1..] } else { rest };
        rest.starts_with(&[0xff]).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_behind_ones_has_seven_bits() {
        let mut bits = Bits::new(&[0b1010_0000, 0xff, 0b0110_0000, 0x80, 0xff, 0xd9]);
        assert_eq!(
            [bits.take(3), bits.take(5), bits.take(8), bits.take(2)].map(Option::unwrap),
            [5, 0, 0xff, 3]
        );
        assert_eq!(bits.take(5 + 8), Some(0x80));
        assert_eq!((bits.take(1), bits.rest()), (None, Some(&[0xff, 0xd9][..])));
    }

    #[test]
    fn codes_are_zeros_a_one_and_bits_or_the_number_itself_where_they_are_too_long() {
        let mut bits = Bits::new(&[0b0010_1100, 0b0000_0001, 0b0000_0101, 0xff, 0xd9]);
        assert_eq!(bits.golomb(2, 32, 8), Some(2 * 4 + 1), "two zeros, then 01");
        assert_eq!(bits.golomb(0, 32, 8), Some(0), "a one alone");
        // Nine zeros, of which so many are the longest.
        assert_eq!(bits.golomb(3, 18, 8), Some(0b0000_0101 + 1));
    }
}
