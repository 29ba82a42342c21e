//! What the messages of a raw topic are turned into.

use std::time::Duration;

use crate::settings::{key::Key, model::Raw, reader::Reader, value::Setting};

/// Where the fields stand, and how they are shown.
pub(super) struct Place<'a> {
    /// The key of each field.
    pub(super) key: &'a dyn Fn(&str) -> Key,
    /// The section they are shown in.
    pub(super) shown: Key,
    /// What is missing unless it is given.
    pub(super) default_deadline: Option<u16>,
}

/// zstd's usual level.
const LEVEL: i32 = 3;
/// The level that means: not compressed.
const OFF: i32 = -1;
/// zstd's levels.
const LEVELS: std::ops::RangeInclusive<i32> = -131_072..=22;

/// Reads them.
pub(super) fn read(reader: &mut Reader<'_>, place: &Place<'_>) -> Raw {
    let namespace = needed(reader, place, "namespace");
    let application = needed(reader, place, "application");
    let taskname = needed(reader, place, "taskname");
    Raw {
        namespace,
        application,
        taskname,
        processing_deadline: Duration::from_secs(deadline(reader, place).into()),
        compression_level: level(reader, place),
    }
}

fn needed(reader: &mut Reader<'_>, place: &Place<'_>, field: &str) -> String {
    let key = (place.key)(field);
    let value = reader.read_at(&key, &place.shown.child(field));
    value.unwrap_or_else(|| reader.missing(&key, "is missing: a raw topic's messages become tasks of this name"))
}

fn deadline(reader: &mut Reader<'_>, place: &Place<'_>) -> u16 {
    const FIELD: &str = "processing_deadline_duration";
    let (key, shown) = ((place.key)(FIELD), place.shown.child(FIELD));
    match (reader.read_at(&key, &shown), place.default_deadline) {
        (Some(seconds), _) => {
            if seconds == 0 && reader.is_given(&key) && reader.effective.contains_key(&shown) {
                reader.refuse(&key, &shown, "expected at least 1 second: no task finishes at once");
            }
            seconds
        }
        (None, Some(seconds)) => {
            let origin = reader.origin(&key);
            reader.note(&shown, seconds.write(), origin);
            seconds
        }
        (None, None) => reader.missing(&key, "is missing: how long such a task may run, in seconds"),
    }
}

fn level(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<i32> {
    const FIELD: &str = "compression_level";
    let (key, shown) = ((place.key)(FIELD), place.shown.child(FIELD));
    let level = reader.read_at(&key, &shown).unwrap_or(LEVEL);
    reader.check(&key, &shown, &level, &LEVELS);
    (level != OFF).then_some(level)
}
