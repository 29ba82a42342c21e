//! A commit as SQL: one driver call for up to 256 new rows, one more for each further 256. The texts are few in practice,
//! so that each is prepared once.

mod encode;
mod text;

use std::{collections::HashMap, sync::Arc};

use serde::Serialize;
use sqlx::{Encode, Sqlite, Type, sqlite::SqliteArguments};
use taskbroker_domain::{
    activation::Route,
    ports::store::{Commit, NewRow, StoreError},
};

pub(crate) use encode::{cause, stored_key, verdict};

use self::text::change;
use crate::routes::{Numbering, Routes};

/// Rows in one INSERT statement at most: 256 × 24 columns stay well below the 32,766 variables that SQLite takes.
const BLOCK_ROWS: usize = 256;

/// Payload bytes in one INSERT statement, about: they are held twice while it runs.
const BLOCK_BYTES: usize = 8 << 20;

/// A commit ready to be carried out, within one transaction that its calls open and close. Without calls there is nothing
/// to do.
pub(crate) struct Plan {
    pub(crate) calls: Vec<Call>,
    /// Routes that the table holds once this is done.
    pub(crate) new_routes: HashMap<Arc<Route>, i64>,
    /// How the store is marked once this is done.
    pub(crate) closed: bool,
}

/// One driver call.
#[derive(Default)]
pub(crate) struct Call {
    pub(crate) sql: String,
    pub(crate) arguments: SqliteArguments,
    statements: usize,
}

/// Plans a commit on a store that is known to be marked as `closed`, or not.
pub(crate) fn plan(commit: &Commit, routes: &Routes, closed: Option<bool>) -> Result<Plan, StoreError> {
    let mut numbering = routes.numbering();
    let mut calls = Vec::new();
    for rows in blocks_of(&commit.insert) {
        let mut call = Call::default();
        call.insert(rows, &mut numbering)?;
        calls.push(call);
    }
    let new_routes = numbering.into_new();
    let mut last = calls.pop().unwrap_or_default();
    last.list(change::ROUTES, encode::routes(&new_routes))?;
    last.changes(commit)?;
    if closed != Some(commit.closing) {
        last.one(change::CLOSED, commit.closing)?;
    }
    calls.push(last);
    calls.retain(|call| call.statements > 0);
    in_one_transaction(&mut calls);
    Ok(Plan { calls, new_routes, closed: commit.closing })
}

/// A statement alone is a transaction by itself.
fn in_one_transaction(calls: &mut [Call]) {
    if calls.iter().map(|call| call.statements).sum::<usize>() > 1 {
        calls.first_mut().into_iter().for_each(|first| first.sql.insert_str(0, text::BEGIN));
        calls.last_mut().into_iter().for_each(|last| last.sql.push_str(text::COMMIT));
    }
}

impl Call {
    fn insert(&mut self, rows: &[NewRow], numbering: &mut Numbering<'_>) -> Result<(), StoreError> {
        let (sql, places) = text::insert_of(rows.len());
        self.sql.push_str(sql);
        self.statements += 2;
        encode::rows(&mut self.arguments, rows, places, numbering)
    }

    /// Everything but new rows and routes.
    fn changes(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let deleted = encode::keys(&commit.delete);
        self.list(change::UPDATE, encode::updates(&commit.update))?;
        self.list(change::DELETE, &deleted)?;
        self.list(change::DELETE_PAYLOADS, &deleted)?;
        self.list(change::CLEAR_ORIGIN, encode::keys(&commit.clear_origin))?;
        self.list(change::POSITIONS, commit.positions.iter().map(encode::position))?;
        self.list(change::DROP_POSITIONS, commit.drop_positions.iter().map(|slot| slot.0))?;
        self.list(change::REMEMBER, commit.remember.iter().map(encode::early_report))?;
        self.list(change::FORGET, encode::ids(&commit.forget))?;
        self.list(change::BURY, commit.bury.iter().map(|tombstone| (tombstone.id.to_string(), tombstone.slot.0)))?;
        self.list(change::UNBURY, encode::ids(&commit.unbury))
    }

    /// A statement that takes a JSON list; left out if the list has no element.
    fn list<T: Serialize>(&mut self, statement: &str, list: impl IntoIterator<Item = T>) -> Result<(), StoreError> {
        match encode::list(list)? {
            Some(list) => self.one(statement, list),
            None => Ok(()),
        }
    }

    fn one<'t>(&mut self, statement: &str, value: impl Encode<'t, Sqlite> + Type<Sqlite>) -> Result<(), StoreError> {
        self.sql.push_str(statement);
        self.statements += 1;
        encode::add(&mut self.arguments, value)
    }
}

/// Cuts the rows into what one statement takes.
fn blocks_of(rows: &[NewRow]) -> Vec<&[NewRow]> {
    let mut blocks = Vec::new();
    let mut rest = rows;
    while !rest.is_empty() {
        let (block, more) = rest.split_at(block_length(rest));
        blocks.push(block);
        rest = more;
    }
    blocks
}

fn block_length(rows: &[NewRow]) -> usize {
    let mut bytes = 0;
    let fits = |new: &&NewRow| {
        bytes += new.payload.len();
        bytes <= BLOCK_BYTES
    };
    rows.iter().take(BLOCK_ROWS).take_while(fits).count().max(1)
}
