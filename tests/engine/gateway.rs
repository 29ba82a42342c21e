//! Workers that are pushed to, as far as a broker sees them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message as _;
use taskbroker::engine::DispatchOptions;
use taskbroker_domain::ports::worker::{Offered, Refused, WorkerGateway};
use taskbroker_proto::pb;
use tokio::{sync::Notify, time::Instant};

/// What a worker does with the tasks it is offered.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// Takes them, and reports nothing.
    Takes,
    /// Answers this.
    Answers(Offered),
    /// Answers this to the task of this name, and takes the others.
    AnswersTo(&'static str, Offered),
    /// Takes this long to take one.
    TakesSlowly(Duration),
    /// Never answers.
    Hangs,
}

/// An offer that was made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) application: String,
    pub(crate) id: String,
    pub(crate) at: Instant,
}

/// The workers of all applications; a worker takes what it is offered until it is told otherwise.
#[derive(Clone, Default)]
pub(crate) struct Workers {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    manners: HashMap<String, Manner>,
    offers: Vec<Seen>,
    probes: Vec<Seen>,
    under_way: usize,
    most_under_way: usize,
}

impl Workers {
    pub(crate) fn behave(&self, application: &str, manner: Manner) {
        self.state.lock().unwrap().manners.insert(application.to_owned(), manner);
    }

    pub(crate) fn offers(&self) -> Vec<Seen> {
        self.state.lock().unwrap().offers.clone()
    }

    /// How often this task was offered.
    pub(crate) fn offered(&self, id: &str) -> usize {
        self.offers().iter().filter(|seen| seen.id == id).count()
    }

    pub(crate) fn probes(&self) -> usize {
        self.state.lock().unwrap().probes.len()
    }

    pub(crate) fn most_under_way(&self) -> usize {
        self.state.lock().unwrap().most_under_way
    }

    /// Waits for so many offers.
    pub(crate) async fn await_offers(&self, count: usize) -> Vec<Seen> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let offers = self.offers();
            if offers.len() >= count {
                return offers;
            }
            changed.await;
        }
    }

    fn manner(&self, application: &str) -> Manner {
        self.state.lock().unwrap().manners.get(application).cloned().unwrap_or(Manner::Takes)
    }
}

/// Counts an offer as under way while it lives.
struct UnderWay(Workers);

impl UnderWay {
    fn new(workers: &Workers) -> Self {
        let mut state = workers.state.lock().unwrap();
        state.under_way += 1;
        state.most_under_way = state.most_under_way.max(state.under_way);
        Self(workers.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().under_way -= 1;
    }
}

#[async_trait]
impl WorkerGateway for Workers {
    async fn offer(&self, application: &str, activation: Bytes) -> Offered {
        let id = pb::TaskActivation::decode(activation).unwrap().id;
        let _under_way = UnderWay::new(self);
        let seen = Seen { application: application.to_owned(), id: id.clone(), at: Instant::now() };
        self.state.lock().unwrap().offers.push(seen);
        self.changed.notify_waiters();
        match self.manner(application) {
            Manner::Takes => Offered::Delivered,
            Manner::Answers(offered) => offered,
            Manner::AnswersTo(name, offered) if name == id => offered,
            Manner::AnswersTo(..) => Offered::Delivered,
            Manner::TakesSlowly(time) => {
                tokio::time::sleep(time).await;
                Offered::Delivered
            }
            Manner::Hangs => std::future::pending().await,
        }
    }

    async fn probe(&self, application: &str) -> Result<(), String> {
        let seen = Seen { application: application.to_owned(), id: String::new(), at: Instant::now() };
        self.state.lock().unwrap().probes.push(seen);
        match self.manner(application) {
            Manner::Answers(Offered::Refused(Refused::Unreachable(reason))) => Err(reason),
            _ => Ok(()),
        }
    }
}

/// An offer may take 30 s and a stop waits 1 s for those under way.
pub(crate) fn dispatch_options(applications: &[&str], concurrency: usize) -> DispatchOptions {
    let workers = applications.iter().map(|name| ((*name).to_owned(), format!("http://{name}:50052"))).collect();
    DispatchOptions {
        workers,
        concurrency,
        offer_limit: Duration::from_secs(30),
        finish_within: Duration::from_secs(1),
    }
}

pub(crate) fn unreachable() -> Offered {
    Offered::Refused(Refused::Unreachable("connection refused".into()))
}

pub(crate) fn busy() -> Offered {
    Offered::Refused(Refused::Busy("worker busy".into()))
}

pub(crate) fn declined() -> Offered {
    Offered::Refused(Refused::Declined("Internal: no".into()))
}

pub(crate) fn unknown() -> Offered {
    Offered::Unknown("time-out".into())
}
