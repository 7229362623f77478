//! What a scan of JPEG-LS is decoded with (ITU-T T.87, annexes A.1, A.2 and C.2.4.1.1).

/// Values that the standard derives from the depth of samples and from how far they may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Parameters {
    /// MAXVAL
    pub(super) max_value: i32,
    /// NEAR: how far samples may be from those that were coded.
    pub(super) near: i32,
    /// RANGE: how many errors there are.
    pub(super) range: i32,
    /// qbpp: bits of an error.
    pub(super) bits: u32,
    /// LIMIT: longest code.
    pub(super) limit: u32,
    /// RESET: after how many errors a context forgets half of them.
    pub(super) reset: i32,
    /// T1, T2, T3: what parts small, middle and large differences.
    thresholds: [i32; 3],
}

impl Parameters {
    /// Those of samples of `bits`, with what is stated instead (MAXVAL, T1, T2, T3, RESET; 0 where nothing is). None if they
    /// contradict each other.
    pub(super) fn of(bits: u16, near: u16, presets: [u16; 5]) -> Option<Self> {
        let [max_value, .., reset] = presets.map(i32::from);
        let most = (1 << bits) - 1;
        let max_value = if max_value == 0 { most } else { max_value };
        let near = i32::from(near);
        // The highest that the standard allows; what has added up stays within 32 bits.
        if reset > max_value.max(255) {
            return None;
        }
        if max_value > most || near > (max_value / 2).min(255) {
            return None;
        }
        let clamped = |value: i32, low: i32| if value > max_value || value < low { low } else { value };
        let basic = if max_value >= 128 {
            let factor = (max_value.min(4095) + 128) / 256;
            [factor + 2 + 3 * near, 4 * factor + 3 + 5 * near, 17 * factor + 4 + 7 * near]
        } else {
            let factor = 256 / (max_value + 1);
            [(3 / factor + 3 * near).max(2), (7 / factor + 5 * near).max(3), (21 / factor + 7 * near).max(4)]
        };
        let mut thresholds = [0; 3];
        let mut low = near + 1;
        for ((threshold, basic), stated) in thresholds.iter_mut().zip(basic).zip(&presets[1..4]) {
            *threshold = if *stated == 0 { clamped(basic, low) } else { i32::from(*stated) };
            if *threshold < low || *threshold > max_value.max(low) {
                return None;
            }
            low = *threshold;
        }
        let range = (max_value + 2 * near) / (2 * near + 1) + 1;
        let ceiling_of_log2 = |value: i32| (value as u32).next_power_of_two().ilog2();
        let depth = ceiling_of_log2(max_value + 1).max(2);
        Some(Self {
            max_value,
            near,
            range,
            bits: ceiling_of_log2(range),
            limit: 2 * (depth + depth.max(8)),
            reset: if reset == 0 { 64 } else { reset.max(3) },
            thresholds,
        })
    }

    /// Distance of the samples that errors lead to.
    pub(super) fn step(&self) -> i32 {
        2 * self.near + 1
    }

    /// One of nine kinds of differences, -4 to 4.
    pub(super) fn kind(&self, difference: i32) -> i32 {
        let amount = difference.abs();
        if amount <= self.near {
            return 0;
        }
        let kind = 1 + self.thresholds.iter().filter(|threshold| amount >= **threshold).count() as i32;
        if difference < 0 { -kind } else { kind }
    }

    /// The sample at an error from what was foretold.
    pub(super) fn sample(&self, foretold: i32, error: i32) -> i32 {
        let sample = foretold + error * self.step();
        let around = self.range * self.step();
        let sample = if sample < -self.near {
            sample + around
        } else if sample > self.max_value + self.near {
            sample - around
        } else {
            sample
        };
        sample.clamp(0, self.max_value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_standards_table() {
        // C.2.4.1.1.2: 8 bits 3, 7, 21; 12 bits 18, 67, 276; 16 bits the same as 12.
        let thresholds = |bits, near| Parameters::of(bits, near, [0; 5]).unwrap().thresholds;
        assert_eq!(thresholds(8, 0), [3, 7, 21]);
        assert_eq!(thresholds(12, 0), [18, 67, 276]);
        assert_eq!(thresholds(16, 0), [18, 67, 276]);
        assert_eq!(thresholds(8, 2), [9, 17, 35]);
        let eight = Parameters::of(8, 0, [0; 5]).unwrap();
        assert_eq!((eight.range, eight.bits, eight.limit, eight.reset), (256, 8, 32, 64));
        let near = Parameters::of(8, 3, [0; 5]).unwrap();
        assert_eq!((near.range, near.bits), (38, 6));
        assert_eq!(Parameters::of(8, 0, [0, 9, 5, 30, 0]), None, "the second threshold below the first");
        assert_eq!(Parameters::of(8, 200, [0; 5]), None);
    }

    #[test]
    fn differences_are_of_nine_kinds() {
        let eight = Parameters::of(8, 0, [0; 5]).unwrap();
        let kinds = [-30, -21, -20, -7, -6, -3, -2, -1, 0, 1, 2, 3, 6, 7, 20, 21].map(|d| eight.kind(d));
        assert_eq!(kinds, [-4, -4, -3, -3, -2, -2, -1, -1, 0, 1, 1, 2, 2, 3, 3, 4]);
    }
}
