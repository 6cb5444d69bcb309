//! Opening what may not be there yet.
//!
//! Services start in any order: one whose broker or database is not there stays alive, says in
//! `/readyz` what it waits for, and tries again until it is told to stop. What a retry cannot
//! mend ends it at once instead, because only a person can.

use std::fmt::Display;

use tokio::time::sleep;

use crate::{backoff::Backoff, health::Part};

/// Tries until it succeeds or fails for good. `again` says which errors are worth another try;
/// those are the part's reason meanwhile, and a warning whenever the reason changes.
///
/// There is no limit: whoever runs the service set its order of starts, not the service. Cancel it to stop.
pub async fn until_open<T, E, F>(
    part: &Part,
    again: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let mut backoff = Backoff::default();
    let mut last = String::new();
    loop {
        let error = match attempt().await {
            Err(error) if again(&error) => error.to_string(),
            done => return done,
        };
        if error != last {
            tracing::warn!(part = part.name(), "{error}; trying again");
        }
        part.failing(error.clone());
        last = error;
        sleep(backoff.next_wait()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::health::Health;

    #[tokio::test]
    async fn what_may_come_is_waited_for_and_named_meanwhile() {
        let health = Health::default();
        let part = health.part("log");
        let tries = Cell::new(0);
        let opened = until_open(
            &part,
            |_: &String| true,
            async || {
                tries.set(tries.get() + 1);
                if tries.get() > 1 {
                    assert_eq!(health.failing(), [("log".to_owned(), "no broker".to_owned())]);
                }
                if tries.get() > 3 { Ok(()) } else { Err("no broker".to_owned()) }
            },
        );
        assert_eq!((opened.await, tries.get()), (Ok(()), 4));
    }

    #[tokio::test]
    async fn what_a_retry_cannot_mend_is_an_error_at_once() {
        let part = Health::default().part("log");
        let opened = until_open(
            &part,
            |e: &String| e != "four partitions",
            async || Err::<(), _>("four partitions".to_owned()),
        );
        assert_eq!(opened.await, Err("four partitions".to_owned()));
    }
}
