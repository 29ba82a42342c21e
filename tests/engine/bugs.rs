//! Bugs of the broker's own: they are contained, or stop it; it never stands still in silence.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use taskbroker_domain::{
    activation::{Activation, PartitionId},
    ports::{
        codec::{ActivationCodec, Retry, Undecodable},
        source::Record,
    },
    rules::Selector,
    time::Timestamp,
};
use taskbroker_proto::{codec::Codec, pb};

use crate::world::{World, options, task};

/// Reads as the real one does, but for large records: with those it does this first.
struct Odd<F> {
    codec: Codec,
    with_large: F,
}

impl<F: Fn() + Send + Sync> ActivationCodec for Odd<F> {
    fn decode(&self, record: &Record, partition: &PartitionId, now: Timestamp) -> Result<Activation, Undecodable> {
        if record.payload.len() > 64 * 1024 {
            (self.with_large)();
        }
        self.codec.decode(record, partition, now)
    }

    fn selects(&self, payload: &Bytes, selector: &Selector) -> bool {
        self.codec.selects(payload, selector)
    }

    fn retry(&self, payload: &Bytes, retry: &Retry) -> Result<Bytes, Undecodable> {
        self.codec.retry(payload, retry)
    }
}

async fn world(with_large: impl Fn() + Send + Sync + 'static) -> World {
    let world = World::with_codec(options(), Arc::new(Odd { codec: Codec::default(), with_large })).await;
    world.source.assign(std::slice::from_ref(&world.partition));
    world
}

fn large(id: &str) -> pb::TaskActivation {
    pb::TaskActivation { parameters_bytes: vec![b'x'; 100_000].into(), ..task(id) }
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_ends_by_a_bug_stops_the_broker() {
    let world = world(|| panic!("as the test wished")).await;
    world.produce(&task("a"));
    world.next().await;
    world.produce(&large("b"));
    let failed = tokio::time::timeout(Duration::from_secs(3600), world.broker.failed());
    assert!(failed.await.is_ok(), "it goes on without reading");
}

#[tokio::test(start_paused = true)]
async fn what_takes_long_to_read_holds_up_no_worker_and_keeps_its_place() {
    let (go, wait) = mpsc::channel::<()>();
    let (reading, wait) = (Arc::new(AtomicBool::new(false)), Mutex::new(wait));
    let begun = reading.clone();
    let world = world(move || {
        begun.store(true, Ordering::SeqCst);
        // On the one thread of this test nobody could say so.
        wait.lock().unwrap().recv_timeout(Duration::from_secs(60)).unwrap();
    })
    .await;
    world.produce(&task("before"));
    assert_eq!(world.next().await.id, "before");
    for (id, activation) in [("large", large("large")), ("after", task("after"))] {
        assert_eq!(activation.id, id);
        world.produce(&activation);
    }
    while !reading.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    assert!(world.fetch().await.is_none(), "workers are answered meanwhile");
    go.send(()).unwrap();
    assert_eq!((world.next().await.id, world.next().await.id), ("large".into(), "after".into()));
}
