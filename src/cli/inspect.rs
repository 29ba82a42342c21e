//! `taskbroker inspect`: what is in a store.

use std::{fmt::Write, path::Path, process::ExitCode};

use anyhow::Result;
use serde_json::json;
use taskbroker_domain::time::Timestamp;
use taskbroker_sqlite::Inspection;

use super::{runtime, tell};
use crate::compose;

pub(super) fn inspect(file: &Path, json: bool) -> ExitCode {
    tell(look(file, json))
}

fn look(file: &Path, json: bool) -> Result<String> {
    let found = runtime()?.block_on(taskbroker_sqlite::inspect(file))?;
    match json {
        true => Ok(as_json(&found)),
        false => Ok(as_text(&found, compose::clock().now().wall)?),
    }
}

fn as_text(found: &Inspection, now: Timestamp) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let age = |at: Timestamp| format!("{:.1} s", now.since(at).as_secs_f64());
    writeln!(out, "store       {}", found.path.display())?;
    writeln!(out, "identity    {}, schema {}", found.identity, found.schema_version)?;
    let state = match (&found.owner, found.closed) {
        (Some(owner), _) => format!("in use by {owner}"),
        (None, true) => "closed in order".to_owned(),
        (None, false) => "not in use, and not closed in order".to_owned(),
    };
    writeln!(out, "state       {state}")?;
    writeln!(out, "size        {} bytes in use, {} on disk", found.usage.used_bytes, found.usage.disk_bytes)?;
    writeln!(out, "remembered  {} early reports, {} tombstones", found.early_reports, found.tombstones)?;

    writeln!(out, "\n{:<12} {:>10}  oldest", "status", "count")?;
    for (status, (count, oldest)) in found.by_status() {
        writeln!(out, "{status:<12} {count:>10}  {}", age(oldest))?;
    }
    writeln!(out, "\n{:<12} {:<24} {:<24} {:>10}  oldest", "status", "application", "namespace", "count")?;
    for group in &found.groups {
        let oldest = age(group.oldest_added_at);
        let (status, application, namespace, count) =
            (&group.status, &group.application, &group.namespace, group.count);
        writeln!(out, "{status:<12} {application:<24} {namespace:<24} {count:>10}  {oldest}")?;
    }
    writeln!(out, "\nparked: {}", found.parked_total)?;
    for parked in &found.parked {
        writeln!(out, "  {} ({}, {} old): {}", parked.id, parked.status, age(parked.added_at), parked.reason)?;
    }
    writeln!(out, "\n{:<32} {:>12} {:>12} {:>12}", "partition", "watermark", "acknowledged", "read limit")?;
    for position in &found.positions {
        let acknowledged =
            if position.acknowledged == i64::MIN { "-".to_owned() } else { position.acknowledged.to_string() };
        let (partition, watermark, limit) = (position.partition.to_string(), position.watermark, position.read_limit);
        writeln!(out, "{partition:<32} {watermark:>12} {acknowledged:>12} {limit:>12}")?;
    }
    Ok(out)
}

fn as_json(found: &Inspection) -> String {
    let groups = found.groups.iter().map(|group| {
        json!({
            "status": group.status, "application": group.application, "namespace": group.namespace,
            "count": group.count, "oldest_added_at_ms": group.oldest_added_at.as_millis(),
        })
    });
    let parked = found.parked.iter().map(|parked| {
        json!({
            "id": &*parked.id.text(), "status": parked.status, "reason": parked.reason,
            "added_at_ms": parked.added_at.as_millis(),
        })
    });
    let positions = found.positions.iter().map(|position| {
        json!({
            "topic": &*position.partition.topic, "topic_id": position.partition.topic_id.to_string(),
            "group": &*position.partition.group, "partition": position.partition.partition,
            "watermark": position.watermark, "settled_above": position.settled.iter().map(|byte| byte.count_ones()).sum::<u32>(),
            "read_limit": position.read_limit,
        })
    });
    let value = json!({
        "path": found.path, "identity": found.identity.to_string(), "schema_version": found.schema_version,
        "closed": found.closed, "owner": found.owner,
        "used_bytes": found.usage.used_bytes, "disk_bytes": found.usage.disk_bytes,
        "early_reports": found.early_reports, "tombstones": found.tombstones,
        "rows": groups.collect::<Vec<_>>(), "parked_total": found.parked_total,
        "parked": parked.collect::<Vec<_>>(), "positions": positions.collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}
