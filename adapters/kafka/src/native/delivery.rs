//! What librdkafka knows of a message that it gave up.

use rdkafka::{bindings as ffi, message::BorrowedMessage};

/// Whether a copy of this message of a producer may be in its topic's log: some attempt of it was on its way and was not refused
/// for certain.
pub(crate) fn may_be_written(message: &BorrowedMessage<'_>) -> bool {
    // SAFETY: the message lives.
    let status = unsafe { ffi::rd_kafka_message_status(message.ptr()) };
    status != ffi::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
}
