//! What becomes of a task: claims, reports, leases, delays, expiry.

use std::time::Duration;

use taskbroker_domain::{
    activation::RetryWish,
    ports::{
        outbox::Destination,
        service::{Reported, Verdict, Wanted},
        store::RowState,
    },
};
use taskbroker_proto::pb;

use crate::world::{World, at_most_once, dead_letter, options, task};

#[tokio::test(start_paused = true)]
async fn a_quick_task_comes_and_goes_without_a_row() {
    let world = World::new(options()).await;
    world.produce(&task("a"));
    assert_eq!(world.next().await, task("a"));
    assert_eq!(world.complete("a").await, Reported::Settled);
    world.log.committed_up_to(&world.partition, 1).await;
    world.empty().await;
    assert_eq!(world.rows().await, []);
    assert_eq!(world.broker.stats().totals.completed, 1);
}

#[tokio::test(start_paused = true)]
async fn tasks_are_acknowledged_one_by_one_and_out_of_order() {
    let world = World::new(options()).await;
    for id in ["a", "b", "c"] {
        world.produce(&task(id));
    }
    for id in ["a", "b", "c"] {
        assert_eq!(world.next().await.id, id);
    }
    world.complete("c").await;
    world.complete("b").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ids: Vec<_> = world.rows().await.into_iter().map(|row| row.id.to_string()).collect();
    assert_eq!(ids, ["a"], "the one still running outlived its window");
    world.complete("a").await;
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_counted_and_the_task_comes_again_until_it_fails() {
    let world = World::new(options()).await;
    world.produce(&dead_letter(task("a")));
    for _ in 0..5 {
        assert_eq!(world.next().await.id, "a");
        tokio::time::sleep(Duration::from_millis(12_900)).await;
        world.nothing_for(Duration::from_millis(50)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let messages = world.delivered(1).await;
    assert_eq!(&*messages[0].payload, prost::Message::encode_to_vec(&dead_letter(task("a"))));
    assert_eq!((messages[0].destination, &messages[0].key), (Destination::DeadLetter, &None));
    world.empty().await;
    assert_eq!(world.broker.stats().totals.dead_lettered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_completion_is_believed_and_a_late_failure_is_not() {
    let world = World::new(options()).await;
    world.produce(&task("a"));
    world.next().await;
    tokio::time::sleep(Duration::from_secs(14)).await;
    assert_eq!(world.report("a", Verdict::Failure).await.unwrap(), Reported::Refused);
    assert_eq!(world.complete("a").await, Reported::Settled);
    world.nothing_for(Duration::from_secs(20)).await;
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_discarded_unless_a_dead_letter_is_wanted() {
    let world = World::new(options()).await;
    world.produce(&task("a"));
    world.next().await;
    world.report("a", Verdict::Failure).await.unwrap();
    world.empty().await;
    assert_eq!(world.broker.stats().totals.discarded, 1);
    assert!(world.outbox.messages().is_empty());
    world.produce(&dead_letter(task("b")));
    world.next().await;
    world.report("b", Verdict::Failure).await.unwrap();
    let message = world.delivered(1).await.remove(0);
    assert_eq!(&*message.payload, prost::Message::encode_to_vec(&dead_letter(task("b"))), "as it was produced");
    world.empty().await;
    assert_eq!((world.broker.stats().totals.discarded, world.broker.stats().totals.dead_lettered), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_delayed_task_waits_as_a_row_and_comes_on_time() {
    let world = World::new(options()).await;
    let mut delayed = task("a");
    delayed.delay = Some(60);
    world.produce(&delayed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(matches!(world.rows().await[0].state, RowState::Pending { .. }));
    assert_eq!(world.broker.stats().depths.delayed, 1);
    world.nothing_for(Duration::from_secs(58)).await;
    let before = world.now_s();
    assert_eq!(world.next().await.id, "a");
    assert!(world.now_s() - before <= 1);
    world.complete("a").await;
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_task_is_not_handed_out() {
    let world = World::new(options()).await;
    let mut expiring = dead_letter(task("a"));
    expiring.expires = Some(2);
    world.produce(&expiring);
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.nothing_for(Duration::from_secs(1)).await;
    world.produce(&expiring);
    world.log.committed_up_to(&world.partition, 2).await;
    assert_eq!(world.broker.stats().totals.expired, 2);
    world.empty().await;
    assert!(world.outbox.messages().is_empty(), "it is no failure, whatever is to become of those");
}

#[tokio::test(start_paused = true)]
async fn a_task_with_a_worker_does_not_expire_unless_the_worker_is_lost() {
    let world = World::new(options()).await;
    for id in ["done", "lost"] {
        world.produce(&pb::TaskActivation { expires: Some(5), ..task(id) });
        assert_eq!(world.next().await.id, id);
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.complete("done").await, Reported::Settled);
    assert_eq!(world.broker.stats().totals.expired, 0);
    world.nothing_for(Duration::from_secs(5)).await;
    world.empty().await;
    let totals = &world.broker.stats().totals;
    assert_eq!((totals.completed, totals.expired), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_delay_is_over_goes_before_those_that_came_after_it() {
    let world = World::new(options()).await;
    world.produce(&task("before"));
    world.produce(&pb::TaskActivation { delay: Some(5), ..task("delayed") });
    for number in 0..100 {
        world.produce(&task(&number.to_string()));
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    for expected in ["before", "delayed", "0", "1"] {
        assert_eq!(world.next().await.id, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_what_the_worker_reports_however_many_attempts_there_were() {
    let world = World::new(options()).await;
    let retry_state = Some(pb::RetryState { attempts: 9, max_attempts: 1, ..Default::default() });
    world.produce(&pb::TaskActivation { retry_state, ..task("a") });
    world.next().await;
    assert_eq!(world.report("a", Verdict::Retry(RetryWish::default())).await.unwrap(), Reported::Settled);
    let retry = <pb::TaskActivation as prost::Message>::decode(world.delivered(1).await.remove(0).payload).unwrap();
    let state = retry.retry_state.unwrap();
    assert_eq!((state.attempts, state.max_attempts), (10, 1));
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_cancelled_puts_its_task_back() {
    let world = World::new(options()).await;
    world.produce(&task("a"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let offer = world.workers.fetch(Wanted::Any).await.unwrap();
    assert!(offer.is_some());
    assert!(world.fetch().await.is_none());
    drop(offer);
    assert_eq!(world.fetch().await.unwrap().id, "a");
}

#[tokio::test(start_paused = true)]
async fn an_at_most_once_task_waits_for_the_group_and_its_lost_worker_ends_it() {
    let world = World::new(options()).await;
    world.produce(&at_most_once(task("a")));
    assert_eq!(world.next().await.id, "a");
    assert_eq!(world.log.committed(&world.partition).unwrap().offset, 1);
    assert!(matches!(world.rows().await[0].state, RowState::Processing { .. }), "the claim is durable");
    world.nothing_for(Duration::from_secs(30)).await;
    world.empty().await;
    assert_eq!(world.broker.stats().totals.discarded, 1);
}

#[tokio::test(start_paused = true)]
async fn a_report_on_an_unknown_task_is_answered() {
    let world = World::new(options()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for verdict in [Verdict::Complete, Verdict::Failure, Verdict::Retry(Default::default())] {
        assert_eq!(world.report("nobody", verdict).await.unwrap(), Reported::Unknown);
    }
}

#[tokio::test(start_paused = true)]
async fn payloads_beyond_the_budget_are_read_back() {
    let mut options = options();
    options.policy.payload_memory_bytes = 100;
    let world = World::new(options).await;
    for id in 0..500 {
        world.produce(&task(&format!("{id:03}")));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.broker.stats().resident_bytes <= 200, "{}", world.broker.stats().resident_bytes);
    for id in 0..500 {
        let next = world.next().await;
        assert_eq!(next, task(&format!("{id:03}")), "oldest first, bytes unchanged");
        world.complete(&next.id).await;
    }
    world.empty().await;
}
