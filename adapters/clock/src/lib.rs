//! The system clock: the one place where the broker reads the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use taskbroker_domain::{
    ports::clock::Clock,
    time::{Now, Steady, Timestamp},
};

/// Wall time from the system, steady time counted from the clock's making.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose steady time begins at zero.
    #[expect(clippy::disallowed_methods, reason = "the source of steady time")]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the source of wall time")]
    fn now(&self) -> Now {
        let wall = Timestamp::from_millis(since_epoch_ms(SystemTime::now()));
        Now { wall, steady: Steady::from_millis(millis(self.started.elapsed())) }
    }
}

/// A clock that stands before 1970 counts as standing at 1970.
fn since_epoch_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_time_begins_at_zero_and_never_goes_back() {
        let clock = SystemClock::new();
        let readings: Vec<_> = (0..1000).map(|_| clock.now().steady).collect();
        assert!(readings[0].as_millis() < 60_000);
        assert!(readings.is_sorted());
    }

    #[test]
    fn wall_time_is_the_systems() {
        let year_2025 = Timestamp::from_millis(1_735_689_600_000);
        let now = SystemClock::default().now().wall;
        assert!(year_2025 < now && now < Timestamp::MAX);
    }

    #[test]
    fn a_clock_before_the_epoch_reads_as_the_epoch() {
        assert_eq!(since_epoch_ms(UNIX_EPOCH - Duration::from_secs(1)), 0);
        assert_eq!(since_epoch_ms(UNIX_EPOCH + Duration::from_millis(1)), 1);
    }
}
