//! Orderly revocation: the partitions are halted and told, the barrier is waited for, the last positions are committed, and
//! only then do the partitions go. The loop goes on meanwhile; librdkafka waits for the answer, and so does the group.

use std::time::Instant;

use rdkafka::{TopicPartitionList, consumer::Consumer};
use taskbroker_domain::ports::source::{Barrier, GroupCommit, SourceEvent};

use super::{Ejected, Member, Phase, failed};
use crate::{
    deadline::now,
    source::{desk::Command, happenings::unassign},
};

/// A revocation in progress.
pub(super) struct Revocation {
    number: u64,
    list: TopicPartitionList,
    partitions: Vec<i32>,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    /// For the barrier, until then.
    Waiting(Instant),
    /// For the last commits, until then.
    Committing(Instant),
}

impl Member {
    pub(super) fn revoked(&mut self, list: &TopicPartitionList) -> Result<(), Ejected> {
        if self.consumer.assignment_lost() {
            return Err(Ejected::Lost);
        }
        let partitions: Vec<i32> = list.elements().iter().map(|entry| entry.partition()).collect();
        tracing::info!(topic = %self.desk.topic, ?partitions, "partitions are revoked");
        self.desk.inbox.drop_records(|gone| partitions.contains(&gone));
        let told: Vec<_> = partitions.iter().filter_map(|number| self.halt(*number)).collect();
        let number = self.desk.next_number();
        let is_awaited = !told.is_empty();
        if is_awaited {
            let barrier = self.barrier(number);
            self.desk.inbox.tell(SourceEvent::Revoking { partitions: told, barrier });
        }
        let step = Step::Waiting(now() + self.desk.options.barrier_limit);
        let revocation = Revocation { number, list: list.clone(), partitions, step };
        if is_awaited {
            self.revocation = Some(revocation);
            Ok(())
        } else {
            self.let_go(&revocation)
        }
    }

    /// Stops reading a partition. Returns its name if the caller knows of it.
    fn halt(&mut self, number: i32) -> Option<std::sync::Arc<taskbroker_domain::activation::PartitionId>> {
        let partition = self.partitions.get_mut(&number)?;
        partition.phase = Phase::Halted;
        partition.id.clone()
    }

    fn barrier(&self, revocation: u64) -> Barrier {
        let desk = std::sync::Arc::downgrade(&self.desk);
        Barrier::new(move |positions| {
            if let Some(desk) = desk.upgrade() {
                desk.post(Command::Release { revocation, positions });
            }
        })
    }

    /// The barrier of this revocation was released.
    pub(super) fn release(&mut self, number: u64, positions: Vec<GroupCommit>) {
        let until = now() + self.desk.options.commit_limit;
        match &mut self.revocation {
            Some(revocation) if revocation.number == number => revocation.step = Step::Committing(until),
            // It gave up waiting.
            _ => return,
        }
        self.commit_last(positions);
    }

    /// Goes on with a revocation when what it waited for is there, or time is up.
    pub(super) fn serve_revocation(&mut self) -> Result<(), Ejected> {
        let Some(revocation) = self.revocation.take() else {
            return Ok(());
        };
        if self.consumer.assignment_lost() {
            return Err(Ejected::Lost);
        }
        self.insist();
        if self.is_due(&revocation) {
            self.let_go(&revocation)?;
            self.start_postponed();
        } else {
            self.revocation = Some(revocation);
        }
        Ok(())
    }

    fn is_due(&self, revocation: &Revocation) -> bool {
        let (until, what) = match revocation.step {
            Step::Committing(_) if !self.commits.any_of(&revocation.partitions) => return true,
            Step::Committing(until) => (until, "the last positions could not be committed in time"),
            Step::Waiting(until) => (until, "the revocation's barrier was not released in time"),
        };
        let is_over = now() >= until;
        if is_over {
            tracing::warn!(topic = %self.desk.topic, partitions = ?revocation.partitions, "{what}: letting go");
        }
        is_over
    }

    fn let_go(&mut self, revocation: &Revocation) -> Result<(), Ejected> {
        for number in &revocation.partitions {
            self.partitions.remove(number);
            self.commits.forget(*number);
        }
        unassign(&self.consumer, &revocation.list).map_err(failed)?;
        self.unanswered = None;
        self.report_assignment();
        Ok(())
    }
}
