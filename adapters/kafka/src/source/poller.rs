//! The polling thread: obeys commands, keeps a member in the group, rests until something wakes it.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use taskbroker_domain::ports::source::{GroupCommit, SourceEvent};

use super::{
    SourceError, TopicStatus,
    desk::{Command, Desk},
    member::{Ejected, Member},
    watch::{Sight, Watch},
};
use crate::{
    deadline::now,
    native::{Failure, TopicSight},
};

/// The longest rest: librdkafka counts a consumer that is not polled for long as dead, and deadlines are looked at then.
const REST_MAX: Duration = Duration::from_millis(100);
/// How long to wait before joining again, after a lost assignment and after an error that another attempt hardly mends.
const REJOIN_AFTER_LOSS: Duration = Duration::from_millis(100);
const REJOIN_AFTER_FATAL: Duration = Duration::from_secs(5);

/// The polling thread's state.
pub(super) struct Poller {
    desk: Arc<Desk>,
    commands: mpsc::Receiver<Command>,
    watch: Watch,
    membership: Membership,
}

enum Membership {
    In(Box<Member>),
    Out { join_at: Instant },
    Over,
}

impl Poller {
    /// Makes the clients, so that a configuration which cannot work is refused at once.
    pub(super) fn new(desk: Arc<Desk>, commands: mpsc::Receiver<Command>) -> Result<Self, SourceError> {
        let member = Member::join(&desk).map_err(|error| SourceError::Client(error.to_string()))?;
        let reports = Arc::downgrade(&desk);
        let report = move |sight| {
            if let Some(desk) = reports.upgrade() {
                desk.post(Command::Sighted(sight));
            }
        };
        let watch = Watch::start(&desk.options, report).map_err(|error| SourceError::Client(error.to_string()))?;
        Ok(Self { desk, commands, watch, membership: Membership::In(Box::new(member)) })
    }

    pub(super) fn run(mut self) {
        let mut awake_at = now();
        loop {
            let slept = std::mem::replace(&mut awake_at, now()).elapsed();
            self.doubt_membership(slept);
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            if matches!(self.membership, Membership::Over) {
                return;
            }
            if !self.turn() {
                thread::park_timeout(REST_MAX);
            }
        }
    }

    /// A process that was frozen for longer than its session may find its partitions with somebody else. librdkafka learns
    /// that from the next heartbeat's answer only, and would deliver what it fetches until then.
    fn doubt_membership(&mut self, slept: Duration) {
        if slept > self.desk.options.session_timeout && matches!(self.membership, Membership::In(_)) {
            tracing::warn!(topic = %self.desk.topic, ?slept, "stood still for longer than the session time-out");
            self.eject(&Ejected::Lost);
        }
    }

    /// Does what can be done without waiting. Returns whether there is more to do at once.
    fn turn(&mut self) -> bool {
        match &mut self.membership {
            Membership::In(member) => match member.turn(&self.watch) {
                Ok(more) => more,
                Err(ejected) => {
                    self.eject(&ejected);
                    true
                }
            },
            Membership::Out { join_at } if now() >= *join_at => {
                self.join();
                true
            }
            Membership::Out { .. } | Membership::Over => false,
        }
    }

    fn join(&mut self) {
        self.membership = match Member::join(&self.desk) {
            Ok(member) => Membership::In(Box::new(member)),
            Err(error) => {
                tracing::error!(topic = %self.desk.topic, %error, "the Kafka consumer cannot be made, trying again");
                Membership::Out { join_at: now() + REJOIN_AFTER_FATAL }
            }
        };
    }

    fn eject(&mut self, ejected: &Ejected) {
        let topic = &self.desk.topic;
        let delay = match ejected {
            Ejected::Lost => {
                tracing::warn!(%topic, "the assignment was lost, joining the group again");
                REJOIN_AFTER_LOSS
            }
            Ejected::Fatal(reason) => {
                tracing::error!(%topic, reason, "the Kafka consumer failed, making a new one");
                REJOIN_AFTER_FATAL
            }
        };
        self.desk.update(|status| {
            status.assignments_lost += 1;
            status.last_trouble = Some(ejected.to_string());
        });
        let out = Membership::Out { join_at: now() + delay };
        if let Membership::In(member) = std::mem::replace(&mut self.membership, out) {
            member.lose();
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Sighted(sight) => self.sighted(&sight),
            Command::Close { positions, done } => {
                self.close(positions);
                if done.send(()).is_err() {
                    tracing::debug!("nobody waits for the source to be closed any more");
                }
            }
            Command::Abandon => {
                if let Membership::In(member) = std::mem::replace(&mut self.membership, Membership::Over) {
                    member.abandon();
                }
            }
            command => {
                // Without a member these concern an assignment that has ended.
                if let Membership::In(member) = &mut self.membership {
                    member.obey(command);
                }
            }
        }
    }

    fn close(&mut self, positions: Vec<GroupCommit>) {
        if let Membership::In(member) = std::mem::replace(&mut self.membership, Membership::Over) {
            member.close(positions, now() + self.desk.options.close_limit);
        }
    }

    fn sighted(&mut self, sight: &Sight) {
        match sight {
            // It answers: what it says is no.
            Err(failure) if failure.lacking_right().is_some() => {
                self.connection_is(None);
                self.desk.refused(failure);
            }
            sight => self.connection_is(sight.as_ref().err()),
        }
        match sight {
            Ok(TopicSight::Present(id)) => {
                self.topic_is(TopicStatus::Present);
                if let Membership::In(member) = &mut self.membership {
                    member.topic_is(*id);
                }
            }
            Ok(TopicSight::Missing) => self.topic_is(TopicStatus::Missing),
            Err(_) => {}
        }
    }

    fn connection_is(&self, trouble: Option<&Failure>) {
        let up = trouble.is_none();
        if self.desk.status().connected == Some(up) {
            return;
        }
        let cluster = &self.desk.options.cluster.address;
        match trouble {
            None => tracing::debug!(cluster, "Kafka answers"),
            Some(refusal) if refusal.is_of_the_connection() => {
                tracing::warn!(cluster, reason = %refusal, "Kafka refuses the connection: see its credentials and certificates");
            }
            // Whoever receives the event says it louder; the reason is known here only.
            Some(trouble) => tracing::info!(cluster, %trouble, "Kafka does not answer"),
        }
        let trouble = trouble.map(ToString::to_string);
        self.desk.update(|status| {
            status.connected = Some(up);
            status.last_trouble = trouble.or(status.last_trouble.take());
        });
        self.desk.inbox.tell(SourceEvent::Connection { up });
    }

    fn topic_is(&self, now: TopicStatus) {
        let before = self.desk.status().topic;
        if before == now {
            return;
        }
        let topic = &self.desk.topic;
        let cluster = &self.desk.options.cluster.address;
        match (before, now) {
            (_, TopicStatus::Missing) => {
                tracing::warn!(%topic, cluster, "the topic does not exist: waiting for it");
            }
            (TopicStatus::Missing, _) => tracing::info!(%topic, "the topic exists"),
            _ => {}
        }
        self.desk.update(|status| status.topic = now);
    }
}
