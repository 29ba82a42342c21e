//! What the documents say of names: metrics, messages, settings, files. What is written there exists.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files with this extension at and below a directory.
fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(directory)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(path.strip_prefix(root()).unwrap().to_str().unwrap(), extension));
        } else if path.extension().is_some_and(|its| its == extension) {
            found.push(path);
        }
    }
    found
}

fn source() -> String {
    let all = ["src", "domain/src", "adapters"].into_iter().flat_map(|directory| files(directory, "rs"));
    all.filter(|path| !path.components().any(|part| part.as_os_str() == "tests")).map(read).collect()
}

fn documents() -> Vec<(PathBuf, String)> {
    let all = files("docs", "md").into_iter().chain(["README.md", "CHANGELOG.md"].map(|name| root().join(name)));
    all.map(|path| (path.clone(), read(path))).collect()
}

/// What stands between two marks of this kind.
fn between(text: &str, mark: char) -> impl Iterator<Item = &str> {
    text.split(mark).skip(1).step_by(2)
}

/// The words of a text that begin so and go on like a name.
fn names(text: &str, begin: &str, goes_on: impl Fn(char) -> bool) -> BTreeSet<String> {
    let starts = text.match_indices(begin).map(|(start, _)| &text[start..]);
    starts.map(|rest| rest.split(|c: char| !goes_on(c)).next().unwrap_or(rest).to_owned()).collect()
}

#[test]
fn every_metric_is_described_and_every_described_one_exists() {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let quoted = |text: &str| names(text, "\"taskbroker_", |c| is_name(c) || c == '"');
    let made: BTreeSet<String> = quoted(&source()).iter().map(|name| name.trim_matches('"').to_owned()).collect();
    let is_crate = |name: &str| root().join("adapters").join(name.trim_start_matches("taskbroker_")).exists();
    let is_table = |name: &str| name == "taskbroker_meta";
    let made: BTreeSet<String> = made.into_iter().filter(|name| !is_crate(name) && !is_table(name)).collect();
    let table = read("docs/operations.md");
    let rows = table.lines().filter(|line| line.starts_with("| `taskbroker_"));
    let described: BTreeSet<String> =
        rows.flat_map(|row| names(row.split('|').nth(1).unwrap(), "taskbroker_", is_name)).collect();
    assert!(made.len() > 30, "{made:?}");
    assert_eq!(described, made);
}

#[test]
fn every_message_in_the_table_is_one_that_the_program_writes() {
    // A text may be broken into lines in the source.
    let source = source().replace("\\\n", "").split_whitespace().collect::<Vec<_>>().join(" ");
    let table = read("docs/operations.md");
    let rows: Vec<_> =
        table.lines().filter(|line| line.starts_with("| ERROR ") || line.starts_with("| WARN ")).collect();
    assert!(rows.len() > 20);
    for row in rows {
        for message in between(row.split('|').nth(1).unwrap(), '`') {
            let message = message.trim_end_matches('…').trim_end_matches(" …").trim();
            assert!(source.contains(message), "nothing says {message:?}");
        }
    }
}

#[test]
fn every_setting_that_is_named_exists() {
    let settings = read("config/default.yaml");
    let known = |name: &str| {
        let last = name.rsplit('.').next().unwrap();
        settings.lines().any(|line| line.trim_start().starts_with(&format!("{last}:")))
    };
    // That page names the existing system's keys as well; it has tests of its own.
    for (path, text) in documents().into_iter().filter(|(path, _)| !path.ends_with("compatibility.md")) {
        for code in between(&text.replace("```", ""), '`').filter(|code| code.starts_with("store.")) {
            assert!(known(code), "{}: there is no setting {code}", path.display());
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    for (path, text) in documents() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let is_file = !target.contains("://") && !target.starts_with('#');
            assert!(!is_file || path.parent().unwrap().join(target).exists(), "{}: {target}", path.display());
        }
    }
}

#[test]
fn every_path_of_ours_that_is_named_exists() {
    let beginnings = ["src/", "domain/", "adapters/", "tests/", "docs/", "config/", "proto/", "scripts/"];
    for (path, text) in documents() {
        for code in between(&text.replace("```", ""), '`') {
            let named =
                beginnings.iter().any(|beginning| code.starts_with(beginning)) && !code.contains([' ', '*', '<']);
            // A test is named by its file and its function.
            let file = code.split("::").next().unwrap_or(code);
            assert!(!named || root().join(file).exists(), "{}: there is no {code}", path.display());
        }
    }
}

/// The rows of `docs/compatibility.md`: what is compared, how it stands, and the tests that are named.
fn comparisons(text: &str) -> Vec<(String, String, Vec<String>)> {
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Reference"));
    rows.map(|row| {
        // A bar within a cell is written `\\|`.
        let cells: Vec<String> = row.replace("\\|", "\u{1}").split('|').map(|cell| cell.trim().to_owned()).collect();
        let [_, what, how, _, tests, _] = cells.as_slice() else { panic!("a row of four cells: {row}") };
        (what.clone(), how.clone(), between(tests, '`').map(str::to_owned).collect())
    })
    .collect()
}

#[test]
fn what_is_called_the_same_is_proven_by_a_test_that_exists() {
    let rows = comparisons(&read("docs/compatibility.md"));
    assert!(rows.len() > 100, "{}", rows.len());
    for (what, how, tests) in rows {
        assert!(["*same*", "*better*", "*not supported*"].contains(&how.as_str()), "{what}: {how}");
        assert!(how != "*same*" || !tests.is_empty(), "{what}: no test");
        for test in tests {
            let (path, name) = test.split_once("::").unwrap_or_else(|| panic!("{what}: {test} is no path::name"));
            let text = read(path);
            let is_there = ["fn ", "def "].iter().any(|keyword| text.contains(&format!("{keyword}{name}(")));
            assert!(is_there, "{what}: there is no test {test}");
        }
    }
}

#[test]
fn every_setting_is_compared() {
    let text = read("docs/compatibility.md");
    let named: BTreeSet<&str> = between(&text, '`').collect();
    let (mut section, mut missing) = (Vec::new(), Vec::new());
    for line in read("config/default.yaml").lines().filter(|line| !line.trim_start().starts_with('#')) {
        let Some((name, value)) = line.split_once(':') else { continue };
        section.truncate((name.len() - name.trim_start().len()) / 2);
        section.push(name.trim().to_owned());
        let key = section.join(".");
        if !value.trim().is_empty() && !named.contains(key.as_str()) && !key.starts_with("kafka_topics") {
            missing.push(key);
        }
    }
    missing.retain(|key| key != "kafka_clusters");
    assert_eq!(missing, Vec::<String>::new());
}
