//! Notices when somebody sets the system's clock: delays and expiry go by it.

use std::time::Duration;

use taskbroker_domain::time::Now;

/// Smaller differences are the slewing of a time service, and looks that came late.
const UNNOTICED: Duration = Duration::from_secs(2);

/// Compares the system's clock with one that nobody can set.
#[derive(Default)]
pub(super) struct ClockWatch {
    last: Option<Now>,
}

/// The clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Jump {
    pub(super) direction: &'static str,
    pub(super) by: Duration,
}

impl ClockWatch {
    /// Looks at both clocks, read at the same moment.
    pub(super) fn look(&mut self, now: Now) -> Option<Jump> {
        let last = self.last.replace(now)?;
        let (forward, back) = (now.wall.since(last.wall), last.wall.since(now.wall));
        let steady = now.steady.since(last.steady);
        let (direction, by) = match forward.checked_sub(steady) {
            Some(by) if back.is_zero() => ("forward", by),
            _ => ("back", back + steady.saturating_sub(forward)),
        };
        (by > UNNOTICED).then_some(Jump { direction, by })
    }
}

#[cfg(test)]
mod tests {
    use taskbroker_domain::time::{Steady, Timestamp};

    use super::*;

    fn at(wall_s: i64, steady_s: u64) -> Now {
        Now { wall: Timestamp::from_millis(wall_s * 1000), steady: Steady::from_millis(steady_s * 1000) }
    }

    fn jump(first: Now, second: Now) -> Option<(&'static str, u64)> {
        let mut watch = ClockWatch::default();
        assert_eq!(watch.look(first), None, "one look tells nothing");
        watch.look(second).map(|jump| (jump.direction, jump.by.as_secs()))
    }

    #[test]
    fn a_clock_that_is_set_forward_or_back_is_noticed_and_by_how_much() {
        assert_eq!(jump(at(1000, 10), at(4601, 11)), Some(("forward", 3600)));
        assert_eq!(jump(at(4600, 10), at(1001, 11)), Some(("back", 3600)));
        assert_eq!(jump(at(1000, 10), at(1000, 40)), Some(("back", 30)), "it stood still");
    }

    #[test]
    fn a_clock_that_goes_on_is_not_however_late_the_look_comes() {
        assert_eq!(jump(at(1000, 10), at(1001, 11)), None);
        assert_eq!(jump(at(1000, 10), at(1600, 610)), None);
        assert_eq!(jump(at(1000, 10), at(1003, 11)), None);
    }
}
