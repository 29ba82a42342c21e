//! Tasks of every temper, and what their workers make of them.

use std::time::{Duration, SystemTime};

use taskbroker_proto::pb::{TaskActivation, TaskActivationStatus};
use taskbroker_support::broker::Task;

/// What a worker does with a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Completes.
    Plain,
    /// Is retried once, then completes.
    RetryOnce,
    /// Is retried three times, then completes.
    RetryThrice,
    /// Waits a second, then completes.
    Delayed,
    /// Waits from 5 to 10 seconds, then completes. All moments in between come up alike.
    DelayedLong,
    /// Completes, unless it has expired first: 3 to 6 seconds after it was produced.
    Expires,
    /// Completes; must not be handed out twice.
    AtMostOnce,
    /// Must not be handed out twice; its worker vanishes with it. Goes to the dead-letter topic.
    Vanishes,
    /// Fails, and goes to the dead-letter topic.
    Fails,
    /// Fails, and is discarded.
    FailsUnheard,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Plain,
        Self::RetryOnce,
        Self::RetryThrice,
        Self::Delayed,
        Self::DelayedLong,
        Self::Expires,
        Self::AtMostOnce,
        Self::Vanishes,
        Self::Fails,
        Self::FailsUnheard,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::RetryOnce => "retry-once",
            Self::RetryThrice => "retry-thrice",
            Self::Delayed => "delayed",
            Self::DelayedLong => "delayed-long",
            Self::Expires => "expires",
            Self::AtMostOnce => "at-most-once",
            Self::Vanishes => "vanishes",
            Self::Fails => "fails",
            Self::FailsUnheard => "fails-unheard",
        }
    }

    /// A task of this kind, whose arguments say so; as long as the usual ones.
    pub(crate) fn task(self, serial: usize) -> Task {
        let mut arguments = format!("{} {serial} ", self.word()).into_bytes();
        arguments.resize(500, b'.');
        let task = Task::new().arguments(arguments);
        // A prime, so that all of a second's milliseconds come up.
        let (seconds, millis) = (serial as u64 % 5, serial as u64 * 7_919 % 1_000);
        match self {
            Self::Plain | Self::FailsUnheard => task,
            Self::RetryOnce | Self::Fails => task.dead_letter(),
            Self::RetryThrice => task.dead_letter().attempts(4),
            Self::Delayed => task.delay(1),
            Self::DelayedLong => task.received(SystemTime::now() - Duration::from_millis(millis)).delay(6 + seconds),
            Self::Expires => task.expires(3 + serial as u64 % 4),
            // A claim that was lost on its way, in a crash, ends with the lease.
            Self::AtMostOnce => task.at_most_once().dead_letter().deadline(8),
            Self::Vanishes => task.at_most_once().dead_letter().deadline(1),
        }
    }

    /// What a task says of itself.
    pub(crate) fn of(task: &TaskActivation) -> (Self, usize) {
        let text = String::from_utf8_lossy(&task.parameters_bytes);
        let mut words = text.split(' ');
        let word = words.next().unwrap_or_default();
        let kind = Self::ALL.into_iter().find(|kind| kind.word() == word).unwrap();
        (kind, words.next().unwrap().parse().unwrap())
    }
}

/// How a task was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Complete,
    Retry,
    Failure,
}

impl Verdict {
    /// What is reported on a task; nothing if its worker vanishes.
    pub(crate) fn on(task: &TaskActivation) -> Option<Self> {
        let attempts = task.retry_state.as_ref().map_or(0, |retry| retry.attempts);
        match Kind::of(task).0 {
            Kind::RetryOnce if attempts == 0 => Some(Self::Retry),
            Kind::RetryThrice if attempts < 3 => Some(Self::Retry),
            Kind::Fails | Kind::FailsUnheard => Some(Self::Failure),
            Kind::Vanishes => None,
            Kind::Plain
            | Kind::RetryOnce
            | Kind::RetryThrice
            | Kind::Delayed
            | Kind::DelayedLong
            | Kind::Expires
            | Kind::AtMostOnce => Some(Self::Complete),
        }
    }

    pub(crate) fn status(self) -> TaskActivationStatus {
        match self {
            Self::Complete => TaskActivationStatus::Complete,
            Self::Retry => TaskActivationStatus::Retry,
            Self::Failure => TaskActivationStatus::Failure,
        }
    }
}
