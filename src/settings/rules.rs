//! The file of rules that are reloaded while the broker runs (`runtime_config_path`).
//!
//! ```yaml
//! drop_task_killswitch:            # required
//!   - some.task                    # every task of this name
//!   - name: other.task             # those of which one condition holds
//!     select_arg: {0: 42}
//!     select_kwarg: {project: "a"}
//! demoted_namespaces: [slow]       # required
//! demoted_topic: taskworker-long   # default: kafka_long_topic
//! demoted_topic_cluster: kafka:9092   # default: the cluster of that topic, else that of the dead letters
//! ```

use std::collections::{BTreeMap, BTreeSet};

use config::{Value, ValueKind};
use taskbroker_domain::rules::{Argument, DropRule, Rules, Selector};

use super::yaml::{self, Table};

/// What such a file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RulesFile {
    /// The rules.
    pub rules: Rules,
    /// The topic of demoted namespaces; `None`: `kafka_long_topic`.
    pub topic: Option<String>,
    /// The addresses of its cluster; `None`: the one it is declared on, else that of the dead letters.
    pub cluster_address: Option<String>,
    /// Keys that mean nothing.
    pub unknown: Vec<String>,
}

/// Reads such a file. An error names the key and what would be right; then none of it counts.
pub fn read_rules(name: &str, text: &str) -> Result<RulesFile, String> {
    let mut table = yaml::parse(name, text).map_err(|problem| problem.to_string())?;
    let mut take = |key: &str| table.remove(key);
    let required = |key: &str, value: Option<Value>| value.ok_or(format!("{name}: {key} is missing (use [] for none)"));
    let drop = list("drop_task_killswitch", required("drop_task_killswitch", take("drop_task_killswitch"))?)?;
    let demoted = list("demoted_namespaces", required("demoted_namespaces", take("demoted_namespaces"))?)?;
    let file = RulesFile {
        rules: Rules {
            drop: drop.into_iter().enumerate().map(|(place, rule)| drop_rule(place, rule)).collect::<Result<_, _>>()?,
            demoted: demoted
                .into_iter()
                .map(|name| text_of("demoted_namespaces", name))
                .collect::<Result<BTreeSet<_>, _>>()?,
        },
        topic: optional("demoted_topic", take("demoted_topic"))?,
        cluster_address: optional("demoted_topic_cluster", take("demoted_topic_cluster"))?,
        unknown: table.into_keys().collect(),
    };
    Ok(file)
}

fn list(key: &str, value: Value) -> Result<Vec<Value>, String> {
    match value.kind {
        ValueKind::Array(values) => Ok(values),
        _ => Err(format!("{key}: expected a list")),
    }
}

fn optional(key: &str, value: Option<Value>) -> Result<Option<String>, String> {
    match value.filter(|value| value.kind != ValueKind::Nil) {
        None => Ok(None),
        Some(value) => text_of(key, value).map(|text| Some(text.into_string()).filter(|text| !text.is_empty())),
    }
}

fn text_of(key: &str, value: Value) -> Result<Box<str>, String> {
    match value.kind {
        ValueKind::String(text) => Ok(text.into()),
        _ => Err(format!("{key}: expected a text (quote what looks like a number)")),
    }
}

fn drop_rule(place: usize, rule: Value) -> Result<DropRule, String> {
    let key = |name: &str| format!("drop_task_killswitch[{place}]{name}");
    match rule.kind {
        ValueKind::String(name) => Ok(DropRule { task_name: name.into(), selector: None }),
        ValueKind::Table(mut table) => {
            let name = table.remove("name").ok_or_else(|| format!("{}: the name of the task is missing", key("")))?;
            let mut conditions = |name: &str| match table.remove(name).map(|value| value.kind) {
                None | Some(ValueKind::Nil) => Ok(Table::new()),
                Some(ValueKind::Table(conditions)) => Ok(conditions),
                Some(_) => Err(format!("{}: expected values by their place or name", key(&format!(".{name}")))),
            };
            let (args, kwargs) = (conditions("select_arg")?, conditions("select_kwarg")?);
            let selector = Selector {
                args: args
                    .into_iter()
                    .map(|(index, value)| {
                        let place = index.parse::<usize>();
                        let place = place.map_err(|_| format!("{}: {index} is no index", key(".select_arg")))?;
                        Ok((place, argument(value)))
                    })
                    .collect::<Result<_, String>>()?,
                kwargs: named(kwargs),
            };
            Ok(DropRule { task_name: text_of(&key(".name"), name)?, selector: Some(selector) })
        }
        _ => Err(format!("{}: expected the name of a task, or a name with select_arg or select_kwarg", key(""))),
    }
}

fn named(table: Table) -> BTreeMap<Box<str>, Argument> {
    table.into_iter().map(|(name, value)| (name.into(), argument(value))).collect()
}

fn argument(value: Value) -> Argument {
    match value.kind {
        ValueKind::Nil => Argument::Null,
        ValueKind::Boolean(value) => Argument::Bool(value),
        ValueKind::I64(value) => Argument::Integer(value.into()),
        ValueKind::I128(value) => Argument::Integer(value),
        ValueKind::U64(value) => Argument::Integer(value.into()),
        ValueKind::U128(value) => Argument::Integer(i128::try_from(value).unwrap_or(i128::MAX)),
        ValueKind::Float(value) => Argument::Float(value),
        ValueKind::String(text) => Argument::Text(text.into()),
        ValueKind::Table(table) => Argument::Map(named(table)),
        ValueKind::Array(values) => Argument::List(values.into_iter().map(argument).collect()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn read(text: &str) -> Result<RulesFile, String> {
        read_rules("rules.yaml", text)
    }

    #[test]
    fn names_selectors_and_namespaces_are_read() {
        let file = read(
            "drop_task_killswitch:
  - some.task
  - name: other.task
    select_arg: {0: 42, 2: text}
    select_kwarg: {project: [1, 2.5, null, true], deep: {a: b}}
demoted_namespaces: [slow, slower]
demoted_topic: long
demoted_topic_cluster: kafka:9092
later: 1",
        )
        .unwrap();
        let whole = DropRule { task_name: "some.task".into(), selector: None };
        let list = [Argument::Integer(1), Argument::Float(2.5), Argument::Null, Argument::Bool(true)];
        let deep = Argument::Map([("a".into(), Argument::Text("b".into()))].into());
        let selector = Selector {
            args: [(0, Argument::Integer(42)), (2, Argument::Text("text".into()))].into(),
            kwargs: [("project".into(), Argument::List(list.into())), ("deep".into(), deep)].into(),
        };
        let selecting = DropRule { task_name: "other.task".into(), selector: Some(selector) };
        assert_eq!(file.rules.drop, [whole, selecting]);
        assert_eq!(file.rules.demoted, ["slow".into(), "slower".into()].into());
        assert_eq!((file.topic.as_deref(), file.cluster_address.as_deref()), (Some("long"), Some("kafka:9092")));
        assert_eq!(file.unknown, ["later"]);
    }

    #[test]
    fn a_file_that_is_not_whole_is_refused_by_key() {
        let refused = |text: &str, expected: &str| {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{error} does not say {expected}");
        };
        refused("demoted_namespaces: []", "drop_task_killswitch is missing");
        refused("drop_task_killswitch: []", "demoted_namespaces is missing");
        refused("", "drop_task_killswitch is missing");
        refused("drop_task_killswitch: a\ndemoted_namespaces: []", "drop_task_killswitch: expected a list");
        refused(
            "drop_task_killswitch: [{select_arg: {0: 1}}]\ndemoted_namespaces: []",
            "drop_task_killswitch[0]: the name",
        );
        refused(
            "drop_task_killswitch: [a, {name: b, select_arg: {x: 1}}]\ndemoted_namespaces: []",
            "[1].select_arg: x",
        );
        refused("drop_task_killswitch: [a, {name: b, select_kwarg: 3}]\ndemoted_namespaces: []", "[1].select_kwarg");
        refused("drop_task_killswitch: []\ndemoted_namespaces: [1]", "demoted_namespaces: expected a text");
        refused("drop_task_killswitch: []\ndemoted_namespaces: []\ndemoted_topic: [a]", "demoted_topic: expected");
        refused("drop_task_killswitch: [", "rules.yaml");
    }
}
