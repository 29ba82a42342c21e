//! Which applications' workers ask in vain: what they were to get waits for its payload or for the journal.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use taskbroker_domain::time::Steady;

/// The applications that have claims which wait, or had since something was handed out to them.
#[derive(Debug, Default)]
pub(super) struct Claims {
    applications: Mutex<BTreeMap<Box<str>, Asking>>,
    /// Whether there are any: where tasks are handed out at once nobody locks anything.
    any: AtomicBool,
}

#[derive(Debug)]
struct Asking {
    /// Nothing was handed out since.
    since: Steady,
    /// When a claim last began or ceased to wait.
    asked: Steady,
    /// How many wait.
    waiting: usize,
}

impl Asking {
    /// Somebody asks, or did within this time.
    fn goes_on(&self, now: Steady, within: Duration) -> bool {
        self.waiting > 0 || now.since(self.asked) <= within
    }
}

impl Claims {
    /// A claim begins to wait.
    pub(super) fn waits(&self, application: &str, now: Steady) {
        let mut applications = self.lock();
        let asking = applications.entry(application.into()).or_insert(Asking { since: now, asked: now, waiting: 0 });
        asking.waiting += 1;
        asking.asked = now;
        self.any.store(true, Ordering::Relaxed);
    }

    /// It waits no longer, and its task was not handed out.
    pub(super) fn gives_up(&self, application: &str, now: Steady) {
        if let Some(asking) = self.lock().get_mut(application) {
            asking.waiting = asking.waiting.saturating_sub(1);
            asking.asked = now;
        }
    }

    /// Whether it matters to whom something is handed out.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// A task of this application was handed out; `waited`: its claim had to wait.
    pub(super) fn handed_out(&self, application: &str, waited: bool, now: Steady) {
        let mut applications = self.lock();
        if let Some(asking) = applications.get_mut(application) {
            asking.waiting = asking.waiting.saturating_sub(usize::from(waited));
            asking.since = now;
            if asking.waiting == 0 {
                applications.remove(application);
            }
        }
        self.any.store(!applications.is_empty(), Ordering::Relaxed);
    }

    /// The application that has asked in vain for longest, if for longer than `limit`. What nobody asked for again within
    /// that time is forgotten.
    pub(super) fn oldest(&self, now: Steady, limit: Duration) -> Option<(Box<str>, Duration)> {
        if !self.any() {
            return None;
        }
        let mut applications = self.lock();
        applications.retain(|_, asking| asking.goes_on(now, limit));
        self.any.store(!applications.is_empty(), Ordering::Relaxed);
        let (application, asking) = applications.iter().min_by_key(|(_, asking)| asking.since)?;
        let since = now.since(asking.since);
        (since > limit).then(|| (application.clone(), since))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Asking>> {
        self.applications.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Steady {
        Steady::default().saturating_add(Duration::from_secs(seconds))
    }

    fn seconds(of: Option<(Box<str>, Duration)>) -> Option<(String, u64)> {
        of.map(|(application, since)| (application.into(), since.as_secs()))
    }

    #[test]
    fn what_one_application_gets_helps_no_other() {
        let claims = Claims::default();
        claims.waits("stuck", at(1));
        for second in 1..10 {
            claims.waits("well", at(second));
            claims.handed_out("well", true, at(second));
            claims.handed_out("well", false, at(second));
        }
        assert_eq!(seconds(claims.oldest(at(6), LIMIT)), None);
        assert_eq!(seconds(claims.oldest(at(10), LIMIT)), Some(("stuck".into(), 9)));
        claims.handed_out("stuck", true, at(11));
        assert_eq!(claims.oldest(at(11), LIMIT), None);
        assert!(!claims.any());
    }

    #[test]
    fn asking_in_vain_again_and_again_is_asking_all_the_time() {
        let claims = Claims::default();
        for second in 1..10 {
            claims.waits("stuck", at(second));
            claims.gives_up("stuck", at(second + 1));
        }
        assert_eq!(seconds(claims.oldest(at(10), LIMIT)), Some(("stuck".into(), 9)));
    }

    #[test]
    fn an_application_that_asks_no_more_is_no_trouble() {
        let claims = Claims::default();
        claims.waits("gone", at(1));
        claims.gives_up("gone", at(2));
        assert_eq!(claims.oldest(at(8), LIMIT), None);
        claims.waits("gone", at(20));
        assert_eq!(claims.oldest(at(24), LIMIT), None, "it begins anew");
    }
}
