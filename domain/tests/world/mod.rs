//! A small deterministic world around the real ledger: journals that survive crashes, a Kafka whose acknowledgements can be
//! lost, brokers that are driven one step at a time, and a clock that moves when it is told.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "support for tests; each test binary uses a part of it"
)]

pub(crate) mod broker;
pub(crate) mod journal;
pub(crate) mod kafka;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use taskbroker_domain::{
    activation::ActivationId,
    ledger::{Settling, StartDecision},
    policy::Policy,
    ports::{
        service::{Report, Unavailable, Verdict},
        store::Commit,
    },
    positions::OffsetReset,
    time::{Now, Steady, Timestamp},
};

pub(crate) use self::{
    broker::Broker,
    journal::Journal,
    kafka::{Kafka, Message},
};

/// The first broker.
pub(crate) const A: usize = 0;
/// The second.
pub(crate) const B: usize = 1;
/// The partition that producers write to.
pub(crate) const TASKS: i32 = 0;
/// The partition that retries are published to.
pub(crate) const RETRIES: i32 = 1;
/// The partition that tasks of demoted namespaces are forwarded to.
pub(crate) const FORWARDED: i32 = 2;

pub(crate) struct World {
    pub(crate) kafka: Kafka,
    pub(crate) brokers: Vec<Broker>,
    pub(crate) now: Now,
    /// Every hand-out, in order: which broker gave which task to a worker.
    pub(crate) handed_out: Vec<(usize, ActivationId)>,
    /// The tasks whose reports each store answered.
    pub(crate) answered: Vec<BTreeSet<ActivationId>>,
    /// What workers ever reported as complete.
    pub(crate) completed: BTreeSet<ActivationId>,
    /// Ids published to the retry topic, with their parents, and the dead letters.
    pub(crate) retries: BTreeMap<ActivationId, ActivationId>,
    pub(crate) dead_letters: Vec<ActivationId>,
    /// Ids published to the topic of demoted namespaces, and ids that a rule was to drop.
    pub(crate) forwarded: BTreeSet<ActivationId>,
    pub(crate) dropped: BTreeSet<ActivationId>,
    /// Every commit that was taken.
    pub(crate) commits: Vec<(usize, Commit)>,
    next_assignment: u64,
}

/// A policy in which nothing waits without need.
pub(crate) fn policy() -> Policy {
    Policy {
        hold_after_crash: Duration::ZERO,
        group_commit_interval: Duration::ZERO,
        offset_reset: OffsetReset::Earliest,
        read_limit_step: 16,
        quiet_after_start: Duration::ZERO,
        ..Policy::default()
    }
}

pub(crate) fn id(name: &str) -> ActivationId {
    ActivationId::new(name)
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(policy())
    }

    /// A world of two brokers of this policy.
    pub(crate) fn with(policy: Policy) -> Self {
        let now = Now { wall: Timestamp::from_millis(1_000_000_000), steady: Steady::from_millis(5_000) };
        let brokers = (1..=2).map(|number| Broker::new(policy.clone(), Journal::new(number), now)).collect();
        Self {
            kafka: Kafka::new(3),
            brokers,
            now,
            handed_out: Vec::new(),
            answered: vec![BTreeSet::new(); 2],
            completed: BTreeSet::new(),
            retries: BTreeMap::new(),
            dead_letters: Vec::new(),
            forwarded: BTreeSet::new(),
            dropped: BTreeSet::new(),
            commits: Vec::new(),
            next_assignment: 1,
        }
    }

    /// A world in which A reads the partition of tasks.
    pub(crate) fn reading(messages: impl IntoIterator<Item = Message>) -> Self {
        Self::reading_with(policy(), messages)
    }

    pub(crate) fn reading_with(policy: Policy, messages: impl IntoIterator<Item = Message>) -> Self {
        let mut world = Self::with(policy);
        for message in messages {
            world.kafka.produce(TASKS, message);
        }
        world.start(A, TASKS);
        world.read(A);
        world
    }

    pub(crate) fn ledger(&mut self, broker: usize) -> &mut taskbroker_domain::ledger::Ledger {
        &mut self.brokers[broker].ledger
    }

    /// Gives the partition to the broker, which decides where to start.
    pub(crate) fn assign(&mut self, broker: usize, partition: i32) -> StartDecision {
        self.try_assign(broker, partition).unwrap()
    }

    pub(crate) fn try_assign(
        &mut self,
        broker: usize,
        partition: i32,
    ) -> Result<StartDecision, taskbroker_domain::positions::NoStart> {
        let assignment = self.next_assignment;
        self.next_assignment += 1;
        let assigned = self.kafka.assign(partition, assignment);
        let decision = self.brokers[broker].assign(&assigned, self.now);
        self.check();
        decision
    }

    /// Gives the partition to the broker, and has it begin to read.
    pub(crate) fn start(&mut self, broker: usize, partition: i32) -> StartDecision {
        let decision = self.assign(broker, partition);
        self.settle_down(broker);
        decision
    }

    /// Brings what was just reported of an at-most-once task to where it may be sent: its beginning is journalled first.
    pub(crate) fn begin_publication(&mut self, broker: usize) -> taskbroker_domain::ledger::Outgoing {
        self.commit(broker);
        let now = self.now;
        assert!(self.brokers[broker].take_outgoing(now).is_empty());
        self.commit(broker);
        self.brokers[broker].take_outgoing(now).remove(0)
    }

    /// The partition is lost: the session expired.
    pub(crate) fn lose(&mut self, broker: usize, partition: i32) -> usize {
        let withdrawn = self.brokers[broker].lose(partition, self.now);
        self.check();
        withdrawn
    }

    /// The partition is taken away in good order.
    pub(crate) fn revoke(&mut self, broker: usize, partition: i32) {
        let id = self.kafka.id(partition);
        self.ledger_revoke(broker, &id);
        self.commit(broker);
        let positions = self.brokers[broker].ledger.final_positions(std::slice::from_ref(&id));
        for commit in &positions {
            self.kafka.commit(commit);
        }
        let now = self.now;
        self.brokers[broker].let_go(partition, now);
        for commit in positions {
            self.ledger(broker).committed(&commit.partition, commit.assignment, commit.offset, now);
        }
        self.check();
    }

    fn ledger_revoke(&mut self, broker: usize, id: &std::sync::Arc<taskbroker_domain::activation::PartitionId>) {
        let now = self.now;
        self.brokers[broker].ledger.revoke(std::slice::from_ref(id), now);
    }

    /// Reads everything there is in what the broker was given, to the end.
    pub(crate) fn read(&mut self, broker: usize) -> usize {
        let mut count = 0;
        while self.read_one(broker) {
            count += 1;
        }
        count
    }

    /// Reads one record or the news of an end. False: there is nothing to read.
    pub(crate) fn read_one(&mut self, broker: usize) -> bool {
        let read = self.brokers[broker].read_one(&self.kafka, self.now);
        self.check();
        read
    }

    /// Takes a commit; it is under way.
    pub(crate) fn take(&mut self, broker: usize) -> bool {
        let Some(commit) = self.brokers[broker].take(self.now) else { return self.brokers[broker].under_way.is_some() };
        self.commits.push((broker, commit));
        true
    }

    /// The commit under way becomes durable; nobody knows it yet.
    pub(crate) fn land(&mut self, broker: usize) {
        self.brokers[broker].land();
        self.check_positions(broker);
    }

    /// The broker learns that its commit is durable.
    pub(crate) fn confirm(&mut self, broker: usize) {
        let (handed_out, answered) = self.brokers[broker].confirm(self.now);
        for id in handed_out {
            self.hand_out(broker, id);
        }
        for id in answered {
            self.answer(broker, id);
        }
        self.check();
    }

    /// A report is answered: a promise to the worker that had the task from this store. (One that reports to another
    /// broker gets an answer too, but that broker knows nothing of it.)
    fn answer(&mut self, broker: usize, id: ActivationId) {
        if self.handed_out.iter().any(|(by, other)| *by == broker && *other == id) {
            self.answered[broker].insert(id);
        }
    }

    /// One commit from beginning to end, and what the source is to be told after it.
    pub(crate) fn commit(&mut self, broker: usize) {
        if self.take(broker) && !self.brokers[broker].landed {
            self.land(broker);
        }
        self.confirm(broker);
        self.brokers[broker].drive(self.now);
    }

    /// What the source is to be told.
    pub(crate) fn drive(&mut self, broker: usize) {
        self.brokers[broker].drive(self.now);
    }

    /// The group takes the commits that are under way, and says so.
    pub(crate) fn acknowledge(&mut self, broker: usize) {
        for commit in self.take_outstanding(broker) {
            let taken = self.kafka.commit(&commit);
            let now = self.now;
            match taken {
                true => self.ledger(broker).committed(&commit.partition, commit.assignment, commit.offset, now),
                false => self.ledger(broker).commit_failed(&commit.partition, commit.assignment, now),
            }
        }
        self.check();
        self.check_positions(broker);
    }

    /// The group takes the commits that are under way; the answer is lost for the time being.
    pub(crate) fn land_group_commits(&mut self, broker: usize) {
        for commit in self.brokers[broker].outstanding.clone() {
            self.kafka.commit(&commit);
        }
    }

    /// The commits under way fail; whether the group took them is not known.
    pub(crate) fn fail_group_commits(&mut self, broker: usize) {
        for commit in self.take_outstanding(broker) {
            let now = self.now;
            self.ledger(broker).commit_failed(&commit.partition, commit.assignment, now);
        }
    }

    fn take_outstanding(&mut self, broker: usize) -> Vec<taskbroker_domain::ports::source::GroupCommit> {
        std::mem::take(&mut self.brokers[broker].outstanding)
    }

    /// Commits and acknowledges until nothing is left to be done now.
    pub(crate) fn settle_down(&mut self, broker: usize) {
        for _ in 0..8 {
            let before = self.commits.len();
            self.commit(broker);
            if self.commits.len() == before && self.brokers[broker].outstanding.is_empty() {
                break;
            }
            self.acknowledge(broker);
        }
    }

    /// A worker asks for a task: what it is, once it may leave. An at-most-once task leaves with the next confirmation.
    pub(crate) fn claim(&mut self, broker: usize) -> Option<ActivationId> {
        let (id, leaves) = self.brokers[broker].claim(self.now)?;
        if leaves {
            self.hand_out(broker, id.clone());
        }
        self.check();
        Some(id)
    }

    fn hand_out(&mut self, broker: usize, id: ActivationId) {
        assert!(
            !self.answered[broker].contains(&id),
            "{id} was reported, that was answered, and it is handed out again"
        );
        self.handed_out.push((broker, id));
    }

    /// A claim whose call was cancelled before the answer left.
    pub(crate) fn claim_and_put_back(&mut self, broker: usize) {
        self.brokers[broker].claim_and_put_back(self.now);
        self.check();
    }

    pub(crate) fn is_at_most_once(&self, id: &ActivationId) -> bool {
        let mut records = [TASKS, RETRIES].into_iter().flat_map(|partition| self.kafka.log(partition).records.values());
        records.any(|message| message.id == *id && message.at_most_once)
    }

    /// How often the task was handed out, by whomever.
    pub(crate) fn times_handed_out(&self, id: &ActivationId) -> usize {
        self.handed_out.iter().filter(|(_, other)| other == id).count()
    }

    pub(crate) fn report(
        &mut self,
        broker: usize,
        id: &ActivationId,
        verdict: Verdict,
    ) -> Result<Settling, Unavailable> {
        if verdict == Verdict::Complete {
            self.completed.insert(id.clone());
        }
        let settling = self.brokers[broker].report(&Report { id: id.clone(), verdict }, self.now);
        if let Ok(Settling { ticket: None, .. }) = settling
            && verdict == Verdict::Complete
            && self.brokers[broker].answers_are_promises(settling.as_ref().unwrap())
        {
            self.answer(broker, id.clone());
        }
        self.check();
        settling
    }

    /// A report that is answered at once or with the next commit.
    pub(crate) fn complete(&mut self, broker: usize, name: &str) -> Settling {
        self.report(broker, &id(name), Verdict::Complete).unwrap()
    }

    /// Publishes what waits, and has Kafka take it.
    pub(crate) fn publish(&mut self, broker: usize) -> usize {
        let taken = self.brokers[broker].take_outgoing(self.now);
        for outgoing in taken {
            self.brokers[broker].outgoing.push(outgoing);
        }
        let count = self.brokers[broker].outgoing.len();
        while self.send(broker) {
            self.sent(broker);
        }
        self.check();
        count
    }

    /// The first message on its way reaches Kafka; the broker does not know yet.
    pub(crate) fn send(&mut self, broker: usize) -> bool {
        let Some(outgoing) = self.brokers[broker].outgoing.first().cloned() else { return false };
        broker::deliver(self, &outgoing);
        true
    }

    /// The broker learns that the first message on its way is durable.
    pub(crate) fn sent(&mut self, broker: usize) {
        let outgoing = self.brokers[broker].outgoing.remove(0);
        let now = self.now;
        self.ledger(broker).published(outgoing.handle, now);
    }

    /// The process dies. What its journal has survives, and the group takes nothing of it any more.
    pub(crate) fn crash(&mut self, broker: usize) {
        self.brokers[broker].crash(self.now);
        self.check();
    }

    /// An orderly stop, and a new start.
    pub(crate) fn restart(&mut self, broker: usize) {
        while self.take(broker) {
            if !self.brokers[broker].landed {
                self.land(broker);
            }
            self.confirm(broker);
        }
        if let Some(commit) = self.brokers[broker].ledger.take_closing_commit(self.now) {
            self.brokers[broker].under_way = Some(commit);
            self.land(broker);
            self.confirm(broker);
        }
        let positions = self.brokers[broker].ledger.all_final_positions();
        for commit in positions {
            self.kafka.commit(&commit);
        }
        self.crash(broker);
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.now.wall = self.now.wall.saturating_add(by);
        self.now.steady = self.now.steady.saturating_add(by);
        for broker in &mut self.brokers {
            broker.ledger.tick(self.now);
        }
        self.check();
    }

    /// Advances in steps of a second, so that everything that needs attention gets it.
    pub(crate) fn advance_slowly(&mut self, by: Duration) {
        for _ in 0..by.as_secs() {
            self.advance(Duration::from_secs(1));
        }
    }

    /// What must hold after every step.
    pub(crate) fn check(&self) {
        for broker in &self.brokers {
            let stats = broker.ledger.stats();
            for namespace in &stats.namespaces {
                assert_eq!(namespace.oldest.is_some(), namespace.counts.in_flight > 0, "{namespace:?}");
            }
            assert_eq!(stats.imbalance, 0, "conservation: {:?}", stats.totals);
            let depths = stats.depths;
            let standing = depths.pending + depths.delayed + depths.processing + depths.retry + depths.failed;
            assert_eq!(standing + depths.forward + depths.parked + depths.done, stats.in_flight, "depths: {depths:?}");
        }
    }

    /// No durable watermark, and no position of the group, is above a record that is neither a row nor at its end.
    pub(crate) fn check_positions(&self, broker: usize) {
        for position in self.brokers[broker].journal.positions.values() {
            self.check_below(position.partition.partition, position.watermark, &position.partition);
        }
        for partition in [TASKS, RETRIES] {
            if let Some(committed) = &self.kafka.log(partition).committed {
                self.check_below(partition, committed.offset, &self.kafka.id(partition));
            }
        }
    }

    fn check_below(&self, partition: i32, watermark: i64, of: &taskbroker_domain::activation::PartitionId) {
        let log = self.kafka.log(partition);
        if *of != *self.kafka.id(partition) || !log.is_checked {
            return;
        }
        for (offset, message) in log.records.range(..watermark) {
            let row = self.brokers.iter().any(|broker| broker.journal.has_row_of(of, *offset));
            assert!(row || self.has_ended(message), "{} at {offset} is below {watermark} and nowhere", message.id);
        }
    }

    /// The task needs nothing any more.
    pub(crate) fn has_ended(&self, message: &Message) -> bool {
        self.completed.contains(&message.id)
            || self.dead_letters.contains(&message.id)
            || self.forwarded.contains(&message.id)
            || self.dropped.contains(&message.id)
            || self.retries.values().any(|parent| *parent == message.id)
            || message.expires_at.is_some_and(|at| at <= self.now.wall)
            || (message.undecodable && self.dead_letters.iter().any(|id| id.text().starts_with("undecodable:")))
            || message.is_copy
            || message.may_be_discarded
    }
}
