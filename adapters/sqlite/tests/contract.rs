//! The SQLite store keeps the contract of its port, in a file and in memory.

use std::sync::Arc;

use async_trait::async_trait;
use taskbroker_contract::store::{StoreUnderTest, moment};
use taskbroker_domain::ports::store::{ActivationStore, StoreError};
use taskbroker_sqlite::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

struct InFile(TempDir);

impl InFile {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory can be made"))
    }
}

#[async_trait]
impl StoreUnderTest for InFile {
    async fn open(&self, name: &str) -> Result<Arc<dyn ActivationStore>, StoreError> {
        let path = self.0.path().join(format!("{name}.sqlite"));
        let opened = SqliteStore::open(SqliteOptions::new(path, moment(0))).await?;
        assert_eq!(opened.set_aside, None);
        Ok(Arc::new(opened.store))
    }
}

struct InMemory;

#[async_trait]
impl StoreUnderTest for InMemory {
    async fn open(&self, _name: &str) -> Result<Arc<dyn ActivationStore>, StoreError> {
        Ok(Arc::new(SqliteStore::open_in_memory().await?))
    }

    fn persists(&self) -> bool {
        false
    }

    fn has_one_owner(&self) -> bool {
        false
    }
}

mod in_file {
    use super::InFile;

    taskbroker_contract::activation_store_contract!(InFile::new());
}

mod in_memory {
    use super::InMemory;

    taskbroker_contract::activation_store_contract!(InMemory);
}
