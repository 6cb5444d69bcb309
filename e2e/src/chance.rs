//! Seeds and durations of the tests that roll dice.

use std::{fmt::Display, str::FromStr, time::Duration};

fn env<T: FromStr + Display>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, which is no number")))
}

/// The seed of this run: `PENSTOCK_E2E_SEED`, or one made up; printed either way.
pub fn seed() -> u64 {
    let seed = env("PENSTOCK_E2E_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("PENSTOCK_E2E_SEED={seed}");
    seed
}

/// How long the faults go on: `PENSTOCK_E2E_SECONDS`, or the short form's time.
pub fn duration(short: Duration) -> Duration {
    env("PENSTOCK_E2E_SECONDS").map_or(short, Duration::from_secs)
}

/// How long an outage lasts: a minute in the long form.
pub fn outage(short: Duration) -> Duration {
    duration(short).min(Duration::from_secs(60))
}

/// How many times the stated bounds may be taken: `PENSTOCK_E2E_PATIENCE`, or once. A machine of CI shares its cores, and
/// half of what is measured there is waiting for them.
pub fn patience() -> u32 {
    env("PENSTOCK_E2E_PATIENCE").unwrap_or(1)
}
