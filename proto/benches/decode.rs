//! What reading an activation's envelope takes: `cargo bench -p taskbroker-proto`.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use bytes::Bytes;
use divan::{Bencher, counter::BytesCount};
use prost::Message as _;
use taskbroker_domain::{
    activation::{PartitionId, TopicId},
    ports::{codec::ActivationCodec as _, source::Record},
    time::Timestamp,
};
use taskbroker_proto::{
    Timestamp as Produced,
    codec::Codec,
    pb::{RetryState, TaskActivation},
};

fn main() {
    divan::main();
}

/// An activation with arguments of so many bytes.
fn encoded(arguments: usize) -> Bytes {
    let activation = TaskActivation {
        id: "0af7651916cd43dd8448eb211c80319c".into(),
        namespace: "ns".into(),
        taskname: "load.task".into(),
        received_at: Some(Produced { seconds: 1_800_000_000, nanos: 1_000_000 }),
        retry_state: Some(RetryState { max_attempts: 3, ..RetryState::default() }),
        processing_deadline_duration: 60,
        application: Some("app".into()),
        parameters_bytes: vec![7; arguments].into(),
        ..TaskActivation::default()
    };
    activation.encode_to_vec().into()
}

/// As the broker reads it: the envelope, not the arguments.
#[divan::bench(args = [300, 30_000])]
fn envelope(bencher: Bencher<'_, '_>, arguments: usize) {
    let payload = encoded(arguments);
    let partition = PartitionId { topic: "t".into(), topic_id: TopicId([7; 16]), group: "g".into(), partition: 0 };
    let record = Record { payload: payload.clone(), ..Record::default() };
    let now = Timestamp::from_millis(1_800_000_000_000);
    let codec = Codec::default();
    bencher
        .counter(BytesCount::new(payload.len()))
        .bench(|| codec.decode(divan::black_box(&record), &partition, now).unwrap());
}

/// As a client reads it: all of it.
#[divan::bench(args = [300, 30_000])]
fn whole_message(bencher: Bencher<'_, '_>, arguments: usize) {
    let payload = encoded(arguments);
    bencher
        .counter(BytesCount::new(payload.len()))
        .bench(|| TaskActivation::decode(divan::black_box(payload.clone())).unwrap());
}
