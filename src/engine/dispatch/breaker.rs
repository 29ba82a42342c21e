//! When a worker's address is offered tasks, and when it is left alone. Pure.
//!
//! ```text
//!            strikes add up                 rest is over: asked whether it serves
//!  Closed ------------------> Open (rests) --------------------------------------> Trial (one task)
//!    ^ '-- rests after each     ^  '-- it does not: rests longer                      |  |
//!    |     refusal              '------------------- refused or unknown --------------'  |
//!    '------------------------------------------------ delivered ------------------------'
//! ```

use std::time::Duration;

use taskbroker_domain::{ports::worker::Refused, time::Steady};

/// The first rest; it doubles with each failure after another.
const REST_MIN: Duration = Duration::from_millis(100);
/// The longest rest: how long a worker that came back waits for tasks.
const REST_MAX: Duration = Duration::from_secs(5);
/// The longest rest of a worker that is there and has no room: it took time itself before it said so.
const BUSY_REST_MAX: Duration = Duration::from_secs(1);
/// So many strikes in a row open it.
const STRIKES_MAX: u32 = 3;

/// How an offer failed, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection, or no answer.
    Silent,
    /// It answers with errors.
    Failing,
    /// It has no room.
    Busy,
}

impl Failure {
    pub(super) fn of(refused: &Refused) -> Self {
        match refused {
            Refused::Unreachable(_) => Self::Silent,
            Refused::Declined(_) | Refused::TooLarge(_) => Self::Failing,
            Refused::Busy(_) => Self::Busy,
        }
    }

    /// Silence is clear at once, and each further offer might cost its task a lease; errors may be those of single tasks; who
    /// is busy is alive.
    fn strikes(self) -> u32 {
        match self {
            Self::Silent => STRIKES_MAX,
            Self::Failing => 1,
            Self::Busy => 0,
        }
    }

    fn rest_max(self) -> Duration {
        match self {
            Self::Silent | Self::Failing => REST_MAX,
            Self::Busy => BUSY_REST_MAX,
        }
    }
}

/// What may be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum May {
    /// Offer tasks.
    Offer,
    /// Nothing for so long.
    Rest(Duration),
    /// Ask whether it serves.
    Probe,
    /// Offer one task, and see.
    Try,
}

/// Names what went before an offer, so that those under way at the same time fail as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Round(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open,
    Trial,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    strikes: u32,
    failures: u32,
    round: u64,
    rest_until: Steady,
    jitter: Jitter,
}

impl Breaker {
    /// `seed` keeps the breakers of several brokers and applications from moving in step.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            state: State::Closed,
            strikes: 0,
            failures: 0,
            round: 0,
            rest_until: Steady::default(),
            jitter: Jitter(seed),
        }
    }

    pub(super) fn may(&self, now: Steady) -> May {
        let rest = self.rest_until.since(now);
        match self.state {
            _ if !rest.is_zero() => May::Rest(rest),
            State::Closed => May::Offer,
            State::Open => May::Probe,
            State::Trial => May::Try,
        }
    }

    pub(super) fn round(&self) -> Round {
        Round(self.round)
    }

    /// Nothing but a probe is sent.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// A task was delivered. What began before it opened does not close it.
    pub(super) fn delivered(&mut self) {
        if self.state != State::Open {
            (self.state, self.strikes, self.failures) = (State::Closed, 0, 0);
        }
    }

    /// An offer of that round failed.
    pub(super) fn failed(&mut self, round: Round, failure: Failure, now: Steady) {
        if round != self.round() {
            return;
        }
        self.strikes = self.strikes.saturating_add(failure.strikes());
        if self.strikes >= STRIKES_MAX {
            self.state = State::Open;
        }
        self.fall_back(failure.rest_max(), now);
    }

    /// It was asked whether it serves.
    pub(super) fn probed(&mut self, serves: bool, now: Steady) {
        match serves {
            true => self.state = State::Trial,
            false => self.fall_back(REST_MAX, now),
        }
    }

    /// Leaves it alone for the shortest while, for no fault of its own.
    pub(super) fn rest(&mut self, now: Steady) {
        self.rest_until = now.saturating_add(REST_MIN);
    }

    /// Half of the rest is certain, the other half a matter of chance.
    fn fall_back(&mut self, rest_max: Duration, now: Steady) {
        let rest = REST_MIN.saturating_mul(1 << self.failures.min(16)).min(rest_max);
        self.failures = self.failures.saturating_add(1);
        self.round += 1;
        self.rest_until = now.saturating_add(rest / 2 + rest.mul_f64(self.jitter.next() / 2.0));
    }
}

/// Numbers from 0 to 1 that look like chance (SplitMix64).
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Steady {
        Steady::from_millis(ms)
    }

    fn rest(breaker: &Breaker, now: Steady) -> Duration {
        match breaker.may(now) {
            May::Rest(rest) => rest,
            other => panic!("{other:?}"),
        }
    }

    fn fail(breaker: &mut Breaker, failure: Failure, now: Steady) {
        breaker.failed(breaker.round(), failure, now);
    }

    #[test]
    fn a_refusal_is_followed_by_a_rest_that_doubles_up_to_its_limit() {
        for (failure, limit_ms) in [(Failure::Silent, 5_000), (Failure::Busy, 1_000)] {
            let mut breaker = Breaker::new(1);
            for expected_ms in [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800] {
                fail(&mut breaker, failure, at(0));
                let (rest, full) = (rest(&breaker, at(0)), Duration::from_millis(expected_ms.min(limit_ms)));
                assert!(rest >= full / 2 && rest <= full, "{rest:?} of {full:?}");
            }
        }
    }

    #[test]
    fn silence_opens_at_once_errors_after_three_and_no_room_never() {
        for (failure, opens_after) in [(Failure::Silent, 1), (Failure::Failing, 3), (Failure::Busy, u32::MAX)] {
            let mut breaker = Breaker::new(1);
            for count in 1..20 {
                fail(&mut breaker, failure, at(0));
                assert_eq!(breaker.is_open(), count >= opens_after, "{failure:?} {count}");
            }
        }
    }

    #[test]
    fn errors_of_single_tasks_do_not_open_it() {
        let mut breaker = Breaker::new(1);
        for _ in 0..100 {
            fail(&mut breaker, Failure::Failing, at(0));
            fail(&mut breaker, Failure::Failing, at(0));
            breaker.delivered();
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn offers_that_fail_together_count_once() {
        let mut breaker = Breaker::new(1);
        let round = breaker.round();
        for _ in 0..50 {
            breaker.failed(round, Failure::Failing, at(0));
        }
        assert!(!breaker.is_open());
        assert!(rest(&breaker, at(0)) <= REST_MIN);
    }

    #[test]
    fn an_open_one_is_probed_tried_with_one_task_and_closed_by_it() {
        let mut breaker = Breaker::new(1);
        fail(&mut breaker, Failure::Silent, at(0));
        assert_eq!(breaker.may(at(100)), May::Probe);
        breaker.delivered();
        assert_eq!(breaker.may(at(100)), May::Probe, "that one began before it opened");
        breaker.probed(false, at(100));
        assert!(rest(&breaker, at(100)) >= REST_MIN);
        assert_eq!(breaker.may(at(300)), May::Probe);
        breaker.probed(true, at(300));
        assert_eq!(breaker.may(at(300)), May::Try);
        breaker.delivered();
        assert_eq!(breaker.may(at(300)), May::Offer);
    }

    #[test]
    fn a_trial_that_fails_opens_it_again() {
        for failure in [Failure::Silent, Failure::Failing] {
            let mut breaker = Breaker::new(1);
            fail(&mut breaker, Failure::Silent, at(0));
            breaker.probed(true, at(100));
            fail(&mut breaker, failure, at(100));
            assert!(breaker.is_open());
        }
    }

    #[test]
    fn two_of_them_do_not_move_in_step() {
        let rests: Vec<Duration> = (0..20)
            .map(|seed| {
                let mut breaker = Breaker::new(seed);
                fail(&mut breaker, Failure::Silent, at(0));
                rest(&breaker, at(0))
            })
            .collect();
        assert!(rests.iter().collect::<std::collections::HashSet<_>>().len() > 10, "{rests:?}");
    }
}
