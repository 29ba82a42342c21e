//! Time.

use crate::time::Now;

/// Reads both clocks. Steady time never goes back; wall time may.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Now;
}
