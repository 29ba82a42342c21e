//! The contract suites that every adapter of a port passes. A suite is plain async functions, one per clause of the
//! port's contract; an adapter's tests run all of them with one macro call.

pub mod store;
