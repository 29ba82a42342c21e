//! The gRPC server: ConsumerService, health and reflection.
