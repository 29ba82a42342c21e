//! How a moment looks: as lines for a terminal of some size, or as one line for a log. Pure.

use std::time::Duration;

use taskbroker_domain::ledger::Stats;

use super::{
    sample::{KINDS, Kind},
    tally::{Counts, Latency, Rate},
};

/// What there is to see at a moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Moment {
    /// Since the start.
    pub(super) elapsed: Duration,
    pub(super) phase: Phase,
    /// The sample tasks, seen from outside.
    pub(super) counts: Counts,
    pub(super) rate: Rate,
    pub(super) latency: Option<Latency>,
    /// All tasks, one's own too, seen from inside.
    pub(super) stats: Stats,
    /// What stands still.
    pub(super) troubles: Vec<String>,
    /// The latest warnings of the log.
    pub(super) warnings: Vec<String>,
}

/// What is going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Running,
    /// Nothing new is produced; what is there is finished.
    Finishing,
}

/// The display: no more lines than `height`, none longer than `width` characters. Where there is little room, warnings
/// push aside what stands above them.
pub(super) fn picture(moment: &Moment, facts: &[(String, String)], width: usize, height: usize) -> Vec<String> {
    let mut lines = vec![title(moment)];
    lines.extend(facts.iter().map(|(name, value)| format!("{name:<8}{value}")));
    lines.push(String::new());
    lines.extend(flow(moment));
    lines.push(String::new());
    lines.extend(depths(&moment.stats));
    lines.push(String::new());
    lines.extend(kinds(&moment.counts));
    let others = others(&moment.stats);
    if !others.is_empty() {
        lines.push(String::new());
        lines.extend(others);
    }
    let worries = moment.troubles.iter().chain(&moment.warnings);
    let worries: Vec<String> = worries.map(|worry| format!("! {worry}")).collect();
    if !worries.is_empty() {
        lines.truncate(height.saturating_sub(worries.len() + 1));
        lines.push(String::new());
        lines.extend(worries);
    }
    lines.truncate(height);
    lines.iter().map(|line| cut(line, width)).collect()
}

/// The first characters of a line, as many as fit; control characters would move the cursor.
fn cut(line: &str, width: usize) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    line.chars().take(width).map(shown).collect::<String>().trim_end().to_owned()
}

fn title(moment: &Moment) -> String {
    let what = match moment.phase {
        Phase::Running => "Ctrl-C ends it",
        Phase::Finishing => "finishing what is there; Ctrl-C again ends at once",
    };
    format!("taskbroker dev   {} s   {what}", moment.elapsed.as_secs())
}

fn flow(moment: &Moment) -> Vec<String> {
    let (counts, rate, totals) = (&moment.counts, moment.rate, moment.stats.totals);
    let latency = moment.latency.map_or_else(
        || "-".to_owned(),
        |latency| format!("p50 {} ms   p99 {} ms", latency.p50.as_millis(), latency.p99.as_millis()),
    );
    vec![
        format!("produced      {:>8}  {:>8.1}/s", counts.produced, rate.produced),
        format!(
            "finished      {:>8}  {:>8.1}/s   twice {}   leases lost {}",
            counts.finished, rate.finished, counts.twice, moment.stats.lost_leases
        ),
        format!("to a worker   {latency}   (last 10 s)"),
        format!(
            "completed     {:>8}   retried {}   dead letters {}   discarded {}   expired {}",
            totals.completed, totals.retried, totals.dead_lettered, totals.discarded, totals.expired
        ),
    ]
}

fn depths(stats: &Stats) -> Vec<String> {
    let depths = stats.depths;
    let lag: u64 = stats.partitions.iter().map(|partition| partition.lag).sum();
    vec![
        format!(
            "{:>8} {:>9} {:>14} {:>9} {:>7} {:>8} {:>8}",
            "lag", "pending", "with workers", "delayed", "retry", "failed", "parked"
        ),
        format!(
            "{:>8} {:>9} {:>14} {:>9} {:>7} {:>8} {:>8}",
            lag, depths.pending, depths.processing, depths.delayed, depths.retry, depths.failed, depths.parked
        ),
    ]
}

fn kinds(counts: &Counts) -> Vec<String> {
    let row = |(kind, counts): (&Kind, &super::tally::KindCounts)| {
        let (name, story) = (kind.name(), kind.story());
        format!("{name:<11}{:>8} {:>8} {:>8}   {story}", counts.produced, counts.begun, counts.finished)
    };
    let head = format!("{:<11}{:>8} {:>8} {:>8}", "task", "sent", "begun", "finished");
    std::iter::once(head).chain(KINDS.iter().zip(&counts.kinds).map(row)).collect()
}

/// Tasks that are not ours: somebody joined.
fn others(stats: &Stats) -> Vec<String> {
    let others = stats.namespaces.iter().filter(|namespace| &*namespace.application != super::sample::APPLICATION);
    let row = |namespace: &taskbroker_domain::ledger::NamespaceStats| {
        let (application, name) = (&namespace.application, &namespace.namespace);
        let counts = namespace.counts;
        format!(
            "{application}/{name}: admitted {}, in flight {}, completed {}",
            counts.admitted, counts.in_flight, counts.completed
        )
    };
    others.map(row).collect()
}

/// One line for a log.
pub(super) fn line(moment: &Moment) -> String {
    let (counts, stats) = (&moment.counts, &moment.stats);
    let (totals, depths) = (stats.totals, stats.depths);
    let ms =
        |latency: Option<Duration>| latency.map_or_else(|| "-".to_owned(), |time| format!("{}ms", time.as_millis()));
    format!(
        "{}s: produced={} ({:.1}/s) finished={} ({:.1}/s) completed={} retried={} dead_lettered={} discarded={} \
         pending={} processing={} delayed={} leases_lost={} p50={} p99={} twice={}",
        moment.elapsed.as_secs(),
        counts.produced,
        moment.rate.produced,
        counts.finished,
        moment.rate.finished,
        totals.completed,
        totals.retried,
        totals.dead_lettered,
        totals.discarded,
        depths.pending,
        depths.processing,
        depths.delayed,
        stats.lost_leases,
        ms(moment.latency.map(|latency| latency.p50)),
        ms(moment.latency.map(|latency| latency.p99)),
        counts.twice,
    )
}

#[cfg(test)]
mod tests {
    use taskbroker_domain::{admission::Depths, ledger};

    use super::*;

    fn moment() -> Moment {
        Moment {
            elapsed: Duration::from_millis(12_300),
            counts: Counts { produced: 615, finished: 600, ..Counts::default() },
            rate: Rate { produced: 50.0, finished: 49.5 },
            latency: Some(Latency { p50: Duration::from_millis(4), p99: Duration::from_millis(21) }),
            stats: Stats {
                depths: Depths { pending: 3, processing: 9, delayed: 3, ..Depths::default() },
                totals: ledger::Counts { completed: 570, retried: 40, dead_lettered: 12, ..ledger::Counts::default() },
                ..Stats::default()
            },
            ..Moment::default()
        }
    }

    fn facts() -> Vec<(String, String)> {
        vec![("Kafka".to_owned(), "127.0.0.1:1234".to_owned()), ("gRPC".to_owned(), "127.0.0.1:50051".to_owned())]
    }

    #[test]
    fn the_display_shows_addresses_counts_rates_latency_and_depths() {
        let shown = picture(&moment(), &facts(), 120, 60).join("\n");
        for part in [
            "12 s",
            "127.0.0.1:1234",
            "50.0/s",
            "49.5/s",
            "p50 4 ms   p99 21 ms",
            "dead letters 12",
            "retried 40",
            "flaky",
        ] {
            assert!(shown.contains(part), "{part:?} is missing in:\n{shown}");
        }
    }

    #[test]
    fn the_display_fits_a_small_terminal() {
        let mut moment = moment();
        moment.warnings = vec!["WARN a line\u{1b}[2J that would\nclear the screen".repeat(20)];
        for (width, height) in [(20, 5), (40, 24), (1, 1), (0, 0), (300, 100)] {
            let lines = picture(&moment, &facts(), width, height);
            assert!(lines.len() <= height);
            assert!(lines.iter().all(|line| line.chars().count() <= width && !line.contains(char::is_control)));
        }
    }

    #[test]
    fn warnings_and_troubles_are_shown_below() {
        let mut moment = moment();
        moment.troubles.push("timers are late".to_owned());
        moment.warnings.push("WARN Kafka does not answer".to_owned());
        let lines = picture(&moment, &[], 80, 60);
        assert_eq!(lines[lines.len() - 2..], ["! timers are late", "! WARN Kafka does not answer"]);
        let few = picture(&moment, &[], 80, 10);
        assert_eq!(few.len(), 10);
        assert_eq!(few[7..], ["", "! timers are late", "! WARN Kafka does not answer"]);
    }

    #[test]
    fn tasks_of_ones_own_have_a_line_of_their_own() {
        let mut moment = moment();
        moment.stats.namespaces.push(ledger::NamespaceStats {
            application: "shop".into(),
            namespace: "mail".into(),
            counts: ledger::Counts { admitted: 7, in_flight: 2, completed: 5, ..ledger::Counts::default() },
            oldest_ready: None,
            oldest: None,
        });
        let shown = picture(&moment, &[], 80, 60);
        assert!(shown.contains(&"shop/mail: admitted 7, in flight 2, completed 5".to_owned()), "{shown:?}");
    }

    #[test]
    fn the_log_line_holds_the_same_numbers() {
        assert_eq!(
            line(&moment()),
            "12s: produced=615 (50.0/s) finished=600 (49.5/s) completed=570 retried=40 dead_lettered=12 discarded=0 pending=3 \
             processing=9 delayed=3 leases_lost=0 p50=4ms p99=21ms twice=0"
        );
    }
}
