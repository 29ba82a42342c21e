//! A member that is frozen as a process (SIGSTOP) while another takes over, on a real Kafka.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use taskbroker_domain::ports::source::ActivationSource;
use taskbroker_kafka::KafkaSourceOptions;
use taskbroker_support::kafka::{Kafka, Message};

use crate::reader::{PATIENCE, Reader, options};

const PLACE: &str = "TASKBROKER_TEST_MEMBER";
const SESSION: Duration = Duration::from_secs(2);

fn member(address: &str, group: &str, topic: &str, strategy: &str) -> KafkaSourceOptions {
    let protocol = strategy.parse().unwrap();
    KafkaSourceOptions { protocol, session_timeout: SESSION, ..options(address, group, topic) }
}

/// Another process: this test binary, running one test only.
struct OtherProcess {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl OtherProcess {
    fn start(address: &str, group: &str, topic: &str, strategy: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                "takeover::another_process_reads_and_commits_until_it_is_killed",
            ])
            .env(PLACE, format!("{address} {group} {topic} {strategy}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (line, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        Self { child, lines }
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// The lines up to the first that ends so.
    fn until(&self, end: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            seen.push(self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {end:?} after {seen:?}")));
            if seen.last().is_some_and(|line| line.ends_with(end)) {
                return seen;
            }
        }
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test]
#[ignore = "run by the test below, as a process of its own"]
async fn another_process_reads_and_commits_until_it_is_killed() {
    let Ok(place) = env::var(PLACE) else { return };
    let words: Vec<&str> = place.split(' ').collect();
    let options = member(words[0], words[1], words[2], words[3]);
    let reader = Reader::start(options);
    let (mut read, mut lost) = (0, 0);
    let reader = std::sync::Arc::new(reader);
    let committing = std::sync::Arc::clone(&reader);
    // As an engine would that knows no better: again and again, also what it read before it was frozen.
    tokio::spawn(async move {
        loop {
            committing.source.commit(committing.seen(|seen| seen.commits()));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    loop {
        reader.until("something new", |seen| seen.records.len() > read || seen.lost.len() > lost).await;
        let (records, losses) = reader.seen(|seen| (seen.records.len(), seen.lost.len()));
        if losses > lost {
            println!("\nlost");
        }
        if records > read {
            println!("\nread {records}");
        }
        (read, lost) = (records, losses);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_eager_member_learns_first_that_it_lost_everything_and_commits_nothing_any_more() {
    frozen_member_loses("range,roundrobin").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_cooperative_member_learns_first_that_it_lost_everything_and_commits_nothing_any_more() {
    frozen_member_loses("cooperative-sticky").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_member_of_the_new_protocol_learns_first_that_it_lost_everything_and_commits_nothing_any_more() {
    frozen_member_loses("consumer").await;
}

async fn frozen_member_loses(strategy: &str) {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.new_topic("takeover", 1).await.unwrap();
    let group = Kafka::unique("group");
    kafka.produce(&topic, (0..3).map(|_| Message::new("task"))).await.unwrap();
    let frozen = OtherProcess::start(kafka.address(), &group, &topic, strategy);
    frozen.until("read 3");
    kafka.await_no_lag(&group, &topic, PATIENCE).await.unwrap();
    frozen.signal("-STOP");

    let successor = Reader::start(member(kafka.address(), &group, &topic, strategy));
    successor.until("the assignment", |seen| seen.assigned.len() == 1).await;
    kafka.produce(&topic, (0..4).map(|_| Message::new("task"))).await.unwrap();
    successor.until("the records", |seen| seen.offsets(0) == [3, 4, 5, 6]).await;
    successor.source.commit(successor.seen(|seen| seen.commits()));
    successor.until("its commit", |seen| seen.committed.len() == 1).await;

    frozen.signal("-CONT");
    let lines = frozen.until("lost");
    assert!(!lines.iter().any(|line| line.starts_with("read")), "{lines:?}");
    assert_eq!(kafka.committed(&group, &topic).await.unwrap()[&0].offset, 7);
    // It comes back as a member like any other.
    successor.close().await;
    kafka.produce(&topic, [Message::new("task")]).await.unwrap();
    kafka.await_no_lag(&group, &topic, PATIENCE).await.unwrap();
    assert_eq!(kafka.committed(&group, &topic).await.unwrap()[&0].offset, 8);
}
