//! Keeps in force what the file of rules says (`runtime_config_path`): read at start, and again within two seconds of its
//! change or at once on SIGHUP. A file that cannot be read, or is wrong, changes nothing, and is said.

use std::{io, path::PathBuf, time::Duration};

use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::settings::{RulesFile, read_rules};

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// The file, and what was last seen of it.
pub struct RulesWatch {
    path: PathBuf,
    seen: Option<Result<String, io::ErrorKind>>,
}

impl RulesWatch {
    /// A watch on this file. Nothing is read yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: None }
    }

    /// What the file says, if that is new and can be used. Otherwise what is in force stays, and the reason is logged once.
    pub async fn look(&mut self) -> Option<RulesFile> {
        let read = tokio::fs::read_to_string(&self.path).await.map_err(|error| error.kind());
        if self.seen.as_ref() == Some(&read) {
            return None;
        }
        let rules = self.judge(&read);
        self.seen = Some(read);
        rules
    }

    fn judge(&self, read: &Result<String, io::ErrorKind>) -> Option<RulesFile> {
        let path = self.path.display();
        let name = path.to_string();
        match read {
            Err(error) => {
                error!(%path, %error, "runtime_config_path cannot be read: the rules in force stay");
                None
            }
            Ok(text) => match read_rules(&name, text) {
                Err(error) => {
                    error!(%path, error, "runtime_config_path is wrong: the rules in force stay");
                    None
                }
                Ok(file) => {
                    for key in &file.unknown {
                        warn!(%path, key, "runtime_config_path: this key means nothing");
                    }
                    let (drop, demoted) = (file.rules.drop.len(), file.rules.demoted.len());
                    info!(%path, drop, demoted, "rules read");
                    Some(file)
                }
            },
        }
    }

    /// Forgets what was seen: the next look says what it finds even if nothing changed.
    pub fn look_anew(&mut self) {
        self.seen = None;
    }

    /// Hands on whatever becomes new, until it is stopped. The signal asks for it at once.
    pub async fn run(mut self, mut reload: Signal, apply: impl Fn(RulesFile) + Send, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
                _ = reload.recv() => self.look_anew(),
            }
            if let Some(file) = self.look().await {
                apply(file);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const EMPTY: &str = "drop_task_killswitch: []\ndemoted_namespaces: []\n";
    const DROPS: &str = "drop_task_killswitch: [a]\ndemoted_namespaces: []\n";

    #[tokio::test]
    async fn what_is_new_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rules.yaml");
        let mut watch = RulesWatch::new(path.clone());
        assert_eq!(watch.look().await, None, "there is no file");
        std::fs::write(&path, EMPTY).unwrap();
        assert!(watch.look().await.unwrap().rules.is_empty());
        assert_eq!(watch.look().await, None);
        std::fs::write(&path, DROPS).unwrap();
        assert_eq!(watch.look().await.unwrap().rules.drop.len(), 1);
        watch.look_anew();
        assert!(watch.look().await.is_some());
    }

    #[tokio::test]
    async fn a_file_that_is_wrong_or_gone_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rules.yaml");
        std::fs::write(&path, DROPS).unwrap();
        let mut watch = RulesWatch::new(path.clone());
        watch.look().await.unwrap();
        std::fs::write(&path, "drop_task_killswitch: [").unwrap();
        assert_eq!(watch.look().await, None);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(watch.look().await, None);
        std::fs::write(&path, DROPS).unwrap();
        assert!(watch.look().await.is_some(), "it is there again");
    }
}
