//! Who waits for whom: tiles are begun in turn, and written in turn as they are finished.

use microtome_vault::{Error, Result};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Lets threads pass in the order of their numbers.
#[derive(Debug, Default)]
pub struct Turns {
    next: Mutex<usize>,
    changed: Condvar,
}

impl Turns {
    /// The turn of a number. Each number from 0 on is to be taken once, and each passes, whatever becomes of its thread.
    pub fn of(&self, number: usize) -> Turn<'_> {
        Turn { turns: self, number }
    }
}

/// A place in the order; the next one's turn comes when it is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    turns: &'a Turns,
    number: usize,
}

impl Turn<'_> {
    /// Waits until all before have passed.
    pub fn wait(&self) {
        let next = self.turns.next.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.turns.changed.wait_while(next, |next| *next < self.number));
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.wait();
        *self.turns.next.lock().unwrap_or_else(PoisonError::into_inner) = self.number + 1;
        self.turns.changed.notify_all();
    }
}

/// Which tiles are finished.
#[derive(Debug)]
pub struct Finished {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    is_finished: Vec<bool>,
    is_over: bool,
}

impl Finished {
    /// All of `count` tiles but those `todo`.
    pub fn but(count: usize, todo: &[usize]) -> Self {
        let mut is_finished = vec![true; count];
        todo.iter().for_each(|index| is_finished[*index] = false);
        Self { state: Mutex::new(State { is_finished, is_over: false }), changed: Condvar::new() }
    }

    /// A tile is finished.
    pub fn note(&self, index: usize) {
        self.lock().is_finished[index] = true;
        self.changed.notify_all();
    }

    /// Once this is dropped, by a panic too, no further tile will be.
    pub fn until_dropped(&self) -> End<'_> {
        End(self)
    }

    /// Whether a tile is finished.
    pub fn holds(&self, index: usize) -> bool {
        self.lock().is_finished[index]
    }

    /// Waits until a tile is finished.
    ///
    /// # Errors
    /// `Cancelled` when it will not be.
    pub fn wait_for(&self, index: usize) -> Result<()> {
        let is_awaited = |state: &mut State| !state.is_finished[index] && !state.is_over;
        let state = self.changed.wait_while(self.lock(), is_awaited).unwrap_or_else(PoisonError::into_inner);
        match state.is_finished[index] {
            true => Ok(()),
            false => Err(Error::cancelled("not all tiles were done; those that were are kept")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Finished::until_dropped`].
#[derive(Debug)]
pub struct End<'a>(&'a Finished);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_pass_in_order_also_when_some_give_up() {
        let turns = Turns::default();
        let passed = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for number in (0..40).rev() {
                let (turns, passed) = (&turns, &passed);
                scope.spawn(move || {
                    let turn = turns.of(number);
                    if number % 7 == 3 {
                        return;
                    }
                    turn.wait();
                    passed.lock().unwrap().push(number);
                });
            }
        });
        let expected: Vec<usize> = (0..40).filter(|number| number % 7 != 3).collect();
        assert_eq!(*passed.lock().unwrap(), expected);
    }

    #[test]
    fn what_is_finished_is_waited_for_and_what_will_not_be_is_told() {
        let finished = Finished::but(4, &[1, 3]);
        assert!(finished.holds(0) && !finished.holds(1) && finished.wait_for(2).is_ok());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| (finished.wait_for(1).is_ok(), finished.wait_for(3).is_err()));
            let end = finished.until_dropped();
            finished.note(1);
            drop(end);
            assert_eq!(waiting.join().unwrap(), (true, true));
        });
        assert!(finished.wait_for(1).is_ok(), "what was finished stays so");
    }
}
