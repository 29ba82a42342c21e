//! How tasks reach workers.

use std::{collections::BTreeMap, num::NonZeroUsize, time::Duration};

use super::{MESSAGE_BYTES_MOST, grpc, up_to};
use crate::settings::{
    key::Key,
    model::{Delivery, Endpoint, Fetch, Push, PushCertificate},
    reader::Reader,
    report::Origin,
    value::Setting,
};

/// Reads how tasks reach workers.
pub(super) fn read(reader: &mut Reader<'_>) -> Delivery {
    Delivery {
        mode: reader.read("delivery_mode"),
        worker_map: worker_map(reader),
        push: push(reader),
        fetch: fetch(reader),
    }
}

/// The map that the user gave, which replaces the built-in one: its application would be pushed to for nothing.
fn worker_map(reader: &mut Reader<'_>) -> BTreeMap<String, Endpoint> {
    let given = reader.map("worker_map");
    if !given.is_empty() {
        return given;
    }
    let application = "sentry".to_owned();
    let endpoint = Endpoint::placeholder();
    reader.note(&Key::new("worker_map").child(&application), endpoint.write(), Origin::Default);
    BTreeMap::from([(application, endpoint)])
}

fn push(reader: &mut Reader<'_>) -> Push {
    const LEAST: Duration = Duration::from_millis(1);
    const MOST: Duration = Duration::from_secs(3600);
    const MESSAGE_LEAST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1024 - 1);
    const MESSAGE_MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(MESSAGE_BYTES_MOST - 1);
    Push {
        threads: reader.read_within("push.threads", up_to(65_536)),
        timeout: reader.read_within("push.timeout", LEAST..=MOST),
        queue_size: reader.read_within("push.queue.size", up_to(1_000_000)),
        queue_timeout: reader.read_within("push.queue.timeout", LEAST..=MOST),
        update_batched: reader.read("push.update.batched"),
        update_batch_length: reader.read_within("push.update.batch.length", up_to(1_000_000)),
        update_batch_size: reader.read_within("push.update.batch.size", up_to(MESSAGE_BYTES_MOST)),
        update_batch_interval: reader.read_within("push.update.batch.interval", Duration::ZERO..=MOST),
        max_message_bytes: reader.read_within("grpc_max_message_size", MESSAGE_LEAST..=MESSAGE_MOST),
        tls_ca: reader.optional("push.tls_ca"),
        tls_client: tls_client(reader),
    }
}

fn tls_client(reader: &mut Reader<'_>) -> Option<PushCertificate> {
    let certificate = reader.optional("push.tls_certificate");
    let key = reader.optional("push.tls_key");
    let (certificate, key) = grpc::pair(reader, ["push.tls_certificate", "push.tls_key"], certificate, key)?;
    Some(PushCertificate { certificate, key })
}

fn fetch(reader: &mut Reader<'_>) -> Fetch {
    Fetch {
        threads: fetch_threads(reader),
        backoff: reader.read_within("fetch.backoff", Duration::ZERO..=Duration::from_secs(3600)),
        batch_length: reader.read_within("fetch.batch_length", up_to(1_000_000)),
    }
}

fn fetch_threads(reader: &mut Reader<'_>) -> std::num::NonZeroU32 {
    let threads: std::num::NonZeroU32 = reader.read("fetch.threads");
    if !threads.is_power_of_two() || threads.get() > 256 {
        let key = Key::new("fetch.threads");
        reader.refuse(&key, &key, "expected a power of two from 1 to 256: each takes an equal part of 256 buckets");
    }
    threads
}
