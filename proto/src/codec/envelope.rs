//! The part of an activation that the broker reads, borrowed from its bytes.

use std::fmt;

use taskbroker_domain::{
    activation::{ID_MAX_BYTES, OnFailure},
    ports::codec::Undecodable,
};

use super::NAME_MAX_BYTES;
use crate::{
    pb::OnAttemptsExceeded,
    scan::{Value, fields},
};

/// An activation but for its arguments and headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Envelope<'a> {
    pub(super) id: &'a str,
    pub(super) namespace: &'a str,
    pub(super) task_name: &'a str,
    pub(super) application: &'a str,
    pub(super) received_at: Option<ProtoTimestamp>,
    pub(super) retry_state: RetryState,
    pub(super) run_limit_s: u64,
    pub(super) expires_s: Option<u64>,
    pub(super) delay_s: Option<u64>,
}

/// `google.protobuf.Timestamp` as it stands, valid or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ProtoTimestamp {
    pub(super) seconds: i64,
    pub(super) nanos: i32,
}

/// What the broker reads of a retry state; a missing one is an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RetryState {
    pub(super) attempts: u32,
    pub(super) on_failure: OnFailure,
    pub(super) at_most_once: bool,
}

impl<'a> Envelope<'a> {
    /// Reads it. As in every decoder, of a field that comes twice the last counts, and embedded messages are merged.
    pub(super) fn read(payload: &'a [u8]) -> Result<Self, Undecodable> {
        if payload.is_empty() {
            return Err(Undecodable::new("the payload is empty"));
        }
        let mut envelope = Self::default();
        let mut retry_state = RawRetryState::default();
        for field in fields(payload) {
            let field = field.map_err(|e| refuse("the activation", e))?;
            envelope.take(field.number, field.value, &mut retry_state)?;
        }
        envelope.retry_state = retry_state.check()?;
        envelope.check()
    }

    fn take(&mut self, number: u32, value: Value<'a>, retry_state: &mut RawRetryState) -> Result<(), Undecodable> {
        match number {
            1 => self.id = text("id", value)?,
            2 => self.namespace = text("namespace", value)?,
            3 => self.task_name = text("taskname", value)?,
            4 => drop(text("parameters", value)?),
            5 => check_header(message("headers", value)?)?,
            6 => self.received_at.get_or_insert_default().merge(message("received_at", value)?)?,
            7 => retry_state.merge(message("retry_state", value)?)?,
            8 => self.run_limit_s = integer("processing_deadline_duration", value)?,
            9 => self.expires_s = Some(integer("expires", value)?),
            11 => self.delay_s = Some(integer("delay", value)?),
            12 => self.application = text("application", value)?,
            13 => drop(message("parameters_bytes", value)?),
            _ => {}
        }
        Ok(())
    }

    fn check(self) -> Result<Self, Undecodable> {
        if self.id.is_empty() {
            return Err(refuse("id", "it is missing"));
        }
        check_name("id", self.id, ID_MAX_BYTES)?;
        check_name("namespace", self.namespace, NAME_MAX_BYTES)?;
        check_name("taskname", self.task_name, NAME_MAX_BYTES)?;
        check_name("application", self.application, NAME_MAX_BYTES)?;
        Ok(self)
    }
}

impl ProtoTimestamp {
    fn merge(&mut self, message: &[u8]) -> Result<(), Undecodable> {
        for field in fields(message) {
            let field = field.map_err(|e| refuse("received_at", e))?;
            match field.number {
                1 => self.seconds = integer("received_at.seconds", field.value)?.cast_signed(),
                2 => self.nanos = low_bits(integer("received_at.nanos", field.value)?).cast_signed(),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A retry state whose enum was not looked at yet.
#[derive(Default)]
struct RawRetryState {
    attempts: u32,
    on_attempts_exceeded: i32,
    at_most_once: bool,
}

impl RawRetryState {
    fn merge(&mut self, message: &[u8]) -> Result<(), Undecodable> {
        for field in fields(message) {
            let field = field.map_err(|e| refuse("retry_state", e))?;
            self.take(field.number, field.value)?;
        }
        Ok(())
    }

    fn take(&mut self, number: u32, value: Value<'_>) -> Result<(), Undecodable> {
        match number {
            1 => self.attempts = low_bits(integer("retry_state.attempts", value)?),
            2 => drop(integer("retry_state.max_attempts", value)?),
            3 => {
                let number = integer("retry_state.on_attempts_exceeded", value)?;
                self.on_attempts_exceeded = low_bits(number).cast_signed();
            }
            4 => self.at_most_once = integer("retry_state.at_most_once", value)? != 0,
            5 => drop(integer("retry_state.delay_on_retry", value)?),
            _ => {}
        }
        Ok(())
    }

    fn check(self) -> Result<RetryState, Undecodable> {
        let on_failure = match OnAttemptsExceeded::try_from(self.on_attempts_exceeded) {
            Ok(OnAttemptsExceeded::Unspecified | OnAttemptsExceeded::Discard) => OnFailure::Discard,
            Ok(OnAttemptsExceeded::Deadletter) => OnFailure::DeadLetter,
            Err(unknown) => return Err(refuse("retry_state.on_attempts_exceeded", unknown)),
        };
        Ok(RetryState { attempts: self.attempts, on_failure, at_most_once: self.at_most_once })
    }
}

/// Checks one entry of the map: a message of key and value.
fn check_header(entry: &[u8]) -> Result<(), Undecodable> {
    for field in fields(entry) {
        let field = field.map_err(|e| refuse("headers", e))?;
        match field.number {
            1 => drop(text("headers key", field.value)?),
            2 => drop(text("headers value", field.value)?),
            _ => {}
        }
    }
    Ok(())
}

fn check_name(field: &str, name: &str, max_bytes: usize) -> Result<(), Undecodable> {
    if name.len() > max_bytes {
        return Err(refuse(field, format!("it is {} bytes long, and {max_bytes} are allowed", name.len())));
    }
    if name.contains('\0') {
        return Err(refuse(field, "it contains a NUL"));
    }
    Ok(())
}

fn text<'a>(field: &str, value: Value<'a>) -> Result<&'a str, Undecodable> {
    std::str::from_utf8(message(field, value)?).map_err(|_| refuse(field, "it is not UTF-8"))
}

pub(super) fn message<'a>(field: &str, value: Value<'a>) -> Result<&'a [u8], Undecodable> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        Value::Varint(_) | Value::Other => Err(refuse(field, WRONG_TYPE)),
    }
}

pub(super) fn integer(field: &str, value: Value<'_>) -> Result<u64, Undecodable> {
    match value {
        Value::Varint(value) => Ok(value),
        Value::Bytes(_) | Value::Other => Err(refuse(field, WRONG_TYPE)),
    }
}

const WRONG_TYPE: &str = "it has another type";

/// The 32 bits that a decoder keeps of an integer field.
pub(super) fn low_bits(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

pub(super) fn refuse(field: &str, what: impl fmt::Display) -> Undecodable {
    Undecodable::new(format!("{field} cannot be read: {what}"))
}
