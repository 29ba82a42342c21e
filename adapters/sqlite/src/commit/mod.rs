//! A commit as SQL: a few driver calls at most, one in most cases, out of a small set of texts, so that each is prepared
//! once.

mod encode;
mod text;

use std::{collections::HashMap, sync::Arc};

use sqlx::sqlite::SqliteArguments;
use taskbroker_domain::{
    activation::Route,
    ports::store::{Commit, NewRow, StoreError},
};

pub(crate) use encode::{cause, stored_key, verdict};

use crate::routes::Routes;

/// Rows in one INSERT statement at most: 256 × 24 columns stay well below the 32,766 variables that SQLite takes.
const BLOCK_ROWS: usize = 256;

/// Payload bytes in one INSERT statement, about: they are held twice while it runs.
const BLOCK_BYTES: usize = 8 << 20;

/// A commit ready to be carried out, within one transaction that its calls open and close.
pub(crate) struct Plan {
    pub(crate) calls: Vec<Call>,
    /// Routes that the table holds once this is done.
    pub(crate) new_routes: HashMap<Arc<Route>, i64>,
}

/// One driver call.
pub(crate) struct Call {
    pub(crate) sql: Arc<str>,
    pub(crate) arguments: SqliteArguments,
}

/// Plans a commit.
pub(crate) fn plan(commit: &Commit, routes: &Routes) -> Result<Plan, StoreError> {
    let mut numbering = routes.numbering();
    let mut blocks = Vec::new();
    for rows in blocks_of(&commit.insert) {
        blocks.push(encode::block(rows, &mut numbering)?);
    }
    let new_routes = numbering.into_new();
    let calls = calls(commit, blocks, &new_routes)?;
    Ok(Plan { calls, new_routes })
}

fn calls(
    commit: &Commit,
    mut blocks: Vec<encode::Block>,
    new_routes: &HashMap<Arc<Route>, i64>,
) -> Result<Vec<Call>, StoreError> {
    let last = blocks.pop().unwrap_or_default();
    let mut arguments = encode::opening(new_routes)?;
    if blocks.is_empty() {
        let sql = text::whole(last.places);
        encode::append(&mut arguments, last, commit)?;
        return Ok(vec![Call { sql, arguments }]);
    }
    let mut calls = vec![Call { sql: text::opening(), arguments }];
    for block in blocks {
        calls.push(Call { sql: text::block(block.places), arguments: block.into_arguments()? });
    }
    let mut arguments = SqliteArguments::default();
    let sql = text::closing(last.places);
    encode::append(&mut arguments, last, commit)?;
    calls.push(Call { sql, arguments });
    Ok(calls)
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
