//! Existing deployments are written for the `figment` crate, which the existing system reads its settings with. What figment
//! makes of a variable or of a piece of YAML, our loader makes of it as well. Where figment refuses a value, ours may take
//! it; it never takes it for something else.
//!
//! What differs, and why:
//! - an empty value, and `null` or `~` in the environment, mean that no value is given;
//! - a text setting takes numbers, `true`, lists and maps from the environment as they stand; figment refuses them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{collections::BTreeMap, fmt::Debug};

use figment::{
    Figment, Jail,
    providers::{Env, Format, Yaml},
};
use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use taskbroker::settings::{Settings, Sources, load};

/// A setting: its key, and what it is in our settings.
struct Case<T> {
    key: &'static str,
    ours: fn(&Settings) -> T,
}

fn text() -> Case<String> {
    Case { key: "log_filter", ours: |settings| settings.log.filter.clone() }
}

fn whole() -> Case<u64> {
    Case { key: "max_delayed_task_allowed_sec", ours: |settings| settings.max_delay.as_secs() }
}

fn count() -> Case<usize> {
    Case { key: "store.max_pending_count", ours: |settings| settings.store.max_pending.get() }
}

fn flag() -> Case<bool> {
    Case { key: "push.update.batched", ours: |settings| settings.delivery.push.update_batched }
}

fn list(settings: &Settings) -> Vec<String> {
    settings.grpc.shared_secrets.iter().map(|secret| secret.expose_secret().to_owned()).collect()
}

fn map(settings: &Settings) -> BTreeMap<String, String> {
    settings.metrics.default_tags.clone()
}

fn variable(key: &str) -> String {
    format!("TASKBROKER_{}", key.replace('.', "__").to_uppercase())
}

/// What figment makes of variables, read as the existing system reads them.
fn figment_of<T: DeserializeOwned>(variables: &[(String, String)], key: &str) -> Option<T> {
    let mut read = None;
    #[expect(clippy::result_large_err, reason = "the error is figment's")]
    Jail::expect_with(|jail| {
        variables.iter().for_each(|(name, value)| jail.set_env(name, value));
        read = Figment::from(Env::prefixed("TASKBROKER_").split("__")).extract_inner(key).ok();
        Ok(())
    });
    read
}

fn ours_of(variables: &[(String, String)]) -> Result<Settings, String> {
    let loaded = load(&Sources::defaults().with_environment(variables.to_vec()));
    loaded.map(|loaded| loaded.settings).map_err(|error| error.to_string())
}

/// Ours has bounds where the existing system has none, and takes no empty secret.
fn is_beyond_our_bounds(problem: &str) -> bool {
    ["out of range", "expected a number", "expected a text that is not empty"].iter().any(|text| problem.contains(text))
}

/// Whether no value is given, which figment does not know.
fn is_no_value(value: &str) -> bool {
    ["", "null", "~", "''", "\"\""].contains(&value.trim())
}

/// Ours is figment's wherever figment has a value.
fn same_by_environment<T>(case: &Case<T>, value: &str) -> Result<(), TestCaseError>
where
    T: DeserializeOwned + PartialEq + Debug,
{
    let variables = [(variable(case.key), value.to_owned())];
    let Some(figment) = figment_of::<T>(&variables, case.key) else { return Ok(()) };
    match ours_of(&variables) {
        Ok(ours) => prop_assert_eq!((case.ours)(&ours), figment, "{}={:?}", case.key, value),
        Err(ours) => prop_assert!(is_beyond_our_bounds(&ours), "{ours}: figment has {figment:?}"),
    }
    Ok(())
}

/// The same for YAML.
fn same_by_file<T>(case: &Case<T>, value: &str) -> Result<(), TestCaseError>
where
    T: DeserializeOwned + PartialEq + Debug,
{
    let levels = case.key.split('.').enumerate().map(|(depth, name)| format!("\n{}{name}:", "  ".repeat(depth)));
    let nested = format!("{} {value}\n", levels.collect::<String>());
    let Ok(figment) = Figment::from(Yaml::string(&nested)).extract_inner::<T>(case.key) else { return Ok(()) };
    match load(&Sources::defaults().with_yaml("a.yaml", &nested)) {
        Ok(ours) => prop_assert_eq!((case.ours)(&ours.settings), figment, "{}", nested),
        Err(ours) => prop_assert!(is_beyond_our_bounds(&ours.to_string()), "{ours}: figment has {figment:?}"),
    }
    Ok(())
}

/// Values as people write them, and near misses. ASCII: figment cuts text with an escape after another letter wrongly.
fn value() -> impl Strategy<Value = String> {
    let words =
        ["true", "false", "True", "nul", "a", "b c", "1", "-1", "+5", "0123", "0x1f", "1.5", ".5", "1e3", "'x'", "_"];
    let marks = [
        " ", ",", ", ", "{", "}", "[", "]", "=", "\"", "\\", "\\\"", "\\n", "\\u00e9", "'", ":", ".", "-", "/", "\t",
        "\n",
    ];
    let piece = prop_oneof![
        4 => prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        6 => prop::sample::select(marks.to_vec()).prop_map(str::to_owned),
        1 => any::<u64>().prop_map(|number| number.to_string()),
        1 => "[ -~]{0,6}",
    ];
    prop::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

fn quoted() -> impl Strategy<Value = String> {
    "[ -~]{1,8}".prop_map(|text| serde_json::to_string(&text).unwrap())
}

fn item() -> impl Strategy<Value = String> {
    prop_oneof![quoted(), "[a-z0-9._:/-]{1,8}", "[a-z =]{1,6}", value()]
}

fn blanks() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", " ", "  ", "\t"]).prop_map(str::to_owned)
}

fn a_list() -> impl Strategy<Value = String> {
    (prop::collection::vec((blanks(), item()), 1..4), blanks()).prop_map(|(items, end)| {
        let items: Vec<_> = items.into_iter().map(|(blank, item)| format!("{blank}{item}")).collect();
        format!("[{}{end}]", items.join(","))
    })
}

fn a_map() -> impl Strategy<Value = String> {
    let key = prop_oneof!["[a-zA-Z0-9_-]{1,6}", quoted().prop_filter("not empty", |key| key.len() > 2)];
    (prop::collection::vec((blanks(), key, blanks(), item()), 1..4), blanks()).prop_map(|(entries, end)| {
        let entries: Vec<_> = entries.into_iter().map(|(a, key, b, item)| format!("{a}{key}{b}={item}")).collect();
        format!("{{{}{end}}}", entries.join(","))
    })
}

/// What YAML may hold where a plain word may stand.
fn yaml_scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        "[-+]?(0x|0o|0b|0)?[0-9a-fA-F_]{0,6}",
        "[-+]?[0-9]{0,3}[.]?[0-9]{0,3}(e[-+]?[0-9]{1,2})?",
        prop::sample::select(vec![
            "true",
            "True",
            "TRUE",
            "tRUE",
            "yes",
            "on",
            "null",
            "Null",
            "NULL",
            "nULL",
            "~",
            ".inf",
            "-.INF",
            ".nan",
            "nan",
            "inf",
            "'8'",
            "\"8\"",
            "'true'",
            "''",
            "a b",
            "a-b",
            "18446744073709551615",
            "-9223372036854775808",
            "18446744073709551616",
        ])
        .prop_map(str::to_owned),
        "[a-z][a-z0-9/._-]{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_single_value_of_the_environment_is_what_figment_makes_of_it(value in prop_oneof![value(), item(), any::<u64>().prop_map(|n| n.to_string())]) {
        prop_assume!(!is_no_value(&value));
        same_by_environment(&text(), &value)?;
        same_by_environment(&whole(), &value)?;
        same_by_environment(&count(), &value)?;
        same_by_environment(&flag(), &value)?;
    }

    #[test]
    fn a_list_in_the_environment_is_what_figment_makes_of_it(value in a_list()) {
        let variables = [(variable("grpc_shared_secret"), value.clone())];
        if let Some(mut figment) = figment_of::<Vec<String>>(&variables, "grpc_shared_secret") {
            let refusable = figment.iter().any(|secret| is_no_value(secret));
            // What stands after the last comma may be nothing; elsewhere an empty secret is refused.
            figment.pop_if(|last| last.is_empty());
            match ours_of(&variables) {
                Ok(ours) => prop_assert_eq!(list(&ours), figment, "{:?}", value),
                Err(ours) => prop_assert!(refusable, "{ours}: figment has {figment:?}"),
            }
        }
    }

    #[test]
    fn a_map_in_the_environment_is_what_figment_makes_of_it(value in a_map()) {
        let variables = [(variable("default_metrics_tags"), value.clone())];
        // An empty value is none, so its key is not there.
        if let Some(figment) = figment_of::<BTreeMap<String, String>>(&variables, "default_metrics_tags") {
            let ours = ours_of(&variables).map_err(|error| TestCaseError::fail(format!("{error}: {figment:?}")))?;
            let given = |map: BTreeMap<String, String>| -> BTreeMap<_, _> {
                map.into_iter().filter(|(_, value)| !is_no_value(value)).collect()
            };
            prop_assert_eq!(given(map(&ours)), given(figment), "{:?}", value);
        }
    }

    #[test]
    fn a_value_of_a_file_is_what_figment_makes_of_it(value in yaml_scalar()) {
        prop_assume!(!is_no_value(&value));
        same_by_file(&text(), &value)?;
        same_by_file(&whole(), &value)?;
        same_by_file(&count(), &value)?;
        same_by_file(&flag(), &value)?;
    }

    #[test]
    fn the_name_of_a_variable_is_the_key_that_figment_makes_of_it(
        name in prop::sample::select(vec![
            "TASKBROKER_STORE__MAX_PENDING_COUNT", "TASKBROKER_STORE.MAX_PENDING_COUNT", "TASKBROKER_STORE__SQLITE__PATH", "TASKBROKER_WORKER_MAP__ONE",
        ]),
        lower in prop::collection::vec(any::<bool>(), 40),
        number in 1_u32..1000,
    ) {
        let mixed = |(c, lower): (char, &bool)| if *lower { c.to_ascii_lowercase() } else { c };
        let mixed: String = name.chars().zip(lower.iter().cycle()).map(mixed).collect();
        let variables = [(mixed, number.to_string())];
        let keys = ["store.max_pending_count", "store.sqlite.path", "worker_map.one"];
        let figment: Vec<_> = keys.iter().filter(|key| figment_of::<u32>(&variables, key) == Some(number)).collect();
        let ours = key_of(&variables);
        prop_assert_eq!(vec![ours.as_str()], figment.into_iter().copied().collect::<Vec<_>>());
    }
}

/// The key that our loader says this variable is.
fn key_of(variables: &[(String, String)]) -> String {
    let source = format!("environment variable {}", variables[0].0);
    match load(&Sources::defaults().with_environment(variables.to_vec())) {
        Ok(loaded) => {
            let mut effective = loaded.effective.iter().filter(|(_, effective)| effective.origin.to_string() == source);
            effective.next().map(|(key, _)| key.to_string()).unwrap_or_default()
        }
        Err(error) => {
            let shown = error.problems.iter().map(ToString::to_string).find(|problem| problem.contains(&source));
            shown.and_then(|problem| Some(problem.split([' ', ':']).next()?.to_owned())).unwrap_or_default()
        }
    }
}

#[test]
fn an_empty_value_is_none_where_figment_has_an_empty_text() {
    let variables = [(variable("log_filter"), String::new())];
    assert_eq!(figment_of::<String>(&variables, "log_filter").as_deref(), Some(""));
    assert_eq!(ours_of(&variables).unwrap().log.filter, "info,librdkafka=warn,h2=off");
}

#[test]
fn null_in_the_environment_is_none_where_figment_has_that_text() {
    for none in ["null", "~"] {
        let variables = [(variable("kafka_retry_topic"), none.to_owned())];
        assert_eq!(figment_of::<String>(&variables, "kafka_retry_topic").as_deref(), Some(none));
        assert_eq!(ours_of(&variables).unwrap().kafka.outbox.retry.topic, "taskworker");
    }
}

#[test]
fn text_that_looks_like_something_else_is_text_where_figment_refuses_it() {
    for value in ["0123", "12", "true", "[x]", "{a=b}", "1.50"] {
        let variables = [(variable("log_filter"), value.to_owned())];
        assert_eq!(figment_of::<String>(&variables, "log_filter"), None);
        assert_eq!(ours_of(&variables).unwrap().log.filter, value);
    }
}

#[test]
fn a_value_in_quotes_is_a_number_or_a_flag_where_figment_refuses_it() {
    let variables = [(variable("store.max_pending_count"), "\"8\"".to_owned())];
    assert_eq!(figment_of::<u32>(&variables, "store.max_pending_count"), None);
    assert_eq!(ours_of(&variables).unwrap().store.max_pending.get(), 8);
    let yaml = "store: {max_pending_count: '8'}\npush: {update: {batched: 'True'}}";
    assert!(Figment::from(Yaml::string(yaml)).extract_inner::<u32>("store.max_pending_count").is_err());
    assert!(Figment::from(Yaml::string(yaml)).extract_inner::<bool>("push.update.batched").is_err());
    let ours = load(&Sources::defaults().with_yaml("a.yaml", yaml)).unwrap().settings;
    assert_eq!((ours.store.max_pending.get(), ours.delivery.push.update_batched), (8, true));
}
