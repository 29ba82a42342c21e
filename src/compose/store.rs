//! The store: opened, taken over from the existing system, and the commands on its file.

use std::{num::NonZeroU64, path::Path, sync::Arc};

use anyhow::{Context, Result, ensure};
use taskbroker_domain::{
    activation::Route,
    ports::{
        clock::Clock,
        store::{ActivationStore, StoreError},
    },
};
use taskbroker_memory::MemoryStore;
use taskbroker_proto::codec::Codec;
use taskbroker_sqlite::{
    Downgrade, Downgraded, Opened, Recover, Recovered, SqliteOptions, SqliteStore, TakeOver, TakeOverLog, TakenOver,
    downgrade, volume_bytes,
};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{clock, codec};
use crate::settings::{KafkaSource, Settings, StoreAdapter};

/// Opens the configured store.
#[expect(clippy::disallowed_methods, reason = "the identity of a store in memory is made here")]
pub(super) async fn open(settings: &Settings, clock: &dyn Clock) -> Result<Arc<dyn ActivationStore>> {
    match settings.store.adapter {
        StoreAdapter::Memory => {
            warn!("store.adapter is memory: what is in flight is lost when the broker stops");
            Ok(Arc::new(MemoryStore::new(Uuid::new_v4())))
        }
        StoreAdapter::Sqlite => open_sqlite(settings, clock, false).await,
    }
}

/// Opens the configured SQLite file. A damaged one stays where it is, and is an error.
pub(super) async fn open_whole(settings: &Settings, clock: &dyn Clock) -> Result<Arc<dyn ActivationStore>> {
    let path = settings.store.sqlite_path.display();
    open_sqlite(settings, clock, true).await.map_err(|error| match error.downcast_ref() {
        Some(StoreError::Corrupt(_)) => {
            error.context(format!("`taskbroker recover {path} --to NEW` gets out of it what can be read"))
        }
        _ => error,
    })
}

async fn open_sqlite(settings: &Settings, clock: &dyn Clock, keep_damaged: bool) -> Result<Arc<dyn ActivationStore>> {
    let path = &settings.store.sqlite_path;
    let take_over = Some(take_over(settings));
    let options = SqliteOptions { take_over, keep_damaged, ..SqliteOptions::new(path, clock.now().wall) };
    let opened = SqliteStore::open(options).await.with_context(|| format!("store.sqlite.path {}", path.display()))?;
    tell(&opened, path);
    let (volume, max) = (volume_bytes(path), settings.store.max_bytes.map(NonZeroU64::get));
    if let (Some(volume_bytes), Some(max_size)) = (volume, max)
        && max_size > volume_bytes
    {
        info!(
            max_size,
            volume_bytes,
            "store.max_size is more than its volume has; intake pauses when hardly any room is left on that"
        );
    }
    Ok(Arc::new(opened.store))
}

fn tell(opened: &Opened, path: &Path) {
    if let Some(aside) = &opened.set_aside {
        error!(
            moved_to = %aside.path.display(),
            reason = aside.reason,
            "the store was damaged and was set aside; the broker starts with an empty one. `taskbroker recover {} --to \
             NEW` gets out of it what can be read",
            aside.path.display(),
        );
    }
    if let Some(taken) = &opened.taken_over {
        tell_taken_over(taken);
    }
    info!(path = %path.display(), created = opened.created, checked = opened.checked, "store opened");
}

fn tell_taken_over(taken: &TakenOver) {
    let TakenOver { original, rows, done, discarded, undecodable, partitions } = taken;
    let original = original.as_deref().map_or_else(|| "not kept".to_owned(), |path| path.display().to_string());
    info!(rows, done, discarded, undecodable, original, "the existing system's store was taken over");
    for partition in partitions {
        info!(partition = partition.partition, next = partition.next, "read by the existing system up to here");
    }
    if partitions.is_empty() && *rows > 0 {
        warn!(
            "which topic its rows were read from cannot be said, since several are consumed: what the existing system had \
             stored and not committed is read again"
        );
    }
}

fn take_over(settings: &Settings) -> TakeOver {
    TakeOver::new(codec(settings), log(&settings.kafka.sources))
}

/// The topic that rows of the existing system can be said to come from: the only one that is consumed, or the only one of
/// activations; then rows of the raw ones' tasks say nothing, since they may be of those or their retries.
fn log(sources: &[KafkaSource]) -> Option<TakeOverLog> {
    let mut of_activations = sources.iter().filter(|source| source.raw.is_none());
    let source = match (sources, of_activations.next(), of_activations.next()) {
        ([only], _, _) => only,
        (_, Some(only), None) => only,
        _ => return None,
    };
    let others = sources.iter().filter(|other| other.topic != source.topic);
    let raw = others.filter_map(|other| other.raw.as_ref());
    Some(TakeOverLog {
        topic: source.topic.as_str().into(),
        group: source.group.as_str().into(),
        except: raw.map(|raw| Route::new(&raw.application, &raw.namespace, &raw.taskname)).collect(),
    })
}

/// Writes a store back as the existing system has it.
pub async fn bring_back(file: &Path, to: Option<&Path>) -> Result<Downgraded> {
    ensure!(file.is_file(), "there is no store at {}", file.display());
    let now = clock().now().wall;
    Ok(downgrade(Downgrade { from: file, to, now, with_wish: &Codec::with_wish }).await?)
}

/// Gets out of a damaged store what can be read.
pub async fn recover(file: &Path, to: &Path) -> Result<Recovered> {
    let now = clock().now().wall;
    Ok(taskbroker_sqlite::recover(Recover { from: file, to, now, codec: &Codec::default() }).await?)
}
