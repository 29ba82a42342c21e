//! Commits on their way: at most one per partition, the newest of those that wait behind it.

use std::collections::BTreeMap;

use taskbroker_domain::ports::source::{GroupCommit, SourceEvent};

/// The commits of one consumer.
#[derive(Default)]
pub(super) struct Commits {
    flights: BTreeMap<i32, Flight>,
}

struct Flight {
    sent: GroupCommit,
    next: Option<GroupCommit>,
}

impl Commits {
    /// Takes commits in; returns those to be sent now. One that comes while another is under way waits, in the place of an
    /// earlier one that waited: a later commit says all that an earlier one said.
    pub(super) fn submit(&mut self, commits: Vec<GroupCommit>) -> Vec<GroupCommit> {
        commits.into_iter().filter_map(|commit| self.submit_one(commit)).collect()
    }

    fn submit_one(&mut self, commit: GroupCommit) -> Option<GroupCommit> {
        match self.flights.get_mut(&commit.partition.partition) {
            Some(flight) => {
                flight.next = Some(commit);
                None
            }
            None => {
                let flight = Flight { sent: commit.clone(), next: None };
                self.flights.insert(commit.partition.partition, flight);
                Some(commit)
            }
        }
    }

    /// What an answer means, and the commit that waited for it. `None` for an answer to nothing of ours.
    pub(super) fn answered(
        &mut self,
        partition: i32,
        offset: i64,
        committed: bool,
    ) -> Option<(SourceEvent, Option<GroupCommit>)> {
        if self.flights.get(&partition)?.sent.offset != offset {
            return None;
        }
        let Flight { sent, next } = self.flights.remove(&partition)?;
        let next = next.and_then(|next| self.submit_one(next));
        Some((outcome(sent, committed), next))
    }

    /// Everything under way has failed: what is to be told of it. What waited is given up as well.
    pub(super) fn fail_all(&mut self) -> Vec<SourceEvent> {
        std::mem::take(&mut self.flights).into_values().map(|flight| outcome(flight.sent, false)).collect()
    }

    /// Forgets a partition: nothing is told about it any more.
    pub(super) fn forget(&mut self, partition: i32) {
        self.flights.remove(&partition);
    }

    /// Whether any of these partitions has a commit under way.
    pub(super) fn any_of(&self, partitions: &[i32]) -> bool {
        partitions.iter().any(|partition| self.flights.contains_key(partition))
    }
}

fn outcome(commit: GroupCommit, committed: bool) -> SourceEvent {
    let GroupCommit { partition, assignment, offset, .. } = commit;
    if committed {
        SourceEvent::Committed { partition, assignment, offset }
    } else {
        SourceEvent::CommitFailed { partition, assignment }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use taskbroker_domain::{
        activation::{PartitionId, TopicId},
        ports::source::AssignmentId,
    };

    use super::*;

    fn commit(offset: i64) -> GroupCommit {
        let partition =
            PartitionId { topic: "t".into(), topic_id: TopicId::default(), group: "g".into(), partition: 0 };
        GroupCommit {
            partition: Arc::new(partition),
            assignment: AssignmentId(1),
            offset,
            leader_epoch: None,
            metadata: "".into(),
        }
    }

    #[test]
    fn a_commit_waits_for_the_one_under_way() {
        let mut commits = Commits::default();
        assert_eq!(commits.submit(vec![commit(1)]).len(), 1);
        assert!(commits.submit(vec![commit(2)]).is_empty());
        assert!(commits.submit(vec![commit(3)]).is_empty());
        let (told, next) = commits.answered(0, 1, true).unwrap();
        assert!(matches!(told, SourceEvent::Committed { offset: 1, .. }));
        assert_eq!(next.unwrap().offset, 3);
        assert!(matches!(commits.answered(0, 3, false).unwrap().0, SourceEvent::CommitFailed { .. }));
        assert!(!commits.any_of(&[0]));
    }

    #[test]
    fn an_answer_to_something_else_is_ignored() {
        let mut commits = Commits::default();
        assert!(commits.answered(0, 1, true).is_none());
        commits.submit(vec![commit(1)]);
        assert!(commits.answered(0, 2, true).is_none());
        commits.forget(0);
        assert!(commits.answered(0, 1, true).is_none());
    }
}
