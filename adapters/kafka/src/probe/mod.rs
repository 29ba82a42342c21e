//! Dials a cluster and says, step by step, what it found: names, TCP, TLS, SASL, topics, rights.

mod client;
mod network;

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use crate::{ClusterOptions, deadline::Deadline};

/// A topic to look for.
#[derive(Clone, Debug, Default)]
pub struct ProbedTopic {
    /// Its name.
    pub name: String,
    /// The groups it is read in.
    pub groups: Vec<String>,
    /// It is produced to.
    pub written: bool,
    /// It may be missing: it will be created.
    pub may_be_missing: bool,
}

/// What one step found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: `names`, `TCP`, `TLS`, `SASL`, `Kafka`, `topic …`, `group …`.
    pub subject: String,
    /// Whether it is as it has to be.
    pub good: bool,
    /// What was found, in one line; what to do where it is not good.
    pub text: String,
}

/// Dials the cluster and looks for the topics. Takes at most `limit`, and a thread for as long; what was not found out by then
/// is a finding of its own. Changes nothing in the cluster, and joins no group.
pub fn probe(cluster: &ClusterOptions, topics: &[ProbedTopic], limit: Duration) -> Vec<Finding> {
    let deadline = Deadline::after(limit);
    let (sender, receiver) = channel();
    let (cluster, topics) = (cluster.clone(), topics.to_vec());
    let report = Report(sender);
    let spawned = thread::Builder::new().name("kafka-probe".to_owned()).spawn(move || {
        dial(&cluster, &topics, deadline, &report);
    });
    match spawned {
        Ok(_) => collect(&receiver, deadline, limit),
        Err(error) => vec![Finding { subject: "probe".to_owned(), good: false, text: format!("no thread: {error}") }],
    }
}

fn collect(receiver: &Receiver<Finding>, deadline: Deadline, limit: Duration) -> Vec<Finding> {
    let mut findings = Vec::new();
    loop {
        match receiver.recv_timeout(deadline.left()) {
            Ok(finding) => findings.push(finding),
            Err(RecvTimeoutError::Disconnected) => return findings,
            Err(RecvTimeoutError::Timeout) => {
                let text = format!("no answer within {} s: the remaining steps were not taken", limit.as_secs());
                findings.push(Finding { subject: "time".to_owned(), good: false, text });
                return findings;
            }
        }
    }
}

/// Each step needs the one before.
fn dial(cluster: &ClusterOptions, topics: &[ProbedTopic], deadline: Deadline, report: &Report) {
    if let Err(error) = cluster.validate() {
        return report.bad("settings", error.to_string());
    }
    if network::reach(&cluster.address, deadline, report) {
        client::ask(cluster, topics, deadline, report);
    }
}

/// Where findings go as they are made.
struct Report(Sender<Finding>);

impl Report {
    fn good(&self, subject: impl Into<String>, text: impl Into<String>) {
        self.tell(subject.into(), true, text.into());
    }

    fn bad(&self, subject: impl Into<String>, text: impl Into<String>) {
        self.tell(subject.into(), false, text.into());
    }

    fn tell(&self, subject: String, good: bool, text: String) {
        // Nobody listens once the time is over.
        self.0.send(Finding { subject, good, text }).ok();
    }
}
