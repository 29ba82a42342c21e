//! What comes out of a partition's queue.

use std::{ffi::c_void, ptr, ptr::NonNull, slice};

use bytes::Bytes;
use rdkafka::{bindings as ffi, types::RDKafkaErrorCode};
use taskbroker_domain::{ports::source::Record, time::Timestamp};

use super::handles::text;

/// One thing taken from a partition's queue.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// A record.
    Record(Record),
    /// The log was read to this offset (exclusive): everything below was fetched or does not exist.
    End(i64),
    /// Fetching is in trouble.
    Trouble(RDKafkaErrorCode, String),
}

/// A message of librdkafka's, destroyed when dropped.
pub(super) struct Message(NonNull<ffi::rd_kafka_message_t>);

impl Message {
    /// Takes the message over.
    ///
    /// # Safety
    /// The message is alive and nobody else destroys it.
    pub(super) unsafe fn owning(message: *mut ffi::rd_kafka_message_t) -> Option<Self> {
        NonNull::new(message).map(Self)
    }

    fn ptr(&self) -> *mut ffi::rd_kafka_message_t {
        self.0.as_ptr()
    }

    /// What it says, copied once.
    pub(super) fn read(&self) -> Fetched {
        // SAFETY: the message lives as long as self.
        let message = unsafe { self.0.as_ref() };
        match RDKafkaErrorCode::from(message.err) {
            RDKafkaErrorCode::NoError => Fetched::Record(self.record(message)),
            RDKafkaErrorCode::PartitionEOF => Fetched::End(message.offset),
            // SAFETY: the text belongs to the message.
            code => Fetched::Trouble(code, unsafe { text(ffi::rd_kafka_message_errstr(self.ptr())) }),
        }
    }

    fn record(&self, message: &ffi::rd_kafka_message_t) -> Record {
        Record {
            offset: message.offset,
            leader_epoch: self.leader_epoch(),
            timestamp: self.timestamp(),
            // SAFETY: the message owns that many bytes.
            payload: unsafe { copied(message.payload, message.len) },
            headers: self.headers(),
        }
    }

    fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: the message lives.
        let epoch = unsafe { ffi::rd_kafka_message_leader_epoch(self.ptr()) };
        (epoch >= 0).then_some(epoch)
    }

    fn timestamp(&self) -> Option<Timestamp> {
        // SAFETY: the message lives; the kind of timestamp need not be asked for.
        let millis = unsafe { ffi::rd_kafka_message_timestamp(self.ptr(), ptr::null_mut()) };
        (millis >= 0).then(|| Timestamp::from_millis(millis))
    }

    fn headers(&self) -> Vec<(String, Bytes)> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message lives and keeps its headers.
        let code = unsafe { ffi::rd_kafka_message_headers(self.ptr(), &raw mut headers) };
        if RDKafkaErrorCode::from(code) != RDKafkaErrorCode::NoError || headers.is_null() {
            return Vec::new();
        }
        // SAFETY: headers of a living message.
        (0..).map_while(|index| unsafe { header(headers, index) }).collect()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: the message is ours and destroyed once.
        unsafe { ffi::rd_kafka_message_destroy(self.ptr()) };
    }
}

/// # Safety
/// The headers are alive.
unsafe fn header(headers: *const ffi::rd_kafka_headers_t, index: usize) -> Option<(String, Bytes)> {
    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: by the caller's promise; name and value belong to the headers.
    unsafe {
        let code = ffi::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size);
        let found = RDKafkaErrorCode::from(code) == RDKafkaErrorCode::NoError;
        found.then(|| (text(name), copied(value, size)))
    }
}

/// # Safety
/// `data` is null or has `size` bytes.
unsafe fn copied(data: *const c_void, size: usize) -> Bytes {
    if data.is_null() || size == 0 {
        return Bytes::new();
    }
    // SAFETY: by the caller's promise.
    Bytes::copy_from_slice(unsafe { slice::from_raw_parts(data.cast::<u8>(), size) })
}
