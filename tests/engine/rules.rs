//! Rules of the operator, in force while the broker runs, and what becomes of tasks that nobody asks for.

use std::{collections::BTreeMap, time::Duration};

use taskbroker_domain::{
    ports::{outbox::Destination, service::Verdict},
    rules::{Argument, DropRule, Rules, Selector},
};
use taskbroker_memory::Outcome;
use taskbroker_proto::{MARK_HEADER, pb};

use crate::world::{World, options, task};

fn drops(task_name: &str, selector: Option<Selector>) -> Rules {
    Rules { drop: vec![DropRule { task_name: task_name.into(), selector }], ..Rules::default() }
}

fn demoted() -> Rules {
    Rules { demoted: ["ns".into()].into(), ..Rules::default() }
}

/// A task whose first argument is this number.
fn numbered(id: &str, number: u8) -> pb::TaskActivation {
    let arguments = [b"\x82\xa4args\x91".as_slice(), &[number], b"\xa6kwargs\x80"].concat();
    pb::TaskActivation { parameters_bytes: arguments.into(), ..task(id) }
}

fn first_is(number: i128) -> Selector {
    Selector { args: BTreeMap::from([(0, Argument::Integer(number))]), ..Selector::default() }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_a_rule_drops_is_not_handed_out() {
    let world = World::new(options()).await;
    world.broker.set_rules(drops("demo.task", None));
    world.produce(&task("a"));
    world.nothing_for(Duration::from_secs(1)).await;
    world.empty().await;
    assert_eq!(world.broker.stats().totals.dropped, 1);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_comes_later_drops_what_waits_runs_or_is_in_the_store() {
    let world = World::new(options()).await;
    for id in ["running", "waiting"] {
        world.produce(&task(id));
    }
    world.next().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.rows().await.len(), 2);
    world.broker.set_rules(drops("demo.task", None));
    world.empty().await;
    assert_eq!((world.rows().await.len(), world.broker.stats().totals.dropped), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn rules_on_arguments_look_into_what_comes_in_and_into_what_is_stored() {
    let mut options = options();
    options.policy.payload_memory_bytes = 0;
    let world = World::new(options).await;
    for id in ["1", "2"] {
        world.produce(&numbered(id, id.parse().unwrap()));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.broker.set_rules(drops("demo.task", Some(first_is(2))));
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.produce(&numbered("again 2", 2));
    world.produce(&numbered("3", 3));
    assert_eq!([world.next().await.id, world.next().await.id], ["1", "3"]);
    world.nothing_for(Duration::from_secs(1)).await;
    assert_eq!(world.broker.stats().totals.dropped, 2);
}

#[tokio::test(start_paused = true)]
async fn a_demoted_namespace_is_forwarded_as_it_is_and_marked_and_removed_once_it_is_published() {
    let world = World::new(options()).await;
    world.outbox.usually(Outcome::Unavailable);
    world.produce(&task("stored"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.broker.set_rules(demoted());
    tokio::time::sleep(Duration::from_millis(1)).await;
    world.produce(&task("new"));
    world.nothing_for(Duration::from_secs(5)).await;
    assert_eq!(world.rows().await.len(), 2, "they stay until Kafka has them");
    world.outbox.usually(Outcome::Delivered);
    let messages = world.delivered(2).await;
    for message in &messages {
        assert_eq!(message.destination, Destination::Forward);
        assert!(message.headers.iter().any(|(name, _)| name == MARK_HEADER));
    }
    assert!(messages.iter().any(|message| message.payload == prost::Message::encode_to_vec(&task("new"))));
    world.empty().await;
    assert_eq!(world.broker.stats().totals.forwarded, 2);
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_forwarded_is_forwarded_after_a_restart_also_without_the_rule() {
    let world = World::new(options()).await;
    world.outbox.usually(Outcome::Unavailable);
    world.broker.set_rules(demoted());
    world.produce(&task("a"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let world = world.restart().await;
    world.outbox.usually(Outcome::Delivered);
    assert_eq!(world.delivered(1).await[0].destination, Destination::Forward);
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_is_told_and_takes_no_room_from_the_others() {
    let mut options = options();
    options.policy.limits.pending = 50;
    let world = World::new(options).await;
    for number in 0..120 {
        world.produce(&pb::TaskActivation { application: Some("forgotten".into()), ..task(&format!("f{number}")) });
    }
    world.produce(&task("served"));
    assert_eq!(world.next().await.id, "served");
    let health = world.broker.health();
    assert!(health.is_good(), "{health:?}");
    let unserved = &health.unserved[0];
    assert_eq!((&*unserved.application, &*unserved.namespace, unserved.waiting), ("forgotten", "ns", 120));
    world.complete("served").await;
}

#[tokio::test(start_paused = true)]
async fn a_verdict_reported_after_a_crash_settles_its_task_when_that_is_read_again() {
    let world = World::new(options()).await;
    for id in ["fails", "again", "done"] {
        world.produce(&crate::world::dead_letter(task(id)));
    }
    for _ in 0..3 {
        world.next().await;
    }
    let world = world.crash().await;
    world.report("fails", Verdict::Failure).await.unwrap();
    world.retry("again").await;
    world.complete("done").await;
    world.source.assign(std::slice::from_ref(&world.partition));
    world.nothing_for(Duration::from_secs(10)).await;
    let mut destinations: Vec<_> = world.delivered(2).await.iter().map(|message| message.destination).collect();
    destinations.sort_by_key(|destination| *destination == Destination::DeadLetter);
    assert_eq!(destinations, [Destination::Retry, Destination::DeadLetter]);
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn tasks_of_the_broker_itself_are_handed_out_and_need_no_kafka() {
    let world = World::unassigned(options()).await;
    let now = taskbroker_domain::time::Timestamp::from_millis(crate::world::START_MS);
    world.broker.take_in(vec![taskbroker_proto::canary("canary", "app", now), b"\xff".to_vec().into()]);
    let task = world.next().await;
    assert_eq!(
        (task.id.as_str(), task.namespace.as_str(), task.taskname.as_str()),
        ("canary", "internal", "canary_task")
    );
    world.complete("canary").await;
    world.empty().await;
}
