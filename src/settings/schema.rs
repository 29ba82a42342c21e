//! Which settings there are. The documented defaults in `config/default.yaml` are the list; what topics and clusters can
//! have, and keys that have had their day, come on top.

use config::ValueKind;

use super::{
    key::Key,
    report::Problem,
    retired::{
        self, CLUSTER_FIELDS, EARLIER_KAFKA, EARLIER_RAW, RAW_FIELDS, RETIRED_TOPIC_FIELDS, Retired, TOPIC_FIELDS,
    },
    yaml::{self, Table},
};

/// The documented defaults, compiled in.
const DEFAULTS: &str = include_str!("../../config/default.yaml");

/// The settings that there are.
#[derive(Debug)]
pub(super) struct Schema {
    /// The value of each where nothing else is said.
    pub(super) defaults: Table,
}

/// What a key is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// It holds other keys.
    Section,
    /// It is a setting with one value.
    Leaf,
    /// It is a setting with a list of values.
    List,
    /// It is no setting under this name.
    Retired(&'static Retired),
    /// It is nothing.
    Unknown,
}

impl Schema {
    /// The settings as documented.
    pub(super) fn new() -> Result<Self, Problem> {
        let mut defaults = yaml::parse("config/default.yaml", DEFAULTS)?;
        forget_origins(&mut defaults);
        Ok(Self { defaults })
    }

    /// What `key` is.
    pub(super) fn kind(&self, key: &Key) -> Kind {
        let segments: Vec<&str> = key.segments().iter().map(String::as_str).collect();
        match segments.as_slice() {
            [] | ["kafka_topics" | "kafka_clusters" | "worker_map" | "default_metrics_tags"] => Kind::Section,
            ["kafka_topics" | "kafka_clusters", _] | ["kafka_topics", _, "raw"] => Kind::Section,
            ["worker_map" | "default_metrics_tags", _] => Kind::Leaf,
            ["kafka_topics", _, field] => topic_field(field),
            ["kafka_topics", _, "raw", field] if RAW_FIELDS.contains(field) => Kind::Leaf,
            ["kafka_clusters", _, field] if CLUSTER_FIELDS.contains(field) => Kind::Leaf,
            [name] if EARLIER_KAFKA.contains(name) || EARLIER_RAW.contains(name) => Kind::Leaf,
            _ => retired::find(key).map_or_else(|| self.documented(&segments), Kind::Retired),
        }
    }

    /// Whether `key` has a value where nothing is said.
    pub(super) fn has_default(&self, key: &Key) -> bool {
        let segments: Vec<&str> = key.segments().iter().map(String::as_str).collect();
        segments.split_last().and_then(|(last, section)| self.table(section)?.get(*last)).is_some()
    }

    /// The names that may stand in `section`, for suggestions.
    pub(super) fn names_in(&self, section: &Key) -> Vec<String> {
        let segments: Vec<&str> = section.segments().iter().map(String::as_str).collect();
        match segments.as_slice() {
            ["kafka_topics", _] => TOPIC_FIELDS.into_iter().chain(["raw"]).map(str::to_owned).collect(),
            ["kafka_topics", _, "raw"] => RAW_FIELDS.map(str::to_owned).to_vec(),
            ["kafka_clusters", _] => CLUSTER_FIELDS.map(str::to_owned).to_vec(),
            _ => self.table(&segments).map(|table| table.keys().cloned().collect()).unwrap_or_default(),
        }
    }

    fn documented(&self, segments: &[&str]) -> Kind {
        let Some((last, section)) = segments.split_last() else { return Kind::Section };
        match self.table(section).and_then(|table| table.get(*last)).map(|value| &value.kind) {
            Some(ValueKind::Table(_)) => Kind::Section,
            Some(ValueKind::Array(_)) => Kind::List,
            Some(_) => Kind::Leaf,
            None => Kind::Unknown,
        }
    }

    fn table(&self, segments: &[&str]) -> Option<&Table> {
        segments.iter().try_fold(&self.defaults, |table, name| match &table.get(*name)?.kind {
            ValueKind::Table(inner) => Some(inner),
            _ => None,
        })
    }
}

fn topic_field(field: &str) -> Kind {
    if TOPIC_FIELDS.contains(&field) {
        return Kind::Leaf;
    }
    RETIRED_TOPIC_FIELDS.iter().find(|retired| retired.name == field).map_or(Kind::Unknown, Kind::Retired)
}

/// Built-in values come from no file the user knows.
fn forget_origins(table: &mut Table) {
    for value in table.values_mut() {
        let kind = std::mem::take(&mut value.kind);
        *value = config::Value::new(None, kind);
        if let ValueKind::Table(inner) = &mut value.kind {
            forget_origins(inner);
        }
    }
}
