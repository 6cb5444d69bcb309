//! How a process is told to stop, and how long stopping may take.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels the token at the first SIGTERM or SIGINT; at the second one the process ends at once.
///
/// From the moment this returns no such signal ends the process otherwise. Call it inside a runtime.
pub fn on_signal(token: CancellationToken) {
    let (mut term, mut int) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(term), Ok(int)) => (term, int),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "cannot listen for signals; SIGTERM will not drain");
                return;
            }
        };
    tokio::spawn(async move {
        let mut told = false;
        loop {
            let name = tokio::select! {
                Some(()) = term.recv() => "SIGTERM",
                Some(()) = int.recv() => "SIGINT",
                else => return,
            };
            if told {
                tracing::error!("{name} again: ending at once");
                std::process::exit(1);
            }
            told = true;
            tracing::info!("{name}: finishing what is under way");
            token.cancel();
        }
    });
}

/// Waits for a future up to a deadline; `what` names it in the error.
pub async fn within<F: Future>(
    deadline: Duration,
    what: &str,
    future: F,
) -> anyhow::Result<F::Output> {
    tokio::time::timeout(deadline, future)
        .await
        .map_err(|_| anyhow::anyhow!("{what} did not finish within {deadline:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_takes_too_long_is_named() {
        let error = within(Duration::from_millis(1), "the sink", std::future::pending::<()>())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("the sink"));
    }
}
