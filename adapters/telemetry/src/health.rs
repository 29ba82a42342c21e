//! How the broker says whether it lives and whether it is ready.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Whether all is well, and if not, why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// All is well.
    #[default]
    Good,
    /// Something is not, for these reasons, each a sentence for people.
    Bad {
        /// At least one.
        reasons: Vec<String>,
    },
}

impl Condition {
    /// Bad, for one reason.
    pub fn bad(reason: impl Into<String>) -> Self {
        Self::Bad { reasons: vec![reason.into()] }
    }

    /// From what is wrong; good if nothing is.
    pub fn from_reasons(reasons: Vec<String>) -> Self {
        if reasons.is_empty() { Self::Good } else { Self::Bad { reasons } }
    }

    /// Whether all is well.
    pub fn is_good(&self) -> bool {
        match self {
            Self::Good => true,
            Self::Bad { .. } => false,
        }
    }
}

/// What the broker says of itself; clones share one state. It begins alive and not ready.
#[derive(Clone, Debug)]
pub struct HealthState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    conditions: Mutex<Conditions>,
    live: watch::Sender<bool>,
}

#[derive(Debug)]
struct Conditions {
    live: Condition,
    ready: Condition,
}

impl HealthState {
    /// Alive, and not ready because it is starting.
    pub fn new() -> Self {
        let conditions = Conditions { live: Condition::Good, ready: Condition::bad("the broker is starting") };
        Self(Arc::new(Shared { conditions: Mutex::new(conditions), live: watch::Sender::new(true) }))
    }

    /// Says whether work that could move moves. An orchestrator restarts what is not alive.
    pub fn set_live(&self, condition: Condition) {
        let good = condition.is_good();
        self.conditions().live = condition;
        self.0.live.send_if_modified(|live| std::mem::replace(live, good) != good);
    }

    /// Says whether clients should be sent here.
    pub fn set_ready(&self, condition: Condition) {
        self.conditions().ready = condition;
    }

    /// Whether work that could move moves.
    pub fn live(&self) -> Condition {
        self.conditions().live.clone()
    }

    /// Whether clients should be sent here.
    pub fn ready(&self) -> Condition {
        self.conditions().ready.clone()
    }

    /// Follows whether it is alive: for the gRPC health service.
    pub fn watch_live(&self) -> watch::Receiver<bool> {
        self.0.live.subscribe()
    }

    fn conditions(&self) -> MutexGuard<'_, Conditions> {
        self.0.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for HealthState {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_watch_hear_of_changes_only() {
        let state = HealthState::new();
        let mut live = state.watch_live();
        state.set_live(Condition::Good);
        assert!(!live.has_changed().unwrap());
        state.set_live(Condition::bad("a commit is stuck"));
        assert!(!*live.borrow_and_update());
        state.set_live(Condition::from_reasons(vec!["timers run late".into()]));
        assert!(!live.has_changed().unwrap());
        state.set_live(Condition::from_reasons(Vec::new()));
        assert!(*live.borrow_and_update());
    }
}
