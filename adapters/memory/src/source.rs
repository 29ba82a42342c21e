//! A member of a group that reads a [`MemoryLog`]. Who is assigned what is for the test to say: there is no rebalance.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use async_trait::async_trait;
use taskbroker_domain::{
    activation::PartitionId,
    ports::source::{ActivationSource, Assigned, AssignmentId, Barrier, Committed, GroupCommit, SourceEvent, Start},
};
use tokio::sync::oneshot;

use crate::log::{MemoryLog, State};

/// An activation source over a [`MemoryLog`]. Clones are the same member.
#[derive(Clone, Debug)]
pub struct MemorySource {
    log: MemoryLog,
    member: usize,
}

/// What becomes of a commit of positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitMode {
    /// It is taken and acknowledged.
    #[default]
    Acknowledged,
    /// It is under way until [`MemorySource::answer_held`] or [`MemorySource::land_held`].
    Held,
    /// It is taken, but reported as failed: its outcome is unknown.
    AnswerLost,
    /// It is taken, and nothing is said.
    Unheard,
    /// It is not taken, and reported as failed.
    Failed,
}

/// An orderly revocation under way.
#[derive(Debug)]
pub struct Revocation(oneshot::Receiver<Vec<GroupCommit>>);

impl Revocation {
    /// Waits until the barrier is released; returns what was committed with it.
    pub async fn released(self) -> Vec<GroupCommit> {
        // The barrier answers even when it is dropped; without an answer its event was never received and is gone.
        self.0.await.unwrap_or_default()
    }
}

/// What the log knows of one member.
#[derive(Debug, Default)]
pub(crate) struct Member {
    events: VecDeque<SourceEvent>,
    assigned: BTreeMap<Arc<PartitionId>, Reading>,
    mode: CommitMode,
    held: Vec<GroupCommit>,
    disconnected: bool,
    stuck: bool,
    closed: bool,
    /// The partition that was served last: the next one comes first.
    served: Option<Arc<PartitionId>>,
}

/// A partition that is assigned to a member.
#[derive(Debug)]
struct Reading {
    assignment: AssignmentId,
    /// The next offset; none while it waits for a start.
    position: Option<i64>,
    /// The end that was told last.
    told_end: Option<i64>,
    revoking: bool,
}

impl MemorySource {
    pub(crate) fn join(log: MemoryLog) -> Self {
        let member = log.change(|state| {
            state.members.push(Member::default());
            state.members.len() - 1
        });
        Self { log, member }
    }

    /// Assigns these partitions, in an assignment of their own. Those it already has begin anew.
    pub fn assign(&self, partitions: &[Arc<PartitionId>]) -> AssignmentId {
        self.change(|state, member| {
            state.assignments += 1;
            let assignment = AssignmentId(state.assignments);
            let waiting: Vec<_> = partitions.iter().map(|id| state.waiting(id, assignment)).collect();
            let member = &mut state.members[member];
            for id in partitions {
                let reading = Reading { assignment, position: None, told_end: None, revoking: false };
                member.assigned.insert(id.clone(), reading);
            }
            member.events.push_back(SourceEvent::Assigned { partitions: waiting });
            assignment
        })
    }

    /// Takes partitions away in good order.
    pub fn revoke(&self, partitions: &[Arc<PartitionId>]) -> Revocation {
        let (released, on_release) = oneshot::channel();
        let (source, taken) = (self.clone(), partitions.to_vec());
        let barrier = Barrier::new(move |commits| {
            source.let_go(&taken, &commits);
            // Nobody listens when the test does not care.
            let _unheard = released.send(commits);
        });
        self.change(|state, member| {
            let member = &mut state.members[member];
            for id in partitions {
                if let Some(reading) = member.assigned.get_mut(id) {
                    reading.revoking = true;
                }
            }
            member.events.push_back(SourceEvent::Revoking { partitions: partitions.to_vec(), barrier });
        });
        Revocation(on_release)
    }

    /// Takes partitions away without asking: the session is over.
    pub fn lose(&self, partitions: &[Arc<PartitionId>]) {
        self.change(|state, member| {
            let member = &mut state.members[member];
            member.assigned.retain(|id, _| !partitions.contains(id));
            member.events.push_back(SourceEvent::Lost { partitions: partitions.to_vec() });
        });
    }

    /// Says what becomes of commits from here on.
    pub fn commits_are(&self, mode: CommitMode) {
        self.change(|state, member| state.members[member].mode = mode);
    }

    /// The commits that are under way.
    pub fn held(&self) -> Vec<GroupCommit> {
        self.change(|state, member| state.members[member].held.clone())
    }

    /// The commits that are under way arrive, and are acknowledged where their assignment still holds.
    pub fn answer_held(&self) {
        self.change(|state, member| {
            for commit in std::mem::take(&mut state.members[member].held) {
                state.conclude(member, &commit, CommitMode::Acknowledged);
            }
        });
    }

    /// The commits that are under way arrive unheard, even though their assignment may be over.
    pub fn land_held(&self) {
        self.change(|state, member| {
            for commit in std::mem::take(&mut state.members[member].held) {
                state.commit(&commit.partition, kept(&commit));
            }
        });
    }

    /// Whether the log can be reached. While it cannot, no records come and commits fail.
    pub fn connected(&self, up: bool) {
        self.change(|state, member| {
            let member = &mut state.members[member];
            member.disconnected = !up;
            member.events.push_back(SourceEvent::Connection { up });
        });
    }

    /// Whether it reads nothing although the log can be reached, as if it had a bug.
    pub fn is_stuck(&self, stuck: bool) {
        self.change(|state, member| state.members[member].stuck = stuck);
    }

    fn let_go(&self, partitions: &[Arc<PartitionId>], commits: &[GroupCommit]) {
        self.change(|state, member| {
            state.commit_now(member, commits);
            state.members[member].assigned.retain(|id, reading| !(reading.revoking && partitions.contains(id)));
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut State, usize) -> T) -> T {
        let result = self.log.change(|state| change(state, self.member));
        self.log.shared.changed.notify_waiters();
        result
    }
}

#[async_trait]
impl ActivationSource for MemorySource {
    async fn receive(&self, room: usize) -> SourceEvent {
        loop {
            let changed = self.log.shared.changed.notified();
            if let Some(event) = self.log.change(|state| state.next_event(self.member, room)) {
                return event;
            }
            changed.await;
        }
    }

    fn start(&self, start: Start) {
        self.change(|state, member| {
            let reading = state.members[member].assigned.get_mut(&start.partition);
            if let Some(reading) = reading.filter(|reading| reading.assignment == start.assignment) {
                reading.position = Some(start.offset);
                reading.told_end = None;
            }
        });
    }

    fn commit(&self, positions: Vec<GroupCommit>) {
        self.change(|state, member| {
            let mode = match &state.members[member] {
                Member { disconnected: true, .. } => CommitMode::Failed,
                Member { mode, .. } => *mode,
            };
            positions.iter().for_each(|commit| state.conclude(member, commit, mode));
        });
    }

    async fn close(&self, positions: Vec<GroupCommit>) {
        self.change(|state, member| {
            state.commit_now(member, &positions);
            let member = &mut state.members[member];
            member.assigned.clear();
            member.closed = true;
        });
    }
}

fn kept(commit: &GroupCommit) -> Committed {
    Committed { offset: commit.offset, metadata: commit.metadata.to_string() }
}

impl State {
    fn waiting(&mut self, partition: &Arc<PartitionId>, assignment: AssignmentId) -> Assigned {
        let (log_start, log_end) = self.bounds(partition);
        let committed = self.committed(partition);
        Assigned { partition: partition.clone(), assignment, committed, log_start, log_end }
    }

    fn holds(&self, member: usize, commit: &GroupCommit) -> bool {
        let reading = self.members[member].assigned.get(&commit.partition);
        reading.is_some_and(|reading| reading.assignment == commit.assignment)
    }

    /// Commits synchronously, as at a barrier: what the group does not take is nobody's to hear.
    fn commit_now(&mut self, member: usize, commits: &[GroupCommit]) {
        for commit in commits {
            if self.holds(member, commit) && !self.members[member].disconnected {
                self.commit(&commit.partition, kept(commit));
            }
        }
    }

    /// Carries out a commit in this way. One of an assignment that is over is fenced off, unheard.
    fn conclude(&mut self, member: usize, commit: &GroupCommit, mode: CommitMode) {
        if !self.holds(member, commit) {
            return;
        }
        let (partition, assignment, offset) = (commit.partition.clone(), commit.assignment, commit.offset);
        let committed = SourceEvent::Committed { partition: partition.clone(), assignment, offset };
        let failed = SourceEvent::CommitFailed { partition, assignment };
        let (taken, event) = match mode {
            CommitMode::Held => return self.members[member].held.push(commit.clone()),
            CommitMode::Acknowledged => (true, Some(committed)),
            CommitMode::AnswerLost => (true, Some(failed)),
            CommitMode::Unheard => (true, None),
            CommitMode::Failed => (false, Some(failed)),
        };
        if taken {
            self.commit(&commit.partition, kept(commit));
        }
        self.members[member].events.extend(event);
    }

    fn next_event(&mut self, member: usize, room: usize) -> Option<SourceEvent> {
        let me = &mut self.members[member];
        if let Some(event) = me.events.pop_front() {
            return Some(event);
        }
        if me.closed || me.disconnected || me.stuck {
            return None;
        }
        let turn = me.turn();
        turn.into_iter().find_map(|partition| self.read_partition(member, &partition, room))
    }

    fn read_partition(&mut self, member: usize, partition: &Arc<PartitionId>, room: usize) -> Option<SourceEvent> {
        let reading = self.members[member].assigned.get(partition)?;
        let (assignment, position) = (reading.assignment, reading.position.filter(|_| !reading.revoking)?);
        let (start, end) = self.bounds(partition);
        if !(start..=end).contains(&position) {
            let waiting = self.waiting(partition, assignment);
            self.members[member].assigned.get_mut(partition)?.position = None;
            return Some(SourceEvent::OutOfRange(waiting));
        }
        let (records, next) = self.read(partition, position, room);
        let me = &mut self.members[member];
        let reading = me.assigned.get_mut(partition)?;
        reading.position = Some(next);
        if !records.is_empty() {
            me.served = Some(partition.clone());
            return Some(SourceEvent::Records { partition: partition.clone(), assignment, records });
        }
        let at_new_end = next == end && reading.told_end.replace(next) != Some(next);
        at_new_end.then(|| SourceEvent::End { partition: partition.clone(), assignment, offset: end })
    }
}

impl Member {
    /// The assigned partitions, beginning after the one that was served last.
    fn turn(&self) -> Vec<Arc<PartitionId>> {
        let after = |id: &&Arc<PartitionId>| self.served.as_ref().is_some_and(|served| *id > served);
        let (first, then): (Vec<_>, Vec<_>) = self.assigned.keys().partition(after);
        first.into_iter().chain(then).cloned().collect()
    }
}
