//! Every state with every event: what is allowed, and what is refused and why.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use taskbroker_domain::{
    activation::{OnFailure, RetryWish},
    lifecycle::{Circumstances, Event, Lease, Outcome, Publication, Refusal, State, Step, step},
    ports::{service::Verdict, store::FailureCause},
    time::{Steady, Timestamp},
};

const NOW: Timestamp = Timestamp::from_millis(1_000);
const WISH: RetryWish = RetryWish { max_attempts: Some(3), delay_s: Some(7) };
const LEASE: Lease = Lease { ends: Steady::from_millis(50), ends_at: Timestamp::from_millis(2_000) };
const NEXT_LEASE: Lease = Lease { ends: Steady::from_millis(90), ends_at: Timestamp::from_millis(3_000) };

fn circumstances() -> Circumstances {
    Circumstances {
        at_most_once: false,
        on_failure: OnFailure::DeadLetter,
        lost_leases: 1,
        max_lost_leases: 3,
        now: NOW,
    }
}

fn pending() -> State {
    State::Pending { ready_at: NOW }
}

fn retry(publication: Publication) -> State {
    State::Retry { wish: WISH.into(), publication }
}

fn forward(publication: Publication) -> State {
    State::Forward { publication }
}

fn failed(cause: FailureCause, publication: Publication) -> State {
    State::Failed { cause: cause.into(), publication }
}

fn done(outcome: Outcome) -> State {
    State::Done(outcome)
}

fn parked() -> Publication {
    Publication::Parked("too large".into())
}

fn events() -> Vec<Event> {
    vec![
        Event::Claim(NEXT_LEASE),
        Event::Accepted(NEXT_LEASE),
        Event::PutBack,
        Event::LeaseEnd,
        Event::Complete,
        Event::Failure,
        Event::Retry(WISH),
        Event::Expire,
        Event::GiveUp(FailureCause::InDoubt),
        Event::PublishBegins,
        Event::Published,
        Event::PublishFailed,
        Event::PublishRefused("too large".into()),
        Event::Remembered(Verdict::Complete),
        Event::Remembered(Verdict::Failure),
        Event::Remembered(Verdict::Retry(WISH)),
        Event::Forward,
        Event::Drop,
    ]
}

fn outcomes() -> [Outcome; 7] {
    use Outcome as O;
    [O::Completed, O::Discarded, O::DeadLettered, O::Expired, O::Retried, O::Forwarded, O::Dropped]
}

fn next(state: &State, event: Event) -> Result<State, Refusal> {
    step(state, event, circumstances()).map(|step| step.state)
}

/// Checks a whole row of the table: the allowed events with their results; every other is refused with this reason.
fn assert_row(state: &State, allowed: &[(Event, State)], refusal: Refusal) {
    for event in events() {
        let expected = allowed.iter().find(|(other, _)| *other == event).map(|(_, next)| next.clone()).ok_or(refusal);
        assert_eq!(next(state, event.clone()), expected, "{state:?} with {event:?}");
    }
}

#[test]
fn pending_is_claimed_expired_forwarded_dropped_or_given_up_and_ends_as_it_was_reported() {
    let given_up = failed(FailureCause::InDoubt, Publication::Waiting);
    let allowed = [
        (Event::Claim(NEXT_LEASE), State::Processing(NEXT_LEASE)),
        (Event::Complete, done(Outcome::Completed)),
        (Event::Expire, done(Outcome::Expired)),
        (Event::GiveUp(FailureCause::InDoubt), given_up),
        (Event::Remembered(Verdict::Complete), done(Outcome::Completed)),
        (Event::Remembered(Verdict::Failure), failed(FailureCause::Reported, Publication::Waiting)),
        (Event::Remembered(Verdict::Retry(WISH)), retry(Publication::Waiting)),
        (Event::Forward, forward(Publication::Waiting)),
        (Event::Drop, done(Outcome::Dropped)),
    ];
    assert_row(&pending(), &allowed, Refusal::IsPending);
}

#[test]
fn processing_is_accepted_settled_put_back_lost_dropped_or_given_up() {
    let allowed = [
        (Event::Accepted(NEXT_LEASE), State::Processing(NEXT_LEASE)),
        (Event::PutBack, pending()),
        (Event::LeaseEnd, pending()),
        (Event::Complete, done(Outcome::Completed)),
        (Event::Failure, failed(FailureCause::Reported, Publication::Waiting)),
        (Event::Retry(WISH), retry(Publication::Waiting)),
        (Event::GiveUp(FailureCause::InDoubt), failed(FailureCause::InDoubt, Publication::Waiting)),
        (Event::Drop, done(Outcome::Dropped)),
    ];
    assert_row(&State::Processing(LEASE), &allowed, Refusal::IsProcessing);
}

#[test]
fn a_waiting_retry_begins_to_be_published_or_is_completed_late_or_dropped() {
    let allowed = [
        (Event::PublishBegins, retry(Publication::Begun)),
        (Event::Complete, done(Outcome::Completed)),
        (Event::GiveUp(FailureCause::InDoubt), failed(FailureCause::InDoubt, Publication::Waiting)),
        (Event::Drop, done(Outcome::Dropped)),
    ];
    assert_row(&retry(Publication::Waiting), &allowed, Refusal::IsRetry);
}

#[test]
fn nothing_else_is_believed_of_a_retry_that_may_have_been_sent() {
    let allowed = [
        (Event::Published, done(Outcome::Retried)),
        (Event::PublishFailed, retry(Publication::Begun)),
        (Event::PublishRefused("too large".into()), retry(parked())),
        (Event::GiveUp(FailureCause::InDoubt), failed(FailureCause::InDoubt, Publication::Waiting)),
    ];
    assert_row(&retry(Publication::Begun), &allowed, Refusal::IsRetry);
}

#[test]
fn a_parked_retry_is_kept_until_it_is_completed_dropped_or_given_up() {
    let allowed = [
        (Event::Complete, done(Outcome::Completed)),
        (Event::GiveUp(FailureCause::InDoubt), failed(FailureCause::InDoubt, Publication::Waiting)),
        (Event::Drop, done(Outcome::Dropped)),
    ];
    assert_row(&retry(parked()), &allowed, Refusal::IsRetry);
}

#[test]
fn a_failure_goes_the_way_of_its_publication() {
    let cause = FailureCause::Reported;
    let state = |publication| failed(cause.clone(), publication);
    let ended = [(Event::Complete, done(Outcome::Completed)), (Event::Drop, done(Outcome::Dropped))];
    let waiting = [&[(Event::PublishBegins, state(Publication::Begun))], ended.as_slice()].concat();
    assert_row(&state(Publication::Waiting), &waiting, Refusal::IsFailed);
    let begun = [
        (Event::Published, done(Outcome::DeadLettered)),
        (Event::PublishFailed, state(Publication::Begun)),
        (Event::PublishRefused("too large".into()), state(parked())),
    ];
    assert_row(&state(Publication::Begun), &begun, Refusal::IsFailed);
    assert_row(&state(parked()), &ended, Refusal::IsFailed);
}

#[test]
fn a_forwarded_task_goes_the_way_of_its_publication() {
    let given_up = (Event::GiveUp(FailureCause::InDoubt), failed(FailureCause::InDoubt, Publication::Waiting));
    let ended = [(Event::Complete, done(Outcome::Completed)), (Event::Drop, done(Outcome::Dropped)), given_up.clone()];
    let waiting = [&[(Event::PublishBegins, forward(Publication::Begun))], ended.as_slice()].concat();
    assert_row(&forward(Publication::Waiting), &waiting, Refusal::IsForward);
    let begun = [
        (Event::Published, done(Outcome::Forwarded)),
        (Event::PublishFailed, forward(Publication::Begun)),
        (Event::PublishRefused("too large".into()), forward(parked())),
        given_up,
    ];
    assert_row(&forward(Publication::Begun), &begun, Refusal::IsForward);
    assert_row(&forward(parked()), &ended, Refusal::IsForward);
}

#[test]
fn what_is_done_stays_done() {
    for outcome in outcomes() {
        assert_row(&done(outcome), &[], Refusal::IsDone);
    }
}

#[test]
fn a_lost_lease_counts_and_the_last_one_fails_the_task() {
    let lost = |lost_leases| {
        step(&State::Processing(LEASE), Event::LeaseEnd, Circumstances { lost_leases, ..circumstances() })
    };
    assert_eq!(lost(0).unwrap(), Step { state: pending(), lost_leases: 1 });
    assert_eq!(lost(1).unwrap(), Step { state: pending(), lost_leases: 2 });
    let exhausted = failed(FailureCause::LeasesExhausted, Publication::Waiting);
    assert_eq!(lost(2).unwrap(), Step { state: exhausted, lost_leases: 3 });
    assert_eq!(lost(u32::MAX).unwrap().lost_leases, u32::MAX);
}

#[test]
fn an_at_most_once_task_fails_with_its_first_lost_lease() {
    let by = Circumstances { at_most_once: true, lost_leases: 0, ..circumstances() };
    let step = step(&State::Processing(LEASE), Event::LeaseEnd, by).unwrap();
    assert_eq!(step.state, failed(FailureCause::WorkerLost, Publication::Waiting));
}

#[test]
fn a_failure_nobody_wants_is_discarded_unless_it_cannot_be_read() {
    let by = Circumstances { on_failure: OnFailure::Discard, ..circumstances() };
    let give_up = |cause| step(&State::Processing(LEASE), Event::GiveUp(cause), by).unwrap().state;
    assert_eq!(give_up(FailureCause::InDoubt), done(Outcome::Discarded));
    let undecodable = FailureCause::Undecodable("no protobuf".into());
    assert_eq!(give_up(undecodable.clone()), failed(undecodable, Publication::Waiting));
    let undeliverable = FailureCause::Undeliverable("too large".into());
    assert_eq!(give_up(undeliverable.clone()), failed(undeliverable, Publication::Waiting));
    let unreadable = give_up(FailureCause::Unreadable);
    assert!(matches!(unreadable, State::Failed { publication: Publication::Parked(_), .. }), "{unreadable:?}");
}

fn any_event() -> impl Strategy<Value = Event> {
    prop::sample::select(events())
}

proptest! {
    #[test]
    fn no_sequence_of_events_resurrects_what_left_or_lowers_the_count_of_lost_leases(
        sequence in prop::collection::vec(any_event(), 0..60),
        at_most_once in any::<bool>(),
        discard in any::<bool>(),
    ) {
        let on_failure = if discard { OnFailure::Discard } else { OnFailure::DeadLetter };
        let mut by = Circumstances { at_most_once, on_failure, lost_leases: 0, ..circumstances() };
        let mut state = pending();
        let mut claims = 0;
        for event in sequence {
            let (was_done, claim, put_back) =
                (matches!(state, State::Done(_)), matches!(event, Event::Claim(_)), event == Event::PutBack);
            let Ok(next) = step(&state, event, by) else { continue };
            prop_assert!(!was_done);
            prop_assert!(next.lost_leases >= by.lost_leases);
            claims += i32::from(claim);
            claims -= i32::from(put_back);
            (state, by.lost_leases) = (next.state, next.lost_leases);
        }
        prop_assert!(!at_most_once || claims <= 1, "handed out {claims} times");
        prop_assert!(by.lost_leases <= by.max_lost_leases);
    }
}
