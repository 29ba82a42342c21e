//! The offers of one application.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use taskbroker_domain::{
    ledger::Claimed,
    ports::{
        service::Wanted,
        worker::{Refused, WorkerGateway},
    },
    time::Steady,
};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    DispatchOptions,
    breaker::{Breaker, Failure, May, Round},
    meters::LaneMeters,
    offer::{self, Ended},
};
use crate::engine::{claims::Claim, shared::Shared};

/// How long a task that was declined by itself lets others go first.
const ASIDE: Duration = Duration::from_secs(1);
/// How many may be set aside; more than these are put back at once.
const ASIDE_MAX: usize = 64;
/// How often a worker that stays in trouble is warned of.
const WARN_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Lane {
    shared: Arc<Shared>,
    gateway: Arc<dyn WorkerGateway>,
    options: Arc<DispatchOptions>,
    application: Arc<str>,
    endpoint: String,
    wanted: Wanted,
    meters: Arc<LaneMeters>,
    breaker: Breaker,
    under_way: JoinSet<Done>,
    aside: VecDeque<(Steady, Claim)>,
    warned: Option<Steady>,
}

/// What ended.
enum Done {
    Offer(Round, Ended),
    Probe(Result<(), String>),
}

/// What the lane waits for, besides what is under way.
enum Next {
    /// A task.
    Task,
    /// A moment.
    In(Duration),
    /// Nothing else.
    End,
}

impl Lane {
    pub(super) fn new(
        shared: Arc<Shared>,
        gateway: Arc<dyn WorkerGateway>,
        options: Arc<DispatchOptions>,
        application: String,
        endpoint: String,
    ) -> Self {
        let mut hasher = DefaultHasher::new();
        (&application, shared.clock.now().wall.as_millis()).hash(&mut hasher);
        Self {
            meters: Arc::new(LaneMeters::new(&application)),
            wanted: Wanted::Application(application.clone()),
            application: application.into(),
            endpoint,
            breaker: Breaker::new(hasher.finish()),
            under_way: JoinSet::new(),
            aside: VecDeque::new(),
            warned: None,
            shared,
            gateway,
            options,
        }
    }

    /// Offers until it is stopped; then waits for what is under way, as long as it may.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        info!(application = &*self.application, endpoint = self.endpoint, "tasks are pushed");
        let shared = self.shared.clone();
        while !stop.is_cancelled() {
            let mut ready = pin!(shared.ready.notified());
            ready.as_mut().enable();
            self.bring_back();
            let next = self.advance();
            self.meters.under_way(self.under_way.len());
            let (task, wait) = match next {
                Next::Task => (true, self.brought_back_in()),
                Next::In(wait) => (false, Some(wait)),
                Next::End => (false, self.brought_back_in()),
            };
            tokio::select! {
                () = ready, if task => {}
                Some(done) = self.under_way.join_next() => self.ended(done),
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                () = stop.cancelled() => {}
            }
        }
        self.finish().await;
    }

    /// Starts what may be started.
    fn advance(&mut self) -> Next {
        loop {
            let under_way = self.under_way.len();
            match self.breaker.may(self.now()) {
                May::Rest(rest) => return Next::In(rest),
                May::Probe | May::Try if under_way > 0 => return Next::End,
                May::Offer if under_way >= self.options.concurrency => return Next::End,
                May::Probe if self.shared.lock().has_ready(&self.wanted) => self.probe(),
                May::Probe => return Next::Task,
                May::Offer | May::Try => match self.claim() {
                    Some(claimed) => self.offer(claimed),
                    None => return Next::Task,
                },
            }
        }
    }

    fn claim(&self) -> Option<Claimed> {
        let limit = self.options.offer_limit;
        let claimed = self.shared.step(|ledger, now| ledger.claim_to_offer(&self.wanted, limit, now))?;
        self.shared.meters.claimed(claimed.waited);
        Some(claimed)
    }

    fn offer(&mut self, claimed: Claimed) {
        let (shared, gateway, meters) = (self.shared.clone(), self.gateway.clone(), self.meters.clone());
        let (application, round) = (self.application.clone(), self.breaker.round());
        self.under_way.spawn(async move {
            Done::Offer(round, offer::offer(&shared, gateway.as_ref(), &meters, &application, claimed).await)
        });
    }

    fn probe(&mut self) {
        let (gateway, application) = (self.gateway.clone(), self.application.clone());
        self.under_way.spawn(async move { Done::Probe(gateway.probe(&application).await) });
    }

    fn ended(&mut self, done: Result<Done, JoinError>) {
        let now = self.now();
        match done {
            Ok(Done::Offer(_, Ended::Void | Ended::Undeliverable)) => {}
            Ok(Done::Offer(_, Ended::StoreSlow)) => self.breaker.rest(now),
            Ok(Done::Offer(_, Ended::Delivered)) => self.delivered(),
            Ok(Done::Offer(round, Ended::Unknown(reason))) => {
                self.failed(round, Failure::Silent, &format!("its answer is missing: {reason}"));
            }
            Ok(Done::Offer(round, Ended::Refused(refused, claim))) => self.refused(round, &refused, claim),
            Ok(Done::Probe(Ok(()))) => self.breaker.probed(true, now),
            Ok(Done::Probe(Err(reason))) => {
                self.breaker.probed(false, now);
                self.warn(&reason);
            }
            Err(panic) => {
                error!(%panic, application = &*self.application, "an offer ended by a bug; its lease runs out");
                self.breaker.rest(now);
            }
        }
    }

    fn delivered(&mut self) {
        self.breaker.delivered();
        if self.warned.is_some() && !self.breaker.is_open() {
            self.warned = None;
            self.meters.up(true);
            info!(application = &*self.application, endpoint = self.endpoint, "the worker takes tasks again");
        }
    }

    /// The rest begins before the task is back: else it would be offered again at once.
    fn refused(&mut self, round: Round, refused: &Refused, claim: Claim) {
        let failure = Failure::of(refused);
        self.failed(round, failure, &refused.to_string());
        match failure {
            Failure::Failing => self.set_aside(claim),
            Failure::Silent | Failure::Busy => drop(claim),
        }
    }

    fn failed(&mut self, round: Round, failure: Failure, reason: &str) {
        self.breaker.failed(round, failure, self.now());
        debug!(application = &*self.application, endpoint = self.endpoint, reason, "an offer failed");
        if self.breaker.is_open() {
            self.meters.up(false);
            self.warn(reason);
        }
    }

    /// Once a minute: it may last for hours.
    fn warn(&mut self, reason: &str) {
        let now = self.now();
        if self.warned.is_some_and(|at| now.since(at) < WARN_EVERY) {
            return;
        }
        self.warned = Some(now);
        warn!(
            application = &*self.application,
            endpoint = self.endpoint,
            reason,
            "the worker of this application takes no tasks (worker_map); they wait, others are served"
        );
    }

    /// Lets others go first: what is put back at once comes first again.
    fn set_aside(&mut self, claim: Claim) {
        if self.aside.len() < ASIDE_MAX {
            self.aside.push_back((self.now().saturating_add(ASIDE), claim));
        }
    }

    fn bring_back(&mut self) {
        let now = self.now();
        while self.aside.front().is_some_and(|(until, _)| *until <= now) {
            self.aside.pop_front();
        }
    }

    fn brought_back_in(&self) -> Option<Duration> {
        self.aside.front().map(|(until, _)| until.since(self.now()))
    }

    /// Offers under way may still be answered. Those that are not leave their leases to run out.
    async fn finish(mut self) {
        self.aside.clear();
        let answered = async {
            while let Some(done) = self.under_way.join_next().await {
                drop(done); // A claim that came back with it is undone.
            }
        };
        if tokio::time::timeout(self.options.finish_within, answered).await.is_err() {
            let offers = self.under_way.len();
            warn!(application = &*self.application, offers, "offers were not answered before the broker stopped");
        }
        self.meters.under_way(0);
    }

    fn now(&self) -> Steady {
        self.shared.clock.now().steady
    }
}
