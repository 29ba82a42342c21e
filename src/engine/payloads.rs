//! Reads payloads back that are no longer in memory, in batches, ahead of the claims that will want them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use taskbroker_domain::{activation::Key, ledger::Handle, ports::store::StoreError};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::shared::Shared;

/// How many payloads are read with one call.
const BATCH_MAX: usize = 512;

/// Reads what is wanted until it is stopped.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = shared.payloads.notified() => {}
            () = stop.cancelled() => return,
        }
        let wanted = shared.lock().take_wanted_payloads();
        for batch in wanted.chunks(BATCH_MAX) {
            let read = read(&shared, batch).await;
            shared.step(|ledger, now| ledger.payloads_read(batch, read, now));
            shared.payloads_read.notify_waiters();
        }
    }
}

async fn read(shared: &Shared, batch: &[Handle]) -> Vec<(Key, Bytes)> {
    let keys: Vec<Key> = batch.iter().map(|handle| handle.key()).collect();
    loop {
        match shared.store.payloads(&keys).await {
            Ok(read) => return read,
            Err(error) if error.may_pass() => {
                warn!(%error, "payloads not read yet; trying again");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return one_by_one(shared, &keys, &error).await,
        }
    }
}

/// One unreadable payload does not make the others unreadable.
async fn one_by_one(shared: &Shared, keys: &[Key], error: &StoreError) -> Vec<(Key, Bytes)> {
    error!(%error, payloads = keys.len(), "payloads cannot be read at once; reading them one by one");
    let mut read = Vec::new();
    for key in keys {
        match shared.store.payloads(std::slice::from_ref(key)).await {
            Ok(payloads) => read.extend(payloads),
            Err(error) => error!(%error, key = key.0, "payload cannot be read; its activation is parked"),
        }
    }
    read
}
