//! The wire: protobuf messages and services, and their conversion to the domain.
