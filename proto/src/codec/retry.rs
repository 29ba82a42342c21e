//! Composes the retry of an activation, field by field at the wire level, so that what this program does not know of it
//! survives.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use taskbroker_domain::{
    activation::RetryWish,
    ports::codec::{Retry, Undecodable},
    time::Timestamp,
};

use super::envelope::{integer, low_bits, message, refuse};
use crate::{pb, scan::fields};

/// Room for the changed fields: an id, a timestamp, a few integers and their keys.
const CHANGED_BYTES: usize = 384;

/// The retry: the payload with another id, `received_at`, delay and retry state; everything else as it stands.
pub(super) fn compose(payload: &[u8], retry: &Retry) -> Result<Bytes, Undecodable> {
    let parts = Parts::of(payload, &[ID, RECEIVED_AT, DELAY])?;
    let retry_state = parts.retry_state.map(|bytes| RetryState::read(&bytes)?.next(retry.wish)).transpose()?;
    let (retry_state, delay_s) = match retry_state {
        Some(state) => (Some(state.bytes), state.delay_s),
        None => (None, retry.wish.delay_s),
    };
    let changed = pb::TaskActivation {
        id: retry.id.to_string(),
        received_at: Some(proto_timestamp(retry.received_at)),
        delay: delay_s,
        ..Default::default()
    };
    let mut composed = BytesMut::with_capacity(payload.len() + CHANGED_BYTES);
    changed.encode(&mut composed).map_err(|e| refuse("the retry", e))?;
    if let Some(state) = retry_state {
        put_retry_state(&mut composed, &state)?;
    }
    parts.kept.iter().for_each(|raw| composed.put_slice(raw));
    Ok(composed.freeze())
}

/// The activation with what the worker wished for in its retry state, and everything else as it stands. One without a retry
/// state has no place for it.
pub(super) fn with_wish(payload: &Bytes, wish: RetryWish) -> Result<Bytes, Undecodable> {
    let parts = Parts::of(payload, &[])?;
    let Some(state) = &parts.retry_state else { return Ok(payload.clone()) };
    let state = RetryState::read(state)?.wished(wish);
    let mut written = BytesMut::with_capacity(payload.len() + CHANGED_BYTES);
    put_retry_state(&mut written, &state)?;
    parts.kept.iter().for_each(|raw| written.put_slice(raw));
    Ok(written.freeze())
}

fn put_retry_state(to: &mut BytesMut, state: &[u8]) -> Result<(), Undecodable> {
    to.put_u8(RETRY_STATE_KEY);
    prost::encode_length_delimiter(state.len(), to).map_err(|e| refuse("the retry", e))?;
    to.put_slice(state);
    Ok(())
}

// Fields of the activation that a retry has anew.
const ID: u32 = 1;
const RECEIVED_AT: u32 = 6;
const DELAY: u32 = 11;

/// The key of field 7, length-delimited.
const RETRY_STATE_KEY: u8 = 7 << 3 | 2;

/// An activation taken apart.
struct Parts<'a> {
    kept: Vec<&'a [u8]>,
    /// All occurrences one after the other, which is how embedded messages are merged.
    retry_state: Option<Vec<u8>>,
}

impl<'a> Parts<'a> {
    fn of(payload: &'a [u8], left_out: &[u32]) -> Result<Self, Undecodable> {
        let mut parts = Self { kept: Vec::new(), retry_state: None };
        for field in fields(payload) {
            let field = field.map_err(|e| refuse("the activation", e))?;
            match field.number {
                number if left_out.contains(&number) => {}
                7 => {
                    let state = message("retry_state", field.value)?;
                    parts.retry_state.get_or_insert_default().extend_from_slice(state);
                }
                _ => parts.kept.push(field.raw),
            }
        }
        Ok(parts)
    }
}

/// A retry state taken apart.
#[derive(Default)]
struct RetryState<'a> {
    attempts: u32,
    max_attempts: u32,
    delay_s: Option<u64>,
    kept: Vec<&'a [u8]>,
}

/// The retry state of a retry, and the delay it stands for.
struct NextRetryState {
    bytes: Vec<u8>,
    delay_s: Option<u64>,
}

impl<'a> RetryState<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Undecodable> {
        let mut state = Self::default();
        for field in fields(bytes) {
            let field = field.map_err(|e| refuse("retry_state", e))?;
            match field.number {
                1 => state.attempts = low_bits(integer("retry_state.attempts", field.value)?),
                2 => state.max_attempts = low_bits(integer("retry_state.max_attempts", field.value)?),
                5 => state.delay_s = Some(integer("retry_state.delay_on_retry", field.value)?),
                _ => state.kept.push(field.raw),
            }
        }
        Ok(state)
    }

    /// The same attempt, and what the worker wished for.
    fn wished(self, wish: RetryWish) -> Vec<u8> {
        let changed = pb::RetryState {
            attempts: self.attempts,
            max_attempts: wish.max_attempts.unwrap_or(self.max_attempts),
            delay_on_retry: wish.delay_s.or(self.delay_s),
            ..Default::default()
        };
        let mut bytes = changed.encode_to_vec();
        self.kept.iter().for_each(|raw| bytes.extend_from_slice(raw));
        bytes
    }

    /// One attempt more, and what the worker wished for.
    fn next(self, wish: RetryWish) -> Result<NextRetryState, Undecodable> {
        let delay_s = wish.delay_s.or(self.delay_s);
        let changed = pb::RetryState {
            attempts: self.attempts.saturating_add(1),
            max_attempts: wish.max_attempts.unwrap_or(self.max_attempts),
            delay_on_retry: delay_s,
            ..Default::default()
        };
        let mut bytes = changed.encode_to_vec();
        self.kept.iter().for_each(|raw| bytes.extend_from_slice(raw));
        Ok(NextRetryState { bytes, delay_s })
    }
}

pub(crate) fn proto_timestamp(at: Timestamp) -> prost_types::Timestamp {
    let ms = at.as_millis();
    let nanos = i32::try_from(ms % 1000 * 1_000_000).unwrap_or(0);
    prost_types::Timestamp { seconds: ms / 1000, nanos }
}
