//! The SQL texts of commits. Eighteen in all.

use std::sync::{Arc, LazyLock};

/// How many rows an INSERT statement has places for; those beyond the rows at hand are bound to NULL and left out.
const PLACES: [usize; 6] = [0, 1, 4, 16, 64, 256];

/// The columns that a new row sets, in the order in which they are bound.
const COLUMNS: [&str; 25] = [
    "key",
    "id",
    "route",
    "slot",
    "\"offset\"",
    "received_at_ms",
    "added_at_ms",
    "run_limit_ms",
    "expires_at_ms",
    "delayed_until_ms",
    "at_most_once",
    "dead_letter",
    "marked",
    "attempt",
    "bucket",
    "payload_bytes",
    "lost_leases",
    "state",
    "state_at_ms",
    "retry_max_attempts",
    "retry_delay_s",
    "cause",
    "cause_reason",
    "parked",
    "begun",
];

/// How many values a new row binds, beside its payload.
pub(super) const ROW_VALUES: usize = COLUMNS.len();

/// Begins the transaction. Routes come first: rows name them.
const OPENING: &str = "BEGIN IMMEDIATE;
INSERT OR REPLACE INTO route (id, application, namespace, task_name)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?);
";

/// Everything but new rows. Each takes one JSON list, or NULL when there is nothing of its kind.
const CHANGES: &str = "
UPDATE activation SET lost_leases = u.value ->> 1, state = u.value ->> 2, state_at_ms = u.value ->> 3,
        retry_max_attempts = u.value ->> 4, retry_delay_s = u.value ->> 5,
        cause = u.value ->> 6, cause_reason = u.value ->> 7, parked = u.value ->> 8, begun = u.value ->> 9
    FROM json_each(?) AS u WHERE activation.key = u.value ->> 0;
DELETE FROM activation WHERE key IN (SELECT value FROM json_each(?));
DELETE FROM payload WHERE key IN (SELECT value FROM json_each(?));
UPDATE activation SET slot = NULL, \"offset\" = NULL WHERE key IN (SELECT value FROM json_each(?));
INSERT OR REPLACE INTO position (slot, topic, topic_id, consumer_group, partition, watermark, leader_epoch, settled,
        acknowledged, read_limit)
    SELECT value ->> 0, value ->> 1, unhex(value ->> 2), value ->> 3, value ->> 4, value ->> 5, value ->> 6,
        unhex(value ->> 7), value ->> 8, value ->> 9 FROM json_each(?);
DELETE FROM position WHERE slot IN (SELECT value FROM json_each(?));
INSERT OR REPLACE INTO early_report (id, verdict, max_attempts, delay_s, of_copy)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(?);
DELETE FROM early_report WHERE id IN (SELECT value FROM json_each(?));
INSERT OR IGNORE INTO tombstone (id, slot) SELECT value ->> 0, value ->> 1 FROM json_each(?);
DELETE FROM tombstone WHERE id IN (SELECT value FROM json_each(?));
UPDATE taskbroker_meta SET value = ? WHERE name = 'closed' AND value <> ?;
COMMIT;";

struct Texts {
    opening: Arc<str>,
    blocks: [Arc<str>; 6],
    closings: [Arc<str>; 6],
    wholes: [Arc<str>; 6],
}

static TEXTS: LazyLock<Texts> = LazyLock::new(|| {
    let inserts = PLACES.map(insert);
    Texts {
        opening: OPENING.into(),
        closings: inserts.each_ref().map(|insert| format!("{insert}{CHANGES}").into()),
        wholes: inserts.each_ref().map(|insert| format!("{OPENING}{insert}{CHANGES}").into()),
        blocks: inserts.map(Arc::from),
    }
});

/// Which of the texts has room for so many rows, and how many it has room for. At most 256 fit.
pub(super) fn places(rows: usize) -> (usize, usize) {
    let fitting = PLACES.iter().position(|places| *places >= rows).unwrap_or(PLACES.len() - 1);
    (fitting, PLACES[fitting])
}

/// Begins a transaction.
pub(super) fn opening() -> Arc<str> {
    TEXTS.opening.clone()
}

/// Inserts rows within a transaction. The argument is the first that [`places`] returned.
pub(super) fn block(places: usize) -> Arc<str> {
    TEXTS.blocks[places].clone()
}

/// Inserts rows, makes all other changes and ends the transaction.
pub(super) fn closing(places: usize) -> Arc<str> {
    TEXTS.closings[places].clone()
}

/// A transaction from beginning to end.
pub(super) fn whole(places: usize) -> Arc<str> {
    TEXTS.wholes[places].clone()
}

fn insert(places: usize) -> String {
    if places == 0 {
        return String::new();
    }
    let columns = COLUMNS.join(", ");
    let row = format!("({})", vec!["?"; COLUMNS.len()].join(","));
    let rows = vec![row.as_str(); places].join(",");
    let payloads = vec!["(?,?)"; places].join(",");
    format!(
        "INSERT OR REPLACE INTO activation ({columns}) SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL;
INSERT OR REPLACE INTO payload (key, bytes) SELECT * FROM (VALUES {payloads}) WHERE column1 IS NOT NULL;
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_rows_up_to_a_block_finds_places() {
        for rows in 0..=super::super::BLOCK_ROWS {
            let (at, places) = places(rows);
            assert!(places >= rows && PLACES[at] == places, "{rows}");
            let variables = TEXTS.wholes[at].matches('?').count();
            assert!(variables <= 32_766, "{variables}");
        }
    }
}
