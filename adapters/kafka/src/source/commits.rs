//! Commits on their way: at most one per partition, the newest of those that wait behind it.
//!
//! The *last* commit of a partition, after which it is let go, is insisted on: what Kafka refuses of it for the moment (in a
//! rebalance it takes commits of the generation only that a member has yet to learn of) is sent again, until it is taken or
//! nobody waits for it any more. Without it the next owner would begin below what is stored here.

use std::collections::BTreeMap;

use rdkafka::types::RDKafkaErrorCode;
use taskbroker_domain::ports::source::{GroupCommit, SourceEvent};

/// The commits of one consumer.
#[derive(Default)]
pub(super) struct Commits {
    flights: BTreeMap<i32, Flight>,
    /// The last ones that are not taken yet.
    last: BTreeMap<i32, GroupCommit>,
}

struct Flight {
    sent: GroupCommit,
    next: Option<GroupCommit>,
}

/// How a commit was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The group has it.
    Taken,
    /// Not as it is; the same may be taken a moment later, or its answer was lost.
    Refused,
    /// This member's commit is never taken.
    RefusedForGood,
}

impl From<RDKafkaErrorCode> for Verdict {
    fn from(code: RDKafkaErrorCode) -> Self {
        use RDKafkaErrorCode as Code;
        match code {
            Code::NoError => Self::Taken,
            Code::UnknownMemberId
            | Code::FencedInstanceId
            | Code::FencedMemberEpoch
            | Code::GroupIdNotFound
            | Code::GroupAuthorizationFailed
            | Code::TopicAuthorizationFailed
            | Code::OffsetMetadataTooLarge
            | Code::InvalidCommitOffsetSize
            | Code::AssignmentLost
            | Code::Fatal => Self::RefusedForGood,
            _ => Self::Refused,
        }
    }
}

impl Commits {
    /// Takes commits in; returns those to be sent now. One that comes while another is under way waits, in the place of an
    /// earlier one that waited: a later commit says all that an earlier one said.
    pub(super) fn submit(&mut self, commits: Vec<GroupCommit>) -> Vec<GroupCommit> {
        commits.into_iter().filter_map(|commit| self.submit_one(commit)).collect()
    }

    /// The same for commits that are insisted on.
    pub(super) fn submit_last(&mut self, commits: Vec<GroupCommit>) -> Vec<GroupCommit> {
        self.last.extend(commits.iter().map(|commit| (commit.partition.partition, commit.clone())));
        self.submit(commits)
    }

    /// What is insisted on and not under way: to be sent now.
    pub(super) fn submit_again(&mut self) -> Vec<GroupCommit> {
        let idle = self.last.iter().filter(|(partition, _)| !self.flights.contains_key(partition));
        let idle = idle.map(|(_, commit)| commit.clone()).collect();
        self.submit(idle)
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

    /// What an answer means: what is to be told of it, and the commit that waited for it. Nothing is told of a refused one that
    /// is insisted on.
    pub(super) fn answered(
        &mut self,
        partition: i32,
        offset: i64,
        verdict: Verdict,
    ) -> (Option<SourceEvent>, Option<GroupCommit>) {
        if self.flights.get(&partition).is_none_or(|flight| flight.sent.offset != offset) {
            return (None, None);
        }
        let Some(Flight { sent, next }) = self.flights.remove(&partition) else { return (None, None) };
        let next = next.and_then(|next| self.submit_one(next));
        (self.judged(sent, verdict), next)
    }

    fn judged(&mut self, sent: GroupCommit, verdict: Verdict) -> Option<SourceEvent> {
        let partition = sent.partition.partition;
        let is_last = self.last.get(&partition) == Some(&sent);
        if is_last && verdict == Verdict::Refused {
            return None;
        }
        if is_last || verdict == Verdict::RefusedForGood {
            self.last.remove(&partition);
        }
        Some(outcome(sent, verdict == Verdict::Taken))
    }

    /// Everything under way was answered like this: what is to be told of it. What waited behind it is given up as well, but for
    /// what is insisted on.
    pub(super) fn all_answered(&mut self, verdict: Verdict) -> Vec<SourceEvent> {
        let flights = std::mem::take(&mut self.flights);
        flights.into_values().filter_map(|flight| self.judged(flight.sent, verdict)).collect()
    }

    /// Forgets a partition: nothing is told about it any more.
    pub(super) fn forget(&mut self, partition: i32) {
        self.flights.remove(&partition);
        self.last.remove(&partition);
    }

    /// Whether any of these partitions has a commit under way, or one that is insisted on.
    pub(super) fn any_of(&self, partitions: &[i32]) -> bool {
        partitions.iter().any(|partition| self.flights.contains_key(partition) || self.last.contains_key(partition))
    }

    /// What is insisted on and not taken yet: the position of each partition.
    pub(super) fn outstanding(&self) -> BTreeMap<i32, i64> {
        self.last.iter().map(|(partition, commit)| (*partition, commit.offset)).collect()
    }

    /// Whether a refused commit is to be sent again.
    pub(super) fn is_insistent(&self) -> bool {
        self.last.keys().any(|partition| !self.flights.contains_key(partition))
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

    fn told(answer: (Option<SourceEvent>, Option<GroupCommit>)) -> Option<SourceEvent> {
        answer.0
    }

    #[test]
    fn a_commit_waits_for_the_one_under_way() {
        let mut commits = Commits::default();
        assert_eq!(commits.submit(vec![commit(1)]).len(), 1);
        assert!(commits.submit(vec![commit(2)]).is_empty());
        assert!(commits.submit(vec![commit(3)]).is_empty());
        let (first, next) = commits.answered(0, 1, Verdict::Taken);
        assert!(matches!(first, Some(SourceEvent::Committed { offset: 1, .. })));
        assert_eq!(next.unwrap().offset, 3);
        let second = told(commits.answered(0, 3, Verdict::Refused));
        assert!(matches!(second, Some(SourceEvent::CommitFailed { .. })));
        assert!(!commits.any_of(&[0]));
    }

    #[test]
    fn an_answer_to_something_else_is_ignored() {
        let mut commits = Commits::default();
        assert!(told(commits.answered(0, 1, Verdict::Taken)).is_none());
        commits.submit(vec![commit(1)]);
        assert!(told(commits.answered(0, 2, Verdict::Taken)).is_none());
        commits.forget(0);
        assert!(told(commits.answered(0, 1, Verdict::Taken)).is_none());
    }

    #[test]
    fn the_last_commit_is_sent_again_until_it_is_taken() {
        let mut commits = Commits::default();
        commits.submit(vec![commit(1)]);
        // It waits for the one under way, which the rebalance refuses, and is refused itself.
        assert!(commits.submit_last(vec![commit(5)]).is_empty());
        let (first, next) = commits.answered(0, 1, Verdict::from(RDKafkaErrorCode::IllegalGeneration));
        assert!(matches!(first, Some(SourceEvent::CommitFailed { .. })));
        assert_eq!(next.unwrap().offset, 5);
        assert!(told(commits.answered(0, 5, Verdict::from(RDKafkaErrorCode::RebalanceInProgress))).is_none());
        assert!(commits.is_insistent() && commits.any_of(&[0]));
        assert_eq!(commits.outstanding(), BTreeMap::from([(0, 5)]));
        assert_eq!(commits.submit_again(), [commit(5)]);
        assert!(commits.submit_again().is_empty(), "it is under way");
        // Everything fails at once, as while the coordinator moves.
        assert!(commits.all_answered(Verdict::from(RDKafkaErrorCode::WaitingForCoordinator)).is_empty());
        assert_eq!(commits.submit_again(), [commit(5)]);
        let taken = told(commits.answered(0, 5, Verdict::from(RDKafkaErrorCode::NoError)));
        assert!(matches!(taken, Some(SourceEvent::Committed { offset: 5, .. })));
        assert!(!commits.any_of(&[0]) && !commits.is_insistent() && commits.outstanding().is_empty());
    }

    #[test]
    fn the_last_commit_of_a_member_that_is_none_any_more_is_given_up() {
        for code in [RDKafkaErrorCode::UnknownMemberId, RDKafkaErrorCode::GroupAuthorizationFailed] {
            let mut commits = Commits::default();
            commits.submit_last(vec![commit(5)]);
            let given_up = told(commits.answered(0, 5, Verdict::from(code)));
            assert!(matches!(given_up, Some(SourceEvent::CommitFailed { .. })));
            assert!(!commits.any_of(&[0]));
        }
    }
}
