//! Canary tasks: tasks of the broker's own that show whether workers run what they are given.

use bytes::Bytes;
use prost::Message as _;
use taskbroker_domain::time::Timestamp;

use crate::{codec::proto_timestamp, pb};

/// The namespace of canary tasks, and the task that every worker has in it; as the Python client registers it.
pub const CANARY: (&str, &str) = ("internal", "canary_task");

/// How long one may run, in seconds; as in the existing system.
const RUN_LIMIT_S: u64 = 10;

/// `{"args": [], "kwargs": {}}` in msgpack.
const NO_ARGUMENTS: &[u8] = b"\x82\xa4args\x90\xa6kwargs\x80";

/// A canary task for an application, as bytes.
pub fn canary(id: &str, application: &str, received_at: Timestamp) -> Bytes {
    let (namespace, taskname) = CANARY;
    let activation = pb::TaskActivation {
        id: id.to_owned(),
        namespace: namespace.to_owned(),
        taskname: taskname.to_owned(),
        application: Some(application.to_owned()),
        received_at: Some(proto_timestamp(received_at)),
        processing_deadline_duration: RUN_LIMIT_S,
        parameters_bytes: Bytes::from_static(NO_ARGUMENTS),
        ..Default::default()
    };
    activation.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn its_arguments_are_empty() {
        let bytes = canary("a", "app", Timestamp::from_millis(1_500));
        let activation = pb::TaskActivation::decode(bytes).unwrap();
        let arguments = rmpv::decode::read_value(&mut activation.parameters_bytes.as_ref()).unwrap();
        let none = |name: &str, value| (rmpv::Value::from(name), value);
        let expected = vec![none("args", rmpv::Value::Array(vec![])), none("kwargs", rmpv::Value::Map(vec![]))];
        assert_eq!(arguments, rmpv::Value::Map(expected));
        assert_eq!(activation.received_at.unwrap().seconds, 1);
    }
}
