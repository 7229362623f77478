//! Huffman codes of JPEG (ITU-T T.81, annexes C and F), and the bits that they are read from.
//!
//! Strict: whatever breaks a rule is none, and the caller takes the library that is told to tolerate it.

/// Codes up to this length are looked up at once.
const LOOKUP_BITS: u32 = 10;
/// Longest code.
const LONGEST: usize = 16;

/// A table of codes.
pub(super) struct Codes {
    /// For the next [`LOOKUP_BITS`] bits: the symbol and the length of its code; length 0 if it is longer.
    lookup: Box<[(u8, u8); 1 << LOOKUP_BITS]>,
    /// For the same bits, where the coefficient's own bits are among them: value, zeros before it, and bits in all; 0 bits if
    /// they are not.
    coefficients: Box<[(i16, u8, u8); 1 << LOOKUP_BITS]>,
    /// For each length, one more than the highest code of it, at the left of 16 bits.
    ends: [u32; LONGEST + 1],
    /// For each length, what is to be added to a code to get its symbol's place.
    places: [i32; LONGEST + 1],
    symbols: Vec<u8>,
}

impl Codes {
    /// The table of a segment: how many codes there are of each length, and their symbols. None if they are no code.
    pub(super) fn new(counts: &[u8; LONGEST], symbols: &[u8]) -> Option<Self> {
        let total: usize = counts.iter().map(|count| usize::from(*count)).sum();
        let symbols = symbols.get(..total)?.to_vec();
        let mut codes = Self {
            lookup: Box::new([(0, 0); 1 << LOOKUP_BITS]),
            coefficients: Box::new([(0, 0, 0); 1 << LOOKUP_BITS]),
            ends: [0; LONGEST + 1],
            places: [0; LONGEST + 1],
            symbols,
        };
        let (mut code, mut place) = (0u32, 0usize);
        for (length, count) in (1u32..).zip(counts) {
            codes.places[length as usize] = place as i32 - code as i32;
            for symbol in &codes.symbols[place..place + usize::from(*count)] {
                if length <= LOOKUP_BITS {
                    let free = LOOKUP_BITS - length;
                    let start = (code << free) as usize;
                    codes.lookup.get_mut(start..start + (1 << free))?.fill((*symbol, length as u8));
                }
                code += 1;
            }
            place += usize::from(*count);
            // A code of ones alone is none.
            if code >= 1 << length && *count > 0 {
                return None;
            }
            codes.ends[length as usize] = code << (LONGEST as u32 - length);
            code <<= 1;
        }
        for (bits, (symbol, length)) in codes.lookup.iter().enumerate() {
            let (zeros, size) = (symbol >> 4, u32::from(symbol & 15));
            let used = u32::from(*length) + size;
            if *length > 0 && size > 0 && used <= LOOKUP_BITS {
                let own = (bits >> (LOOKUP_BITS - used)) as u32 & ((1 << size) - 1);
                codes.coefficients[bits] = (signed(own, size), zeros, used as u8);
            }
        }
        Some(codes)
    }

    /// The next symbol.
    #[inline(always)]
    fn next(&self, bits: &mut Bits<'_>) -> Option<u8> {
        let (symbol, length) = self.lookup[bits.peek(LOOKUP_BITS) as usize];
        if length > 0 {
            bits.skip(u32::from(length));
            return Some(symbol);
        }
        self.next_long(bits)
    }

    #[cold]
    fn next_long(&self, bits: &mut Bits<'_>) -> Option<u8> {
        let next = bits.peek(LONGEST as u32);
        let length = (LOOKUP_BITS as usize + 1..=LONGEST).find(|length| next < self.ends[*length])?;
        bits.skip(length as u32);
        let place = (next >> (LONGEST - length)) as i32 + self.places[length];
        self.symbols.get(usize::try_from(place).ok()?).copied()
    }
}

/// A number of `size` bits whose first bit says whether it is positive.
fn signed(bits: u32, size: u32) -> i16 {
    let is_negative = bits >> (size - 1) == 0;
    (bits as i32 - if is_negative { (1 << size) - 1 } else { 0 }) as i16
}

/// Where each coefficient of the stream lies in a block.
#[rustfmt::skip] // A square is read as one.
const ZIGZAG: [u8; 64] = [
     0,  1,  8, 16,  9,  2,  3, 10,
    17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34,
    27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36,
    29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46,
    53, 60, 61, 54, 47, 55, 62, 63,
];

/// Numbers in the order of the stream, in the order of a block.
pub(super) fn in_block_order<T: Copy + Default>(stream: &[T; 64]) -> [T; 64] {
    let mut block = [T::default(); 64];
    ZIGZAG.iter().zip(stream).for_each(|(place, value)| block[usize::from(*place)] = *value);
    block
}

/// Reads a block of zeros: the first coefficient's difference to the `last` one of its component, then the others. None
/// where the stream is no such block.
pub(super) fn read_block(
    stream: &mut Bits<'_>,
    (first, others): (&Codes, &Codes),
    last: &mut i16,
    block: &mut [i16; 64],
) -> Option<()> {
    // Of its own, so that it stays in registers.
    let mut bits = *stream;
    bits.fill();
    let size = u32::from(first.next(&mut bits)?);
    if size > 11 {
        return None;
    }
    if size > 0 {
        *last = last.wrapping_add(signed(bits.take(size), size));
    }
    block[0] = *last;
    let mut at = 1;
    while at < 64 {
        bits.fill();
        let (value, zeros, used) = others.coefficients[bits.peek(LOOKUP_BITS) as usize];
        if used > 0 {
            bits.skip(u32::from(used));
            at += usize::from(zeros);
            block[usize::from(*ZIGZAG.get(at)?)] = value;
            at += 1;
            continue;
        }
        let symbol = others.next(&mut bits)?;
        let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        match (zeros, size) {
            (15, 0) => at += 16,
            (_, 0) => break,
            _ => {
                at += zeros;
                block[usize::from(*ZIGZAG.get(at)?)] = signed(bits.take(size), size);
                at += 1;
            }
        }
    }
    *stream = bits;
    (at <= 64).then_some(())
}

/// The bits of entropy-coded bytes, up to the next marker.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, at the left.
    next: u64,
    /// How many of them are there.
    count: u32,
    /// How many of these are zeros behind the end.
    beyond: u32,
}

impl<'a> Bits<'a> {
    /// Those from the start of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, next: 0, count: 0, beyond: 0 }
    }

    /// Makes at least 32 bits be there, zeros behind the end: enough for a code and its number.
    #[inline(always)]
    fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(eight) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let eight = u64::from_be_bytes(*eight);
            // No byte of ones among them: a byte's complement is zero then.
            let has_ones = (!eight).wrapping_sub(0x0101_0101_0101_0101) & eight & 0x8080_8080_8080_8080;
            if has_ones == 0 {
                let bytes = (63 - self.count) / 8;
                self.at += bytes as usize;
                self.next |= eight >> self.count;
                self.count += 8 * bytes;
                // What was read beyond these bytes is read again.
                self.next &= !(u64::MAX >> self.count);
                return;
            }
        }
        *self = self.filled_slowly();
    }

    #[inline(never)]
    fn filled_slowly(mut self) -> Self {
        while self.count <= 56 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                (None | Some(0xff), _) => {
                    self.beyond += 8;
                    0
                }
                (Some(byte), _) => {
                    self.at += 1;
                    *byte
                }
            };
            self.next |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        self
    }

    #[inline]
    fn peek(&self, count: u32) -> u32 {
        (self.next >> (64 - count)) as u32
    }

    #[inline]
    fn skip(&mut self, count: u32) {
        self.next <<= count;
        self.count -= count;
    }

    #[inline]
    fn take(&mut self, count: u32) -> u32 {
        let bits = self.peek(count);
        self.skip(count);
        bits
    }

    /// Whether bits were read behind the end.
    pub(super) fn is_over(&self) -> bool {
        self.beyond > self.count
    }

    /// The bytes from the next marker on; none if bits were read behind it, or whole bytes before it were not read.
    pub(super) fn rest(self) -> Option<&'a [u8]> {
        let unread = self.count.checked_sub(self.beyond)?;
        let rest = &self.bytes[self.at..];
        // More of these may stand before a marker.
        let fill = rest.windows(2).take_while(|pair| *pair == [0xff; 2]).count();
        (unread < 8 && rest.first() == Some(&0xff)).then_some(&rest[fill..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of codes in annex K.3 of the standard, for the first coefficients of luma.
    fn luma() -> Codes {
        let counts = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
        Codes::new(&counts, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]).unwrap()
    }

    #[test]
    fn codes_are_those_of_the_standard() {
        // 00 → 0, 010 → 1, 110 → 5, 1110 → 6, 111111110 → 11.
        let bytes = [0b0001_0110, 0b1110_1111, 0b1111_0010];
        let mut bits = Bits::new(&bytes);
        bits.fill();
        let read: Vec<u8> = (0..6).map(|_| luma().next(&mut bits).unwrap()).collect();
        assert_eq!(read, [0, 1, 5, 6, 11, 1]);
    }

    #[test]
    fn long_codes_are_found_and_codes_that_are_none_refused() {
        let mut counts = [1; 16];
        counts[15] = 1;
        let symbols: Vec<u8> = (0..16).collect();
        let codes = Codes::new(&counts, &symbols).unwrap();
        for length in 1..=16u32 {
            // Ones, and a zero behind them.
            let code = (u16::MAX << (16 - length)) & !(1 << (16 - length));
            let bytes = [code.to_be_bytes()[0] & 0xfe, code.to_be_bytes()[1]];
            let mut bits = Bits { bytes: &[], at: 0, next: u64::from(code) << 48, count: 64, beyond: 0 };
            assert_eq!(codes.next(&mut bits), Some(length as u8 - 1), "{bytes:?}");
            assert_eq!(bits.count, 64 - length);
        }
        let mut ones = Bits { bytes: &[], at: 0, next: u64::MAX, count: 64, beyond: 0 };
        assert_eq!(codes.next(&mut ones), None);
        let mut full = [0; 16];
        full[0] = 2;
        assert!(Codes::new(&full, &[0, 1]).is_none(), "a code of ones");
        full[0] = 3;
        assert!(Codes::new(&full, &[0, 1, 2]).is_none(), "too many");
        assert!(Codes::new(&counts, &symbols[1..]).is_none(), "too few symbols");
    }

    #[test]
    fn numbers_have_the_sign_of_their_first_bit() {
        assert_eq!(
            [signed(0, 1), signed(1, 1), signed(0, 3), signed(3, 3), signed(4, 3)],
            [-1, 1, -7, -4, 4]
        );
    }

    #[test]
    fn stuffed_bytes_are_left_out_and_a_marker_ends_the_bits() {
        let bytes = [1, 2, 3, 0xff, 0, 4, 5, 6, 7, 8, 9, 0xff, 0xd9];
        let mut bits = Bits::new(&bytes);
        let mut read = Vec::new();
        for _ in 0..10 {
            bits.fill();
            read.push(bits.take(8) as u8);
        }
        assert_eq!(read, [1, 2, 3, 0xff, 4, 5, 6, 7, 8, 9]);
        assert_eq!(bits.rest(), Some(&[0xff, 0xd9][..]));
        let mut early = Bits::new(&bytes);
        early.fill();
        early.skip(8);
        assert_eq!(early.rest(), None, "bytes are left");
        let mut late = Bits::new(&[0x12, 0xff, 0xd9]);
        late.fill();
        late.skip(9);
        assert_eq!(late.rest(), None, "a bit behind the marker");
        assert!(late.is_over() && !early.is_over());
    }
}
