//! The SQL texts of commits. A commit has only the statements it needs: each costs an answer of the driver, which wakes us.

use std::sync::LazyLock;

/// How many rows an INSERT statement has places for; those beyond the rows at hand are bound to NULL and left out.
const PLACES: [usize; 8] = [1, 4, 8, 16, 32, 64, 128, 256];

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

/// Begins a transaction that has more than one statement.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE;\n";

/// Ends it.
pub(super) const COMMIT: &str = "COMMIT;\n";

/// What a commit may have beside new rows, a statement each, in the order in which they are carried out. Each but the last
/// takes one JSON list.
pub(super) mod change {
    /// Routes that the new rows name.
    pub(crate) const ROUTES: &str = "INSERT OR REPLACE INTO route (id, application, namespace, task_name)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?);
";
    pub(crate) const UPDATE: &str = "UPDATE activation
    SET lost_leases = u.value ->> 1, state = u.value ->> 2, state_at_ms = u.value ->> 3,
        retry_max_attempts = u.value ->> 4, retry_delay_s = u.value ->> 5,
        cause = u.value ->> 6, cause_reason = u.value ->> 7, parked = u.value ->> 8, begun = u.value ->> 9
    FROM json_each(?) AS u WHERE activation.key = u.value ->> 0;
";
    pub(crate) const DELETE: &str = "DELETE FROM activation WHERE key IN (SELECT value FROM json_each(?));
";
    pub(crate) const DELETE_PAYLOADS: &str = "DELETE FROM payload WHERE key IN (SELECT value FROM json_each(?));
";
    pub(crate) const CLEAR_ORIGIN: &str =
        "UPDATE activation SET slot = NULL, \"offset\" = NULL WHERE key IN (SELECT value FROM json_each(?));
";
    pub(crate) const POSITIONS: &str = "INSERT OR REPLACE INTO position (slot, topic, topic_id, consumer_group,
        partition, watermark, leader_epoch, settled, acknowledged, read_limit)
    SELECT value ->> 0, value ->> 1, unhex(value ->> 2), value ->> 3, value ->> 4, value ->> 5, value ->> 6,
        unhex(value ->> 7), value ->> 8, value ->> 9 FROM json_each(?);
";
    pub(crate) const DROP_POSITIONS: &str = "DELETE FROM position WHERE slot IN (SELECT value FROM json_each(?));
";
    pub(crate) const REMEMBER: &str =
        "INSERT OR REPLACE INTO early_report (id, verdict, max_attempts, delay_s, of_copy)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(?);
";
    pub(crate) const FORGET: &str = "DELETE FROM early_report WHERE id IN (SELECT value FROM json_each(?));
";
    pub(crate) const BURY: &str = "INSERT OR IGNORE INTO tombstone (id, slot)
    SELECT value ->> 0, value ->> 1 FROM json_each(?);
";
    pub(crate) const UNBURY: &str = "DELETE FROM tombstone WHERE id IN (SELECT value FROM json_each(?));
";
    /// Takes whether the store is left closed in good order.
    pub(crate) const CLOSED: &str = "UPDATE taskbroker_meta SET value = ? WHERE name = 'closed';
";
}

static INSERTS: LazyLock<[Box<str>; PLACES.len()]> = LazyLock::new(|| PLACES.map(|places| insert(places).into()));

/// Inserts rows and their payloads, and for how many it has places. At most 256 rows fit.
pub(super) fn insert_of(rows: usize) -> (&'static str, usize) {
    let fitting = PLACES.iter().position(|places| *places >= rows).unwrap_or(PLACES.len() - 1);
    (&INSERTS[fitting], PLACES[fitting])
}

fn insert(places: usize) -> String {
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
        for rows in 1..=super::super::BLOCK_ROWS {
            let (text, places) = insert_of(rows);
            assert!(places >= rows && places < 4 * rows, "{rows}");
            let variables = text.matches('?').count();
            assert_eq!(variables, places * (ROW_VALUES + 2));
            assert!(variables <= 32_766, "{variables}");
        }
    }
}
