//! The tasks beside the engine: ports, probes, rules. One that ends before it was told to stops the broker.

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

/// Begins tasks, and knows whether one of them failed.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks(CancellationToken);

impl Tasks {
    /// Runs a task that is to last until `stop`. One that ends by itself (by a bug, or because its port failed) leaves half a
    /// broker that looks whole.
    pub(super) fn begin(
        &self,
        name: &'static str,
        stop: &CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let (failed, stop) = (self.0.clone(), stop.clone());
        let running = tokio::spawn(task);
        tokio::spawn(async move {
            let ended = running.await;
            if !stop.is_cancelled() {
                error!(name, ?ended, "a part of the broker ended by itself; the broker stops");
                failed.cancel();
            }
        })
    }

    /// Resolves when one failed.
    pub(super) async fn failed(&self) {
        self.0.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Long enough for a task to end on a busy machine.
    const SOON: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_task_that_ends_by_itself_is_a_failure() {
        let (tasks, stop) = (Tasks::default(), CancellationToken::new());
        tasks.begin("one that returns", &stop, async {});
        assert!(tokio::time::timeout(SOON, tasks.failed()).await.is_ok());
    }

    #[tokio::test]
    async fn a_panic_is_a_failure() {
        let (tasks, stop) = (Tasks::default(), CancellationToken::new());
        tasks.begin("one that panics", &stop, async { panic!("as the test wished") });
        assert!(tokio::time::timeout(SOON, tasks.failed()).await.is_ok());
    }

    #[tokio::test]
    async fn a_task_that_was_told_to_end_is_none() {
        let (tasks, stop) = (Tasks::default(), CancellationToken::new());
        let task = tasks.begin("one that is stopped", &stop, stop.clone().cancelled_owned());
        stop.cancel();
        assert!(task.await.is_ok());
        assert!(!tasks.0.is_cancelled());
    }
}
