//! What the safe bindings do not set in a mock cluster.

use rdkafka::{
    bindings as ffi,
    client::{Client, ClientContext},
};

/// Lets groups of the mock cluster in this client assign as soon as a member joins.
pub(crate) fn assign_at_once<C: ClientContext>(client: &Client<C>) {
    // SAFETY: the client lives; its mock cluster, if it has one, lives as long.
    unsafe {
        let cluster = ffi::rd_kafka_handle_mock_cluster(client.native_ptr());
        if !cluster.is_null() {
            ffi::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
        }
    }
}
