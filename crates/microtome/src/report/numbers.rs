//! Numbers as people read them.

/// With a comma between thousands: `12,345`.
pub(crate) fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits, more for large whole numbers: `0.0123`, `1.23`, `12.3`, `1,235`; a dash for NaN.
pub(crate) fn significant(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        _ if !value.is_finite() => return "–".to_owned(),
        0.0 => return "0".to_owned(),
        _ if !(1e-4..1e12).contains(&size) => return format!("{value:.1e}"),
        _ => (2 - size.log10().floor() as i32).max(0) as usize,
    };
    if size >= 999.5 {
        let sign = if value < 0.0 { "-" } else { "" };
        return sign.to_owned() + &grouped(size.round() as usize);
    }
    format!("{value:.decimals$}")
}

/// With three decimals where that says enough, so that numbers of a column line up; else as [`significant`].
pub(crate) fn aligned(value: f64) -> String {
    let is_common = value == 0.0 || (0.001..1000.0).contains(&value.abs());
    if is_common { format!("{:.3}", value + 0.0) } else { significant(value) }
}

/// `1 nucleus`, `2 nuclei`.
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// `4.2 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{:.1} s", seconds.max(0.0)),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

/// The middle value, or the mean of the two in the middle; none of nothing. Values must not be NaN.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get(sorted.len().saturating_sub(1) / 2)?, sorted.get(sorted.len() / 2)?);
    Some((low + high) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let numbers =
            [0.0, 0.012_345, 0.5, 1.0, 12.345, 123.4, 999.7, 1234.5, -0.25, -4321.0, f64::NAN, 3e-7];
        let expected = [
            "0", "0.0123", "0.500", "1.00", "12.3", "123", "1,000", "1,235", "-0.250", "-4,321", "–",
            "3.0e-7",
        ];
        assert_eq!(numbers.map(significant), expected);
        assert_eq!([0.04, 59.0, 200.0, 7500.0].map(duration), ["0.0 s", "59.0 s", "3 min 20 s", "2 h 5 min"]);
        assert_eq!(
            [0.0, 0.096, -1.5, 4e-5, 1234.5].map(aligned),
            ["0.000", "0.096", "-1.500", "4.0e-5", "1,235"]
        );
        assert_eq!(counted(1, "nucleus", "nuclei"), "1 nucleus");
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
