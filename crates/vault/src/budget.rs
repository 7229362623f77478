//! Memory budgets: a size that was read from a file is asked for here before it is allocated.

use crate::{Error, Result};

/// How many bytes one allocation driven by a file's own numbers may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    bytes: u64,
}

impl Budget {
    /// 4 GiB: a 36,000 × 36,000 RGB picture.
    pub const DEFAULT: Self = Self { bytes: 4 << 30 };

    /// A budget of `bytes`.
    pub const fn of_bytes(bytes: u64) -> Self {
        Self { bytes }
    }

    /// The budget in bytes.
    pub const fn bytes(self) -> u64 {
        self.bytes
    }

    /// Grants `count * bytes_each`, or says how much is missing. `what` is a noun: "this picture".
    ///
    /// # Errors
    /// `Limit` when the product overflows or exceeds the budget.
    pub fn grant(self, what: &str, count: u64, bytes_each: u64) -> Result<usize> {
        let wanted = count.checked_mul(bytes_each).filter(|&wanted| wanted <= self.bytes);
        wanted.and_then(|wanted| usize::try_from(wanted).ok()).ok_or_else(|| {
            let mib = |bytes: u128| bytes.div_ceil(1 << 20);
            Error::limit(format!(
                "{what} needs {} MiB of memory, the budget is {} MiB",
                mib(u128::from(count) * u128::from(bytes_each)),
                mib(self.bytes.into())
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_grants_up_to_its_bytes_and_survives_overflow() {
        let budget = Budget::of_bytes(1 << 20);
        assert_eq!(budget.grant("this picture", 1 << 18, 4).unwrap(), 1 << 20);
        let refused = budget.grant("this picture", (1 << 18) + 1, 4).unwrap_err();
        assert_eq!(refused.to_string(), "this picture needs 2 MiB of memory, the budget is 1 MiB");
        assert!(budget.grant("this picture", u64::MAX, u64::MAX).is_err());
    }
}
