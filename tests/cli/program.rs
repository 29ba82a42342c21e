//! Running the binary.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Lines, Read},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

/// How long a run may take to say what is waited for.
const SAID_WITHIN: Duration = Duration::from_secs(120);

/// The binary with these arguments, without settings from the environment.
pub(crate) fn command(arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskbroker"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TASKBROKER_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub(crate) fn run(arguments: &[impl AsRef<OsStr>]) -> Ended {
    Ended::from(command(arguments).output().unwrap())
}

/// A run that is over.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ended {
    /// It succeeded; what it printed.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        self.stdout
    }

    /// It ended with this code, printed nothing, and complained in one line, which is returned.
    #[track_caller]
    pub(crate) fn complained(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        assert_eq!(self.stdout, "");
        let lines: Vec<_> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{}", self.stderr);
        lines[0].strip_prefix("taskbroker: ").expect("the program's name stands first").to_owned()
    }
}

/// A run that goes on. It is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// Kills a run that has not done in time what a test waits for, so that the test fails and does not wait for ever.
struct Watchdog(#[expect(dead_code, reason = "its end is what is waited for")] Sender<()>);

impl Watchdog {
    fn over(pid: u32, limit: Duration) -> Self {
        let (held, let_go) = channel();
        thread::spawn(move || {
            if let_go.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                Command::new("kill").args(["-KILL", &pid.to_string()]).status().ok();
            }
        });
        Self(held)
    }
}

/// Which signal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Hup,
    Int,
    Kill,
    Quit,
    Term,
}

impl Running {
    pub(crate) fn start(arguments: &[impl AsRef<OsStr>]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// The same, with settings from the environment.
    pub(crate) fn start_with(arguments: &[impl AsRef<OsStr>], environment: &[(&str, String)]) -> Self {
        let mut child = command(arguments).envs(environment.iter().cloned()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads on until a line fulfils this; returns it.
    #[track_caller]
    pub(crate) fn line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let found = self.lines.by_ref().map(Result::unwrap).find(|line| wanted(line));
        found.unwrap_or_else(|| panic!("it ended without such a line: {:?}", self.child.wait()))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let name = format!("-{signal:?}").to_uppercase();
        assert!(Command::new("kill").args([name, self.pid().to_string()]).status().unwrap().success());
    }

    /// Reads on what it says on standard error until it says this; returns it all.
    #[track_caller]
    pub(crate) fn complaint(&mut self, wanted: &str) -> String {
        let _watchdog = Watchdog::over(self.pid(), SAID_WITHIN);
        let stderr = self.child.stderr.as_mut().unwrap();
        let (mut said, mut byte) = (Vec::new(), [0]);
        while !(byte[0] == b'\n' && String::from_utf8_lossy(&said).contains(wanted)) {
            assert_eq!(stderr.read(&mut byte).unwrap(), 1, "it ended, and said {}", String::from_utf8_lossy(&said));
            said.push(byte[0]);
        }
        String::from_utf8(said).unwrap()
    }

    /// Stops it in order, which must not take longer than this. What it printed, and its code.
    #[track_caller]
    #[expect(clippy::disallowed_methods, reason = "a real process takes real time")]
    pub(crate) fn stop(mut self, limit: Duration) -> Ended {
        self.signal(Signal::Term);
        let _watchdog = Watchdog::over(self.pid(), limit);
        let began = Instant::now();
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let code = self.child.wait().unwrap().code();
        assert!(began.elapsed() < limit, "it took {:?}", began.elapsed());
        Ended { code, stdout: String::new(), stderr }
    }

    /// Waits for the end, which must come within this time. Returns the exit code, and what it still printed.
    #[track_caller]
    #[expect(clippy::disallowed_methods, reason = "a real process takes real time")]
    pub(crate) fn end_within(mut self, limit: Duration) -> (Option<i32>, Vec<String>) {
        let _watchdog = Watchdog::over(self.pid(), limit);
        let began = Instant::now();
        let rest: Vec<String> = self.lines.by_ref().map(Result::unwrap).collect();
        let code = self.child.wait().unwrap().code();
        assert!(began.elapsed() < limit, "it took {:?}", began.elapsed());
        (code, rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
