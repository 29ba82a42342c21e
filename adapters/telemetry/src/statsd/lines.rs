//! The lines of DogStatsD, and the datagrams that they are put into.

use std::{collections::BTreeMap, fmt::Write};

/// What every name begins with.
const PREFIX: &str = "taskbroker.";
/// How long a datagram may be, in bytes: fits into one packet on every network, and into the buffers of agents.
const DATAGRAM_BYTES: usize = 1024;

/// What kind a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn letter(self) -> char {
        match self {
            Self::Counter => 'c',
            Self::Gauge => 'g',
            Self::Histogram => 'h',
        }
    }
}

/// Lines on their way into datagrams.
pub(super) struct Lines {
    common: String,
    datagrams: Vec<String>,
}

impl Lines {
    /// With these tags on every line.
    pub(super) fn new(tags: &BTreeMap<String, String>) -> Self {
        let mut common = String::new();
        tags.iter().for_each(|(name, value)| put_tag(&mut common, name, value));
        Self { common, datagrams: Vec::new() }
    }

    /// Adds a value. `rate`: the share of all values that is sent, above 0 and at most 1.
    pub(super) fn put<'a>(
        &mut self,
        name: &str,
        kind: Kind,
        value: f64,
        rate: f64,
        tags: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        if !value.is_finite() {
            return;
        }
        let mut line = format!("{PREFIX}{name}:{value}|{}", kind.letter());
        if rate < 1.0 {
            // Writing to a text does not fail.
            write!(line, "|@{rate}").ok();
        }
        let mut all = self.common.clone();
        tags.into_iter().for_each(|(name, value)| put_tag(&mut all, name, value));
        if !all.is_empty() {
            line.push_str("|#");
            line.push_str(&all);
        }
        match self.datagrams.last_mut() {
            Some(last) if last.len() + 1 + line.len() <= DATAGRAM_BYTES => {
                last.push('\n');
                last.push_str(&line);
            }
            _ => self.datagrams.push(line),
        }
    }

    pub(super) fn datagrams(self) -> Vec<String> {
        self.datagrams
    }
}

fn put_tag(tags: &mut String, name: &str, value: &str) {
    if !tags.is_empty() {
        tags.push(',');
    }
    tags.extend(name.chars().map(|c| if c == ':' { '_' } else { harmless(c) }));
    tags.push(':');
    tags.extend(value.chars().map(harmless));
}

/// What would end a tag or a line is replaced: names come from outside.
fn harmless(c: char) -> char {
    if matches!(c, ',' | '|' | '#') || c.is_control() { '_' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(tags: &[(&str, &str)]) -> Lines {
        Lines::new(&tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_line_has_name_value_type_rate_and_tags() {
        let mut lines = lines(&[("region", "eu")]);
        lines.put("a", Kind::Counter, 3.0, 1.0, []);
        lines.put("b.c", Kind::Histogram, 0.25, 0.5, [("kind", "x"), ("k", "y")]);
        lines.put("d", Kind::Gauge, f64::NAN, 1.0, []);
        let expected = "taskbroker.a:3|c|#region:eu\ntaskbroker.b.c:0.25|h|@0.5|#region:eu,kind:x,k:y";
        assert_eq!(lines.datagrams(), [expected]);
    }

    #[test]
    fn without_tags_there_is_no_mark_of_tags() {
        let mut lines = lines(&[]);
        lines.put("a", Kind::Gauge, 1.5, 1.0, []);
        assert_eq!(lines.datagrams(), ["taskbroker.a:1.5|g"]);
    }

    #[test]
    fn names_from_outside_break_no_line() {
        let mut lines = lines(&[]);
        lines.put("a", Kind::Counter, 1.0, 1.0, [("topic", "x|c\n,y#:z")]);
        assert_eq!(lines.datagrams(), ["taskbroker.a:1|c|#topic:x_c__y_:z"]);
    }

    #[test]
    fn datagrams_stay_below_their_limit() {
        let mut lines = lines(&[("tag", "value")]);
        (0..1000).for_each(|_| lines.put("some.name", Kind::Counter, 1.0, 1.0, []));
        let datagrams = lines.datagrams();
        assert!(datagrams.len() > 20 && datagrams.iter().all(|datagram| datagram.len() <= DATAGRAM_BYTES));
        assert_eq!(datagrams.iter().flat_map(|datagram| datagram.lines()).count(), 1000);
    }
}
