//! A clock that somebody sets while the broker runs, by libfaketime. Where that is not installed this says so, and tries nothing.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::program::Running;

/// Where Debian has it.
fn libfaketime() -> Option<PathBuf> {
    let of = |machine| PathBuf::from(format!("/usr/lib/{machine}/faketime/libfaketime.so.1"));
    let found = ["x86_64-linux-gnu", "aarch64-linux-gnu"].map(of).into_iter().find(|path| path.exists());
    if found.is_none() {
        #[expect(clippy::print_stderr, reason = "a test that is left out says so")]
        {
            eprintln!("left out: libfaketime is not installed");
        }
    }
    found
}

/// A broker whose clock is what a file says, and whose other clock goes on as it should.
struct Shifted {
    daemon: Running,
    directory: tempfile::TempDir,
}

impl Shifted {
    fn start(library: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let in_it = |name: &str| directory.path().join(name).display().to_string();
        let yaml = format!(
            "kafka_cluster: 127.0.0.1:1\ngrpc_port: 0\nhttp_port: 0\nstore: {{ sqlite: {{ path: '{}' }} }}\n",
            in_it("store.sqlite")
        );
        std::fs::write(in_it("config.yaml"), yaml).unwrap();
        set(directory.path(), "+0");
        let environment = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", in_it("clock")),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        let daemon = Running::start_with(&["-c", &in_it("config.yaml")], &environment);
        Self { daemon, directory }
    }
}

/// Sets the clock to so much beside the real one.
fn set(directory: &Path, offset: &str) {
    let (next, clock) = (directory.join("next"), directory.join("clock"));
    std::fs::write(&next, offset).unwrap();
    std::fs::rename(next, clock).unwrap();
}

#[test]
fn a_clock_that_is_set_is_said_and_nothing_ends() {
    let Some(library) = libfaketime() else { return };
    let Shifted { mut daemon, directory } = Shifted::start(&library);
    daemon.complaint("no connection to Kafka");
    for (offset, direction) in [("+3600", "forward"), ("+0", "back")] {
        set(directory.path(), offset);
        let said = daemon.complaint("the system clock was set");
        let line = said.lines().last().unwrap();
        assert!(line.contains(" WARN ") && line.contains(direction), "{line}");
    }
    let ended = daemon.stop(Duration::from_secs(20));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains(" ERROR "), "{}", ended.stderr);
}
