//! Rows that SQLite can read and that make no sense: they are moved aside, so that they do not stop the others.

use sqlx::{Row, sqlite::SqliteRow};

/// Keys above the first argument, as many as the second.
pub(crate) const KEYS: &str = "SELECT key FROM activation WHERE key > ?1 ORDER BY key LIMIT ?2";

/// Moves the row of the first argument aside, for the reason of the second. In one call: all of it, or nothing.
pub(crate) const REJECT: &str = "
BEGIN IMMEDIATE;
INSERT INTO reject (key, id, reason, bytes)
    SELECT a.key, CAST(a.id AS TEXT), ?2, p.bytes FROM activation AS a LEFT JOIN payload AS p ON p.key = a.key
    WHERE a.key = ?1;
DELETE FROM payload WHERE key = ?1;
DELETE FROM activation WHERE key = ?1;
COMMIT;";

/// Removes those of a JSON list of numbers.
pub(crate) const DROP_REJECTS: &str = "DELETE FROM reject WHERE number IN (SELECT value FROM json_each(?1))";

/// What each of [`COLUMNS`] holds in the row of this key, for [`odd_column`].
pub(crate) const TYPES: &str = "
SELECT typeof(key), typeof(id), typeof(route), typeof(slot), typeof(\"offset\"), typeof(received_at_ms),
    typeof(added_at_ms), typeof(run_limit_ms), typeof(expires_at_ms), typeof(delayed_until_ms), typeof(at_most_once),
    typeof(dead_letter), typeof(marked), typeof(attempt), typeof(payload_bytes), typeof(lost_leases), typeof(state),
    typeof(state_at_ms), typeof(retry_max_attempts), typeof(retry_delay_s), typeof(cause), typeof(cause_reason),
    typeof(parked), typeof(begun),
    json_array(0, 0, 0, iif(typeof(slot) = 'integer', slot, NULL), 0, 0, 0,
        iif(typeof(run_limit_ms) = 'integer', run_limit_ms, NULL), 0, 0,
        iif(typeof(at_most_once) = 'integer', at_most_once, NULL),
        iif(typeof(dead_letter) = 'integer', dead_letter, NULL), iif(typeof(marked) = 'integer', marked, NULL),
        iif(typeof(attempt) = 'integer', attempt, NULL), iif(typeof(payload_bytes) = 'integer', payload_bytes, NULL),
        iif(typeof(lost_leases) = 'integer', lost_leases, NULL), 0, 0,
        iif(typeof(retry_max_attempts) = 'integer', retry_max_attempts, NULL), 0, 0, 0, 0, iif(typeof(begun) = 'integer', begun, NULL))
FROM activation WHERE key = ?1";

/// What a column may hold.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    TextOrNull,
    Integer,
    IntegerOrNull,
    /// An integer from 0 to this.
    UpTo(u64),
    UpToOrNull(u64),
}

const U32: u64 = u32::MAX as u64;

/// The columns of a row as they are read, and what each may hold.
const COLUMNS: [(&str, Kind); 24] = [
    ("key", Kind::Integer),
    ("id", Kind::Text),
    ("route", Kind::Integer),
    ("slot", Kind::UpToOrNull(U32)),
    ("offset", Kind::IntegerOrNull),
    ("received_at_ms", Kind::Integer),
    ("added_at_ms", Kind::Integer),
    ("run_limit_ms", Kind::UpTo(u64::MAX)),
    ("expires_at_ms", Kind::IntegerOrNull),
    ("delayed_until_ms", Kind::IntegerOrNull),
    ("at_most_once", Kind::UpTo(255)),
    ("dead_letter", Kind::UpTo(255)),
    ("marked", Kind::UpTo(255)),
    ("attempt", Kind::UpTo(U32)),
    ("payload_bytes", Kind::UpTo(U32)),
    ("lost_leases", Kind::UpTo(U32)),
    ("state", Kind::Integer),
    ("state_at_ms", Kind::IntegerOrNull),
    ("retry_max_attempts", Kind::UpToOrNull(U32)),
    ("retry_delay_s", Kind::IntegerOrNull),
    ("cause", Kind::TextOrNull),
    ("cause_reason", Kind::TextOrNull),
    ("parked", Kind::TextOrNull),
    ("begun", Kind::UpToOrNull(255)),
];

/// The first column that holds what it may not, in words, out of the result of [`TYPES`].
pub(crate) fn odd_column(types: &SqliteRow) -> Option<String> {
    let numbers: Vec<serde_json::Value> =
        types.try_get(COLUMNS.len()).ok().and_then(|json: &str| serde_json::from_str(json).ok()).unwrap_or_default();
    COLUMNS.iter().enumerate().find_map(|(index, (name, kind))| {
        let found: &str = types.try_get(index).ok()?;
        if !kind.takes(found) {
            return Some(format!("{name} holds {}", article(found)));
        }
        let number = numbers.get(index)?;
        let fits = kind.max().is_none_or(|max| number.is_null() || number.as_u64().is_some_and(|n| n <= max));
        (!fits).then(|| format!("{name} is {number}, which is out of range"))
    })
}

fn article(found: &str) -> String {
    match found {
        "null" => "nothing".to_owned(),
        "integer" => "an integer".to_owned(),
        other => format!("a {other}"),
    }
}

impl Kind {
    fn takes(self, found: &str) -> bool {
        match self {
            Self::Text => found == "text",
            Self::TextOrNull => matches!(found, "text" | "null"),
            Self::Integer | Self::UpTo(_) => found == "integer",
            Self::IntegerOrNull | Self::UpToOrNull(_) => matches!(found, "integer" | "null"),
        }
    }

    fn max(self) -> Option<u64> {
        match self {
            Self::UpTo(max) | Self::UpToOrNull(max) => Some(max),
            Self::Text | Self::TextOrNull | Self::Integer | Self::IntegerOrNull => None,
        }
    }
}
