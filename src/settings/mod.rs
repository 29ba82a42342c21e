//! Settings: built-in defaults, over them a YAML file, over both the environment.
//!
//! `load` reads them all at once and either returns typed settings that fit together, or everything that is wrong with
//! them; each problem names its key, where the value comes from and what would be right. Values of secrets appear nowhere.
//!
//! To add a setting: document it with its default in `config/default.yaml`, add a field in `model.rs` and read it in
//! `read/`. The documented default *is* the default, and a test finds keys that are documented but not read.

mod checks;
mod environment;
mod grammar;
mod kafka;
mod key;
mod model;
mod read;
mod reader;
mod rename;
mod render;
mod report;
mod retired;
mod rules;
mod schema;
mod screen;
mod source;
mod value;
mod written;
mod yaml;

use std::collections::BTreeMap;

use config::{Config, Map, Value, ValueKind};

pub use key::Key;
pub use model::*;
pub use reader::Effective;
pub use render::render_effective;
pub use report::{Origin, Problem, SettingsError, Warning, WarningKind};
pub use rules::{RulesFile, read_rules};
pub use source::Sources;
pub(crate) use value::{DURATION_EXPECTED, parse_duration};

use reader::Reader;
use report::Findings;
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
    let merged = rename::rename(merge(layers), findings);
    let mut reader = Reader::new(&merged, findings);
    let settings = read::read(&mut reader);
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
