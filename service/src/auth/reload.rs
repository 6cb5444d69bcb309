//! Follows `[[keys]]` in the configuration's file while the process runs.
//!
//! The file is read again every second and compared as a whole: that sees every way of changing
//! it (written in place, renamed over, a link that points elsewhere) and is cheap. A file with
//! mistakes changes nothing: the keys in force stay, and the log, a metric and a note in
//! `/readyz` say so. Mistakes elsewhere than in the keys do not stop a revocation.

use std::{path::PathBuf, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Gate, metrics::Outcome};
use crate::{
    config::{ConfigError, KeyConfig, load_keys_here},
    health::Part,
};

/// How often the file is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// What was read last, and what is in force.
struct Watched {
    path: PathBuf,
    text: Option<Vec<u8>>,
    keys: Vec<KeyConfig>,
}

/// Follows the file until the token is cancelled; `keys` are those in force.
pub(crate) async fn follow(
    path: PathBuf,
    keys: Vec<KeyConfig>,
    gate: Gate,
    part: Part,
    token: CancellationToken,
) {
    part.ready();
    let mut watched = Watched { path, text: None, keys };
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while token.run_until_cancelled(ticks.tick()).await.is_some() {
        let look = tokio::task::spawn_blocking(move || {
            let found = watched.look();
            (watched, found)
        });
        // A reading that panicked took what it knew along; the keys in force stay.
        let Ok((back, found)) = look.await else {
            part.note("the keys are no longer read from the file: restart to take changes in");
            token.cancelled().await;
            return;
        };
        watched = back;
        if let Some(found) = found {
            apply(found, &mut watched, &gate, &part);
        }
    }
}

impl Watched {
    /// The keys of the file, when it is not what it was.
    fn look(&mut self) -> Option<Result<Vec<KeyConfig>, ConfigError>> {
        let text = std::fs::read(&self.path).ok();
        if text == self.text && text.is_some() {
            return None;
        }
        let gone_before = self.text.is_none() && text.is_none();
        let found = load_keys_here(&self.path);
        self.text = text;
        if gone_before && found.is_err() {
            return None; // said already, or by the next look
        }
        Some(found)
    }
}

fn apply(
    found: Result<Vec<KeyConfig>, ConfigError>,
    watched: &mut Watched,
    gate: &Gate,
    part: &Part,
) {
    let count = |outcome| gate.metrics.reloads.get_or_create(&Outcome { outcome }).inc();
    match found {
        Ok(keys) => {
            gate.metrics.stale.set(0);
            part.clear_notes();
            if keys != watched.keys {
                gate.set_keys(&keys);
                count("taken");
                let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
                tracing::info!(keys = names.join(","), "the configured keys changed");
                watched.keys = keys;
            }
        }
        Err(error) => {
            gate.metrics.stale.set(1);
            count("refused");
            part.note("the keys in the configuration have mistakes: the former ones are in force");
            tracing::error!("the keys in force stay as they were, because {error}");
        }
    }
}
