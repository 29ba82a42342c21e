//! The end of a member: lost, abandoned, or closed in good order. Never waits for Kafka longer than it may: what librdkafka
//! has to finish goes on in a thread of its own.

use std::{
    mem,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rdkafka::consumer::{Consumer, RebalanceProtocol};
use taskbroker_domain::ports::source::{GroupCommit, SourceEvent};

use super::{GroupConsumer, Happening, Member};
use crate::{
    deadline::now,
    native,
    options::GroupProtocol,
    source::happenings::{assign_paused, unassign},
};

/// How much of the time for closing is kept for leaving the group after the last commit.
const LEAVE_WITHIN: Duration = Duration::from_millis(1000);
const POLL: Duration = Duration::from_millis(20);

impl Member {
    /// The assignment is lost, or must be given up as if it were: tells so at once, and leaves in the background.
    pub(in crate::source) fn lose(mut self) {
        let lost: Vec<_> = mem::take(&mut self.partitions).into_values().filter_map(|partition| partition.id).collect();
        self.desk.inbox.drop_records(|_| true);
        self.report_assignment();
        if !lost.is_empty() {
            self.desk.inbox.tell(SourceEvent::Lost { partitions: lost });
        }
        self.abandon();
    }

    /// Leaves the group in the background.
    pub(in crate::source) fn abandon(mut self) {
        self.answer_rebalance();
        let Self { partitions, queue, consumer, .. } = self;
        drop((partitions, queue));
        reap(consumer);
    }

    /// Commits, leaves the group and closes; gives up waiting at `deadline`.
    pub(in crate::source) fn close(mut self, positions: Vec<GroupCommit>, deadline: Instant) {
        self.commit_last(positions);
        self.await_commits(deadline.checked_sub(LEAVE_WITHIN).unwrap_or(deadline));
        if self.would_go_unheard() {
            self.say_goodbye(deadline);
        }
        self.answer_rebalance();
        self.leave(deadline);
        self.partitions.clear();
        self.report_assignment();
        self.abandon();
    }

    /// While the group rebalances, Kafka refuses the commits of a cooperative member until it has the new generation, which it
    /// gets by being polled. It keeps its partitions until a rebalance is answered, so a commit is lawful then.
    fn await_commits(&mut self, until: Instant) {
        let all: Vec<i32> = self.partitions.keys().copied().collect();
        while self.commits.any_of(&all) && now() < until && !self.consumer.assignment_lost() {
            drop(self.consumer.poll(POLL));
            self.serve_answers();
            self.insist();
        }
        if self.commits.any_of(&all) {
            tracing::warn!(
                topic = %self.desk.topic,
                positions = ?self.commits.outstanding(),
                "the last positions may not be committed, Kafka did not take them in time: what was read after the last commit is \
                 read by the next owner again"
            );
        }
    }

    /// Deals with answers to commits; a rebalance stays where it is.
    fn serve_answers(&mut self) {
        for happening in self.consumer.context().take() {
            match happening {
                Happening::Answered { failure, entries } => self.answered(failure.as_ref(), &entries),
                rebalance @ (Happening::Assigned(_) | Happening::Revoked(_)) => self.unanswered = Some(rebalance),
                Happening::Trouble(..) => {}
            }
        }
    }

    fn leave(&self, deadline: Instant) {
        if let Err(error) = self.consumer.close_queue() {
            tracing::debug!(topic = %self.desk.topic, %error, "the consumer cannot leave in good order");
            return;
        }
        while !self.consumer.closed() && now() < deadline {
            drop(self.consumer.poll(POLL));
        }
        if !self.consumer.closed() {
            tracing::info!(
                topic = %self.desk.topic,
                "the group did not answer in time: it may wait for this member until its session is over"
            );
        }
    }

    /// Unsubscribes, and waits until the group has been told. In a rebalance librdkafka puts that off until the rebalance is over:
    /// a consumer that was closed before would go without a word all the same.
    fn say_goodbye(&mut self, deadline: Instant) {
        self.consumer.unsubscribe();
        while native::is_member(&self.consumer) && now() < deadline {
            drop(self.consumer.poll(POLL));
            self.answer_noted();
        }
    }

    /// A cooperative member without partitions is closed by librdkafka (2.12) without a word to the group, which then waits for it
    /// until its session is over; and meanwhile Kafka takes no commits of those that have joined. Unsubscribing says it. A static
    /// member is to be waited for.
    fn would_go_unheard(&self) -> bool {
        let options = &self.desk.options;
        let is_classic = matches!(options.protocol, GroupProtocol::Classic(_));
        is_classic && options.static_member.is_none() && self.partitions.is_empty() && is_incremental(&self.consumer)
    }

    /// Nobody looks at rebalances any more: they are answered at once, and those that wait are answered here. What librdkafka
    /// waits for it must get, or it never leaves the group, which then waits for this member until its session is over.
    fn answer_rebalance(&mut self) {
        self.consumer.context().close();
        self.answer_noted();
    }

    fn answer_noted(&mut self) {
        let noted = self.consumer.context().take();
        let waiting = self.unanswered.take().into_iter().chain(mem::take(&mut self.happenings)).chain(noted);
        for happening in waiting {
            let answered = match happening {
                // With an incremental protocol only an assignment answers this: what was never taken cannot be given up.
                Happening::Assigned(list) if is_incremental(&self.consumer) => assign_paused(&self.consumer, list),
                Happening::Assigned(list) | Happening::Revoked(list) => unassign(&self.consumer, &list),
                Happening::Answered { .. } | Happening::Trouble(..) => Ok(()),
            };
            if let Err(error) = answered {
                tracing::debug!(topic = %self.desk.topic, %error, "a rebalance could not be answered before leaving");
            }
        }
    }
}

fn is_incremental(consumer: &GroupConsumer) -> bool {
    matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative)
}

/// Drops a consumer where it may take its time: that leaves the group and waits for its threads, and can hang while Kafka is
/// away. Whoever drops the last reference does it.
pub(in crate::source) fn reap(consumer: Arc<GroupConsumer>) {
    let Some(consumer) = Arc::into_inner(consumer) else {
        return;
    };
    let spawned = thread::Builder::new().name("kafka-reaper".to_owned()).spawn(move || drop(consumer));
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread to close a Kafka consumer on");
    }
}
