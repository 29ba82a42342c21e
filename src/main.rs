//! The taskbroker daemon and its commands.
fn main() {}
