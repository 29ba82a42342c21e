//! What no broker can do better, measured on the same machine in the same minutes.

pub(crate) mod disk;
pub(crate) mod grpc;
pub(crate) mod kafka;
pub(crate) mod sqlite;
