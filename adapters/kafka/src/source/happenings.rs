//! What librdkafka tells while it is polled. The callbacks only note it down: nothing blocks in them, and the polling loop
//! deals with it in order. A rebalance waits in librdkafka until the loop answers it by assigning or unassigning.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, KafkaResult},
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};

use crate::native::{CommittedEntry, committed_entries};

/// A consumer whose callbacks note down what happens.
pub(super) type GroupConsumer = BaseConsumer<Happenings>;

/// One thing that happened.
pub(super) enum Happening {
    /// These partitions are ours (with an incremental protocol: as well).
    Assigned(TopicPartitionList),
    /// These are to be given up.
    Revoked(TopicPartitionList),
    /// A commit was answered.
    Answered {
        /// What went wrong with all of it.
        failure: Option<KafkaError>,
        /// Each position.
        entries: Vec<CommittedEntry>,
    },
    /// An error that concerns the client as a whole.
    Trouble(RDKafkaErrorCode, String),
}

/// The notes of one consumer's callbacks.
#[derive(Default)]
pub(super) struct Happenings {
    noted: Mutex<Vec<Happening>>,
    closing: AtomicBool,
}

impl Happenings {
    /// Takes what was noted since the last time.
    pub(super) fn take(&self) -> Vec<Happening> {
        std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From here on rebalances are answered at once: nobody looks at the notes any more.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether it was closed.
    pub(super) fn closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn note(&self, happening: Happening) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).push(happening);
    }
}

/// Takes partitions, in the way the group's protocol wants it: paused, and at offset 0, so that nothing is read or looked up
/// before a start is named.
pub(super) fn assign_paused(consumer: &GroupConsumer, mut partitions: TopicPartitionList) -> KafkaResult<()> {
    consumer.pause(&partitions)?;
    partitions.set_all_offsets(Offset::Offset(0))?;
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(&partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(&partitions),
    }
}

/// Gives partitions up, in the way the group's protocol wants it.
pub(super) fn unassign(consumer: &GroupConsumer, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}

impl ClientContext for Happenings {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        crate::context::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition comes this way too, before it reaches the partition's queue.
        if let Some(code) = error.rdkafka_error_code().filter(|code| *code != RDKafkaErrorCode::PartitionEOF) {
            self.note(Happening::Trouble(code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Happenings {
    fn rebalance(&self, consumer: &GroupConsumer, kind: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let assigned = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing() {
            // Assigning while closing counts as unassigning; errors change nothing any more.
            drop(unassign(consumer, partitions));
        } else if assigned {
            self.note(Happening::Assigned(partitions.clone()));
        } else {
            self.note(Happening::Revoked(partitions.clone()));
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, positions: &TopicPartitionList) {
        self.note(Happening::Answered { failure: result.err(), entries: committed_entries(positions) });
    }
}
