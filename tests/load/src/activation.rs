//! What is produced and what workers see of it: activations of one size whose ids are numbers.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use prost::Message;
use serde::Serialize;
use taskbroker_proto::{
    Timestamp,
    pb::{RetryState, TaskActivation},
};

/// The application and namespace of all activations, unless said otherwise.
pub(crate) const APPLICATION: &str = "app";
pub(crate) const NAMESPACE: &str = "ns";

/// The bytes of one activation, encoded, as the figures in `docs/performance.md` have it.
pub(crate) const SIZE: usize = 395;

/// Makes activations with the ids of [`id`], the present as the time they were produced, and one size.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    run: u64,
    activation: TaskActivation,
}

#[derive(Serialize)]
struct Arguments {
    args: [(); 0],
    kwargs: BTreeMap<&'static str, String>,
}

impl Template {
    /// Of so many bytes each, give or take four for the time. Arguments of one keyword fill what the rest leaves.
    pub(crate) fn new(run: u64, application: &str, namespace: &str, size: usize) -> Result<Self> {
        let mut template = Self {
            run,
            activation: TaskActivation {
                application: Some(application.to_owned()),
                namespace: namespace.to_owned(),
                taskname: "load.task".to_owned(),
                processing_deadline_duration: 60,
                retry_state: Some(RetryState { max_attempts: 1, ..RetryState::default() }),
                parameters_bytes: arguments(0)?.into(),
                ..TaskActivation::default()
            },
        };
        let least = template.encode(0).len();
        ensure!(size >= least + 8, "an activation takes {} bytes at least", least + 8);
        // Longer texts and messages need longer lengths before them: what those take is taken back.
        template.activation.parameters_bytes = arguments(size - least)?.into();
        let over = template.encode(0).len().saturating_sub(size);
        template.activation.parameters_bytes = arguments(size - least - over)?.into();
        Ok(template)
    }

    /// The activation of this number, encoded, produced now.
    pub(crate) fn encode(&mut self, number: u64) -> Vec<u8> {
        self.activation.id = id(self.run, number);
        self.activation.received_at = Some(now());
        self.activation.encode_to_vec()
    }
}

/// 32 hexadecimal digits, as the Python client's ids have them: the number is the second half.
pub(crate) fn id(run: u64, number: u64) -> String {
    format!("{run:016x}{number:016x}")
}

fn arguments(filling: usize) -> Result<Vec<u8>> {
    let kwargs = BTreeMap::from([("filling", "x".repeat(filling))]);
    Ok(rmp_serde::to_vec_named(&Arguments { args: [], kwargs })?)
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

/// What a worker here reads of an activation.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Task {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(message, optional, tag = "6")]
    pub(crate) received_at: Option<Timestamp>,
}

/// What carries one: the answers to `GetTask` and `SetTaskStatus`, and the request of `PushTask`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Carrier {
    #[prost(message, optional, tag = "1")]
    pub(crate) task: Option<Task>,
}

impl Task {
    /// The number in its id, if it is one of ours.
    pub(crate) fn number(&self) -> Option<u64> {
        u64::from_str_radix(self.id.get(16..)?, 16).ok()
    }

    /// How long ago it was produced, by the clock of this machine.
    pub(crate) fn age(&self) -> Option<Duration> {
        let at = self.received_at.as_ref()?;
        let produced = Duration::new(at.seconds.try_into().ok()?, at.nanos.try_into().ok()?);
        Some(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.saturating_sub(produced))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_activation_has_the_size_that_was_asked_for_and_its_number_is_read_back() {
        for size in [200, 395, 500, 5_000, 70_000] {
            let bytes = Template::new(3, APPLICATION, NAMESPACE, size).unwrap().encode(77);
            assert!(bytes.len().abs_diff(size) <= 4, "{} instead of {size}", bytes.len());
            assert_eq!(Task::decode(bytes.as_slice()).unwrap().number(), Some(77));
        }
    }
}
