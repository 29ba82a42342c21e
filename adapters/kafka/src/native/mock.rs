//! What the mock cluster can do and its safe bindings lack.

use rdkafka::{
    bindings as ffi,
    client::{Client, ClientContext},
};

/// Lets the groups of this client's mock cluster begin after so many milliseconds, instead of waiting 3 s for further
/// members. Does nothing where the client has no such cluster.
pub(crate) fn set_group_start_delay<C: ClientContext>(client: &Client<C>, delay_ms: i32) {
    // SAFETY: the cluster belongs to the client, which is borrowed for as long as this takes.
    unsafe {
        let cluster = ffi::rd_kafka_handle_mock_cluster(client.native_ptr());
        if !cluster.is_null() {
            ffi::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, delay_ms);
        }
    }
}
