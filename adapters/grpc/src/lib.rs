//! The gRPC port: `ConsumerService` for workers, `grpc.health.v1`, and reflection; and the calls to workers that tasks are
//! pushed to.
//!
//! [`GrpcServer::bind`] takes the address, [`GrpcServer::serve`] answers calls from a
//! [`TaskService`](taskbroker_domain::ports::service::TaskService) until it is told to stop. Everything that a client can
//! make grow has a limit in [`GrpcOptions`]. [`PushGateway`] gives tasks to workers. Install the metrics recorder before binding.

mod auth;
mod connections;
mod consumer;
mod frame;
mod gather;
mod gives_way;
mod guard;
mod health;
mod meter;
mod options;
mod push;
mod request;
mod room;
mod server;
mod signature;
mod tls;

pub use meter::describe_metrics;
pub use options::{Delivery, GrpcOptions};
pub use push::{PushError, PushGateway, PushOptions};
pub use server::{BindError, Drained, GrpcServer, ServeError};
pub use signature::Secrets;
pub use tls::{ClientTls, ServerTls, TlsError};
