//! Owned librdkafka objects: each is destroyed once, when its handle is dropped.

use std::{
    ffi::{CStr, c_char},
    ptr::NonNull,
    time::Duration,
};

use rdkafka::bindings as ffi;

/// A queue of librdkafka's. It must be dropped before the client it belongs to.
pub(super) struct Queue(NonNull<ffi::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for Queue {}
// SAFETY: as above; they lock for themselves.
unsafe impl Sync for Queue {}

impl Queue {
    /// Takes over the caller's reference.
    pub(super) fn owning(queue: *mut ffi::rd_kafka_queue_t) -> Option<Self> {
        NonNull::new(queue).map(Self)
    }

    pub(super) fn ptr(&self) -> *mut ffi::rd_kafka_queue_t {
        self.0.as_ptr()
    }

    /// The next event, waiting for it at most `timeout`.
    pub(super) fn poll(&self, timeout: Duration) -> Option<Event> {
        // SAFETY: the queue lives; the event is ours to destroy.
        NonNull::new(unsafe { ffi::rd_kafka_queue_poll(self.ptr(), millis(timeout)) }).map(Event)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the reference is ours and given back once.
        unsafe { ffi::rd_kafka_queue_destroy(self.ptr()) };
    }
}

/// An event that was taken from a queue.
pub(super) struct Event(NonNull<ffi::rd_kafka_event_t>);

impl Event {
    pub(super) fn ptr(&self) -> *mut ffi::rd_kafka_event_t {
        self.0.as_ptr()
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is ours and destroyed once.
        unsafe { ffi::rd_kafka_event_destroy(self.ptr()) };
    }
}

/// The milliseconds of a bounded duration, as C wants them.
pub(super) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// The text at `text`, whatever its bytes; empty for a null pointer.
///
/// # Safety
/// `text` is null or a C string that lives during the call.
pub(super) unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
