//! The rules of the operator: what they say of what comes in, and, when they change, of what is here.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use taskbroker_domain::{
    activation::{Activation, Key, Route},
    ledger::{Handle, Swept},
    ports::codec::ActivationCodec,
    rules::{Fate, Rules},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::shared::Shared;

/// How many places of the ledger are looked at under one hold of its lock, so that workers need not wait long.
const STEP: usize = 1024;
/// How many payloads are read back at once, for the rules that depend on arguments.
const PAYLOADS_MAX: usize = 64;

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

async fn sweep(shared: &Shared, rules: &Rules) {
    let (mut from, mut dropped, mut forwarded) = (Some(0), 0, 0);
    while let Some(begin) = from {
        let Swept { next, dropped: named, forwarded: demoted, undecided } =
            shared.step(|ledger, now| ledger.sweep(begin, STEP, rules, now));
        dropped += named;
        forwarded += demoted;
        for some in undecided.chunks(PAYLOADS_MAX) {
            dropped += drop_selected(shared, rules, some).await;
        }
        from = next;
        tokio::task::yield_now().await;
    }
    if dropped + forwarded > 0 {
        info!(dropped, forwarded, "rules applied to what was here");
    }
}

/// Drops those whose arguments a rule names. Returns how many. What cannot be read is kept.
async fn drop_selected(shared: &Shared, rules: &Rules, undecided: &[Handle]) -> usize {
    let seen: Vec<(Handle, Arc<Route>, Option<Bytes>)> = {
        let ledger = shared.lock();
        let look = |handle: &Handle| ledger.look(*handle).map(|(route, payload)| (*handle, route, payload));
        undecided.iter().filter_map(look).collect()
    };
    let missing: Vec<Key> = seen.iter().filter(|(_, _, payload)| payload.is_none()).map(|(h, _, _)| h.key).collect();
    let read: HashMap<Key, Bytes> = match missing.is_empty() {
        true => HashMap::new(),
        false => shared.store.payloads(&missing).await.map(|read| read.into_iter().collect()).unwrap_or_else(|error| {
            warn!(%error, tasks = missing.len(), "arguments cannot be read back: the rules on them are not applied to these");
            HashMap::new()
        }),
    };
    let selected = seen.into_iter().filter(|(handle, route, payload)| {
        let payload = payload.as_ref().or_else(|| read.get(&handle.key));
        payload
            .is_some_and(|payload| rules.fate(route, |selector| shared.codec.selects(payload, selector)) == Fate::Drop)
    });
    let selected: Vec<Handle> = selected.map(|(handle, _, _)| handle).collect();
    shared.step(|ledger, now| selected.iter().filter(|handle| ledger.drop_entry(**handle, now)).count())
}
