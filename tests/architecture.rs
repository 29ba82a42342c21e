//! What must not be there: the invariants of `docs/architecture.md` that a Cargo edge or a line of source can break.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The crates of the workspace, by name, with what each depends on.
struct Workspace(BTreeMap<String, Crate>);

struct Crate {
    /// Its directory, from the root.
    directory: PathBuf,
    /// What it is built with.
    dependencies: BTreeSet<String>,
    /// What its tests are built with.
    for_tests: BTreeSet<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Workspace {
    fn read() -> Self {
        let cargo = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
        let metadata: Value = serde_json::from_slice(&cargo.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        Self(packages.iter().map(|package| (text(&package["name"]), Crate::read(package))).collect())
    }

    fn adapters(&self) -> impl Iterator<Item = (&String, &Crate)> {
        self.0.iter().filter(|(_, krate)| krate.directory.starts_with("adapters"))
    }

    fn adapter_names(&self) -> BTreeSet<String> {
        self.adapters().map(|(name, _)| name.clone()).collect()
    }
}

impl Crate {
    fn read(package: &Value) -> Self {
        let manifest = PathBuf::from(text(&package["manifest_path"]));
        let directory = manifest.parent().unwrap().strip_prefix(root()).unwrap().to_owned();
        let of_kind = |wanted: fn(&Value) -> bool| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            dependencies
                .filter(|dependency| wanted(&dependency["kind"]))
                .map(|dependency| text(&dependency["name"]))
                .collect()
        };
        Self { directory, dependencies: of_kind(Value::is_null), for_tests: of_kind(|kind| kind == "dev") }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Every Rust file below this directory, with its text without comments' lines.
fn sources(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(directory)).unwrap() {
        let path = entry.unwrap().path();
        let below = path.strip_prefix(root()).unwrap().to_owned();
        if path.is_dir() {
            found.extend(sources(&below));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
            found.push((below, code.collect::<Vec<_>>().join("\n")));
        }
    }
    found
}

/// Which of these crates the code names.
fn named(code: &str, crates: &BTreeSet<String>) -> Vec<String> {
    let mentions = |name: &&String| code.contains(&format!("{}::", name.replace('-', "_")));
    crates.iter().filter(mentions).cloned().collect()
}

#[test]
fn the_domain_has_nothing_to_reach_the_outside_with() {
    let domain = &Workspace::read().0["taskbroker-domain"];
    let allowed = set(&["async-trait", "bytes", "hashbrown", "slab", "thiserror", "uuid"]);
    let others: Vec<_> = domain.dependencies.difference(&allowed).collect();
    assert!(others.is_empty(), "the domain depends on {others:?}");
}

#[test]
fn the_domain_names_no_clock_no_thread_and_no_file() {
    for (path, code) in sources(Path::new("domain/src")) {
        for outside in
            ["std::fs", "std::net", "std::thread", "std::env", "std::process", "SystemTime", "Instant", "println!"]
        {
            assert!(!code.contains(outside), "{} names {outside}", path.display());
        }
    }
}

#[test]
fn no_adapter_depends_on_another() {
    let workspace = Workspace::read();
    let adapters = workspace.adapter_names();
    assert!(adapters.len() >= 7, "{adapters:?}");
    for (name, adapter) in workspace.adapters() {
        let others: Vec<_> =
            adapter.dependencies.union(&adapter.for_tests).filter(|other| adapters.contains(*other)).collect();
        assert!(others.is_empty(), "{name} depends on {others:?}");
    }
}

#[test]
fn the_wire_knows_the_domain_and_no_adapter() {
    let workspace = Workspace::read();
    let ours: BTreeSet<_> = workspace.0.keys().cloned().collect();
    let edges: BTreeSet<_> = workspace.0["taskbroker-proto"].dependencies.intersection(&ours).cloned().collect();
    assert_eq!(edges, set(&["taskbroker-domain"]));
}

#[test]
fn each_technology_is_used_by_its_adapter_only() {
    let workspace = Workspace::read();
    for (technology, adapter) in [
        ("rdkafka", "taskbroker-kafka"),
        ("sqlx", "taskbroker-sqlite"),
        ("axum", "taskbroker-telemetry"),
        ("tracing-opentelemetry", "taskbroker-traces"),
        ("opentelemetry-otlp", "taskbroker-traces"),
        ("metrics-exporter-prometheus", "taskbroker-telemetry"),
        ("tonic-health", "taskbroker-grpc"),
        ("tonic-reflection", "taskbroker-grpc"),
    ] {
        let users = workspace.0.iter().filter(|(_, krate)| krate.dependencies.contains(technology));
        let outside_of_tests = users.filter(|(_, krate)| !krate.directory.starts_with("tests")).map(|(name, _)| name);
        assert_eq!(outside_of_tests.collect::<Vec<_>>(), [adapter], "users of {technology}");
    }
}

#[test]
fn what_tests_share_is_part_of_no_program() {
    let workspace = Workspace::read();
    let shared = workspace.0.iter().filter(|(_, krate)| krate.directory.starts_with("tests")).map(|(name, _)| name);
    for name in shared {
        let users = workspace.0.iter().filter(|(_, krate)| krate.dependencies.contains(name));
        let users: Vec<_> =
            users.filter(|(_, krate)| !krate.directory.starts_with("tests")).map(|(user, _)| user).collect();
        assert!(users.is_empty(), "{name} is built into {users:?}");
    }
}

#[test]
fn only_the_composition_root_names_two_adapters() {
    let adapters = Workspace::read().adapter_names();
    let root_of_composition = |path: &Path| path == Path::new("src/compose.rs") || path.starts_with("src/compose");
    for (path, code) in sources(Path::new("src")) {
        let named = named(&code, &adapters);
        assert!(named.len() < 2 || root_of_composition(&path), "{} names {named:?}", path.display());
    }
}

#[test]
fn engine_settings_and_dev_name_no_adapter() {
    let adapters = Workspace::read().adapter_names();
    for directory in ["src/engine", "src/settings", "src/dev"] {
        for (path, code) in sources(Path::new(directory)) {
            let named = named(&code, &adapters);
            assert!(named.is_empty(), "{} names {named:?}", path.display());
        }
    }
}

#[test]
fn unsafe_code_is_in_one_place() {
    let directories = ["src", "domain/src", "proto/src", "adapters"].map(Path::new);
    for (path, code) in directories.into_iter().flat_map(sources) {
        let lawful = path.starts_with("adapters/kafka/src/native");
        assert!(lawful || !code.contains("(unsafe_code"), "{} lifts the ban on unsafe code", path.display());
    }
}

#[test]
fn every_crate_is_held_to_the_lints_of_the_workspace() {
    for (name, krate) in &Workspace::read().0 {
        let manifest = fs::read_to_string(root().join(&krate.directory).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name} has lints of its own");
    }
}

#[test]
fn this_test_sees_what_it_looks_for() {
    let adapters = set(&["taskbroker-sqlite", "taskbroker-kafka"]);
    let code = "use taskbroker_sqlite::SqliteStore;\nfn f() { taskbroker_kafka::g() }";
    assert_eq!(named(code, &adapters), ["taskbroker-kafka", "taskbroker-sqlite"]);
    assert!(sources(Path::new("src")).iter().any(|(path, _)| path == Path::new("src/engine/mod.rs")));
}
