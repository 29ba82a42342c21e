//! Push delivery: gives tasks to the workers' `WorkerService.PushTask`.
//!
//! The call is put together by hand, of the stored bytes as they are, so that nothing is encoded again, and so that what
//! came back is known exactly: a status that the worker sent, a message of which nothing was sent, or neither.

mod connector;
mod endpoint;
mod options;
mod outcome;
mod withdrawable;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use prost::encode_length_delimiter;
use taskbroker_domain::ports::worker::{Offered, Refused, WorkerGateway};

use self::endpoint::Endpoint;
pub use self::options::{PushError, PushOptions};

/// What workers serve.
const PUSH_TASK: &str = "/sentry_protos.taskbroker.v1.WorkerService/PushTask";
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
const WORKER_SERVICE: &str = "sentry_protos.taskbroker.v1.WorkerService";

/// The key of field 1, length-delimited: `task` in a `PushTaskRequest`, `service` in a `HealthCheckRequest`.
const FIRST_FIELD: u8 = 1 << 3 | 2;

/// A key, and a length that may take ten bytes.
const FIELD_HEAD_BYTES: usize = 11;

/// How long a worker may take to say whether it serves.
const PROBE_TIME_MAX: Duration = Duration::from_secs(5);

/// The workers of all applications. Applications with the same address share its connections.
#[derive(Debug)]
pub struct PushGateway {
    endpoints: HashMap<String, Arc<Endpoint>>,
    time_max: Duration,
    message_bytes_max: usize,
}

impl PushGateway {
    /// Checks addresses and certificates. Connects to nobody yet: that is done with the first task.
    pub fn new(options: &PushOptions) -> Result<Self, PushError> {
        let endpoints = options.endpoints()?;
        Ok(Self { endpoints, time_max: options.timeout, message_bytes_max: options.message_bytes_max })
    }
}

#[async_trait]
impl WorkerGateway for PushGateway {
    async fn offer(&self, application: &str, activation: Bytes) -> Offered {
        let Some(endpoint) = self.endpoints.get(application) else {
            return Offered::Refused(Refused::Unreachable("worker_map has no entry for this application".into()));
        };
        let message = [field_head(activation.len()), activation];
        let bytes: usize = message.iter().map(Bytes::len).sum();
        if bytes > self.message_bytes_max {
            let limit = self.message_bytes_max;
            return Offered::Refused(Refused::TooLarge(format!(
                "{bytes} bytes to be sent, and grpc_max_message_size is {limit}"
            )));
        }
        endpoint.call(PUSH_TASK, message, self.time_max).await.offered()
    }

    async fn probe(&self, application: &str) -> Result<(), String> {
        let Some(endpoint) = self.endpoints.get(application) else {
            return Err("worker_map has no entry for this application".into());
        };
        let message = [field_head(WORKER_SERVICE.len()), Bytes::from_static(WORKER_SERVICE.as_bytes())];
        endpoint.call(HEALTH_CHECK, message, self.time_max.min(PROBE_TIME_MAX)).await.serves()
    }
}

/// Key and length of the first field. What follows is its value, as it is: an embedded message and bytes share one form.
fn field_head(length: usize) -> Bytes {
    let mut head = BytesMut::with_capacity(FIELD_HEAD_BYTES);
    head.put_u8(FIRST_FIELD);
    encode_length_delimiter(length, &mut head).expect("a buffer of this kind grows");
    head.freeze()
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use taskbroker_proto::pb::{PushTaskRequest, TaskActivation};

    use super::*;

    #[test]
    fn the_stored_bytes_become_the_request_that_workers_know() {
        for size in [0, 1, 127, 128, 20_000, 3_000_000] {
            let task = TaskActivation { id: "1".into(), parameters_bytes: vec![7; size].into(), ..Default::default() };
            let stored = Bytes::from(task.encode_to_vec());
            let request = [field_head(stored.len()), stored].concat();
            let expected = PushTaskRequest { task: Some(task), ..Default::default() };
            assert_eq!(PushTaskRequest::decode(&request[..]).unwrap(), expected);
            assert_eq!(request, expected.encode_to_vec(), "the deprecated callback_url is empty and takes no bytes");
        }
    }
}
