//! Push delivery: what is offered when, and what becomes of it.

use std::{sync::Arc, time::Duration};

use taskbroker_domain::ports::{
    service::{Reported, Verdict},
    store::{ActivationStore, RowState},
    worker::{Offered, Refused},
};
use taskbroker_proto::pb::TaskActivation;
use tokio::time::Instant;

use crate::{
    gateway::{Manner, Workers, busy, declined, dispatch_options, unknown, unreachable},
    world::{World, at_most_once, dead_letter, options, task},
};

/// A broker that pushes to the workers of these applications.
async fn pushing(applications: &[&str], concurrency: usize) -> (World, Workers) {
    let (world, workers) = (World::new(options()).await, Workers::default());
    world.broker.dispatch(Arc::new(workers.clone()), dispatch_options(applications, concurrency));
    (world, workers)
}

fn of(application: &str, id: &str) -> TaskActivation {
    TaskActivation { application: Some(application.into()), ..task(id) }
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn tasks_are_offered_as_they_come_and_settled_by_reports() {
    let (world, workers) = pushing(&["app"], 2).await;
    for id in ["a", "b", "c"] {
        world.produce(&task(id));
    }
    let offers = workers.await_offers(3).await;
    assert_eq!(offers.iter().map(|seen| seen.id.to_string()).collect::<Vec<_>>(), ["a", "b", "c"]);
    for id in ["c", "a", "b"] {
        assert_eq!(world.complete(id).await, Reported::Settled);
    }
    world.empty().await;
    world.log.committed_up_to(&world.partition, 3).await;
    assert_eq!(workers.offers().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_comes_while_nothing_is_here_is_offered_at_once() {
    let (world, workers) = pushing(&["app"], 2).await;
    seconds(3600).await;
    world.produce(&task("a"));
    let produced = Instant::now();
    let offers = workers.await_offers(1).await;
    assert!(offers[0].at - produced < Duration::from_millis(50), "{:?}", offers[0].at - produced);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_under_way_than_allowed_and_the_next_goes_when_one_is_answered() {
    let (world, workers) = pushing(&["app"], 3).await;
    workers.behave("app", Manner::TakesSlowly(Duration::from_secs(1)));
    for id in 0..10 {
        world.produce(&task(&id.to_string()));
    }
    let began = Instant::now();
    workers.await_offers(10).await;
    assert_eq!(workers.most_under_way(), 3);
    assert!((Duration::from_secs(3)..Duration::from_millis(3_500)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_refused_task_is_put_back_and_offered_again_when_the_worker_is_there() {
    let (world, workers) = pushing(&["app"], 2).await;
    workers.behave("app", Manner::Answers(unreachable()));
    world.produce(&task("a"));
    workers.await_offers(1).await;
    seconds(60).await;
    assert_eq!(world.broker.stats().depths.pending, 1, "it waits, and not with a lease");
    assert_eq!(workers.offered("a"), 1, "the breaker is open: it is asked for, not tried with tasks");
    assert!((10..30).contains(&workers.probes()), "about every five seconds: {}", workers.probes());
    workers.behave("app", Manner::Takes);
    let back = Instant::now();
    let offers = workers.await_offers(2).await;
    assert!(offers[1].at - back <= Duration::from_secs(6));
    world.complete("a").await;
    world.empty().await;
    assert_eq!(world.broker.stats().lost_leases, 0);
}

#[tokio::test(start_paused = true)]
async fn after_an_unknown_outcome_the_lease_runs_out_before_the_task_is_offered_again() {
    let (world, workers) = pushing(&["app"], 2).await;
    workers.behave("app", Manner::Answers(unknown()));
    world.produce(&task("a"));
    let first = workers.await_offers(1).await[0].at;
    workers.behave("app", Manner::Takes);
    let second = workers.await_offers(2).await[1].at;
    let run_limit_and_grace = Duration::from_secs(13);
    assert!(second - first >= run_limit_and_grace, "{:?}", second - first);
    assert!(second - first <= run_limit_and_grace + Duration::from_secs(1), "{:?}", second - first);
    assert_eq!(world.broker.stats().lost_leases, 1);
}

#[tokio::test(start_paused = true)]
async fn an_at_most_once_task_is_not_offered_twice_after_an_unknown_outcome() {
    let (world, workers) = pushing(&["app"], 2).await;
    workers.behave("app", Manner::Answers(unknown()));
    world.produce(&dead_letter(at_most_once(task("a"))));
    workers.await_offers(1).await;
    workers.behave("app", Manner::Takes);
    let messages = world.delivered(1).await;
    assert!(
        messages[0].headers.iter().any(|(name, value)| name == "taskbroker-reason" && value.starts_with(b"at most"))
    );
    seconds(60).await;
    assert_eq!(workers.offered("a"), 1);
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn an_at_most_once_task_that_was_certainly_refused_is_offered_again() {
    let (world, workers) = pushing(&["app"], 2).await;
    workers.behave("app", Manner::Answers(busy()));
    world.produce(&at_most_once(task("a")));
    workers.await_offers(2).await;
    workers.behave("app", Manner::Takes);
    seconds(2).await;
    assert_eq!(world.complete("a").await, Reported::Settled);
    world.empty().await;
    assert_eq!(world.broker.stats().totals.completed, 1);
}

#[tokio::test(start_paused = true)]
async fn an_at_most_once_task_leaves_only_when_its_claim_is_durable() {
    let (world, workers) = pushing(&["app"], 2).await;
    let held = world.store.faults().hold_next_commit();
    world.produce(&at_most_once(task("a")));
    seconds(3).await;
    assert!(workers.offers().is_empty());
    held.release();
    workers.await_offers(1).await;
    assert!(matches!(world.rows().await[0].state, RowState::Processing { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_task_is_not_offered_again_while_its_offer_is_under_way() {
    let (world, workers) = pushing(&["app"], 2).await;
    workers.behave("app", Manner::TakesSlowly(Duration::from_secs(29)));
    world.produce(&task("a"));
    seconds(28).await;
    assert_eq!(workers.offered("a"), 1, "longer than its run limit of 10 s");
    seconds(13).await;
    assert_eq!(workers.offered("a"), 1, "its run limit counts from when the worker took it");
    seconds(2).await;
    assert_eq!(workers.offered("a"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dead_application_does_not_delay_another() {
    for dead in [Manner::Answers(unreachable()), Manner::Hangs, Manner::Answers(busy()), Manner::Answers(declined())] {
        let (world, workers) = pushing(&["dead", "living"], 2).await;
        workers.behave("dead", dead.clone());
        for id in 0..100 {
            world.produce(&of("dead", &format!("dead-{id}")));
            world.produce(&of("living", &format!("living-{id}")));
        }
        let began = Instant::now();
        for id in 0..100 {
            while workers.offered(&format!("living-{id}")) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            world.complete(&format!("living-{id}")).await;
        }
        assert!(began.elapsed() < Duration::from_secs(1), "{dead:?}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_worker_is_tried_again_soon_and_never_given_up() {
    let (world, workers) = pushing(&["app"], 2).await;
    workers.behave("app", Manner::Answers(busy()));
    world.produce(&task("a"));
    seconds(60).await;
    assert_eq!(workers.probes(), 0, "it is there");
    assert!((55..150).contains(&workers.offered("a")), "about every second: {}", workers.offered("a"));
    assert_eq!(world.broker.stats().lost_leases, 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_its_worker_declines_does_not_hold_up_the_others() {
    let (world, workers) = pushing(&["app"], 2).await;
    workers.behave("app", Manner::AnswersTo("bad", declined()));
    world.produce(&task("bad"));
    for id in 0..1000 {
        world.produce(&task(&id.to_string()));
    }
    let began = Instant::now();
    while workers.offered("999") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    seconds(10).await;
    assert!((5..20).contains(&workers.offered("bad")), "about every second: {}", workers.offered("bad"));
    workers.behave("app", Manner::Takes);
    seconds(2).await;
    assert_eq!(world.complete("bad").await, Reported::Settled);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_answers_with_errors_is_left_alone_and_tried_with_one_task() {
    let (world, workers) = pushing(&["app"], 8).await;
    workers.behave("app", Manner::Answers(declined()));
    for id in 0..100 {
        world.produce(&task(&id.to_string()));
    }
    seconds(60).await;
    assert!(
        workers.offers().len() < 60,
        "eight at most before it opens, then one each time: {}",
        workers.offers().len()
    );
    workers.behave("app", Manner::Takes);
    seconds(7).await;
    let taken = world.broker.stats().depths.processing;
    assert_eq!(taken, 100, "all of them once it takes tasks again");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_too_large_goes_to_the_dead_letter_topic_with_the_reason() {
    let (world, workers) = pushing(&["app"], 2).await;
    let too_large = Offered::Refused(Refused::TooLarge("70 bytes to be sent, and 60 are allowed".into()));
    workers.behave("app", Manner::AnswersTo("large", too_large));
    world.produce(&task("large"));
    world.produce(&task("a"));
    let messages = world.delivered(1).await;
    let reason = messages[0].headers.iter().find(|(name, _)| name == "taskbroker-reason").map(|(_, value)| value);
    assert_eq!(
        reason.map(|reason| &reason[..]),
        Some(&b"cannot be given to a worker: 70 bytes to be sent, and 60 are allowed"[..])
    );
    assert_eq!((workers.offered("large"), workers.probes()), (1, 0));
    world.complete("a").await;
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_report_that_overtakes_the_answer_counts() {
    let (world, workers) = pushing(&["app"], 2).await;
    workers.behave("app", Manner::TakesSlowly(Duration::from_secs(5)));
    world.produce(&task("a"));
    workers.await_offers(1).await;
    assert_eq!(world.complete("a").await, Reported::Settled);
    world.empty().await;
    seconds(60).await;
    assert_eq!(workers.offered("a"), 1);
    world.balanced();
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_published_and_offered_when_it_comes_back() {
    let (world, workers) = pushing(&["app"], 2).await;
    world.produce(&task("a"));
    workers.await_offers(1).await;
    world.report("a", Verdict::Retry(taskbroker_domain::activation::RetryWish::default())).await.unwrap();
    let message = world.delivered(1).await.remove(0);
    world.log.append(&world.partition, message.payload);
    let offers = workers.await_offers(2).await;
    assert_ne!(offers[1].id, "a");
    world.complete(&offers[1].id).await;
    world.empty().await;
}

#[tokio::test(start_paused = true)]
async fn tasks_without_an_entry_in_the_map_wait_and_stop_nobody() {
    let (world, workers) = pushing(&["app"], 2).await;
    world.produce(&of("stranger", "s"));
    world.produce(&task("a"));
    workers.await_offers(1).await;
    world.complete("a").await;
    seconds(120).await;
    assert_eq!(workers.offers().len(), 1);
    assert_eq!((world.broker.stats().depths.pending, world.broker.health().is_good()), (1, true));
}

#[tokio::test(start_paused = true)]
async fn a_dead_worker_is_not_the_brokers_illness() {
    let (world, workers) = pushing(&["app"], 2).await;
    workers.behave("app", Manner::Answers(unreachable()));
    for id in 0..100 {
        world.produce(&at_most_once(task(&id.to_string())));
    }
    for _ in 0..100 {
        seconds(1).await;
        assert!(world.broker.health().is_good(), "{:?}", world.broker.health());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_offers_nothing_new_and_lets_offers_under_way_finish() {
    let (world, workers) = pushing(&["app"], 2).await;
    workers.behave("app", Manner::TakesSlowly(Duration::from_millis(900)));
    for id in 0..10 {
        world.produce(&task(&id.to_string()));
    }
    workers.await_offers(2).await;
    world.broker.stop_intake();
    seconds(1).await;
    assert_eq!(workers.offers().len(), 2);
    assert_eq!(world.complete("0").await, Reported::Settled, "reports are taken");
    let store = world.store.clone();
    world.broker.shut_down(Duration::from_secs(5)).await;
    let states: Vec<RowState> = store.rows(None, 100).await.unwrap().into_iter().map(|row| row.state).collect();
    assert!(matches!(states[0], RowState::Processing { .. }), "{states:?}");
    assert!(states[1..].iter().all(|state| matches!(state, RowState::Pending { .. })), "{states:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_worker_that_hangs_and_keeps_its_lease() {
    let (world, workers) = pushing(&["app"], 2).await;
    workers.behave("app", Manner::Hangs);
    world.produce(&task("a"));
    workers.await_offers(1).await;
    let (store, began) = (world.store.clone(), Instant::now());
    world.broker.shut_down(Duration::from_secs(5)).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(store.state().await.unwrap().closed);
    assert!(matches!(store.rows(None, 10).await.unwrap()[0].state, RowState::Processing { .. }), "it may have it");
}
