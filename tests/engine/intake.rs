//! What comes in: limits, assignments, copies, poison.

use std::time::Duration;

use taskbroker_domain::ports::{service::Reported, source::Committed};
use taskbroker_memory::{Answer, Fault};

use crate::world::{World, dead_letter, options, partition, task};

#[tokio::test(start_paused = true)]
async fn no_more_comes_in_than_the_limit_allows() {
    let mut options = options();
    options.policy.limits.pending = 10;
    let world = World::new(options).await;
    for id in 0..100 {
        world.produce(&task(&id.to_string()));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.broker.stats().depths.pending, 10);
    for _ in 0..100 {
        let id = world.next().await.id;
        assert!(world.broker.stats().depths.pending <= 10);
        world.complete(&id).await;
    }
    world.log.committed_up_to(&world.partition, 100).await;
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn an_orderly_revocation_writes_everything_first_and_commits_it() {
    let world = World::new(options()).await;
    for id in ["a", "b", "c"] {
        world.produce(&task(id));
    }
    assert_eq!(world.next().await.id, "a");
    let released = world.source.revoke(std::slice::from_ref(&world.partition)).released().await;
    assert_eq!(released.iter().map(|commit| commit.offset).collect::<Vec<_>>(), [3]);
    assert_eq!(world.rows().await.len(), 3);
    for id in ["b", "c"] {
        assert_eq!(world.next().await.id, id, "what is here is served on");
    }
    for id in ["a", "b", "c"] {
        world.complete(id).await;
    }
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_partition_leaves_what_has_no_row_to_the_next_owner() {
    let world = World::new(options()).await;
    world.produce(&task("a"));
    world.produce(&task("b"));
    world.next().await;
    world.source.lose(std::slice::from_ref(&world.partition));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(world.broker.stats().totals.withdrawn, 2);
    assert_eq!(world.complete("a").await, Reported::Remembered, "it may come again");
    world.source.assign(std::slice::from_ref(&world.partition));
    assert_eq!(world.next().await.id, "b", "what was reported does not come again");
    world.complete("b").await;
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_reports_that_come_first_settle_what_is_read_again() {
    let world = World::new(options()).await;
    for id in ["a", "b", "c"] {
        world.produce(&task(id));
    }
    for id in ["a", "b"] {
        assert_eq!(world.next().await.id, id);
    }
    let world = world.crash().await;
    assert_eq!(world.complete("a").await, Reported::Remembered);
    world.source.assign(std::slice::from_ref(&world.partition));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.fetch().await, None, "held back, so that reports come first");
    assert_eq!(world.complete("b").await, Reported::Settled);
    assert_eq!(world.next().await.id, "c");
    world.complete("c").await;
    world.empty().await;
    world.log.committed_up_to(&world.partition, 3).await;
}

#[tokio::test(start_paused = true)]
async fn an_operators_rewind_is_obeyed_once() {
    let world = World::new(options()).await;
    for id in ["a", "b"] {
        world.produce(&task(id));
        world.next().await;
        world.complete(id).await;
    }
    world.log.committed_up_to(&world.partition, 2).await;
    let world = world.restart().await;
    world.log.set_committed(&world.partition, Some(Committed { offset: 1, metadata: String::new() }));
    world.source.assign(std::slice::from_ref(&world.partition));
    assert_eq!(world.next().await.id, "b");
    world.complete("b").await;
    world.log.committed_up_to(&world.partition, 2).await;
    let world = world.restart().await;
    world.source.assign(std::slice::from_ref(&world.partition));
    world.nothing_for(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn poison_goes_to_the_dead_letter_topic_with_its_reason_and_stops_nothing() {
    let world = World::new(options()).await;
    world.log.append(&world.partition, &b"\xff\xff\xff\xff"[..]);
    world.log.append(&world.partition, &b""[..]);
    world.produce(&task("a"));
    assert_eq!(world.next().await.id, "a");
    world.complete("a").await;
    let messages = world.delivered(2).await;
    let header = |name: &str| {
        let found = messages[0].headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.clone());
        String::from_utf8(found.unwrap().to_vec()).unwrap()
    };
    assert_eq!(&messages[0].payload[..], b"\xff\xff\xff\xff");
    assert!(header("taskbroker-reason").starts_with("undecodable: "), "{}", header("taskbroker-reason"));
    assert_eq!((header("taskbroker-topic"), header("taskbroker-partition")), ("taskworker".into(), "0".into()));
    assert_eq!(header("taskbroker-offset"), "0");
    world.empty().await;
    world.log.committed_up_to(&world.partition, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_a_retry_does_not_run_twice() {
    let world = World::new(options()).await;
    world.produce_marked(&task("a"));
    world.next().await;
    world.complete("a").await;
    world.empty().await;
    let world = world.restart().await;
    world.source.assign(std::slice::from_ref(&world.partition));
    world.produce_marked(&task("a"));
    world.nothing_for(Duration::from_secs(5)).await;
    world.log.committed_up_to(&world.partition, 2).await;
}

#[tokio::test(start_paused = true)]
async fn skipped_offsets_hold_nothing_up() {
    let world = World::new(options()).await;
    world.produce(&task("a"));
    world.log.append_gap(&world.partition, 5);
    world.produce(&task("b"));
    world.log.append_gap(&world.partition, 1);
    for id in ["a", "b"] {
        assert_eq!(world.next().await.id, id);
        world.complete(id).await;
    }
    world.log.committed_up_to(&world.partition, 8).await;
    assert_eq!(world.broker.stats().partitions[0].lag, 0);
}

#[tokio::test(start_paused = true)]
async fn a_busy_store_delays_an_answer_and_loses_nothing() {
    let world = World::new(options()).await;
    world.produce(&task("a"));
    world.next().await;
    world.store.faults().next_commit(Fault::refused(Answer::Busy));
    world.store.faults().next_commit(Fault::answer_lost(Answer::Busy));
    assert_eq!(world.complete("a").await, Reported::Settled);
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_failed_stops_the_broker_and_answers_nothing() {
    let world = World::new(options()).await;
    world.produce(&dead_letter(task("a")));
    world.next().await;
    world.store.faults().next_commit(Fault::refused(Answer::Failed));
    let answer = world.report("a", taskbroker_domain::ports::service::Verdict::Complete).await;
    assert!(answer.is_err(), "{answer:?}");
    world.broker.failed().await;
}

#[tokio::test(start_paused = true)]
async fn several_partitions_are_read_and_committed_each_by_itself() {
    let world = World::unassigned(options()).await;
    world.source.assign(&[partition(0), partition(1)]);
    for id in 0..10 {
        world.log.append(&partition(id % 2), prost::Message::encode_to_vec(&task(&id.to_string())));
    }
    for _ in 0..10 {
        let id = world.next().await.id;
        world.complete(&id).await;
    }
    world.log.committed_up_to(&partition(0), 5).await;
    world.log.committed_up_to(&partition(1), 5).await;
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_beyond_its_size_pauses_intake_but_is_served() {
    let mut options = options();
    options.policy.window = Duration::ZERO;
    options.store_bytes_max = Some(100);
    let world = World::new(options).await;
    world.produce(&task("a"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.produce(&task("b"));
    assert_eq!(world.next().await.id, "a");
    world.nothing_for(Duration::from_secs(3)).await;
    world.complete("a").await;
    assert_eq!(world.next().await.id, "b", "there is room again");
}

#[tokio::test(start_paused = true)]
async fn what_comes_faster_than_it_is_written_waits_outside() {
    let mut options = options();
    options.policy.unwritten_max = 40;
    options.policy.limits.pending = 10_000;
    let world = World::new(options).await;
    world.produce(&task("first"));
    world.next().await;
    world.complete("first").await;
    world.empty().await;
    let held = world.store.faults().hold_next_commit();
    for id in 0..1000 {
        world.produce(&task(&id.to_string()));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let here = world.broker.stats().in_flight;
    assert!((40..=80).contains(&here), "one commit under way, one filling: {here}");
    held.release();
    world.log.committed_up_to(&world.partition, 1001).await;
    assert_eq!(world.broker.stats().in_flight, 1000);
    world.balanced();
}

fn heavy(id: &str) -> taskbroker_proto::pb::TaskActivation {
    let mut task = task(id);
    task.parameters_bytes = vec![b'x'; 100_000].into();
    task
}

/// 16 MiB of unwritten payloads are allowed beside a memory of nearly nothing: 160 of the heavy ones.
fn little_memory() -> taskbroker::engine::Options {
    let mut options = options();
    options.policy.payload_memory_bytes = 1;
    options
}

#[tokio::test(start_paused = true)]
async fn what_workers_have_takes_no_memory_from_what_waits() {
    let world = World::new(little_memory()).await;
    for id in 0..500 {
        world.produce(&heavy(&id.to_string()));
    }
    for _ in 0..500 {
        assert_eq!(world.next().await.parameters_bytes.len(), 100_000);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.broker.stats().depths.processing, 500);
    assert!(world.broker.stats().resident_bytes < 1_000_000, "{}", world.broker.stats().resident_bytes);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_cluster_that_is_away_takes_no_memory_from_what_waits() {
    let world = World::new(little_memory()).await;
    world.outbox.usually(taskbroker_memory::Outcome::Unavailable);
    for id in 0..500 {
        world.produce(&dead_letter(heavy(&id.to_string())));
        let id = world.next().await.id;
        world.report(&id, taskbroker_domain::ports::service::Verdict::Failure).await.unwrap();
    }
    world.log.append(&world.partition, vec![0xff; 100_000]);
    world.produce(&task("last"));
    assert_eq!(world.next().await.id, "last");
    assert_eq!(world.broker.stats().depths.failed, 501);
    world.outbox.usually(taskbroker_memory::Outcome::Delivered);
    assert!(world.delivered(501).await.iter().all(|message| message.payload.len() >= 100_000), "read back whole");
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_was_added_is_read_from_its_start_also_with_latest() {
    let mut options = options();
    options.policy.offset_reset = taskbroker_domain::positions::OffsetReset::Latest;
    let world = World::unassigned(options).await;
    world.produce(&task("before"));
    world.source.assign(&[partition(0), partition(1)]);
    world.nothing_for(Duration::from_secs(1)).await;
    world.log.append(&partition(2), prost::Message::encode_to_vec(&task("added")));
    world.source.assign(&[partition(2)]);
    assert_eq!(world.next().await.id, "added");
    world.complete("added").await;
    world.empty().await;
}
