//! One broker: the real ledger over a journal, driven one step at a time as the engine does.

use std::{collections::BTreeMap, sync::Arc};

use taskbroker_domain::{
    activation::{ActivationId, Origin, PartitionId, Slot},
    ledger::{Claimed, Ledger, Outgoing, OutgoingKind, Settling, SourceAction, StartDecision, Ticket},
    lifecycle::Lease,
    policy::Policy,
    ports::{
        service::{Report, Reported, Unavailable, Wanted},
        source::{Assigned, AssignmentId, GroupCommit},
        store::Commit,
    },
    positions::{NoStart, Reading},
    rules::Rules,
    time::Now,
};

use super::{FORWARDED, Journal, Kafka, Message, RETRIES, World, kafka::message};

pub(crate) struct Broker {
    policy: Policy,
    pub(crate) ledger: Ledger,
    pub(crate) journal: Journal,
    pub(crate) under_way: Option<Commit>,
    pub(crate) landed: bool,
    readers: BTreeMap<i32, Reader>,
    pub(crate) rules: Rules,
    pub(crate) outstanding: Vec<GroupCommit>,
    pub(crate) outgoing: Vec<Outgoing>,
    waiting: Vec<(Ticket, Waiting)>,
    /// The claims that stand, by task.
    pub(crate) claims: BTreeMap<ActivationId, (taskbroker_domain::ledger::Handle, Lease)>,
}

/// Where the source reads a partition; nowhere before its start was named.
struct Reader {
    assignment: AssignmentId,
    next: Option<i64>,
    end_told: Option<i64>,
}

enum Waiting {
    HandOut(ActivationId),
    Report(ActivationId),
}

impl Broker {
    pub(crate) fn new(policy: Policy, journal: Journal, now: Now) -> Self {
        let mut ledger = Ledger::new(policy.clone(), journal.identity);
        ledger.load(journal.state(), now);
        for row in journal.rows.values() {
            ledger.load_row(row.row.clone(), now);
        }
        Self {
            policy,
            ledger,
            journal,
            under_way: None,
            landed: false,
            readers: BTreeMap::new(),
            rules: Rules::default(),
            outstanding: Vec::new(),
            outgoing: Vec::new(),
            waiting: Vec::new(),
            claims: BTreeMap::new(),
        }
    }

    pub(crate) fn crash(&mut self, now: Now) {
        let rules = std::mem::take(&mut self.rules);
        *self = Self { rules, ..Self::new(self.policy.clone(), self.journal.clone(), now) };
    }

    pub(crate) fn assign(&mut self, assigned: &Assigned, now: Now) -> Result<StartDecision, NoStart> {
        let decision = self.ledger.assign(assigned, now)?;
        let reader = Reader { assignment: assigned.assignment, next: None, end_told: None };
        self.readers.insert(assigned.partition.partition, reader);
        Ok(decision)
    }

    /// The source names a new start in the assignment that holds: the position was out of range.
    pub(crate) fn out_of_range(
        &mut self,
        kafka: &mut Kafka,
        partition: i32,
        now: Now,
    ) -> Result<StartDecision, NoStart> {
        let assignment = self.readers[&partition].assignment.0;
        self.assign(&kafka.assign(partition, assignment), now)
    }

    pub(crate) fn lose(&mut self, partition: i32, now: Now) -> usize {
        let Some(ids) = self.gone(partition) else { return 0 };
        self.ledger.lose(&ids, now)
    }

    pub(crate) fn let_go(&mut self, partition: i32, now: Now) -> usize {
        let Some(ids) = self.gone(partition) else { return 0 };
        self.ledger.let_go(&ids, now)
    }

    fn gone(&mut self, partition: i32) -> Option<Vec<Arc<PartitionId>>> {
        self.readers.remove(&partition)?;
        self.outstanding.retain(|commit| commit.partition.partition != partition);
        let known = self.ledger.stats().partitions;
        Some(known.iter().map(|p| p.partition.clone()).filter(|id| id.partition == partition).collect())
    }

    pub(crate) fn reads(&self, partition: i32) -> bool {
        self.readers.contains_key(&partition)
    }

    pub(crate) fn read_one(&mut self, kafka: &Kafka, now: Now) -> bool {
        let partitions: Vec<i32> = self.readers.keys().copied().collect();
        partitions.into_iter().any(|partition| self.read_one_of(kafka, partition, now))
    }

    fn read_one_of(&mut self, kafka: &Kafka, partition: i32, now: Now) -> bool {
        let log = kafka.log(partition);
        let id = kafka.id(partition);
        let Some(reader) = self.readers.get_mut(&partition) else { return false };
        let Some(next) = reader.next else { return false };
        if let Some((offset, message)) = log.records.range(next..).next() {
            reader.next = Some(offset + 1);
            if let Some(slot) = self.ledger.reading(&id, reader.assignment) {
                self.admit(Origin { slot, offset: *offset }, message, now);
            }
            return true;
        }
        if reader.end_told != Some(log.end) {
            reader.end_told = Some(log.end);
            self.ledger.end(&id, reader.assignment, log.end, now);
            return true;
        }
        false
    }

    fn admit(&mut self, origin: Origin, message: &Message, now: Now) {
        if self.ledger.read(origin, Some(message.epoch), now) == Reading::Known {
            return;
        }
        if message.undecodable {
            let payload = message.activation().payload;
            return self.ledger.admit_undecodable(origin, payload, "no activation", now);
        }
        let activation = message.activation();
        let fate = self.rules.fate(&activation.route, |_| false);
        self.ledger.admit(origin, activation, fate, now);
    }

    pub(crate) fn take(&mut self, now: Now) -> Option<Commit> {
        let commit = self.ledger.take_commit(now)?;
        assert!(self.under_way.is_none(), "two commits under way");
        self.under_way = Some(commit.clone());
        self.landed = false;
        Some(commit)
    }

    pub(crate) fn land(&mut self) {
        if let Some(commit) = &self.under_way {
            self.journal.commit(commit);
            self.landed = true;
        }
    }

    /// Returns what leaves to workers, and which reports are answered, by this confirmation.
    pub(crate) fn confirm(&mut self, now: Now) -> (Vec<ActivationId>, Vec<ActivationId>) {
        if self.under_way.take_if(|_| self.landed).is_some() {
            self.ledger.confirm(now);
        }
        let confirmed = self.ledger.confirmed();
        let (mut handed_out, mut answered) = (Vec::new(), Vec::new());
        let (done, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|(t, _)| t.0 <= confirmed);
        self.waiting = waiting;
        let done: Vec<(Ticket, Waiting)> = done;
        for (_, waiting) in done {
            match waiting {
                Waiting::HandOut(id) => handed_out.push(id),
                Waiting::Report(id) => answered.push(id),
            }
        }
        (handed_out, answered)
    }

    pub(crate) fn drive(&mut self, now: Now) {
        for action in self.ledger.source_actions(now) {
            match action {
                SourceAction::Start(start) => {
                    let reader = self.readers.get_mut(&start.partition.partition).unwrap();
                    assert_eq!(reader.assignment, start.assignment);
                    reader.next = Some(start.offset);
                }
                SourceAction::Commit(commit) => {
                    let same = |other: &GroupCommit| other.partition == commit.partition;
                    assert!(!self.outstanding.iter().any(same), "two group commits outstanding");
                    self.outstanding.push(commit);
                }
            }
        }
    }

    /// Claims a task; whether it leaves at once.
    pub(crate) fn claim(&mut self, now: Now) -> Option<(ActivationId, bool)> {
        let claimed: Claimed = self.ledger.claim(&Wanted::Any, now)?;
        self.read_payloads(now);
        let payload = claimed.payload.or_else(|| self.ledger.payload(claimed.handle))?;
        let id = ActivationId::new(String::from_utf8(payload.to_vec()).unwrap());
        self.claims.insert(id.clone(), (claimed.handle, claimed.lease));
        let leaves = match claimed.ticket {
            None => true,
            Some(ticket) if ticket.0 <= self.ledger.confirmed() => true,
            Some(ticket) => {
                self.waiting.push((ticket, Waiting::HandOut(id.clone())));
                false
            }
        };
        Some((id, leaves))
    }

    pub(crate) fn claim_and_put_back(&mut self, now: Now) {
        if let Some(claimed) = self.ledger.claim(&Wanted::Any, now) {
            self.read_payloads(now);
            self.ledger.put_back(claimed.handle, claimed.lease, now);
        }
    }

    fn read_payloads(&mut self, now: Now) {
        let wanted = self.ledger.take_wanted_payloads();
        let read = wanted.iter().filter_map(|handle| self.journal.payload(handle.key())).collect();
        self.ledger.payloads_read(&wanted, read, now);
    }

    pub(crate) fn report(&mut self, report: &Report, now: Now) -> Result<Settling, Unavailable> {
        let settling = self.ledger.settle(report, now)?;
        if self.answers_are_promises(&settling)
            && let Some(ticket) = settling.ticket
        {
            self.waiting.push((ticket, Waiting::Report(report.id.clone())));
        }
        Ok(settling)
    }

    /// Whether the answer says that the task never comes again.
    pub(crate) fn answers_are_promises(&self, settling: &Settling) -> bool {
        match settling.reported {
            Reported::Settled | Reported::Remembered => true,
            Reported::Unknown | Reported::Refused => false,
        }
    }

    pub(crate) fn take_outgoing(&mut self, now: Now) -> Vec<Outgoing> {
        let taken = self.ledger.take_outgoing(16, now);
        for outgoing in &taken {
            let row = self.journal.rows.get(&outgoing.handle.key());
            let row = row.unwrap_or_else(|| panic!("{} is published without a row", outgoing.id));
            use taskbroker_domain::ports::store::RowState as S;
            let says_so = matches!(
                (&outgoing.kind, &row.row.state),
                (OutgoingKind::Retry { .. }, S::Retry { .. })
                    | (OutgoingKind::Forward, S::Forward { .. })
                    | (OutgoingKind::DeadLetter { .. }, S::Failed { .. })
            );
            assert!(says_so, "the row of {} does not say that it leaves: {:?}", outgoing.id, row.row.state);
        }
        taken
    }

    pub(crate) fn has_slot(&self, slot: Slot) -> bool {
        self.ledger.partition_name(slot).is_some()
    }
}

/// Kafka takes a message that is on its way.
pub(crate) fn deliver(world: &mut World, outgoing: &Outgoing) {
    match &outgoing.kind {
        OutgoingKind::Retry { id, .. } => {
            let is_copy = world.retries.insert(id.clone(), outgoing.id.clone()).is_some();
            let at_most_once = world.is_at_most_once(&outgoing.id);
            let retry = Message { attempt: 1, is_copy, at_most_once, ..message(&id.text()) };
            world.kafka.produce(RETRIES, retry.marked());
        }
        OutgoingKind::Forward => {
            let at_most_once = world.is_at_most_once(&outgoing.id);
            let copy = Message { is_copy: true, at_most_once, ..message(&outgoing.id.text()) };
            world.kafka.produce(FORWARDED, copy.marked());
            world.forwarded.insert(outgoing.id.clone());
        }
        OutgoingKind::DeadLetter { .. } => world.dead_letters.push(outgoing.id.clone()),
    }
}
