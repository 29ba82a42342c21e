//! What the pages hold, told apart by the shape of its rows: which table a page belongs to stands elsewhere, and may be lost.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use serde_json::json;
use taskbroker_domain::{
    activation::{Route, Slot},
    ports::store::{Position, Row, StoreError},
};

use super::{
    pages::{Cell, Pages},
    record::{Value, values},
};
use crate::read::{PageError, page, positions};

/// The columns of our table of activations, of which this one is not read back.
const ACTIVATION_COLUMNS: usize = 25;
const BUCKET: usize = 14;
const POSITION_COLUMNS: usize = 10;
/// Columns of the existing system's table.
const THEIR_COLUMNS: usize = 19;

/// Everything that was found but payloads, which stay where they are.
#[derive(Default)]
pub(super) struct Gathered {
    /// Our rows, by key: as JSON, in the order in which they are read back.
    pub(super) rows: BTreeMap<i64, String>,
    /// Ids of rows, also of those that make no sense.
    pub(super) ids: HashMap<i64, String>,
    /// Where payloads stand, by key.
    pub(super) payloads: BTreeMap<i64, Cell>,
    /// Where the existing system's rows stand.
    pub(super) theirs: Vec<Cell>,
    routes: HashMap<i64, Arc<Route>>,
    positions: BTreeMap<i64, Position>,
}

impl Gathered {
    pub(super) fn from(pages: &Pages) -> Result<Self, StoreError> {
        let mut gathered = Self::default();
        pages.each_cell(|cell| {
            if let Some(columns) = pages.record(cell).and_then(|record| values(&record)) {
                gathered.sort_in(cell, &columns);
            }
        });
        Ok(gathered)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.payloads.is_empty() && self.theirs.is_empty() && self.positions.is_empty()
    }

    pub(super) fn positions(&self) -> Vec<Position> {
        self.positions.values().cloned().collect()
    }

    /// The row of this key as it was stored, if it makes sense.
    pub(super) fn row(&self, key: i64) -> Option<Row> {
        let json = format!("[{}]", self.rows.get(&key)?);
        let read: Result<Vec<Row>, PageError> = page(&json, |route| self.routes.get(&route).cloned());
        let row = read.ok()?.pop()?;
        let known: HashSet<Slot> = self.positions.values().map(|position| position.slot).collect();
        Some(Row { origin: row.origin.filter(|origin| known.contains(&origin.slot)), ..row })
    }

    fn sort_in(&mut self, cell: Cell, columns: &[Value]) {
        use Value as V;
        match columns {
            [V::Null, V::Blob(_)] => {
                self.payloads.insert(cell.rowid, cell);
            }
            [V::Null, V::Text(application), V::Text(namespace), V::Text(task_name)] => {
                self.routes.insert(cell.rowid, Arc::new(Route::new(application, namespace, task_name)));
            }
            [V::Text(_), V::Blob(_), ..] if columns.len() == THEIR_COLUMNS => self.theirs.push(cell),
            [V::Null, V::Text(_), ..] if columns.len() == POSITION_COLUMNS => self.position(cell, columns),
            [V::Null, id, ..] if columns.len() == ACTIVATION_COLUMNS => {
                if let V::Text(id) = id {
                    self.ids.insert(cell.rowid, id.clone());
                }
                self.rows.insert(cell.rowid, json(cell.rowid, columns, Some(BUCKET)));
            }
            _ => {}
        }
    }

    fn position(&mut self, cell: Cell, columns: &[Value]) {
        let json = format!("[{}]", json(cell.rowid, columns, None));
        if let Some(position) = positions(&json).ok().and_then(|mut positions| positions.pop()) {
            self.positions.insert(cell.rowid, position);
        }
    }
}

/// The columns as the reading query gives them: the first is the key.
fn json(rowid: i64, columns: &[Value], left_out: Option<usize>) -> String {
    let kept = columns.iter().enumerate().skip(1).filter(|(index, _)| Some(*index) != left_out);
    let values = kept.map(|(_, value)| match value {
        Value::Null => json!(null),
        Value::Integer(number) => json!(number),
        Value::Real => json!(0.5),
        Value::Text(text) => json!(text),
        Value::Blob(bytes) => json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    });
    serde_json::Value::from_iter(std::iter::once(json!(rowid)).chain(values)).to_string()
}
