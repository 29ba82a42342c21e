//! The whole of logging but stderr.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use taskbroker_domain::time::{Now, Steady, Timestamp};
use tracing::{debug, info, warn};

use super::*;

/// A clock that a test sets.
#[derive(Default)]
struct SetClock(AtomicU64);

impl Clock for SetClock {
    fn now(&self) -> Now {
        Now { wall: Timestamp::default(), steady: Steady::from_millis(self.0.load(Ordering::SeqCst)) }
    }
}

/// Where lines go.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Desk {
    clock: Arc<SetClock>,
    paper: Paper,
    summaries: Summaries,
}

impl Desk {
    fn lines(&self) -> Vec<String> {
        let bytes = self.paper.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn pass(&self, time: Duration) {
        self.clock.0.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

/// Runs `body` with its logs on a desk.
fn logging(options: &LogOptions, body: impl FnOnce(&Desk)) {
    logging_beside(options, None, body);
}

/// The same, with something that receives spans.
fn logging_beside(options: &LogOptions, spans: Option<Spans>, body: impl FnOnce(&Desk)) {
    let (clock, paper) = (Arc::new(SetClock::default()), Paper::default());
    let writer = paper.clone();
    let (subscriber, summaries) =
        subscriber(options, Arc::clone(&clock) as _, move || writer.clone(), false, spans).unwrap();
    let desk = Desk { clock, paper, summaries };
    tracing::subscriber::with_default(subscriber, || body(&desk));
}

fn filtered(filter: &str) -> LogOptions {
    LogOptions { filter: filter.to_owned(), ..LogOptions::default() }
}

#[test]
fn a_line_has_its_level_target_message_and_fields() {
    logging(&LogOptions::default(), |desk| {
        info!(rows = 3, "batch stored");
        assert!(desk.lines()[0].ends_with("INFO taskbroker_telemetry::logs::tests: batch stored rows=3"));
    });
}

#[test]
fn json_lines_are_objects_with_the_same_content() {
    logging(&LogOptions { format: LogFormat::Json, ..LogOptions::default() }, |desk| {
        warn!(rows = 3, "batch \"stored\"");
        let line: serde_json::Value = serde_json::from_str(&desk.lines()[0]).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["target"], "taskbroker_telemetry::logs::tests");
        assert_eq!(line["message"], "batch \"stored\"");
        assert_eq!(line["rows"], 3);
    });
}

#[test]
fn the_filter_decides_by_level_and_target() {
    logging(&filtered("warn, chatty=off ,wordy=debug"), |desk| {
        info!("not this");
        warn!(target: "chatty", "nor this");
        debug!(target: "wordy", "but this");
        warn!("and this");
        assert_eq!(desk.lines().len(), 2);
    });
}

#[test]
fn what_no_directive_speaks_of_is_not_logged() {
    logging(&filtered("chatty=info"), |desk| {
        tracing::error!("not this");
        info!(target: "chatty", "but this");
        assert_eq!(desk.lines().len(), 1);
    });
}

#[test]
fn a_bad_filter_is_refused_by_key_and_directive() {
    let error = filter::parse("info,librdkafka=loud,h2=off", None).unwrap_err().to_string();
    assert!(error.starts_with("log_filter: \"librdkafka=loud\" cannot be understood ("), "{error}");
    assert!(filter::parse("a=b=c", None).is_err());
    assert!(filter::parse("", None).is_ok());
    assert!(filter::parse(&LogOptions::default().filter, None).is_ok());
}

#[test]
fn a_flood_of_one_line_is_held_back_and_summed_up() {
    logging(&LogOptions::default(), |desk| {
        for attempt in 0..133 {
            warn!(attempt, "kafka cannot be reached");
        }
        info!("something else");
        assert_eq!(desk.lines().len(), 11);
        desk.summaries.write_due();
        assert_eq!(desk.lines().len(), 11, "the interval is not over");

        desk.pass(Duration::from_secs(10));
        desk.summaries.write_due();
        let lines = desk.lines();
        assert_eq!(lines.len(), 12);
        let summary = "WARN taskbroker_telemetry::logs::tests: kafka cannot be reached … repeated 123 times";
        assert!(lines[11].ends_with(summary), "{}", lines[11]);

        warn!("kafka cannot be reached");
        assert_eq!(desk.lines().len(), 13, "a new interval");
    });
}

#[test]
fn the_end_sums_up_the_open_interval() {
    logging(&LogOptions::default(), |desk| {
        (0..11).for_each(|_| warn!("again"));
        desk.summaries.write_all();
        assert!(desk.lines()[10].ends_with("again … repeated 1 times"));
    });
}

#[test]
fn debug_lines_are_never_held_back() {
    logging(&filtered("debug"), |desk| {
        (0..100).for_each(|_| debug!("step"));
        assert_eq!(desk.lines().len(), 100);
    });
}

#[test]
fn logs_are_set_up_once_and_the_guard_ends() {
    let clock = Arc::new(SetClock::default());
    let options = LogOptions { filter: "off".to_owned(), ..LogOptions::default() };
    let guard = init_logs(&options, Arc::clone(&clock) as _, None).unwrap();
    assert_eq!(init_logs(&options, clock, None).unwrap_err(), LogError::AlreadySet);
    drop(guard);
}

#[test]
fn a_log_in_a_file_keeps_the_latest_warnings_at_hand() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let file = file::LogFile::open(&path).unwrap();
    let warnings = file.warnings();
    let options = LogOptions::default();
    let (subscriber, _summaries) = subscriber(&options, Arc::new(SetClock::default()), file, false, None).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        info!("nothing to see");
        for number in 1..=6 {
            warn!(number, "trouble");
        }
    });
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written.lines().count(), 7, "{written}");
    let lines = warnings.lines();
    assert_eq!(lines.len(), 5);
    assert!(lines[0].starts_with("WARN ") && lines[0].ends_with("trouble number=2"), "{lines:?}");
    assert!(lines[4].ends_with("trouble number=6"), "{lines:?}");
}

#[test]
fn a_log_file_that_cannot_be_made_is_named() {
    let error = init_logs_to_file(&LogOptions::default(), Arc::new(SetClock::default()), Path::new("/nowhere/log"));
    assert!(error.unwrap_err().to_string().starts_with("the log file /nowhere/log cannot be made: "));
}

/// Counts spans, by their names.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<&'static str>>>);

impl<S: tracing::Subscriber> Layer<S> for Seen {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        _: &tracing::span::Id,
        _: tracing_subscriber::layer::Context<'_, S>,
    ) {
        self.0.lock().unwrap().push(attributes.metadata().name());
    }
}

#[test]
fn spans_go_to_their_receiver_whatever_is_logged_and_no_line_shows_them() {
    for (filter, format) in [("warn", LogFormat::Text), ("off", LogFormat::Text), ("debug", LogFormat::Json)] {
        let seen = Seen::default();
        let layer = seen.clone().with_filter(filter_fn(|metadata| metadata.target() == "ours::spans"));
        let spans = Spans { target: "ours::spans", layer: layer.boxed() };
        let options = LogOptions { format, repeats_max: 2, ..filtered(filter) };
        logging_beside(&options, Some(spans), |desk| {
            let span = tracing::info_span!(target: "ours::spans", "followed", secret = "nothing for the log");
            let within = span.enter();
            for _ in 0..5 {
                warn!("the same again");
            }
            drop(tracing::info_span!(target: "theirs", "other"));
            desk.summaries.write_all();
            drop(within);
            let lines = desk.lines();
            // Two, and the sum of the others.
            assert_eq!(lines.len(), if filter == "off" { 0 } else { 3 }, "{filter}: {lines:#?}");
            assert!(!lines.iter().any(|line| line.contains("followed") || line.contains("nothing for")), "{lines:#?}");
        });
        assert_eq!(*seen.0.lock().unwrap(), ["followed"], "{filter}");
    }
}
