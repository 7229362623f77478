//! Who waits for whom: a tile is begun when those before it have handed on what it needs, and written in turn when it is
//! finished.

use microtome_slide::TilePlan;
use microtome_vault::{Error, Result};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Deals out tiles: the first, in the order of the plan, that waits for no other. What a tile needs lies in the tile to its
/// left and in the one above, so that rows are worked on at a time, each a step behind the one above it.
///
/// Towards the end that order would leave a row of tiles that wait for each other to one thread, while the others have nothing
/// to do. So once the longest way from tile to waiting tile is long for what is left, the tile at its beginning comes first;
/// with many threads that is so from the first tile on, and tiles are done along diagonals.
#[derive(Debug)]
pub struct Front {
    /// For each tile of the plan, those that hand something on to it.
    before: Vec<[Option<usize>; 2]>,
    /// For each, the pixels of the longest way from it to the end.
    way_px: Vec<usize>,
    /// Its own.
    own_px: Vec<usize>,
    /// The order of the plan is kept while more pixels are left than this many longest ways have.
    most_ways: usize,
    state: Mutex<FrontState>,
    changed: Condvar,
}

#[derive(Debug)]
struct FrontState {
    todo: Vec<usize>,
    todo_px: usize,
    has_handed_on: Vec<bool>,
    is_over: bool,
}

/// The order of the plan is kept while this many times more is left than all workers do while one goes the longest way: with
/// less it would be known too late what must be begun.
const AHEAD: usize = 2;

/// Column and row of each tile of a plan.
fn places(plan: &TilePlan) -> impl Iterator<Item = (i64, i64)> {
    let side = plan.core_px as i64;
    plan.tiles.iter().map(move |tile| (tile.core.corner.x_px / side, tile.core.corner.y_px / side))
}

impl Front {
    /// The tiles `todo` of a plan; the others have handed on what they had.
    pub fn of(plan: &TilePlan, todo: &[usize]) -> Self {
        let index_at: BTreeMap<(i64, i64), usize> = places(plan).zip(0..).collect();
        let tile_at = |place: (i64, i64)| index_at.get(&place).copied();
        let before: Vec<[Option<usize>; 2]> =
            places(plan).map(|(x, y)| [tile_at((x - 1, y)), tile_at((x, y - 1))]).collect();
        let mut has_handed_on = vec![true; plan.tiles.len()];
        let mut own_px = vec![0; plan.tiles.len()];
        for index in todo {
            has_handed_on[*index] = false;
            own_px[*index] = plan.tiles[*index].core.size.area_px();
        }
        let mut way_px = own_px.clone();
        // Those that wait come after those that they wait for.
        for (index, before) in before.iter().enumerate().rev().filter(|(index, _)| !has_handed_on[*index]) {
            for one in before.iter().flatten() {
                way_px[*one] = way_px[*one].max(own_px[*one] + way_px[index]);
            }
        }
        let todo_px = own_px.iter().sum();
        let state = FrontState { todo: todo.to_vec(), todo_px, has_handed_on, is_over: false };
        Self { before, way_px, own_px, most_ways: AHEAD, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The same for so many who work at a time.
    pub fn for_workers(self, workers: usize) -> Self {
        Self { most_ways: AHEAD * workers, ..self }
    }

    /// The next tile, once there is one; none when all were dealt out, or it is over.
    pub fn next(&self) -> Option<Dealt<'_>> {
        let mut state = self.lock();
        while !state.is_over && !state.todo.is_empty() {
            match self.place_of_next(&state) {
                Some(place) => {
                    let index = state.todo.remove(place);
                    state.todo_px -= self.own_px[index];
                    return Some(Dealt { index, front: self });
                }
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
        None
    }

    /// Which of the tiles that are left comes next; none if all wait.
    fn place_of_next(&self, state: &FrontState) -> Option<usize> {
        let waits = |index: usize| self.before[index].iter().flatten().any(|one| !state.has_handed_on[*one]);
        let can_begin = || state.todo.iter().enumerate().filter(|(_, index)| !waits(**index));
        let (first, _) = can_begin().next()?;
        // Of equally long ways the first.
        let (longest, index) = can_begin().rev().max_by_key(|(_, index)| self.way_px[**index])?;
        Some(if self.way_px[*index] * self.most_ways >= state.todo_px { longest } else { first })
    }

    /// How many tiles can be worked on at a time, at least, if all of the plan are to be done: of those that wait for equally
    /// many others in a row, none waits for another.
    pub fn width(&self) -> usize {
        let (mut steps, mut tiles) = (Vec::with_capacity(self.before.len()), vec![0]);
        for before in &self.before {
            // Those before come before it in the plan, too.
            let step = before.iter().flatten().map(|index: &usize| steps[*index] + 1).max().unwrap_or(0);
            steps.push(step);
            tiles.resize(tiles.len().max(step + 1), 0);
            tiles[step] += 1;
        }
        tiles.into_iter().max().unwrap_or(0)
    }

    /// Deals out no further tile.
    pub fn stop(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, FrontState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A tile to be worked on. Whoever drops it without [`Self::hand_on`] has failed: no further tile is dealt out then.
#[derive(Debug)]
pub struct Dealt<'a> {
    /// Its place in the plan.
    pub index: usize,
    front: &'a Front,
}

impl Dealt<'_> {
    /// The tile has handed on what others wait for.
    pub fn hand_on(self) {
        self.front.lock().has_handed_on[self.index] = true;
        self.front.changed.notify_all();
    }
}

impl Drop for Dealt<'_> {
    fn drop(&mut self) {
        if !self.front.lock().has_handed_on[self.index] {
            self.front.stop();
        }
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
    use microtome_slide::plan::PlannedTile;
    use microtome_slide::tissue::Shares;
    use microtome_slide::{PointInLevel, RectangleInLevel, Size};

    /// Tiles of 10 px in rows of 7, those given.
    fn plan(indices: impl Iterator<Item = usize>) -> TilePlan {
        let tile = |index: usize| {
            let corner = PointInLevel::new((index % 7 * 10) as i64, (index / 7 * 10) as i64);
            let core = RectangleInLevel { corner, size: Size::new(10, 10) };
            PlannedTile { core, shares: Shares::default() }
        };
        let size = Size::new(70, 50);
        TilePlan { level: 0, size, downsample: 1.0, core_px: 10, tiles: indices.map(tile).collect() }
    }

    #[test]
    fn no_tile_is_dealt_out_before_its_neighbours_have_handed_on_and_each_is_once() {
        // A hole in the tissue, and some tiles that an earlier run has done.
        let there: Vec<usize> = (0..35).filter(|index| ![9, 10, 17].contains(index)).collect();
        let plan = plan(there.iter().copied());
        let todo: Vec<usize> = (0..there.len()).filter(|index| ![0, 3, 20].contains(index)).collect();
        let front = Front::of(&plan, &todo).for_workers(4);
        let begun = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(dealt) = front.next() {
                        let place = there[dealt.index];
                        let left = place.checked_sub(1).filter(|_| !place.is_multiple_of(7));
                        for before in [left, place.checked_sub(7)].into_iter().flatten() {
                            let Ok(before) = there.binary_search(&before) else { continue };
                            let is_done = !todo.contains(&before) || begun.lock().unwrap().contains(&before);
                            assert!(is_done, "{place} before its neighbour");
                        }
                        std::thread::sleep(std::time::Duration::from_micros(300));
                        begun.lock().unwrap().push(dealt.index);
                        dealt.hand_on();
                    }
                });
            }
        });
        let mut begun = begun.into_inner().unwrap();
        begun.sort_unstable();
        assert_eq!(begun, todo);
    }

    /// The tiles `todo` in the order in which one who works alone is given them, though they are dealt as if for several.
    fn order(plan: &TilePlan, todo: &[usize], workers: usize) -> Vec<usize> {
        let front = Front::of(plan, todo).for_workers(workers);
        let mut order = Vec::new();
        while let Some(dealt) = front.next() {
            order.push(dealt.index);
            dealt.hand_on();
        }
        order
    }

    #[test]
    fn rows_are_done_in_turn_until_the_longest_way_is_long_for_what_is_left() {
        // Five rows of seven: the longest way is of eleven tiles. For two who work, twice ahead, 44 are enough: at once.
        let all: Vec<usize> = (0..35).collect();
        let across = order(&plan(0..35), &all, 2);
        assert_eq!(
            across[..6],
            [0, 1, 7, 2, 8, 14],
            "the beginning of the longest way, and of equal ways the first"
        );
        // For one, two ways must be as long as what is left: 16 tiles, when the way from the fourth row's first on has eight.
        let rows = order(&plan(0..35), &all, 1);
        assert_eq!(rows[..20], [&(0..19).collect::<Vec<_>>()[..], &[21]].concat()[..]);
        for mut order in [across, rows] {
            order.sort_unstable();
            assert_eq!(order, all);
        }
    }

    #[test]
    fn ways_end_where_a_tile_is_done() {
        // Of the last row only its third is done: two before it, four after it.
        let todo: Vec<usize> = (28..35).filter(|index| *index != 30).collect();
        assert_eq!(order(&plan(0..35), &todo, 1), [31, 32, 28, 33, 29, 34]);
    }

    #[test]
    fn who_waits_is_told_that_it_is_over() {
        let plan = plan(0..2);
        let front = Front::of(&plan, &[0, 1]);
        let first = front.next().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| front.next().is_none());
            // The other thread waits by now, most likely.
            std::thread::sleep(std::time::Duration::from_millis(30));
            front.stop();
            assert!(waiting.join().unwrap());
        });
        drop(first);
        assert!(front.next().is_none());
    }

    #[test]
    fn a_tile_that_fails_ends_the_work_of_those_that_wait_for_it() {
        let plan = plan(0..2);
        let front = Front::of(&plan, &[0, 1]);
        std::thread::scope(|scope| {
            let failing = scope.spawn(|| {
                let _first = front.next().unwrap();
                std::thread::sleep(std::time::Duration::from_millis(30));
                panic!("on purpose");
            });
            assert!(failing.join().is_err());
            assert!(front.next().is_none(), "its neighbour would find nothing handed on");
        });
    }

    #[test]
    fn as_many_tiles_are_worked_on_as_do_not_wait_for_each_other() {
        let width = |plan: TilePlan| Front::of(&plan, &[]).width();
        assert_eq!([plan(0..7), plan(0..35), plan(0..0)].map(width), [1, 5, 0]);
        assert_eq!(width(plan([0, 2, 4, 6, 20].into_iter())), 5, "apart from each other");
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
