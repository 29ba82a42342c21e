//! The two clocks. Wall time ([`Timestamp`]) decides delays and expiry, which producers state in wall time; steady time
//! ([`Steady`]) decides leases and windows, which must not move when somebody sets the clock.

use std::time::Duration;

/// A point in wall time: milliseconds since the Unix epoch. Arithmetic saturates, so that absurd input cannot overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The last moment the protobuf `Timestamp` can express (9999-12-31T23:59:59Z); later ones are cut to it.
    pub const MAX: Self = Self(253_402_300_799_000);

    /// A timestamp from milliseconds since the epoch, cut to `[0, MAX]`.
    pub const fn from_millis(ms: i64) -> Self {
        match ms {
            ..0 => Self(0),
            0..=253_402_300_799_000 => Self(ms),
            _ => Self::MAX,
        }
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This moment plus `by`, at most [`Timestamp::MAX`].
    pub fn saturating_add(self, by: Duration) -> Self {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(by))
    }

    /// How long from `earlier` until this moment; zero when it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// A point in steady time: milliseconds since an arbitrary moment of this process's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Steady(u64);

impl Steady {
    /// A steady moment from its milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the arbitrary start.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This moment plus `by`; saturates.
    pub fn saturating_add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long from `earlier` until this moment; zero when it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Both clocks, read at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Wall time.
    pub wall: Timestamp,
    /// Steady time.
    pub steady: Steady,
}
