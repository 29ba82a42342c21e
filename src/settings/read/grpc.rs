//! Who may call the broker, and how.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use super::MESSAGE_BYTES_MOST;
use crate::settings::{
    model::{Grpc, ServerTls},
    reader::Reader,
};

/// Reads what holds for the port that workers call.
pub(super) fn read(reader: &mut Reader<'_>) -> Grpc {
    const REQUEST_LEAST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1024 - 1);
    const REQUEST_MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(MESSAGE_BYTES_MOST - 1);
    Grpc {
        shared_secrets: reader.read("grpc_shared_secret"),
        tls: tls(reader),
        max_request_bytes: reader.read_within("grpc_max_request_size", REQUEST_LEAST..=REQUEST_MOST),
        batch_status_updates: reader.read("batch_status_updates"),
        status_update_batch_size: reader.read_within("status_update_batch_size", super::up_to(1_000_000)),
        status_update_interval: Duration::from_millis(
            reader.read_within("status_update_interval_ms", 1..=3_600_000_u64),
        ),
    }
}

fn tls(reader: &mut Reader<'_>) -> Option<ServerTls> {
    let certificate: Option<PathBuf> = reader.optional("grpc_tls_certificate");
    let key: Option<PathBuf> = reader.optional("grpc_tls_key");
    let client_ca: Option<PathBuf> = reader.optional("grpc_tls_client_ca");
    let (certificate, key) = pair(reader, ["grpc_tls_certificate", "grpc_tls_key"], certificate, key).unzip();
    match (certificate, key) {
        (Some(certificate), Some(key)) => Some(ServerTls { certificate, key, client_ca }),
        _ if client_ca.is_some() => {
            let reason = "callers can show a certificate only over TLS: give the broker a certificate and a key, too";
            reader.findings.clash(&["grpc_tls_client_ca", "grpc_tls_certificate", "grpc_tls_key"], reason);
            None
        }
        _ => None,
    }
}

/// A certificate and its key, which go together.
pub(super) fn pair(
    reader: &mut Reader<'_>,
    keys: [&str; 2],
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Option<(PathBuf, PathBuf)> {
    if certificate.is_some() != key.is_some() {
        reader.findings.clash(&keys, "a certificate and its key go together: give both, or neither");
    }
    certificate.zip(key)
}
