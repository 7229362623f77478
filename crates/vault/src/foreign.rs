//! Calls to decoders that others wrote. They are good, and have each had inputs on which they panicked; that must cost one
//! file, not a run over thousands.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether such a call is under way on this thread: its panics are caught, and nobody need read of them.
    static IS_FOREIGN: Cell<bool> = const { Cell::new(false) };
}

/// What the call gives; none when it panicked. Only calls to others go through here, with what little is around them, so that our own
/// panics stay visible.
pub fn call<T>(call: impl FnOnce() -> T) -> Option<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_FOREIGN.get() {
                others(panic);
            }
        }));
    });
    let outer = IS_FOREIGN.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(call));
    IS_FOREIGN.set(outer);
    outcome.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_panics_gives_nothing_and_the_next_is_none_the_worse() {
        assert_eq!(call(|| -> u8 { panic!("on purpose") }), None);
        assert_eq!(call(|| 7), Some(7));
    }
}
