//! Looks through what one source says before it is merged with the others: only known settings in their right place get
//! through; everything else is told.

use config::{Value, ValueKind};

use super::{
    key::Key,
    report::{Findings, Origin, WarningKind},
    retired::{Fate, Retired},
    schema::{Kind, Schema},
    yaml::Table,
};

/// The part of `table` that holds settings. Retired keys that were renamed stay under their earlier name.
pub(super) fn screen(table: Table, schema: &Schema, findings: &mut Findings) -> Table {
    Screen { schema, findings }.section(&Key::default(), table)
}

struct Screen<'a> {
    schema: &'a Schema,
    findings: &'a mut Findings,
}

impl Screen<'_> {
    fn section(&mut self, key: &Key, table: Table) -> Table {
        let mut entries: Vec<_> = table.into_iter().collect();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        entries.into_iter().filter_map(|(name, value)| Some((name.clone(), self.entry(key, &name, value)?))).collect()
    }

    fn entry(&mut self, section: &Key, name: &str, value: Value) -> Option<Value> {
        let key = section.child(name);
        let origin = Origin::decode(value.origin());
        match self.schema.kind(&key) {
            Kind::Section => self.subsection(&key, value, &origin),
            Kind::Leaf => self.leaf(&key, value, &origin),
            Kind::List => self.list(&key, value, &origin),
            Kind::Retired(retired) => self.retired(&key, value, &origin, retired),
            Kind::Unknown => {
                let message = format!("there is no such setting{}", self.suggestion(section, name));
                self.findings.warn(WarningKind::Unknown, &key, &innermost(&value), message);
                None
            }
        }
    }

    fn subsection(&mut self, key: &Key, value: Value, origin: &Origin) -> Option<Value> {
        let text = value.origin().map(str::to_owned);
        match value.kind {
            ValueKind::Table(table) => {
                let table = self.section(key, table);
                Some(Value::new(text.as_ref(), ValueKind::Table(table)))
            }
            ValueKind::Nil if is_topic_or_cluster(key) => {
                self.findings.refuse(key, None, origin, "is empty: say something about it, or remove it");
                None
            }
            // The topic is not raw.
            ValueKind::Nil if is_raw(key) => None,
            // A section all of whose lines are commented out.
            ValueKind::Nil => Some(Value::new(text.as_ref(), ValueKind::Table(Table::new()))),
            _ => {
                self.findings.refuse(key, None, origin, "expected a section with keys of its own");
                None
            }
        }
    }

    fn leaf(&mut self, key: &Key, value: Value, origin: &Origin) -> Option<Value> {
        let found = match &value.kind {
            ValueKind::Table(_) => "a section",
            ValueKind::Array(_) => "a list",
            // As in the environment: not given, so the default holds.
            ValueKind::String(text) if text.is_empty() && self.schema.has_default(key) => return None,
            _ => return Some(value),
        };
        let origin = if *origin == Origin::Default { innermost(&value) } else { origin.clone() };
        self.findings.refuse(key, None, &origin, format!("expected a single value, found {found}"));
        None
    }

    fn list(&mut self, key: &Key, value: Value, origin: &Origin) -> Option<Value> {
        let ValueKind::Array(items) = &value.kind else { return self.leaf(key, value, origin) };
        let is_single = |item: &Value| !matches!(item.kind, ValueKind::Table(_) | ValueKind::Array(_));
        if items.iter().all(is_single) {
            return Some(value);
        }
        self.findings.refuse(key, None, origin, "expected a list of single values");
        None
    }

    fn retired(&mut self, key: &Key, value: Value, origin: &Origin, retired: &Retired) -> Option<Value> {
        if asks_for_nothing(&value, retired) {
            return None;
        }
        let origin = if *origin == Origin::Default { innermost(&value) } else { origin.clone() };
        match retired.fate {
            Fate::Renamed(_) | Fate::RenamedMs(_) => self.leaf(key, value, &origin),
            Fate::Ignored(why) => {
                self.findings.warn(WarningKind::Ignored, key, &origin, why);
                None
            }
        }
    }

    /// The known name that `name` may have been meant for: at most a third of its letters differ.
    fn suggestion(&self, section: &Key, name: &str) -> String {
        let names = self.schema.names_in(section).into_iter();
        let near = names.map(|known| (strsim::damerau_levenshtein(&known, name), known)).min();
        match near {
            Some((distance, known)) if distance <= (name.chars().count() / 3).max(1) => {
                format!("; did you mean {}?", section.child(&known))
            }
            _ => String::new(),
        }
    }
}

fn is_topic_or_cluster(key: &Key) -> bool {
    matches!(key.segments(), [maps, _] if maps == "kafka_topics" || maps == "kafka_clusters")
}

fn is_raw(key: &Key) -> bool {
    matches!(key.segments(), [topics, _, raw] if topics == "kafka_topics" && raw == "raw")
}

fn asks_for_nothing(value: &Value, retired: &Retired) -> bool {
    let text = match &value.kind {
        ValueKind::Nil => return true,
        ValueKind::Array(items) if items.is_empty() => "[]".to_owned(),
        ValueKind::Table(table) if table.is_empty() => "{}".to_owned(),
        ValueKind::Array(_) | ValueKind::Table(_) => return false,
        other => other.to_string().to_lowercase(),
    };
    text.is_empty() || retired.harmless.contains(&text.as_str())
}

/// Where a value comes from that was wrapped in sections which come from nowhere.
fn innermost(value: &Value) -> Origin {
    match (&value.kind, value.origin()) {
        (ValueKind::Table(table), None) => table.values().next().map_or(Origin::Default, innermost),
        (_, origin) => Origin::decode(origin),
    }
}
