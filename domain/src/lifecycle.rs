//! The states of an activation and the legal transitions between them.
//!
//! ```text
//!              claim                  complete
//!  Pending ------------> Processing ------------> Done(Completed)
//!    ^ ^                  |  |  |  retry
//!    | | put back         |  |  '-----------> Retry --(published)------> Done(Retried), comes back by the source
//!    | '------------------'  |  failed | leases exhausted | at-most-once worker lost
//!    |    lease lost         '--------------> Failed --(dead-lettered)--> Done(DeadLettered)
//!    '-----------------------'                  '--- or Done(Discarded) at once
//!  Pending --(its namespace is demoted)--> Forward --(forwarded)---------> Done(Forwarded), lives on elsewhere
//!  Processing --(accepted: the offer is over, its lease begins anew)----> Processing
//!  Pending | Retry | Forward | Failed --(late complete, nothing published yet)----> Done(Completed)
//!  Pending --(expired)--------------------------------------------------> Done(Expired)
//!  any state in which nothing has been published yet --(a rule drops it)---> Done(Dropped)
//! ```
//!
//! `Done` waits for the commit that removes it; then the entry leaves the ledger.

use crate::{
    activation::{OnFailure, RetryWish},
    ports::{service::Verdict, store::FailureCause},
    time::{Steady, Timestamp},
};

/// The state of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for a worker.
    Pending {
        /// From when on it may be handed out; in the future: delayed.
        ready_at: Timestamp,
    },
    /// A worker has it.
    Processing(Lease),
    /// Waits to be published to the retry topic.
    Retry {
        /// What the worker asked for.
        wish: Box<RetryWish>,
        /// How far its publication is.
        publication: Publication,
    },
    /// Waits to be forwarded to another topic.
    Forward {
        /// How far its publication is.
        publication: Publication,
    },
    /// Waits to be published to the dead-letter topic.
    Failed {
        /// Why it failed.
        cause: Box<FailureCause>,
        /// How far its publication is.
        publication: Publication,
    },
    /// Waits for the commit that removes it.
    Done(Outcome),
}

/// How long a worker may keep a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its end in steady time, which decides.
    pub ends: Steady,
    /// Its end in wall time, which is journalled.
    pub ends_at: Timestamp,
}

/// How far the publication of what leaves through Kafka is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Publication {
    /// Nothing has been sent.
    Waiting,
    /// It may have been sent; from here on nothing else can be believed. Journalled for an at-most-once task, before anything
    /// is sent; for others it need not be.
    Begun,
    /// Kafka refuses it for good, with the reason. Kept until somebody decides.
    Parked(Box<str>),
}

/// How an activation left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The work is done.
    Completed,
    /// It failed for good and nobody wanted a dead letter.
    Discarded,
    /// It was published to the dead-letter topic.
    DeadLettered,
    /// Its time was over before a worker got it.
    Expired,
    /// It was published to the retry topic.
    Retried,
    /// It was forwarded to another topic.
    Forwarded,
    /// A rule of the operator dropped it.
    Dropped,
}

/// What can happen to an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker gets it.
    Claim(Lease),
    /// The worker that it was offered to has it, or may have it: its lease begins anew.
    Accepted(Lease),
    /// The claim is undone: it certainly did not reach the worker.
    PutBack,
    /// Its lease ended without a report.
    LeaseEnd,
    /// A worker reports the work done.
    Complete,
    /// A worker reports that it failed for good.
    Failure,
    /// A worker asks for another try.
    Retry(RetryWish),
    /// Its time is over.
    Expire,
    /// A report that came before it, after a crash, tells how it ended.
    Remembered(Verdict),
    /// Its namespace is demoted.
    Forward,
    /// A rule of the operator drops it.
    Drop,
    /// The broker gives it up.
    GiveUp(FailureCause),
    /// Its publication begins.
    PublishBegins,
    /// Its publication is durable at its destination.
    Published,
    /// Its publication did not succeed; it is to be sent again.
    PublishFailed,
    /// Nothing of its publication was sent, and nothing will be before the next start.
    PublishUndone,
    /// Its publication is refused for good.
    PublishRefused(Box<str>),
}

/// What a transition depends on beside the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Never handed out twice.
    pub at_most_once: bool,
    /// What becomes of a failure.
    pub on_failure: OnFailure,
    /// How often its lease was lost already.
    pub lost_leases: u32,
    /// How often it may be.
    pub max_lost_leases: u32,
    /// The present moment.
    pub now: Timestamp,
}

/// Why an event was refused. The entry stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It waits for a worker: a failure or retry reported by one that lost its lease is stale.
    #[error("it is waiting for a worker")]
    IsPending,
    /// A worker has it.
    #[error("a worker has it")]
    IsProcessing,
    /// It is on its way to the retry topic.
    #[error("it is on its way to the retry topic")]
    IsRetry,
    /// It is on its way to another topic.
    #[error("it is on its way to another topic")]
    IsForward,
    /// It failed.
    #[error("it failed")]
    IsFailed,
    /// It is done.
    #[error("it is done")]
    IsDone,
}

/// A legal step: the next state, and what it adds to the count of lost leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The next state.
    pub state: State,
    /// The count of lost leases from here on.
    pub lost_leases: u32,
}

/// The one function through which every state change goes: the next state, or why the event is refused.
pub fn step(state: &State, event: Event, by: Circumstances) -> Result<Step, Refusal> {
    if let (State::Processing(_), Event::LeaseEnd) = (state, &event) {
        return Ok(lease_lost(by));
    }
    next(state, event, by).map(|state| Step { state, lost_leases: by.lost_leases })
}

fn next(state: &State, event: Event, by: Circumstances) -> Result<State, Refusal> {
    use Event as E;
    match state {
        State::Pending { .. } => match event {
            E::Claim(lease) => Ok(State::Processing(lease)),
            E::Complete | E::Remembered(Verdict::Complete) => Ok(State::Done(Outcome::Completed)),
            E::Remembered(Verdict::Failure) => Ok(failed(FailureCause::Reported, by)),
            E::Remembered(Verdict::Retry(wish)) => {
                Ok(State::Retry { wish: wish.into(), publication: Publication::Waiting })
            }
            E::Expire => Ok(State::Done(Outcome::Expired)),
            E::Forward => Ok(State::Forward { publication: Publication::Waiting }),
            E::Drop => Ok(State::Done(Outcome::Dropped)),
            E::GiveUp(cause) => Ok(failed(cause, by)),
            E::Accepted(_) | E::PutBack | E::LeaseEnd | E::Failure | E::Retry(_) => Err(Refusal::IsPending),
            E::PublishBegins | E::Published | E::PublishFailed => Err(Refusal::IsPending),
            E::PublishUndone | E::PublishRefused(_) => Err(Refusal::IsPending),
        },
        State::Processing(_) => match event {
            E::Complete => Ok(State::Done(Outcome::Completed)),
            E::Failure => Ok(failed(FailureCause::Reported, by)),
            E::Retry(wish) => Ok(State::Retry { wish: wish.into(), publication: Publication::Waiting }),
            E::Accepted(lease) => Ok(State::Processing(lease)),
            E::PutBack => Ok(State::Pending { ready_at: by.now }),
            E::GiveUp(cause) => Ok(failed(cause, by)),
            E::LeaseEnd => Ok(lease_lost(by).state),
            E::Drop => Ok(State::Done(Outcome::Dropped)),
            E::Claim(_) | E::Expire | E::Forward | E::Remembered(_) => Err(Refusal::IsProcessing),
            E::PublishBegins | E::Published | E::PublishFailed => Err(Refusal::IsProcessing),
            E::PublishUndone | E::PublishRefused(_) => Err(Refusal::IsProcessing),
        },
        State::Retry { wish, publication } => {
            let (wish, outcome) = (**wish, Outcome::Retried);
            let again = |publication| State::Retry { wish: wish.into(), publication };
            match event {
                E::GiveUp(cause) => Ok(failed(cause, by)),
                event => publish(publication, event, outcome, again, Refusal::IsRetry),
            }
        }
        State::Forward { publication } => match event {
            E::GiveUp(cause) => Ok(failed(cause, by)),
            event => {
                let again = |publication| State::Forward { publication };
                publish(publication, event, Outcome::Forwarded, again, Refusal::IsForward)
            }
        },
        State::Failed { cause, publication } => {
            let again = |publication| State::Failed { cause: cause.clone(), publication };
            publish(publication, event, Outcome::DeadLettered, again, Refusal::IsFailed)
        }
        State::Done(_) => Err(Refusal::IsDone),
    }
}

/// A state that waits for its publication. A completion is believed until something may have been sent.
fn publish(
    publication: &Publication,
    event: Event,
    outcome: Outcome,
    again: impl Fn(Publication) -> State,
    refusal: Refusal,
) -> Result<State, Refusal> {
    use Event as E;
    use Publication as P;
    match (publication, event) {
        (P::Waiting, E::Complete) => Ok(State::Done(Outcome::Completed)),
        (P::Waiting | P::Parked(_), E::Drop) => Ok(State::Done(Outcome::Dropped)),
        (P::Waiting, E::PublishBegins) => Ok(again(P::Begun)),
        (P::Begun, E::Published) => Ok(State::Done(outcome)),
        (P::Begun, E::PublishFailed) => Ok(again(P::Begun)),
        (P::Begun, E::PublishUndone) => Ok(again(P::Waiting)),
        (P::Begun, E::PublishRefused(reason)) => Ok(again(P::Parked(reason))),
        (P::Parked(_), E::Complete) => Ok(State::Done(Outcome::Completed)),
        (P::Waiting | P::Begun | P::Parked(_), _) => Err(refusal),
    }
}

fn failed(cause: FailureCause, by: Circumstances) -> State {
    match (by.on_failure, &cause) {
        (_, FailureCause::Unreadable) => {
            let publication = Publication::Parked("its payload cannot be read back from the store".into());
            State::Failed { cause: cause.into(), publication }
        }
        (OnFailure::DeadLetter, _)
        | (OnFailure::Discard, FailureCause::Undecodable(_) | FailureCause::Undeliverable(_)) => {
            State::Failed { cause: cause.into(), publication: Publication::Waiting }
        }
        (OnFailure::Discard, _) => State::Done(Outcome::Discarded),
    }
}

fn lease_lost(by: Circumstances) -> Step {
    let lost_leases = by.lost_leases.saturating_add(1);
    let state = if by.at_most_once {
        failed(FailureCause::WorkerLost, by)
    } else if lost_leases >= by.max_lost_leases {
        failed(FailureCause::LeasesExhausted, by)
    } else {
        State::Pending { ready_at: by.now }
    };
    Step { state, lost_leases }
}
