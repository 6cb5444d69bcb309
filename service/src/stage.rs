//! Parts that start and stop together.
//!
//! A part that ends although nobody told it to is a failure of the whole process: see
//! [`crate::app`].

use std::{panic::AssertUnwindSafe, time::Duration};

use anyhow::{Context, Result, anyhow};
use futures_util::FutureExt;
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Tasks under one token.
pub struct Stage {
    /// Tells them to finish.
    pub token: CancellationToken,
    tasks: JoinSet<Result<()>>,
    /// How long a stop may take, for the message when it takes longer.
    deadline: Duration,
}

impl Stage {
    /// No parts yet; `deadline` is named when a stop takes longer.
    pub fn new(deadline: Duration) -> Self {
        Self { token: CancellationToken::new(), tasks: JoinSet::new(), deadline }
    }

    /// Starts a part. That it ends before the token is cancelled counts as a failure.
    pub fn spawn(&mut self, name: &str, work: impl Future<Output = Result<()>> + Send + 'static) {
        let (name, token) = (name.to_owned(), self.token.clone());
        self.tasks.spawn(async move {
            let ended = AssertUnwindSafe(work).catch_unwind().await;
            let told = token.is_cancelled();
            match ended {
                Ok(Ok(())) if told => Ok(()),
                Ok(Ok(())) => Err(anyhow!("{name} ended although nobody told it to")),
                Ok(Err(error)) => Err(error).context(format!("{name} failed")),
                Err(_) => Err(anyhow!("{name} panicked: see the log")),
            }
        });
    }

    /// Waits until a part fails.
    pub async fn failed(&mut self) -> anyhow::Error {
        loop {
            match self.tasks.join_next().await {
                Some(ended) => {
                    if let Err(error) = flat(ended) {
                        return error;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Tells all parts to finish and waits until they have; what is not done by then is cut off.
    pub async fn stop(mut self, until: Instant) -> Result<()> {
        self.token.cancel();
        let mut result = Ok(());
        loop {
            match timeout_at(until, self.tasks.join_next()).await {
                Ok(Some(ended)) => result = result.and(flat(ended)),
                Ok(None) => return result,
                Err(_) => {
                    let late = self.tasks.len();
                    self.tasks.shutdown().await;
                    let deadline = self.deadline;
                    return result.and(Err(anyhow!(
                        "{late} parts did not finish within the drain deadline of {deadline:?}"
                    )));
                }
            }
        }
    }
}

fn flat(ended: Result<Result<()>, JoinError>) -> Result<()> {
    match ended {
        Ok(result) => result,
        Err(error) => Err(anyhow!("a part was cut off: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage() -> Stage {
        Stage::new(Duration::from_secs(1))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    #[tokio::test]
    async fn a_part_that_ends_by_itself_is_a_failure_with_its_name() {
        for (work, says) in [(Ok(()), "nobody told"), (Err(anyhow!("no disk")), "no disk")] {
            let mut stage = stage();
            stage.spawn("sink", async move { work });
            let error = format!("{:#}", stage.failed().await);
            assert!(error.contains("sink") && error.contains(says), "{error}");
        }
    }

    #[tokio::test]
    async fn a_part_that_panics_is_a_failure() {
        let mut stage = stage();
        stage.spawn("sink", async { if true { panic!("on purpose") } else { Ok(()) } });
        assert!(stage.failed().await.to_string().contains("sink panicked"));
    }

    #[tokio::test]
    async fn a_part_that_finishes_when_told_is_no_failure() {
        let mut stage = stage();
        let token = stage.token.clone();
        stage.spawn("sink", async move {
            token.cancelled().await;
            Ok(())
        });
        stage.stop(soon()).await.unwrap();
    }

    #[tokio::test]
    async fn a_part_that_does_not_finish_is_cut_off_at_the_deadline() {
        let mut stage = stage();
        stage.spawn("sink", std::future::pending());
        assert!(stage.stop(soon()).await.unwrap_err().to_string().contains("drain deadline"));
    }
}
