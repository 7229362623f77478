//! What a check found.

/// The outcome of one check.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Its name.
    pub(crate) check: &'static str,
    /// What it looked at, with counts.
    pub(crate) looked_at: String,
    /// What is wrong, a line each; empty when all is well.
    pub(crate) faults: Vec<String>,
}

impl Outcome {
    /// The outcome of a check that looked at `count` things, of which there are at least `fewest` in a healthy house.
    pub(crate) fn new(
        check: &'static str,
        count: usize,
        fewest: usize,
        things: &str,
        faults: Vec<String>,
    ) -> Self {
        let mut outcome = Self { check, looked_at: format!("{count} {things}"), faults };
        if count < fewest {
            outcome
                .faults
                .push(format!("only {count} {things} were found, there should be {fewest} at least"));
        }
        outcome
    }

    /// The outcome of a check that could not be made.
    pub(crate) fn impossible(check: &'static str, why: String) -> Self {
        Self { check, looked_at: "nothing".to_owned(), faults: vec![why] }
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn looking_at_too_little_is_a_fault() {
        assert!(Outcome::new("a", 5, 5, "files", Vec::new()).faults.is_empty());
        assert_eq!(Outcome::new("a", 4, 5, "files", Vec::new()).faults.len(), 1);
    }
}
