//! Settings from the environment: `TASKBROKER_` and the key in capitals, `__` between levels. A setting's value is kept as it
//! is written and read by the type it is for; only what is given for a whole section (`{a=1, b={c=2}}`) is taken apart here.

use std::ffi::OsString;

use config::{Value, ValueKind};

use super::{
    grammar::{self, Meaning, Parsed},
    key::Key,
    report::{Findings, Origin, WarningKind},
    schema::{Kind, Schema},
    yaml::Table,
};

const PREFIX: &str = "TASKBROKER_";

/// Variables with our prefix that are not settings: switches of the tests, of continuous integration and of `scripts/kafka`.
const NOT_SETTINGS: [&str; 3] = ["TASKBROKER_TEST_", "TASKBROKER_CI_", "TASKBROKER_KAFKA_CACHE"];

/// One tree of settings for each variable, in the order of their names, so that the result does not depend on the order in
/// which the system lists them.
pub(super) fn layers(variables: &[(OsString, OsString)], schema: &Schema, findings: &mut Findings) -> Vec<Table> {
    let mut ours: Vec<_> = variables.iter().filter_map(named).collect();
    ours.sort();
    ours.into_iter().filter_map(|(name, value)| layer(&name, value, schema, findings)).collect()
}

/// The variable's name and value, if it is for us.
fn named((name, value): &(OsString, OsString)) -> Option<(String, &OsString)> {
    let name = name.to_str()?;
    let ours = name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    let skipped = NOT_SETTINGS.iter().any(|prefix| name.starts_with(prefix));
    (ours && !skipped).then(|| (name.to_owned(), value))
}

fn layer(name: &str, value: &OsString, schema: &Schema, findings: &mut Findings) -> Option<Table> {
    let origin = Origin::Environment { variable: name.to_owned() };
    let key = key(name);
    let Some(text) = value.to_str() else {
        findings.refuse(&key, None, &origin, "its value is not UTF-8");
        return None;
    };
    if text.trim().is_empty() {
        return None;
    }
    if is_service_link(name, text, schema.kind(&key)) {
        findings.warn(WarningKind::ServiceLink, &Key::new(SERVICE_LINKS), &origin, SERVICE_LINK_MESSAGE);
        return None;
    }
    let parsed = grammar::parse(text);
    if parsed.meaning == Meaning::Text(String::new()) {
        return None;
    }
    match read(&key, &parsed, schema, &origin) {
        Ok(value) => Some(wrap(&key, value)),
        Err(reason) => {
            findings.refuse(&key, None, &origin, reason);
            None
        }
    }
}

/// `TASKBROKER_STORE__MAX_SIZE` is `store.max_size`.
fn key(name: &str) -> Key {
    let rest = name.get(PREFIX.len()..).unwrap_or_default();
    // A dot, which a container's variable can hold, is a level as well.
    Key::from(rest.to_lowercase().replace("__", ".").split('.').map(str::to_owned).collect::<Vec<_>>())
}

/// The tree that holds `value` at `key` and nothing else.
fn wrap(key: &Key, value: Value) -> Table {
    let in_section = |inner: Value, name: &String| Value::new(None, ValueKind::Table([(name.clone(), inner)].into()));
    match key.segments().iter().rev().fold(value, in_section).kind {
        ValueKind::Table(table) => table,
        _ => Table::new(),
    }
}

fn read(key: &Key, parsed: &Parsed<'_>, schema: &Schema, origin: &Origin) -> Result<Value, String> {
    match schema.kind(key) {
        Kind::Section => section(key, parsed, schema, origin),
        Kind::Leaf | Kind::List | Kind::Retired(_) | Kind::Unknown => {
            Ok(Value::new(origin.encode().as_ref(), ValueKind::String(parsed.raw.to_owned())))
        }
    }
}

/// Reads `{k=v, k2=v2}`. Descends as deep as sections of settings do, which is four levels.
fn section(key: &Key, parsed: &Parsed<'_>, schema: &Schema, origin: &Origin) -> Result<Value, String> {
    let Meaning::Map(entries) = &parsed.meaning else {
        return Err("expected a map in the form {key=value, key2=value2}".to_owned());
    };
    let mut table = Table::new();
    for (name, value) in entries.iter().filter(|(_, value)| value.meaning != Meaning::Text(String::new())) {
        table.insert(name.clone(), read(&key.child(name), value, schema, origin)?);
    }
    Ok(Value::new(origin.encode().as_ref(), ValueKind::Table(table)))
}

const SERVICE_LINKS: &str = "TASKBROKER_*";
const SERVICE_LINK_MESSAGE: &str = "Kubernetes sets such variables for a Service whose name begins with `taskbroker`; they \
     are no settings and are ignored. Set `enableServiceLinks: false` in the pod, or give the Service another name";

/// Whether Kubernetes made this variable: it describes a Service to the pods beside it, in names that look like ours.
fn is_service_link(name: &str, text: &str, kind: Kind) -> bool {
    match kind {
        Kind::Leaf => is_service_port(name, text),
        Kind::Unknown => is_service_port(name, text) || is_service_name(name),
        Kind::Section | Kind::List | Kind::Retired(_) => false,
    }
}

/// `X_PORT`, which holds an address. With anything else in it, it is a setting, or was meant as one.
fn is_service_port(name: &str, text: &str) -> bool {
    name.ends_with("_PORT") && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme))
}

/// The other names that Kubernetes forms: `X_SERVICE_HOST`, `X_SERVICE_PORT`, `X_SERVICE_PORT_<name>`, and
/// `X_PORT_<number>_<protocol>` with `_PROTO`, `_PORT` or `_ADDR` after it or nothing.
fn is_service_name(name: &str) -> bool {
    let described = |rest: &str| {
        let mut words = rest.split('_');
        words.next().is_some_and(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()))
            && words.next().is_some_and(|word| ["TCP", "UDP", "SCTP"].contains(&word))
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.match_indices("_PORT_").any(|(at, port)| described(&name[at + port.len()..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_names_kubernetes_gives_are_told_from_settings() {
        for name in ["TASKBROKER_GRPC_SERVICE_HOST", "TASKBROKER_SERVICE_PORT_GRPC", "TASKBROKER_PORT_50051_TCP_PORT"] {
            assert!(is_service_name(name), "{name}");
        }
        for name in ["TASKBROKER_PORT_NAME", "TASKBROKER_GRPC_PROT", "TASKBROKER_PORT_50051_X"] {
            assert!(!is_service_name(name), "{name}");
        }
    }
}
