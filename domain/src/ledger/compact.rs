//! The terms and the origin of an entry in little room: a million of them may wait.

use std::time::Duration;

use crate::{
    activation::{OnFailure, Origin, Slot, Terms},
    time::Timestamp,
};

/// [`Terms`] in 26 bytes instead of 56. A run limit beyond `u32::MAX` milliseconds (49 days) is cut to that; the codec
/// allows 30 days.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(2))]
pub(super) struct CompactTerms {
    expires_at: MaybeTime,
    delayed_until: MaybeTime,
    run_limit_ms: u32,
    attempt: u32,
    at_most_once: bool,
    on_failure: OnFailure,
}

/// An `Option<Timestamp>` in 8 bytes: timestamps are not negative.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(2))]
struct MaybeTime(i64);

/// An `Option<Origin>` in 12 bytes instead of 24.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(4))]
pub(super) struct CompactOrigin {
    offset: i64,
    slot: u32,
}

/// An offset that no record has.
const NO_OFFSET: i64 = i64::MIN;

impl CompactTerms {
    pub(super) fn at_most_once(self) -> bool {
        self.at_most_once
    }

    pub(super) fn on_failure(self) -> OnFailure {
        self.on_failure
    }

    pub(super) fn attempt(self) -> u32 {
        self.attempt
    }

    pub(super) fn run_limit(self) -> Duration {
        Duration::from_millis(u64::from(self.run_limit_ms))
    }

    pub(super) fn expires_at(self) -> Option<Timestamp> {
        self.expires_at.get()
    }
}

impl From<Terms> for CompactTerms {
    fn from(terms: Terms) -> Self {
        let Terms { run_limit, expires_at, delayed_until, at_most_once, on_failure, attempt } = terms;
        Self {
            expires_at: MaybeTime::new(expires_at),
            delayed_until: MaybeTime::new(delayed_until),
            run_limit_ms: u32::try_from(run_limit.as_millis()).unwrap_or(u32::MAX),
            attempt,
            at_most_once,
            on_failure,
        }
    }
}

impl From<CompactTerms> for Terms {
    fn from(terms: CompactTerms) -> Self {
        let CompactTerms { expires_at, delayed_until, run_limit_ms: _, attempt, at_most_once, on_failure } = terms;
        Self {
            run_limit: terms.run_limit(),
            expires_at: expires_at.get(),
            delayed_until: delayed_until.get(),
            at_most_once,
            on_failure,
            attempt,
        }
    }
}

impl MaybeTime {
    fn new(time: Option<Timestamp>) -> Self {
        Self(time.map_or(-1, Timestamp::as_millis))
    }

    fn get(self) -> Option<Timestamp> {
        let ms = self.0;
        (ms >= 0).then(|| Timestamp::from_millis(ms))
    }
}

impl CompactOrigin {
    pub(super) fn get(self) -> Option<Origin> {
        let (offset, slot) = (self.offset, Slot(self.slot));
        (offset != NO_OFFSET).then_some(Origin { slot, offset })
    }

    /// Leaves none, and returns what there was.
    pub(super) fn take(&mut self) -> Option<Origin> {
        std::mem::replace(self, None.into()).get()
    }
}

impl From<Option<Origin>> for CompactOrigin {
    fn from(origin: Option<Origin>) -> Self {
        match origin {
            Some(Origin { slot: Slot(slot), offset }) => Self { offset, slot },
            None => Self { offset: NO_OFFSET, slot: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time() -> impl Strategy<Value = Option<Timestamp>> {
        prop::option::of(any::<i64>().prop_map(Timestamp::from_millis))
    }

    proptest! {
        #[test]
        fn terms_are_what_they_were(
            run_limit_ms in 0..30 * 24 * 3_600_000_u64,
            expires_at in time(),
            delayed_until in time(),
            at_most_once: bool,
            dead_letter: bool,
            attempt: u32,
        ) {
            let on_failure = if dead_letter { OnFailure::DeadLetter } else { OnFailure::Discard };
            let run_limit = Duration::from_millis(run_limit_ms);
            let terms = Terms { run_limit, expires_at, delayed_until, at_most_once, on_failure, attempt };
            prop_assert_eq!(Terms::from(CompactTerms::from(terms)), terms);
        }

        #[test]
        fn origins_are_what_they_were(slot: u32, offset in 0..i64::MAX) {
            let mut origin = CompactOrigin::from(Some(Origin { slot: Slot(slot), offset }));
            prop_assert_eq!(origin.take(), Some(Origin { slot: Slot(slot), offset }));
            prop_assert_eq!(origin.get(), None);
        }
    }

    #[test]
    fn they_take_little_room() {
        assert_eq!((size_of::<CompactTerms>(), size_of::<CompactOrigin>()), (26, 12));
    }
}
