//! Work on large payloads: compressing and looking into them takes milliseconds, for which no thread that serves workers is
//! held up.

use std::panic::resume_unwind;

use tokio::task::spawn_blocking;

/// Payloads of so many bytes together are worked on at once: it takes less than the two changes of thread that it would save.
/// zstd compresses 64 KiB in about 0.3 ms.
pub(super) const AT_ONCE_MAX: usize = 64 * 1024;

/// Does work on so many bytes, elsewhere if they are many. A panic is the caller's.
pub(super) async fn run<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes <= AT_ONCE_MAX {
        return work();
    }
    match spawn_blocking(work).await.map_err(|error| error.try_into_panic()) {
        Ok(done) => done,
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime ends, and with it whoever waits here.
        Err(Err(_cancelled)) => std::future::pending().await,
    }
}
