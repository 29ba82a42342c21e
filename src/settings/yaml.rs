//! Reads YAML into values that know their line. The parser's events are followed without recursion and within limits, so
//! that no file, however made, can exhaust the stack or the memory.

use std::collections::HashMap;

use config::{Map, Value, ValueKind};
use yaml_rust2::{
    parser::{Event, Parser, Tag},
    scanner::{Marker, ScanError, TScalarStyle},
};

use super::{
    report::{Origin, Problem},
    written::whole_kind,
};

/// A section: values by name.
pub(super) type Table = Map<String, Value>;

/// How deep sections may nest. Settings need three levels.
const DEPTH_MAX: usize = 16;

/// How many values a file may hold, those repeated by aliases included. Settings need some hundred.
const VALUES_MAX: usize = 10_000;

/// The settings in `text`; `name` is what it is called in messages. An empty text holds none.
pub(super) fn parse(name: &str, text: &str) -> Result<Table, Problem> {
    let mut builder = Builder { name, stack: Vec::new(), anchors: HashMap::new(), values: 0, root: None };
    let mut parser = Parser::new_from_str(text);
    loop {
        let (event, mark) = parser.next_token().map_err(|error| builder.scan_error(&error))?;
        match event {
            Event::StreamEnd => return builder.finish(),
            event => builder.take(event, mark)?,
        }
    }
}

/// What an unquoted piece of YAML text means, by the rules of YAML 1.2 as `serde_yaml` reads them: `0x`, `0o` and `0b` begin
/// numbers, digits after a leading zero are text.
pub(super) fn plain(text: &str) -> ValueKind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => ValueKind::Nil,
        "true" | "True" | "TRUE" => ValueKind::Boolean(true),
        "false" | "False" | "FALSE" => ValueKind::Boolean(false),
        _ => number(text).unwrap_or_else(|| ValueKind::String(text.to_owned())),
    }
}

fn number(text: &str) -> Option<ValueKind> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let prefixed = |prefix, radix| i128::from_str_radix(unsigned(digits.strip_prefix(prefix)?)?, radix).ok();
    let decimal = || digits.parse::<i128>().ok();
    let magnitude = prefixed("0x", 16).or_else(|| prefixed("0o", 8)).or_else(|| prefixed("0b", 2));
    if let Some(magnitude) = magnitude {
        return Some(whole_kind(if negative { -magnitude } else { magnitude }));
    }
    if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match decimal() {
        Some(magnitude) => Some(whole_kind(if negative { -magnitude } else { magnitude })),
        None => float(text),
    }
}

/// What is no number, and what is not finite, is not read as one.
fn float(text: &str) -> Option<ValueKind> {
    text.parse().ok().filter(|number: &f64| number.is_finite()).map(ValueKind::Float)
}

fn unsigned(digits: &str) -> Option<&str> {
    (!digits.starts_with(['+', '-'])).then_some(digits)
}

struct Builder<'a> {
    name: &'a str,
    stack: Vec<Open>,
    anchors: HashMap<usize, (Value, usize)>,
    values: usize,
    root: Option<(Value, Marker)>,
}

/// A section or list that has begun and not ended.
struct Open {
    mark: Marker,
    anchor: usize,
    values_before: usize,
    content: Content,
}

enum Content {
    List(Vec<Value>),
    Section { entries: Table, key: Option<(String, Marker)> },
}

impl Builder<'_> {
    fn take(&mut self, event: Event, mark: Marker) -> Result<(), Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => self.scalar(text, style, anchor, tag.as_ref(), mark),
            Event::SequenceStart(anchor, tag) => self.open(Content::List(Vec::new()), anchor, tag.as_ref(), mark),
            Event::MappingStart(anchor, tag) => {
                self.open(Content::Section { entries: Table::new(), key: None }, anchor, tag.as_ref(), mark)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, mark),
            Event::DocumentStart if self.root.is_some() => {
                Err(self.problem(mark, "a second document begins; a configuration file holds one"))
            }
            Event::DocumentStart | Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => {
                Ok(())
            }
        }
    }

    fn scalar(
        &mut self,
        text: String,
        style: TScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        mark: Marker,
    ) -> Result<(), Problem> {
        let quoted = style != TScalarStyle::Plain || self.is_text(tag, mark)?;
        if let Some(Open { content: Content::Section { key: key @ None, .. }, .. }) = self.stack.last_mut() {
            *key = Some((text, mark));
            return Ok(());
        }
        let kind = if quoted { ValueKind::String(text) } else { plain(&text) };
        self.count(1, mark)?;
        let value = Value::new(self.origin(mark).as_ref(), kind);
        self.remember(anchor, &value, 1);
        self.put(value, mark)
    }

    fn open(&mut self, content: Content, anchor: usize, tag: Option<&Tag>, mark: Marker) -> Result<(), Problem> {
        if let Some(tag) = tag {
            return Err(self.problem(mark, format!("the tag {}{} is not supported", tag.handle, tag.suffix)));
        }
        if let Some(Open { content: Content::Section { key: None, .. }, .. }) = self.stack.last() {
            return Err(self.problem(mark, "a key must be a word"));
        }
        if self.stack.len() >= DEPTH_MAX {
            return Err(self.problem(mark, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.stack.push(Open { mark, anchor, values_before: self.values, content });
        self.count(1, mark)
    }

    fn close(&mut self) -> Result<(), Problem> {
        let Some(Open { mark, anchor, values_before, content }) = self.stack.pop() else { return Ok(()) };
        let kind = match content {
            Content::List(items) => ValueKind::Array(items),
            Content::Section { entries, .. } => ValueKind::Table(entries),
        };
        let value = Value::new(self.origin(mark).as_ref(), kind);
        self.remember(anchor, &value, self.values - values_before);
        self.put(value, mark)
    }

    fn alias(&mut self, anchor: usize, mark: Marker) -> Result<(), Problem> {
        let Some((value, size)) = self.anchors.get(&anchor).cloned() else {
            return Err(self.problem(mark, "the alias stands inside what it names"));
        };
        if let Some(Open { content: Content::Section { key: None, .. }, .. }) = self.stack.last() {
            return Err(self.problem(mark, "a key must be a word"));
        }
        self.count(size, mark)?;
        self.put(value, mark)
    }

    fn put(&mut self, value: Value, mark: Marker) -> Result<(), Problem> {
        let Some(open) = self.stack.last_mut() else {
            self.root = Some((value, mark));
            return Ok(());
        };
        match &mut open.content {
            Content::List(items) => items.push(value),
            Content::Section { entries, key } => {
                let Some((key, key_mark)) = key.take() else { return Ok(()) };
                if entries.contains_key(&key) {
                    return Err(self.problem(key_mark, format!("the key {key} is given twice")));
                }
                entries.insert(key, value);
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Table, Problem> {
        match self.root {
            None => Ok(Table::new()),
            Some((Value { kind: ValueKind::Nil, .. }, _)) => Ok(Table::new()),
            Some((Value { kind: ValueKind::Table(table), .. }, _)) => Ok(table),
            Some((_, mark)) => Err(self.problem(mark, "expected `key: value` lines")),
        }
    }

    fn is_text(&self, tag: Option<&Tag>, mark: Marker) -> Result<bool, Problem> {
        match tag {
            None => Ok(false),
            Some(tag) if tag.handle == "tag:yaml.org,2002:" && tag.suffix == "str" => Ok(true),
            Some(tag) => Err(self.problem(mark, format!("the tag {}{} is not supported", tag.handle, tag.suffix))),
        }
    }

    fn remember(&mut self, anchor: usize, value: &Value, size: usize) {
        // Anchors are numbered from 1; 0 means none.
        if anchor > 0 {
            self.anchors.insert(anchor, (value.clone(), size));
        }
    }

    fn count(&mut self, more: usize, mark: Marker) -> Result<(), Problem> {
        self.values = self.values.saturating_add(more);
        if self.values > VALUES_MAX {
            return Err(self.problem(mark, format!("more than {VALUES_MAX} values")));
        }
        Ok(())
    }

    /// A value is where its key is: what is missing after a key has no place of its own.
    fn origin(&self, mark: Marker) -> Option<String> {
        let line = match self.stack.last() {
            Some(Open { content: Content::Section { key: Some((_, key_mark)), .. }, .. }) => key_mark.line(),
            _ => mark.line(),
        };
        Origin::File { name: self.name.to_owned(), line }.encode()
    }

    fn problem(&self, mark: Marker, reason: impl Into<String>) -> Problem {
        let (line, column) = (mark.line(), mark.col() + 1);
        Problem::Syntax { name: self.name.to_owned(), line, column, reason: reason.into() }
    }

    fn scan_error(&self, error: &ScanError) -> Problem {
        self.problem(*error.marker(), error.info())
    }
}
