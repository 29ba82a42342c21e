//! A single value as it was written, in a file or in the environment.

use config::{Value, ValueKind};

use super::{
    grammar::{self, Meaning, Parsed},
    report::Origin,
};

/// A single value, or a list of them, as it was written.
#[derive(Clone)]
pub(in crate::settings) struct Written {
    /// What it is as YAML; a list from the environment is in `items`.
    kind: ValueKind,
    /// What it is as text. In the environment anything may be meant as text.
    text: Option<String>,
    /// What a list in the environment holds.
    items: Option<Vec<Written>>,
    /// As it may be shown in messages.
    shown: String,
}

impl Written {
    pub(super) fn new(value: &Value, origin: &Origin) -> Self {
        match (&value.kind, origin) {
            (ValueKind::String(raw), Origin::Environment { .. }) => Self::of_environment(grammar::parse(raw)),
            (kind, _) => Self::of_yaml(kind),
        }
    }

    fn of_environment(parsed: Parsed<'_>) -> Self {
        let raw = parsed.raw;
        let (kind, text, items) = match parsed.meaning {
            Meaning::Bool(value) => (ValueKind::Boolean(value), raw.to_owned(), None),
            Meaning::Whole(number) => (whole_kind(number), raw.to_owned(), None),
            Meaning::Float(number) => (ValueKind::Float(number), raw.to_owned(), None),
            Meaning::Text(text) if matches!(raw, "null" | "~") => (ValueKind::Nil, text, None),
            Meaning::Text(text) => (ValueKind::String(text.clone()), text, None),
            Meaning::List(items) => {
                let items = items.into_iter().map(Self::of_environment).collect();
                (ValueKind::String(raw.to_owned()), raw.to_owned(), Some(items))
            }
            Meaning::Map(_) => (ValueKind::String(raw.to_owned()), raw.to_owned(), None),
        };
        Self { kind, text: Some(text), items, shown: raw.to_owned() }
    }

    fn of_yaml(kind: &ValueKind) -> Self {
        let (text, shown) = match kind {
            ValueKind::String(text) => (Some(text.clone()), format!("{text:?}")),
            other => (None, other.to_string()),
        };
        Self { kind: kind.clone(), text, items: None, shown }
    }

    /// Null, or the empty text: no value is given.
    pub(super) fn is_nothing(&self) -> bool {
        self.kind == ValueKind::Nil || self.text.as_deref() == Some("")
    }

    /// As it may be shown in messages.
    pub(super) fn show(&self) -> String {
        const SHOWN_MAX: usize = 200;
        self.shown.chars().take(SHOWN_MAX).collect()
    }

    /// As text; a number in a file is none, because it may have been written in more than one way.
    pub(super) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// As a whole number; in quotes as well, as charts like to write them.
    pub(super) fn whole(&self) -> Option<i128> {
        match &self.kind {
            ValueKind::I64(number) => Some((*number).into()),
            ValueKind::U64(number) => Some((*number).into()),
            ValueKind::I128(number) => Some(*number),
            ValueKind::String(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok()
            }
            _ => None,
        }
    }

    /// As a number that need not be whole; in quotes as well.
    pub(super) fn number(&self) -> Option<f64> {
        match &self.kind {
            ValueKind::Float(number) => Some(*number),
            ValueKind::I64(number) => i32::try_from(*number).ok().map(f64::from),
            ValueKind::U64(number) => u32::try_from(*number).ok().map(f64::from),
            ValueKind::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// As true or false, in any case and in quotes as well.
    pub(super) fn boolean(&self) -> Option<bool> {
        match &self.kind {
            ValueKind::Boolean(value) => Some(*value),
            ValueKind::String(text) => text.to_ascii_lowercase().parse().ok(),
            _ => None,
        }
    }

    /// The parts of a list; what is none counts as a list of one.
    pub(super) fn items(&self) -> Result<Vec<Self>, String> {
        match (&self.items, &self.kind) {
            (Some(items), _) => Ok(items.clone()),
            (None, ValueKind::Array(items)) => Ok(items.iter().map(|item| Self::of_yaml(&item.kind)).collect()),
            (None, ValueKind::String(text)) if text.starts_with('[') => Err(LIST_EXPECTED.to_owned()),
            (None, _) => Ok(vec![self.clone()]),
        }
    }
}

const LIST_EXPECTED: &str = r#"expected a list in the form ["one", "two"]"#;

/// In the smallest kind that holds it.
pub(super) fn whole_kind(number: i128) -> ValueKind {
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(number), _) => ValueKind::I64(number),
        (Err(_), Ok(number)) => ValueKind::U64(number),
        (Err(_), Err(_)) => ValueKind::I128(number),
    }
}
