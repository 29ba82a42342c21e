//! In-memory adapters: a store, a source and an outbox for tests and trials.
