//! Reads typed settings out of the merged tree, and keeps account of what was read from where.

use std::{collections::BTreeMap, fmt::Display, ops::RangeInclusive};

use config::{Value, ValueKind};

use super::{
    key::Key,
    report::{Findings, Origin},
    value::{Setting, Written},
    yaml::Table,
};

/// The value a setting has, as it may be shown, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// As YAML; a secret is redacted.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// The merged tree while it is read.
pub(super) struct Reader<'a> {
    merged: &'a Table,
    pub(super) findings: &'a mut Findings,
    pub(super) effective: BTreeMap<Key, Effective>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(merged: &'a Table, findings: &'a mut Findings) -> Self {
        Self { merged, findings, effective: BTreeMap::new() }
    }

    /// The setting `name`, which the documented defaults have a value for.
    pub(super) fn read<T: Setting>(&mut self, name: &str) -> T {
        let key = Key::new(name);
        let value = self.read_at(&key, &key);
        value.unwrap_or_else(|| self.missing(&key, "has no value; remove the key to have the default"))
    }

    /// The same for one that may be null, within bounds.
    pub(super) fn optional_within<T: Setting + PartialOrd>(
        &mut self,
        name: &str,
        bounds: RangeInclusive<T>,
    ) -> Option<T> {
        let before = self.findings.problems.len();
        let value = self.optional(name);
        if let Some(value) = value.as_ref().filter(|_| before == self.findings.problems.len()) {
            self.check(&Key::new(name), &Key::new(name), value, &bounds);
        }
        value
    }

    /// The setting `name`, within bounds.
    pub(super) fn read_within<T: Setting + PartialOrd>(&mut self, name: &str, bounds: RangeInclusive<T>) -> T {
        let before = self.findings.problems.len();
        let value = self.read(name);
        if before == self.findings.problems.len() {
            self.check(&Key::new(name), &Key::new(name), &value, &bounds);
        }
        value
    }

    /// The setting `name`, which may be null.
    pub(super) fn optional<T: Setting>(&mut self, name: &str) -> Option<T> {
        let key = Key::new(name);
        let value = self.read_at(&key, &key);
        if value.is_none() {
            self.note(&key, "null".to_owned(), self.origin(&key));
        }
        value
    }

    /// What stands at `key`, accounted for as `shown`; `None` where nothing stands.
    pub(super) fn read_at<T: Setting>(&mut self, key: &Key, shown: &Key) -> Option<T> {
        let value = self.find(key)?;
        let origin = Origin::decode(value.origin());
        let written = Written::new(value, &origin);
        if written.is_nothing() {
            return None;
        }
        match T::read(&written) {
            Ok(value) => {
                self.note(shown, value.write(), origin);
                Some(value)
            }
            Err(reason) => {
                self.findings.refuse(key, Some(written.show()), &origin, reason);
                Some(T::placeholder())
            }
        }
    }

    /// Refuses a value at `key` that is out of bounds.
    pub(super) fn check<T: Setting + PartialOrd>(
        &mut self,
        key: &Key,
        shown: &Key,
        value: &T,
        bounds: &RangeInclusive<T>,
    ) {
        if !bounds.contains(value) {
            let (least, most) = (bounds.start().write(), bounds.end().write());
            self.refuse(key, shown, format!("out of range: expected {least} to {most}"));
        }
    }

    /// Refuses the value that was read at `key` and accounted for as `shown`.
    pub(super) fn refuse(&mut self, key: &Key, shown: &Key, reason: impl Display) {
        let value = self.effective.get(shown).map(|effective| effective.value.clone());
        self.findings.refuse(key, value, &self.origin(key), reason.to_string());
    }

    /// A value that is needed and is not there.
    pub(super) fn missing<T: Setting>(&mut self, key: &Key, reason: &str) -> T {
        self.findings.refuse(key, None, &self.origin(key), reason);
        T::placeholder()
    }

    /// Accounts for a value that follows from others.
    pub(super) fn note(&mut self, key: &Key, value: String, origin: Origin) {
        self.effective.insert(key.clone(), Effective { value, origin });
    }

    /// Whether a value was given for `key`; null and the empty text are none.
    pub(super) fn is_given(&self, key: &Key) -> bool {
        self.find(key).is_some_and(|value| !Written::new(value, &Origin::decode(value.origin())).is_nothing())
    }

    /// Whether the value at `key` is false.
    pub(super) fn is_false(&self, key: &Key) -> bool {
        let written = self.find(key).map(|value| Written::new(value, &Origin::decode(value.origin())));
        written.is_some_and(|written| bool::read(&written) == Ok(false))
    }

    /// The text at `key`, if there is one.
    pub(super) fn given_text(&self, key: &Key) -> Option<String> {
        let value = self.find(key)?;
        let written = Written::new(value, &Origin::decode(value.origin()));
        written.text().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// Whether a section stands at `key`.
    pub(super) fn is_section(&self, key: &Key) -> bool {
        self.find(key).is_some_and(|value| matches!(value.kind, ValueKind::Table(_)))
    }

    /// Where the value at `key` comes from; for a key that is not there, the section it is missing from.
    pub(super) fn origin(&self, key: &Key) -> Origin {
        let mut segments = key.segments().to_vec();
        while !segments.is_empty() {
            match self.find(&Key::from(segments.clone())) {
                Some(value) => return first_origin(value),
                None => segments.pop(),
            };
        }
        Origin::Default
    }

    /// Where the value at `key` comes from, if the user gave one.
    pub(super) fn origin_if_given(&self, key: &Key) -> Option<Origin> {
        let origin = Origin::decode(self.find(key)?.origin());
        (origin != Origin::Default && self.is_given(key)).then_some(origin)
    }

    /// The settings in the section `name`, whose keys the user chose.
    pub(super) fn map<T: Setting>(&mut self, name: &str) -> BTreeMap<String, T> {
        let section = Key::new(name);
        let names = self.names(name);
        let read = |name: String| {
            let key = section.child(&name);
            Some((name, self.read_at(&key, &key)?))
        };
        names.into_iter().filter_map(read).collect()
    }

    /// The names in the section at `name`, in order.
    pub(super) fn names(&self, name: &str) -> Vec<String> {
        let Some(ValueKind::Table(table)) = self.find(&Key::new(name)).map(|value| &value.kind) else {
            return Vec::new();
        };
        let mut names: Vec<_> = table.keys().cloned().collect();
        names.sort();
        names
    }

    fn find(&self, key: &Key) -> Option<&'a Value> {
        let (last, section) = key.segments().split_last()?;
        let table = section.iter().try_fold(self.merged, |table, name| match &table.get(name)?.kind {
            ValueKind::Table(inner) => Some(inner),
            _ => None,
        });
        table?.get(last)
    }
}

/// Where a value comes from; a section, which merging leaves without an origin, from where its first key does.
fn first_origin(value: &Value) -> Origin {
    match (&value.kind, value.origin()) {
        (ValueKind::Table(table), None) => {
            table.iter().min_by_key(|(name, _)| *name).map_or(Origin::Default, |(_, value)| first_origin(value))
        }
        (_, origin) => Origin::decode(origin),
    }
}
