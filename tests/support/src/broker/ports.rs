//! Ports to listen on.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Result, bail};

/// Below the range from which the system takes ports for outgoing connections: such a one could take the port of a broker
/// while it is down.
const FIRST: u16 = 10_000;
const COUNT: u16 = 9_000;

/// A port that nobody listens on, given once in this process.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test binaries that run at the same time begin in different places.
    let begin = u16::try_from(std::process::id() % u32::from(COUNT / 100))? * 100;
    for _ in 0..COUNT {
        let port = FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port between {FIRST} and {} is free", FIRST + COUNT)
}
