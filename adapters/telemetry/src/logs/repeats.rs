//! Counts how often a line came lately. Pure: time is an argument.

use std::{collections::HashMap, hash::Hash, time::Duration};

use taskbroker_domain::time::Steady;

/// How many different lines are followed at once; others pass.
const LINES_MAX: usize = 1024;

/// What is followed of each line. An interval begins with a line's first appearance.
#[derive(Debug)]
pub(super) struct Repeats<L> {
    max: u32,
    interval: Duration,
    lines: HashMap<L, Seen>,
}

#[derive(Debug)]
struct Seen {
    since: Steady,
    times: u32,
}

/// A line that was held back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HeldBack<L> {
    pub(super) line: L,
    /// How often it was held back.
    pub(super) times: u32,
}

impl<L: Eq + Hash> Repeats<L> {
    pub(super) fn new(max: u32, interval: Duration) -> Self {
        Self { max, interval, lines: HashMap::new() }
    }

    /// Whether the line may appear. Within an interval it may `max` times.
    pub(super) fn admit(&mut self, line: L, now: Steady) -> bool {
        if let Some(seen) = self.lines.get_mut(&line) {
            seen.times = seen.times.saturating_add(1);
            return seen.times <= self.max;
        }
        if self.lines.len() < LINES_MAX {
            self.lines.insert(line, Seen { since: now, times: 1 });
        }
        true
    }

    /// Ends the intervals that are over, and returns what was held back in them.
    pub(super) fn due(&mut self, now: Steady) -> Vec<HeldBack<L>> {
        let interval = self.interval;
        let over = self.lines.extract_if(|_, seen| now.since(seen.since) >= interval);
        held_back(over, self.max)
    }

    /// Ends all intervals.
    pub(super) fn all(&mut self) -> Vec<HeldBack<L>> {
        held_back(self.lines.drain(), self.max)
    }
}

fn held_back<L>(lines: impl Iterator<Item = (L, Seen)>, max: u32) -> Vec<HeldBack<L>> {
    lines.filter(|(_, seen)| seen.times > max).map(|(line, seen)| HeldBack { line, times: seen.times - max }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Steady {
        Steady::from_millis(seconds * 1000)
    }

    #[test]
    fn a_line_may_appear_so_often_in_an_interval_and_the_rest_is_counted() {
        let mut repeats = Repeats::new(2, INTERVAL);
        let admitted: Vec<_> = (0..5).map(|second| repeats.admit("a", at(second))).collect();
        assert_eq!(admitted, [true, true, false, false, false]);
        assert!(repeats.admit("b", at(5)));
        assert_eq!(repeats.due(at(9)), []);
        assert_eq!(repeats.due(at(10)), [HeldBack { line: "a", times: 3 }]);
        assert!(repeats.admit("a", at(10)));
        assert_eq!(repeats.due(at(20)), []);
    }

    #[test]
    fn the_end_sums_up_what_is_not_due_yet() {
        let mut repeats = Repeats::new(1, INTERVAL);
        repeats.admit("a", at(0));
        repeats.admit("a", at(0));
        assert_eq!(repeats.all(), [HeldBack { line: "a", times: 1 }]);
        assert_eq!(repeats.all(), []);
    }

    #[test]
    fn a_flood_of_different_lines_takes_no_more_memory() {
        let mut repeats = Repeats::new(1, INTERVAL);
        assert!((0..10 * LINES_MAX).all(|line| repeats.admit(line, at(0))));
        assert_eq!(repeats.lines.len(), LINES_MAX);
    }
}
