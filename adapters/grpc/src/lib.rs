//! The gRPC port: `ConsumerService` for workers, `grpc.health.v1`, and reflection.
//!
//! [`GrpcServer::bind`] takes the address, [`GrpcServer::serve`] answers calls from a
//! [`TaskService`](taskbroker_domain::ports::service::TaskService) until it is told to stop. Everything that a client can
//! make grow has a limit in [`GrpcOptions`]. Install the metrics recorder before binding.

mod connections;
mod consumer;
mod guard;
mod health;
mod meter;
mod options;
mod request;
mod server;

pub use meter::describe_metrics;
pub use options::GrpcOptions;
pub use server::{BindError, Drained, GrpcServer, ServeError};
