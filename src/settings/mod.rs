//! Settings: built-in defaults, over them a YAML file, over both the environment.
//!
//! `load` reads them all at once and either returns typed settings that fit together, or everything that is wrong with
//! them; each problem names its key, where the value comes from and what would be right. Values of secrets appear nowhere.
//!
//! To add a setting: document it with its default in `config/default.yaml`, add a field in `model.rs` and read it in
//! `read`. The documented default *is* the default, and a test finds keys that are documented but not read.

mod checks;
mod environment;
mod kafka;
mod key;
mod model;
mod reader;
mod render;
mod report;
mod retired;
mod schema;
mod screen;
mod source;
mod value;
mod yaml;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    time::Duration,
};

use config::{Config, Map, Value, ValueKind};

pub use key::Key;
pub use model::*;
pub use reader::Effective;
pub use render::render_effective;
pub use report::{Origin, Problem, SettingsError, Warning, WarningKind};
pub use source::Sources;
pub(crate) use value::{DURATION_EXPECTED, parse_duration};

use reader::Reader;
use report::Findings;
use retired::{Fate, RETIRED};
use schema::Schema;
use yaml::Table;

/// Settings that can be used, and what is to be said about them.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What deserves a look. To be logged once logging works.
    pub warnings: Vec<Warning>,
    /// The value of every setting as it may be shown, and where it comes from.
    pub effective: BTreeMap<Key, Effective>,
}

/// Loads the settings. The same sources give the same result.
pub fn load(sources: &Sources) -> Result<Loaded, SettingsError> {
    let mut findings = Findings::default();
    let loaded = try_load(sources, &mut findings).unwrap_or_else(|problem| {
        findings.problems.push(problem);
        None
    });
    match loaded {
        Some((settings, effective)) if findings.problems.is_empty() => {
            Ok(Loaded { settings, warnings: findings.warnings, effective })
        }
        _ => Err(SettingsError { problems: findings.problems }),
    }
}

type Read = Option<(Settings, BTreeMap<Key, Effective>)>;

fn try_load(sources: &Sources, findings: &mut Findings) -> Result<Read, Problem> {
    let schema = Schema::new()?;
    let mut layers = vec![schema.defaults.clone()];
    if let Some((name, text)) = sources.text()? {
        layers.push(screen::screen(yaml::parse(&name, &text)?, &schema, findings));
    }
    for layer in environment::layers(sources.environment(), &schema, findings) {
        layers.push(screen::screen(layer, &schema, findings));
    }
    let merged = rename(merge(layers), findings);
    let mut reader = Reader::new(&merged, findings);
    let settings = read(&mut reader);
    if let Some(settings) = settings.as_ref().filter(|_| reader.findings.problems.is_empty()) {
        checks::check(settings, &mut reader);
    }
    let effective = std::mem::take(&mut reader.effective);
    Ok(settings.map(|settings| (settings, effective)))
}

/// One layer of settings, as a source for the `config` crate.
#[derive(Clone, Debug)]
struct Layer(Table);

impl config::Source for Layer {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// Lays the layers over each other; later ones win, key by key.
fn merge(layers: Vec<Table>) -> Table {
    let builder = layers.into_iter().fold(Config::builder(), |builder, layer| builder.add_source(Layer(layer)));
    let merged = builder.build().map(|config| config.cache.kind).expect("layers in memory are always collected");
    match merged {
        ValueKind::Table(table) => table,
        _ => Table::new(),
    }
}

/// Moves what was given under an earlier name to where it belongs, unless something was given there.
fn rename(mut merged: Table, findings: &mut Findings) -> Table {
    for retired in &RETIRED {
        let Fate::Renamed(to) = retired.fate else { continue };
        let Some(value) = merged.remove(retired.name) else { continue };
        let origin = Origin::decode(value.origin());
        let given = Reader::new(&merged, findings).origin(&Key::new(to));
        let message = if given == Origin::Default {
            put(&mut merged, to, value);
            format!("is the earlier name of {to}: use that")
        } else {
            format!("has no effect: {to}, its later name, is given as well ({given})")
        };
        findings.warn(WarningKind::Renamed, &Key::new(retired.name), &origin, message);
    }
    merged
}

fn put(table: &mut Table, dotted: &str, value: Value) {
    match dotted.split_once('.') {
        None => {
            table.insert(dotted.to_owned(), value);
        }
        Some((section, rest)) => {
            let section = table.entry(section.to_owned()).or_insert_with(|| Value::new(None, Table::new()));
            if let ValueKind::Table(inner) = &mut section.kind {
                put(inner, rest, value);
            }
        }
    }
}

fn read(reader: &mut Reader<'_>) -> Option<Settings> {
    const SHUTDOWN_LEAST: Duration = Duration::from_millis(100);
    const SHUTDOWN_MOST: Duration = Duration::from_secs(10);
    // Ten years, which is as good as any.
    const DELAY_MOST_S: u64 = 10 * 366 * 86_400;
    let _: DeliveryMode = reader.read("delivery_mode");
    let log = Log { filter: reader.read("log_filter"), format: reader.read("log_format") };
    let grpc_listen = listen(reader, "grpc_addr", "grpc_port");
    let http_listen = listen(reader, "http_addr", "http_port");
    let max_delay = Duration::from_secs(reader.read_within("max_delayed_task_allowed_sec", 0..=DELAY_MOST_S));
    let store = read_store(reader);
    let shutdown_timeout = reader.read_within("shutdown_timeout", SHUTDOWN_LEAST..=SHUTDOWN_MOST);
    let kafka = kafka::read(reader)?;
    Some(Settings { log, grpc_listen, http_listen, kafka, max_delay, store, shutdown_timeout })
}

fn listen(reader: &mut Reader<'_>, address: &str, port: &str) -> Option<SocketAddr> {
    let address: IpAddr = reader.read(address);
    let port: u16 = reader.read(port);
    (port != 0).then_some(SocketAddr::new(address, port))
}

fn read_store(reader: &mut Reader<'_>) -> Store {
    const COUNT: std::ops::RangeInclusive<NonZeroUsize> =
        NonZeroUsize::MIN..=NonZeroUsize::MIN.saturating_add(100_000_000 - 1);
    const MIB: u32 = 1 << 20;
    const LOST_LEASES_MOST: NonZeroU32 = NonZeroU32::MIN.saturating_add(1_000_000 - 1);
    const WEEK: Duration = Duration::from_secs(7 * 86_400);
    const SECOND: Duration = Duration::from_secs(1);
    let least_file = NonZeroU64::MIN.saturating_add(u64::from(MIB) - 1);
    let least_memory = NonZeroUsize::MIN.saturating_add((1 << 20) - 1);
    Store {
        adapter: reader.read("store.adapter"),
        sqlite_path: reader.read("store.sqlite.path"),
        linger: reader.read_within("store.linger", Duration::ZERO..=Duration::from_secs(10)),
        max_bytes: reader.optional_within("store.max_size", least_file..=NonZeroU64::MAX),
        max_pending: reader.read_within("store.max_pending_count", COUNT),
        max_delayed: reader.read_within("store.max_delay_count", COUNT),
        max_processing: reader.read_within("store.max_processing_count", COUNT),
        max_outbox: reader.read_within("store.max_outbox_count", COUNT),
        max_lost_leases: reader.read_within("store.max_processing_attempts", NonZeroU32::MIN..=LOST_LEASES_MOST),
        deadline_grace: Duration::from_secs(reader.read_within("store.processing_deadline_grace_sec", 0..=86_400)),
        payload_memory_bytes: reader.read_within("store.payload_memory_bytes", least_memory..=NonZeroUsize::MAX),
        early_reports_max: reader.read_within("store.early_reports_max", 0..=10_000_000),
        tombstones_keep: reader.read_within("store.tombstones_keep", SECOND..=WEEK),
        hold_after_crash: reader.read_within("store.hold_after_crash", Duration::ZERO..=Duration::from_secs(300)),
        absent_partition_limit: reader.read_within("store.absent_partition_limit", SECOND..=WEEK),
    }
}
