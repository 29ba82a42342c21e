//! The sample tasks: what there is, how often each comes, and how it looks on the wire.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};
use taskbroker_proto::pb::{OnAttemptsExceeded, RetryState, TaskActivation};

/// The application of the sample tasks. One's own tasks have another, so that the sample workers leave them alone.
pub(super) const APPLICATION: &str = "dev";
/// Their namespace.
pub(super) const NAMESPACE: &str = "samples";

/// A kind of sample task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Quick,
    Slow,
    Flaky,
    Delayed,
    Failing,
    Hopeless,
    Forgotten,
}

/// All kinds, in the order in which they are shown.
pub(super) const KINDS: [Kind; 7] =
    [Kind::Quick, Kind::Slow, Kind::Flaky, Kind::Delayed, Kind::Failing, Kind::Hopeless, Kind::Forgotten];

/// How many of a hundred tasks are of each kind, in the order of [`KINDS`].
const SHARES: [u64; KINDS.len()] = [72, 10, 7, 6, 2, 2, 1];

impl Kind {
    /// The kind of the task with this number: the shares are kept over any hundred, and the kinds are mixed.
    pub(super) fn of(number: u64) -> Self {
        // 37 and 100 have no common divisor: every place is met once in a hundred.
        let mut place = number.wrapping_mul(37) % 100;
        for (kind, share) in KINDS.into_iter().zip(SHARES) {
            match place.checked_sub(share) {
                None => return kind,
                Some(rest) => place = rest,
            }
        }
        Self::Quick
    }

    /// The kind whose tasks have this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        KINDS.into_iter().find(|kind| kind.name() == name)
    }

    /// Its place in [`KINDS`].
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// The task's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Slow => "slow",
            Self::Flaky => "flaky",
            Self::Delayed => "delayed",
            Self::Failing => "failing",
            Self::Hopeless => "hopeless",
            Self::Forgotten => "forgotten",
        }
    }

    /// What it does, for people.
    pub(super) fn story(self) -> &'static str {
        match self {
            Self::Quick => "takes 1 to 20 ms",
            Self::Slow => "takes 0.1 to 0.7 s; others overtake it",
            Self::Flaky => "asks for a retry, then succeeds",
            Self::Delayed => "may start 1 to 2 s after it was sent",
            Self::Failing => "fails: goes to the dead-letter topic",
            Self::Hopeless => "fails: is discarded",
            Self::Forgotten => "its worker says nothing: comes back",
        }
    }

    /// How long it keeps a worker busy.
    pub(super) fn duration(self, number: u64) -> Duration {
        match self {
            Self::Slow => Duration::from_millis(100 + number * 97 % 600),
            _ => Duration::from_millis(1 + number * 7 % 20),
        }
    }

    fn delay_s(self, number: u64) -> Option<u64> {
        match self {
            Self::Delayed => Some(1 + number % 2),
            _ => None,
        }
    }

    fn on_failure(self) -> OnAttemptsExceeded {
        match self {
            Self::Failing => OnAttemptsExceeded::Deadletter,
            _ => OnAttemptsExceeded::Discard,
        }
    }

    fn run_limit_s(self) -> u64 {
        match self {
            Self::Forgotten => 1,
            _ => 10,
        }
    }
}

/// Which task it is: the run of the program that made it, and its number in that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) run: String,
    pub(super) number: u64,
}

/// The arguments as producers of all languages write them.
#[derive(Serialize, Deserialize)]
struct Parameters {
    args: (String, u64),
    kwargs: BTreeMap<String, u64>,
}

/// The task as bytes for Kafka. `None`: its arguments cannot be written, which does not happen.
pub(super) fn encode(tag: &Tag, kind: Kind) -> Option<Bytes> {
    let parameters = Parameters { args: (tag.run.clone(), tag.number), kwargs: BTreeMap::new() };
    let activation = TaskActivation {
        id: format!("{}-{}", tag.run, tag.number),
        application: Some(APPLICATION.to_owned()),
        namespace: NAMESPACE.to_owned(),
        taskname: kind.name().to_owned(),
        parameters_bytes: rmp_serde::to_vec_named(&parameters).ok()?.into(),
        processing_deadline_duration: kind.run_limit_s(),
        delay: kind.delay_s(tag.number),
        retry_state: Some(RetryState {
            max_attempts: 3,
            on_attempts_exceeded: kind.on_failure().into(),
            ..RetryState::default()
        }),
        ..TaskActivation::default()
    };
    Some(activation.encode_to_vec().into())
}

/// Which task this is. A retry has another id, but the arguments of the first.
pub(super) fn tag(activation: &TaskActivation) -> Option<Tag> {
    let Parameters { args: (run, number), .. } = rmp_serde::from_slice(&activation.parameters_bytes).ok()?;
    Some(Tag { run, number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hundred_tasks_hold_each_kind_as_often_as_its_share_says() {
        assert_eq!(SHARES.iter().sum::<u64>(), 100);
        for first in [0, 12_345] {
            for (kind, share) in KINDS.into_iter().zip(SHARES) {
                let times = (first..first + 100).filter(|number| Kind::of(*number) == kind).count();
                assert_eq!(u64::try_from(times), Ok(share), "{kind:?}");
            }
        }
    }

    #[test]
    fn a_kind_is_found_by_its_name_and_stands_at_its_index() {
        for kind in KINDS {
            assert_eq!(Kind::named(kind.name()), Some(kind));
            assert_eq!(KINDS[kind.index()], kind);
        }
        assert_eq!(Kind::named("unheard_of"), None);
    }

    #[test]
    fn a_task_is_recognised_by_its_arguments() {
        let sent = Tag { run: "7f".to_owned(), number: 41 };
        let activation = TaskActivation::decode(encode(&sent, Kind::Delayed).unwrap()).unwrap();
        assert_eq!(tag(&activation), Some(sent));
        assert_eq!((activation.taskname.as_str(), activation.delay), ("delayed", Some(2)));
        assert_eq!(tag(&TaskActivation::default()), None);
    }

    #[test]
    fn arguments_have_the_form_that_clients_write() {
        let tag = Tag { run: "a".to_owned(), number: 5 };
        let activation = TaskActivation::decode(encode(&tag, Kind::Quick).unwrap()).unwrap();
        // {"args": ["a", 5], "kwargs": {}}
        assert_eq!(&activation.parameters_bytes[..], b"\x82\xa4args\x92\xa1a\x05\xa6kwargs\x80");
    }
}
