//! A broker's lives.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::{Log, Metrics, Setup, Worker, metrics, ports::free_port};

/// How long a start and an orderly stop may take.
const READY_WITHIN: Duration = Duration::from_secs(20);
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A broker. Killed when dropped; its directory goes with it.
#[derive(Debug)]
pub struct BrokerProcess {
    binary: PathBuf,
    environment: BTreeMap<String, String>,
    dir: Arc<TempDir>,
    config: PathBuf,
    store: PathBuf,
    grpc_port: u16,
    http_port: u16,
    log: Log,
    child: Option<Child>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// How long it took since it was asked for.
    pub took: Duration,
}

impl BrokerProcess {
    /// Starts a broker with a directory, a store and ports of its own, and waits until it is ready.
    pub async fn start(setup: &Setup) -> Result<Self> {
        let mut broker = Self::prepare(setup)?;
        broker.start_again().await?;
        Ok(broker)
    }

    /// A broker that is to be started yet.
    pub fn prepare(setup: &Setup) -> Result<Self> {
        let dir = Arc::new(TempDir::new()?);
        let store = dir.path().join("store.sqlite");
        Self::prepare_at(setup, dir, store)
    }

    /// A broker that is to be started on the store of this one, with ports of its own.
    pub fn on_same_store(&self, setup: &Setup) -> Result<Self> {
        Self::prepare_at(setup, Arc::clone(&self.dir), self.store.clone())
    }

    fn prepare_at(setup: &Setup, dir: Arc<TempDir>, store: PathBuf) -> Result<Self> {
        let (grpc_port, http_port) = (free_port()?, free_port()?);
        let config = dir.path().join(format!("{grpc_port}.yaml"));
        let broker = Self {
            binary: setup.binary.clone(),
            environment: setup.environment.clone(),
            dir,
            config,
            store,
            grpc_port,
            http_port,
            log: Log::default(),
            child: None,
        };
        broker.configure(setup)?;
        Ok(broker)
    }

    /// Changes the settings for the next start.
    pub fn configure(&self, setup: &Setup) -> Result<()> {
        let settings = setup.render(&self.store, self.grpc_port, self.http_port);
        fs::write(&self.config, format!("{settings:#}\n")).context("a broker's configuration")
    }

    /// Starts it on the same store and the same ports, and waits until it is ready.
    pub async fn start_again(&mut self) -> Result<()> {
        self.spawn()?;
        self.await_ready(READY_WITHIN).await
    }

    /// Starts it and does not wait.
    pub fn spawn(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the broker runs already");
        let mut command = Command::new(&self.binary);
        command.arg("-c").arg(&self.config).current_dir(self.dir.path()).envs(&self.environment);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{} cannot be run", self.binary.display()))?;
        if let Some(stderr) = child.stderr.take() {
            self.log.follow(stderr)?;
        }
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it says that it is ready.
    pub async fn await_ready(&mut self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            if metrics::get(self.http_port, "/readyz").await.is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            let child = self.child.as_mut().context("the broker does not run")?;
            if let Some(status) = child.try_wait()? {
                self.child = None;
                bail!("the broker ended at its start, {status}; it said:\n{}", self.log.tail(30));
            }
            if Instant::now() > deadline {
                bail!("the broker was not ready after {within:?}; it said:\n{}", self.log.tail(30));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until its partitions are assigned: so many in all, in this life.
    pub async fn await_partitions(&self, count: usize, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let assigned = self.metrics().await.map_or(0.0, |metrics| metrics.sum("taskbroker_kafka_assigned"));
            if (assigned - count as f64).abs() < 0.5 {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{assigned} instead of {count} partitions after {within:?}; it said:\n{}", self.log.tail(30));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the broker does not run")?;
        child.kill()?;
        tokio::task::spawn_blocking(move || child.wait()).await??;
        Ok(())
    }

    /// Sends a signal, by its name: `TERM`, `INT`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) -> Result<()> {
        let pid = self.child.as_ref().context("the broker does not run")?.id();
        let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status()?;
        ensure!(status.success(), "kill -{name} {pid} failed");
        Ok(())
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self, within: Duration) -> Result<Ended> {
        let began = Instant::now();
        let child = self.child.as_mut().context("the broker does not run")?;
        loop {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(Ended { status, took: began.elapsed() });
            }
            if began.elapsed() > within {
                bail!("the broker has not ended after {within:?}; it said:\n{}", self.log.tail(30));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops it in good order.
    pub async fn stop(&mut self) -> Result<Ended> {
        self.signal("TERM")?;
        let ended = self.ended(STOP_WITHIN).await?;
        ensure!(ended.status.success(), "an orderly stop ended with {}: {}", ended.status, self.log.tail(30));
        Ok(ended)
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// What it says, over all its lives.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What it measures.
    pub async fn metrics(&self) -> Result<Metrics> {
        Metrics::of(self.http_port).await
    }

    /// A probe's status and body.
    pub async fn probe(&self, path: &str) -> Result<(u16, String)> {
        metrics::get(self.http_port, path).await
    }

    /// A worker of its own connection.
    pub fn worker(&self) -> Result<Worker> {
        Worker::at(self.grpc_port)
    }

    /// Where workers reach it.
    pub fn grpc_port(&self) -> u16 {
        self.grpc_port
    }

    /// Where it says how it is.
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its store.
    pub fn store_path(&self) -> &Path {
        &self.store
    }

    /// Its configuration file.
    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// Runs a command of the binary with its configuration, to the end. Returns whether it succeeded and what it printed.
    pub async fn command(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("-c").arg(&self.config).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        Ok((output.status.success(), text))
    }
}

impl Drop for BrokerProcess {
    #[expect(clippy::print_stderr, reason = "a failed test shows what the broker said")]
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; a frozen one dies as well.
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            eprintln!("--- the broker on port {} said\n{}", self.grpc_port, self.log.tail(60));
        }
    }
}
