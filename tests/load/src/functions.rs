//! A table of functions out of folded stacks (`thread;a;b;c 12`): the share of each by itself and with what it calls, of each
//! crate or library, and of each thread.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::BufRead,
};

use anyhow::Result;

/// How many functions are shown.
const SHOWN: usize = 100;

#[derive(Debug, Default)]
struct Shares {
    total: u64,
    alone: BTreeMap<String, u64>,
    within: BTreeMap<String, u64>,
    owners: BTreeMap<String, u64>,
    within_owners: BTreeMap<String, u64>,
    threads: BTreeMap<String, u64>,
}

/// Reads stacks and returns the table.
pub(crate) fn table(stacks: impl BufRead) -> Result<String> {
    let mut shares = Shares::default();
    for line in stacks.lines() {
        let line = line?;
        if let Some((stack, count)) = line.rsplit_once(' ') {
            shares.add(stack, count.parse()?);
        }
    }
    Ok(shares.text())
}

impl Shares {
    fn add(&mut self, stack: &str, count: u64) {
        self.total += count;
        let frames: Vec<&str> = stack.split(';').collect();
        if let (Some(thread), Some(last)) = (frames.first(), frames.last()) {
            *self.threads.entry((*thread).to_owned()).or_default() += count;
            *self.alone.entry((*last).to_owned()).or_default() += count;
            *self.owners.entry(owner(last)).or_default() += count;
        }
        let functions = frames.get(1..).unwrap_or_default();
        for owner in functions.iter().map(|frame| owner(frame)).collect::<BTreeSet<_>>() {
            *self.within_owners.entry(owner).or_default() += count;
        }
        for function in functions.iter().collect::<BTreeSet<_>>() {
            *self.within.entry((*function).to_owned()).or_default() += count;
        }
    }

    fn text(&self) -> String {
        let mut text = format!("weight of all samples: {}\n", self.total);
        self.part(&mut text, "by thread", &self.threads);
        self.part(&mut text, "by crate or library, by itself", &self.owners);
        self.part(&mut text, "by crate or library, with what it calls", &self.within_owners);
        self.part(&mut text, "by function, by itself", &self.alone);
        self.part(&mut text, "by function, with what it calls", &self.within);
        text
    }

    fn part(&self, text: &mut String, title: &str, counts: &BTreeMap<String, u64>) {
        let mut sorted: Vec<_> = counts.iter().collect();
        sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        writeln!(text, "\n{title}").expect("a text grows");
        for (name, count) in sorted.into_iter().take(SHOWN) {
            let share = *count as f64 * 100.0 / self.total.max(1) as f64;
            writeln!(text, "{share:6.2} %  {name}").expect("a text grows");
        }
    }
}

/// Whose a function is: `kernel`, a crate, or a C library that is built in.
fn owner(function: &str) -> String {
    if function.ends_with("_[k]") {
        return "kernel".to_owned();
    }
    for (library, prefixes) in C_LIBRARIES {
        if prefixes.iter().any(|prefix| function.starts_with(prefix)) {
            return library.to_owned();
        }
    }
    match function.split_once("::") {
        Some((path, _)) => path.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(path).to_owned(),
        None => "C and unknown".to_owned(),
    }
}

const C_LIBRARIES: [(&str, &[&str]); 2] = [
    ("librdkafka", &["rd_", "rdk_", "crc32c", "mtx_", "cnd_"]),
    (
        "SQLite",
        &["sqlite3", "wal", "btree", "pager", "vdbe", "unix", "pcache1", "json", "balance", "insertCell", "fillInCell"],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_counts_by_itself_where_it_is_the_last_and_once_a_stack_with_what_it_calls() {
        let table = table("one;a::f;a::f;b::g 3\none;a::f 1\n".as_bytes()).unwrap();
        for line in [" 75.00 %  b\n", " 25.00 %  a\n", " 75.00 %  b::g\n", "100.00 %  a::f\n", "100.00 %  one\n"] {
            assert!(table.contains(line), "{line} is missing in\n{table}");
        }
    }

    #[test]
    fn functions_are_named_by_whose_they_are() {
        let of = [
            "<h2::proto::A as B>::c",
            "<T as tower::S>::call",
            "<&mut a_b::C>::d",
            "futex_wait_[k]",
            "rd_kafka_poll",
            "sqlite3VdbeExec",
            "malloc",
        ];
        let whose = ["h2", "tower", "a_b", "kernel", "librdkafka", "SQLite", "C and unknown"];
        assert_eq!(of.map(owner), whose);
    }
}
