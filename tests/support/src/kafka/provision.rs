//! Where the Kafka comes from.

use std::{
    env, fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use testcontainers::{GenericImage, ImageExt, core::IntoContainerPort, runners::AsyncRunner};

const ADDRESS: &str = "TASKBROKER_TEST_KAFKA";
const REQUIRE: &str = "TASKBROKER_TEST_REQUIRE_KAFKA";

/// Says which Kafka it is, or why there is none.
#[expect(clippy::print_stderr, reason = "tests say which Kafka they use, and why they are skipped")]
fn say(line: &str) {
    eprintln!("{line}");
}

/// What was started; or `None`, with the reason said, where tests may be skipped.
#[expect(clippy::panic, reason = "a required Kafka that is not there fails the test")]
pub(super) fn or_skip<T>(started: Result<T>) -> Option<T> {
    match started {
        Ok(kafka) => Some(kafka),
        Err(error) if env::var(REQUIRE).is_ok_and(|value| value == "1") => {
            panic!("{REQUIRE}=1, but there is no Kafka: {error:#}")
        }
        Err(error) => {
            say(&format!("SKIPPED, there is no Kafka ({REQUIRE}=1 would make this a failure): {error:#}"));
            None
        }
    }
}

/// The address of the Kafka that all tests share.
pub(super) fn shared() -> Result<String> {
    if let Ok(address) = env::var(ADDRESS) {
        say(&format!("Kafka: {address}, from {ADDRESS}"));
        return await_answer(&address).map(|()| address);
    }
    if docker_answers() {
        let address = container()?;
        say(&format!("Kafka: {address}, in a container"));
        return Ok(address);
    }
    let address = script(&["up"])?;
    say(&format!("Kafka: {address}, from the jars (scripts/kafka down stops it)"));
    Ok(address)
}

// --- the jars ---------------------------------------------------------------------------------------------------------

/// Runs `scripts/kafka` and returns the address it prints, or what else it prints.
pub(super) fn script(arguments: &[&str]) -> Result<String> {
    let printed = script_lines(arguments)?;
    let address = printed.lines().find_map(|line| line.strip_prefix("bootstrap="));
    Ok(address.unwrap_or_else(|| printed.trim()).to_owned())
}

/// Runs `scripts/kafka` and returns all that it prints.
pub(super) fn script_lines(arguments: &[&str]) -> Result<String> {
    let script = repository().join("scripts/kafka");
    let output = Command::new(&script)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be run", script.display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "scripts/kafka {}: {}", arguments.join(" "), errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(super) fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

// --- a container ------------------------------------------------------------------------------------------------------

/// One container for all test binaries, found again by its port. It stays up; `docker rm -f taskbroker-test-kafka` ends it.
const CONTAINER: &str = "taskbroker-test-kafka";
const CONTAINER_PORT: u16 = 29392;

fn docker_answers() -> bool {
    let answer = Command::new("docker").args(["info"]).stdin(Stdio::null()).output();
    answer.is_ok_and(|answer| answer.status.success())
}

fn container() -> Result<String> {
    let address = format!("127.0.0.1:{CONTAINER_PORT}");
    let _one_at_a_time = lock(&env::temp_dir().join(format!("{CONTAINER}.lock")))?;
    if !listens(CONTAINER_PORT) {
        let starting = thread::spawn(start_container);
        starting.join().map_err(|_| anyhow::anyhow!("starting the container panicked"))??;
    }
    await_answer(&address)?;
    Ok(address)
}

/// Holds the lock until the file is dropped.
fn lock(path: &Path) -> Result<fs::File> {
    let file = fs::File::create(path).with_context(|| format!("{} cannot be created", path.display()))?;
    file.lock().with_context(|| format!("{} cannot be locked", path.display()))?;
    Ok(file)
}

fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_millis(500)).is_ok()
}

fn start_container() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let port = CONTAINER_PORT;
    let image = GenericImage::new("apache/kafka", "4.1.0")
        .with_mapped_port(port, port.tcp())
        .with_container_name(CONTAINER)
        .with_startup_timeout(Duration::from_secs(120));
    let settings = [
        ("KAFKA_NODE_ID", "1".to_owned()),
        ("KAFKA_PROCESS_ROLES", "broker,controller".to_owned()),
        ("KAFKA_LISTENERS", format!("PLAINTEXT://0.0.0.0:{port},CONTROLLER://localhost:9093")),
        ("KAFKA_ADVERTISED_LISTENERS", format!("PLAINTEXT://127.0.0.1:{port}")),
        ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER".to_owned()),
        ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_owned()),
        ("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093".to_owned()),
        ("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false".to_owned()),
        ("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1".to_owned()),
        ("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1".to_owned()),
        ("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1".to_owned()),
        ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0".to_owned()),
        ("KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS", "1000".to_owned()),
        ("KAFKA_GROUP_CONSUMER_MIN_SESSION_TIMEOUT_MS", "1000".to_owned()),
        ("KAFKA_GROUP_CONSUMER_SESSION_TIMEOUT_MS", "6000".to_owned()),
        ("KAFKA_GROUP_CONSUMER_MIN_HEARTBEAT_INTERVAL_MS", "100".to_owned()),
        ("KAFKA_GROUP_CONSUMER_HEARTBEAT_INTERVAL_MS", "500".to_owned()),
        ("KAFKA_LOG_RETENTION_CHECK_INTERVAL_MS", "500".to_owned()),
    ];
    let image = settings.into_iter().fold(image, |image, (key, value)| image.with_env_var(key, value));
    let container = runtime.block_on(image.start()).context("the Kafka container cannot be started")?;
    // Dropping it would remove the container, which the next test binary wants to find.
    std::mem::forget(container);
    Ok(())
}

// --- any --------------------------------------------------------------------------------------------------------------

/// Waits until Kafka answers a question about its topics.
pub(super) fn await_answer(address: &str) -> Result<()> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", address).create()?;
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        match client.fetch_metadata(None, Duration::from_secs(5)) {
            Ok(metadata) if !metadata.brokers().is_empty() => return Ok(()),
            Ok(_) => {}
            Err(error) if Instant::now() > deadline => bail!("Kafka at {address} does not answer: {error}"),
            Err(_) => {}
        }
        thread::sleep(Duration::from_millis(100));
    }
}
