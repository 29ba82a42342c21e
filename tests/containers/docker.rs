//! The Docker daemon, and the images on it.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

use anyhow::{Context, Result, ensure};

const REQUIRE: &str = "TASKBROKER_TEST_REQUIRE_DOCKER";

/// The broker's image, by name and tag: not the one that docker-compose.yml makes.
pub(crate) const BROKER: (&str, &str) = ("taskbroker", "tests");
/// Kafka's image.
pub(crate) const KAFKA: (&str, &str) = ("apache/kafka", "4.1.0");

/// Whether there is a Docker daemon, with both images on it. If not, that has been said: skip the test.
pub(crate) fn is_here() -> bool {
    static HERE: OnceLock<bool> = OnceLock::new();
    *HERE.get_or_init(|| match prepare() {
        Ok(()) => true,
        Err(error) if env::var(REQUIRE).is_ok_and(|value| value == "1") => {
            panic!("{REQUIRE}=1, but containers cannot be used: {error:#}")
        }
        Err(error) => {
            eprintln!("SKIPPED, containers cannot be used ({REQUIRE}=1 would make this a failure): {error:#}");
            false
        }
    })
}

fn prepare() -> Result<()> {
    docker(&["version", "--format", "{{.Server.Version}}"])?;
    images(&["kafka"])?;
    images(&["broker", "--binary", env!("CARGO_BIN_EXE_taskbroker"), "--tag", &format!("{}:{}", BROKER.0, BROKER.1)])
}

fn images(arguments: &[&str]) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/images");
    run(Command::new(script).args(arguments)).map(drop)
}

/// Runs a command of Docker's client to its end; what it printed.
pub(crate) fn docker(arguments: &[&str]) -> Result<String> {
    run(Command::new("docker").args(arguments))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?} cannot be run"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
