//! The rules of the operator: what they say of what comes in, and, when they change, of what is here.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use taskbroker_domain::{
    activation::{Activation, Key},
    ledger::{Handle, Look, Swept},
    ports::codec::ActivationCodec,
    rules::{Fate, Rules},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{heavy, shared::Shared};

/// How many places of the ledger are looked at under one hold of its lock, so that workers need not wait long.
const STEP: usize = 1024;
/// How many payloads are read back at once, for the rules that depend on arguments.
const PAYLOADS_MAX: usize = 64;
/// How many bytes they may have together; a larger one is read by itself. 8 MiB, as for claims.
const PAYLOAD_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The rules in force.
#[derive(Default)]
pub(super) struct InForce {
    rules: RwLock<Arc<Rules>>,
    changed: Notify,
}

impl InForce {
    pub(super) fn new(rules: Rules) -> Self {
        let in_force = Self::default();
        in_force.set(rules);
        in_force
    }

    pub(super) fn get(&self) -> Arc<Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        self.changed.notify_one();
    }

    /// What they say of an activation that comes in.
    pub(super) fn fate(rules: &Rules, codec: &dyn ActivationCodec, activation: &Activation) -> Fate {
        match rules.is_empty() {
            true => Fate::Keep,
            false => rules.fate(&activation.route, |selector| codec.selects(&activation.payload, selector)),
        }
    }
}

/// Applies rules to what is here whenever they change, until it is stopped.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = shared.rules.changed.notified() => {}
            () = stop.cancelled() => return,
        }
        let rules = shared.rules.get();
        if stop.run_until_cancelled(sweep(&shared, &rules)).await.is_none() {
            return;
        }
    }
}

async fn sweep(shared: &Arc<Shared>, rules: &Arc<Rules>) {
    let (mut from, mut dropped, mut forwarded) = (Some(0), 0, 0);
    while let Some(begin) = from {
        let Swept { next, dropped: named, forwarded: demoted, undecided } =
            shared.step(|ledger, now| ledger.sweep(begin, STEP, rules, now));
        dropped += named;
        forwarded += demoted;
        let looks = {
            let ledger = shared.lock();
            undecided.iter().filter_map(|handle| ledger.look(*handle)).collect()
        };
        for some in in_parts(looks) {
            let (named, demoted) = judge(shared, rules, some).await;
            dropped += named;
            forwarded += demoted;
        }
        from = next;
        tokio::task::yield_now().await;
    }
    if dropped + forwarded > 0 {
        info!(dropped, forwarded, "rules applied to what was here");
    }
}

/// Looks into the arguments of these tasks and does what the rules say. Returns how many were dropped, and how many are
/// forwarded. What cannot be read is kept.
async fn judge(shared: &Arc<Shared>, rules: &Arc<Rules>, some: Vec<Look>) -> (usize, usize) {
    let missing: Vec<Key> = some.iter().filter(|look| look.payload.is_none()).map(|look| look.handle.key()).collect();
    let read: HashMap<Key, Bytes> = match missing.is_empty() {
        true => HashMap::new(),
        false => shared.store.payloads(&missing).await.map(|read| read.into_iter().collect()).unwrap_or_else(|error| {
            warn!(%error, tasks = missing.len(), "arguments cannot be read back: the rules on them are not applied to these");
            HashMap::new()
        }),
    };
    let fates = look_into(shared, rules, some, read).await;
    shared.step(|ledger, now| {
        let mut count = |wanted: Fate| {
            let fitting = fates.iter().filter(|(_, fate)| *fate == wanted);
            fitting.filter(|(handle, fate)| ledger.obey(*handle, *fate, now)).count()
        };
        count(Fate::Keep);
        (count(Fate::Drop), count(Fate::Forward))
    })
}

/// What the rules say by the arguments, which may have to be unpacked: nobody else waits for that.
async fn look_into(
    shared: &Shared,
    rules: &Arc<Rules>,
    some: Vec<Look>,
    read: HashMap<Key, Bytes>,
) -> Vec<(Handle, Fate)> {
    let (rules, codec) = (rules.clone(), shared.codec.clone());
    let fate = move |look: &Look| {
        let payload = look.payload.as_ref().or_else(|| read.get(&look.handle.key()))?;
        Some((look.handle, rules.fate(&look.route, |selector| codec.selects(payload, selector))))
    };
    heavy::run(usize::MAX, move || some.iter().filter_map(fate).collect()).await
}

/// In parts that are small enough to be read back at once.
fn in_parts(looks: Vec<Look>) -> Vec<Vec<Look>> {
    let mut parts: Vec<Vec<Look>> = Vec::new();
    let mut bytes = u64::MAX;
    for look in looks {
        bytes = bytes.saturating_add(u64::from(look.payload_bytes));
        match parts.last_mut().filter(|part| bytes <= PAYLOAD_BYTES_MAX && part.len() < PAYLOADS_MAX) {
            Some(part) => part.push(look),
            None => {
                bytes = u64::from(look.payload_bytes);
                parts.push(vec![look]);
            }
        }
    }
    parts
}
