//! The memory store keeps the contract of its port.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use taskbroker_contract::store::StoreUnderTest;
use taskbroker_domain::ports::store::{ActivationStore, StoreError};
use taskbroker_memory::MemoryStore;
use uuid::Uuid;

#[derive(Default)]
struct Memory(Mutex<HashMap<String, MemoryStore>>);

#[async_trait]
impl StoreUnderTest for Memory {
    async fn open(&self, name: &str) -> Result<Arc<dyn ActivationStore>, StoreError> {
        let mut stores = self.0.lock().expect("no test panics with the lock held");
        let identity = Uuid::from_u128(stores.len() as u128 + 1);
        let store = stores.entry(name.to_owned()).or_insert_with(|| MemoryStore::new(identity));
        Ok(Arc::new(store.clone()))
    }

    fn has_one_owner(&self) -> bool {
        false
    }
}

taskbroker_contract::activation_store_contract!(Memory::default());
