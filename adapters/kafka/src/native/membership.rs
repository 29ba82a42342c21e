//! Whether a group counts a consumer among its members.

use rdkafka::{
    bindings as ffi,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
};

use super::handles::text;

/// Whether the group has given this consumer a name, and has not been told since that it leaves. Waits for librdkafka's own thread,
/// never for Kafka.
pub(crate) fn is_member<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> bool {
    let client = consumer.client().native_ptr();
    // SAFETY: the client lives; the name, where there is one, is ours to free, by librdkafka's means.
    let name = unsafe {
        let name = ffi::rd_kafka_memberid(client);
        let read = text(name);
        ffi::rd_kafka_mem_free(client, name.cast());
        read
    };
    !name.is_empty()
}
