//! Starting partitions and reading them.

use std::{thread, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer, RebalanceProtocol},
    error::KafkaResult,
};
use taskbroker_domain::ports::source::Start;

use super::{Cause, Member, Phase};
use crate::{
    native::set_leader_epoch,
    source::{
        inbox::Room,
        partition::{Drained, Partition},
    },
};

/// How long librdkafka's own thread may take to begin a seek. It answers at once or refuses.
const SEEK_WITHIN: Duration = Duration::from_secs(1);
/// How often to try a seek that comes too early, and how soon again.
const SEEK_ATTEMPTS: u32 = 50;
const SEEK_AGAIN_AFTER: Duration = Duration::from_millis(10);

impl Member {
    /// Reads a partition from here on, if this answers its present assignment.
    pub(super) fn start(&mut self, start: Start) {
        if self.revocation.is_some() {
            // Assigning now could be taken for the answer to the revocation.
            self.postponed.push(start);
        } else if self.answers_assignment(&start) {
            self.start_now(&start);
        }
    }

    pub(super) fn start_postponed(&mut self) {
        for start in std::mem::take(&mut self.postponed) {
            self.start(start);
        }
    }

    fn answers_assignment(&self, start: &Start) -> bool {
        let partition = self.partitions.get(&start.partition.partition);
        partition.is_some_and(|partition| {
            partition.assignment == start.assignment
                && partition.id.as_deref() == Some(&*start.partition)
                && matches!(partition.phase, Phase::Waiting | Phase::Reading { .. })
        })
    }

    fn start_now(&mut self, start: &Start) {
        let number = start.partition.partition;
        let offset = start.offset.max(0);
        let Some(partition) = self.partitions.get_mut(&number) else {
            return;
        };
        partition.phase = Phase::Reading { next: offset, leader_epoch: start.leader_epoch };
        let was_started = std::mem::replace(&mut partition.was_started, true);
        self.desk.inbox.drop_records(|gone| gone == number);
        let fetching = if was_started {
            self.fetch_anew(number).and_then(|()| self.validate(number, start.leader_epoch))
        } else {
            self.seek(number).or_else(|error| {
                tracing::debug!(topic = %self.desk.topic, partition = number, %error, "seek refused, fetching anew");
                self.fetch_anew(number)
            })
        };
        if let Err(error) = fetching.and_then(|()| self.resume(number)) {
            // Nothing would ever come from it. The survey's answer asks for a new start.
            tracing::error!(topic = %self.desk.topic, partition = number, %error, "the partition cannot be started");
            self.out_of_range(number, &error.to_string());
        }
    }

    fn seek(&self, number: i32) -> KafkaResult<()> {
        let list = self.positions(|candidate, _| candidate == number)?;
        let list = self.consumer.seek_partitions(list, SEEK_WITHIN)?;
        list.elements().iter().try_for_each(|entry| entry.error())
    }

    /// Fetches from the partition's position as if it had just been assigned: what librdkafka remembers of the earlier fetch
    /// (that it failed, that it was at the end) is gone.
    fn fetch_anew(&self, number: i32) -> KafkaResult<()> {
        match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => {
                let list = self.positions(|candidate, _| candidate == number)?;
                self.consumer.incremental_unassign(&list)?;
                self.consumer.incremental_assign(&list)
            }
            // An eager member can only assign all at once. The others go on where they are.
            RebalanceProtocol::Eager | RebalanceProtocol::None => self.consumer.assign(&self.positions(|_, _| true)?),
        }
    }

    /// Only a seek makes librdkafka compare the epoch with the log. It is refused until the new fetch has begun.
    fn validate(&self, number: i32, leader_epoch: Option<i32>) -> KafkaResult<()> {
        if leader_epoch.is_none() {
            return Ok(());
        }
        let mut attempts = 0;
        loop {
            match self.seek(number) {
                Err(_) if attempts < SEEK_ATTEMPTS => thread::sleep(SEEK_AGAIN_AFTER),
                outcome => return outcome,
            }
            attempts += 1;
        }
    }

    fn resume(&self, number: i32) -> KafkaResult<()> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&self.desk.topic, number);
        self.consumer.resume(&list)
    }

    fn positions(&self, wanted: impl Fn(i32, &Partition) -> bool) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(self.partitions.len());
        for (number, partition) in self.partitions.iter().filter(|(number, one)| wanted(**number, one)) {
            let (offset, leader_epoch) = partition.position();
            list.add_partition_offset(&self.desk.topic, *number, Offset::Offset(offset))?;
            if let Some(epoch) = leader_epoch {
                set_leader_epoch(&mut list, &self.desk.topic, *number, epoch);
            }
        }
        Ok(list)
    }

    /// Takes what was fetched, as far as there is room for it. Another partition comes first each time.
    pub(super) fn read(&mut self) -> bool {
        let reading: Vec<i32> =
            self.partitions.iter().filter(|(_, partition)| partition.is_reading()).map(|(number, _)| *number).collect();
        self.turn = self.turn.wrapping_add(1);
        let mut more = false;
        for index in 0..reading.len() {
            let room = self.desk.inbox.room();
            if room.is_none() {
                return false;
            }
            more |= self.read_partition(reading[(self.turn + index) % reading.len()], room);
        }
        more && !self.desk.inbox.room().is_none()
    }

    fn read_partition(&mut self, number: i32, room: Room) -> bool {
        let Some(partition) = self.partitions.get_mut(&number) else {
            return false;
        };
        let Drained { events, more, out_of_range, troubles } = partition.drain(room);
        for event in events {
            self.desk.inbox.push(event);
        }
        for trouble in troubles {
            if trouble.lacking_right().is_some() {
                self.desk.refused(&trouble);
                continue;
            }
            let trouble = trouble.to_string();
            tracing::warn!(topic = %self.desk.topic, partition = number, trouble, "trouble fetching");
            self.desk.update(|status| status.last_trouble = Some(trouble));
        }
        if let Some(reason) = out_of_range {
            self.out_of_range(number, &reason);
            return false;
        }
        more
    }

    /// Nothing more comes from this partition until it is started anew.
    fn out_of_range(&mut self, number: i32, reason: &str) {
        tracing::warn!(topic = %self.desk.topic, partition = number, reason, "the position is not in the log");
        self.desk.update(|status| status.last_trouble = Some(format!("partition {number}: {reason}")));
        let Some(partition) = self.partitions.get_mut(&number) else {
            return;
        };
        partition.phase = Phase::Surveyed;
        let assignment = partition.assignment;
        if let Err(error) = self.survey(vec![number], assignment, Cause::OutOfRange) {
            tracing::error!(topic = %self.desk.topic, partition = number, %error, "the log cannot be surveyed");
        }
    }
}
