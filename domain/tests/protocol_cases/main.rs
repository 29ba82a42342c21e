//! The ways in which a broker like this loses or repeats, each as the shortest history that does it, on the real ledger; by the
//! rules that each would break.
//!
//! The numbers (C1 ... C14) are those of the protocol's cases. What concerns forwarding (C7, C7b, a part of C8) is in
//! `forwarding.rs`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod at_most_once;
mod durable;
mod life;
mod positions;
mod publishing;
mod reports;
#[path = "../world/mod.rs"]
mod world;

use std::time::Duration;

use taskbroker_domain::{activation::RetryWish, ports::service::Verdict};
use world::policy;

const SECOND: Duration = Duration::from_secs(1);
const RETRY: Verdict = Verdict::Retry(RetryWish { max_attempts: None, delay_s: None });

fn past_window() -> Duration {
    policy().window + Duration::from_millis(1)
}
