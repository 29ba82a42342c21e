//! Moves what was given under an earlier name to where it belongs.

use config::{Value, ValueKind};

use super::{
    key::Key,
    reader::Reader,
    report::{Findings, Origin, WarningKind},
    retired::{Fate, RETIRED},
    yaml::Table,
};

/// Moves it, unless something was given there.
pub(super) fn rename(mut merged: Table, findings: &mut Findings) -> Table {
    for retired in &RETIRED {
        let (to, value) = match retired.fate {
            Fate::Renamed(to) => (to, merged.remove(retired.name)),
            Fate::RenamedMs(to) => (to, merged.remove(retired.name).map(milliseconds)),
            Fate::Ignored(_) => continue,
        };
        let Some(value) = value else { continue };
        let origin = Origin::decode(value.origin());
        let given = Reader::new(&merged, findings).origin_if_given(&Key::new(to));
        let message = match given {
            None => {
                put(&mut merged, to, value);
                format!("is the earlier name of {to}: use that")
            }
            Some(given) => format!("has no effect: {to}, its later name, is given as well ({given})"),
        };
        findings.warn(WarningKind::Renamed, &Key::new(retired.name), &origin, message);
    }
    merged
}

/// A number of milliseconds as a duration; anything else stays, and is refused as no duration.
fn milliseconds(value: Value) -> Value {
    let text = value.kind.to_string();
    let number = text.trim().trim_matches('"');
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return value;
    }
    Value::new(value.origin().map(str::to_owned).as_ref(), ValueKind::String(format!("{number}ms")))
}

fn put(table: &mut Table, dotted: &str, value: Value) {
    match dotted.split_once('.') {
        None => {
            table.insert(dotted.to_owned(), value);
        }
        Some((section, rest)) => {
            let section = table.entry(section.to_owned()).or_insert_with(|| Value::new(None, Table::new()));
            if let ValueKind::Table(inner) = &mut section.kind {
                put(inner, rest, value);
            }
        }
    }
}
