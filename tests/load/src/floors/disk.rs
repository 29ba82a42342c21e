//! The disk alone: how long it takes until a small write is durable. Who waits for one answer at a time cannot be faster.

use std::{
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::latency::Latency;

/// About what a small commit writes.
const BYTES: [u8; 4096] = [b'x'; 4096];

/// Appends to a file in this directory and syncs it, again and again for so long.
pub(crate) fn sync(directory: &Path, during: Duration) -> Result<Latency> {
    let mut file = tempfile::tempfile_in(directory)?;
    let mut latency = Latency::default();
    let began = Instant::now();
    while began.elapsed() < during {
        file.write_all(&BYTES)?;
        let written = Instant::now();
        file.sync_data()?;
        latency.record(written.elapsed());
    }
    Ok(latency)
}
