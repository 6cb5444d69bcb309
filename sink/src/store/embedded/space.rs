//! Free space, asked before each write: the engine cannot go on after a write that failed, so a
//! full disk must be seen before it is met.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::store::StoreError;

/// How long an answer of the file system is good for.
const FRESH: Duration = Duration::from_millis(50);

/// Watches the file system of a folder.
pub(super) struct Space {
    path: Arc<Path>,
    min_free: u64,
    seen: Option<(Instant, u64)>,
}

impl Space {
    pub(super) fn new(path: Arc<Path>, min_free: u64) -> Self {
        Self { path, min_free, seen: None }
    }

    /// Whether there is room. `promised` bytes are accepted already and still to be moved to
    /// their tables; removing rows may use half of the reserve, since it makes room.
    pub(super) fn check(
        &mut self,
        now: Instant,
        promised: u64,
        removes: bool,
    ) -> Result<(), StoreError> {
        let free = match self.seen {
            Some((at, free)) if now.duration_since(at) < FRESH => free,
            _ => {
                let stat = rustix::fs::statvfs(&*self.path).map_err(|e| {
                    StoreError::Retry(format!(
                        "store {}: cannot ask for its free space: {e}",
                        self.path.display()
                    ))
                })?;
                let free = stat.f_bavail.saturating_mul(stat.f_frsize);
                self.seen = Some((now, free));
                free
            }
        };
        let needed = if removes { self.min_free / 2 } else { self.min_free + promised };
        if free >= needed {
            return Ok(());
        }
        Err(StoreError::Retry(format!(
            "store {}: {} MiB free on its file system, {} needed (`store.min_free_bytes`, and what \
             is still to be sorted); make room: writing goes on by itself then",
            self.path.display(),
            free >> 20,
            needed.div_ceil(1 << 20),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(min_free: u64, free: u64, at: Instant) -> Space {
        Space { path: Path::new("/").into(), min_free, seen: Some((at, free)) }
    }

    #[test]
    fn below_the_reserve_a_write_is_to_be_retried() {
        let now = Instant::now();
        assert!(matches!(space(100, 99, now).check(now, 0, false), Err(StoreError::Retry(_))));
        assert_eq!(space(100, 100, now).check(now, 0, false), Ok(()));
    }

    #[test]
    fn bytes_still_to_be_sorted_count_as_taken() {
        let now = Instant::now();
        assert!(space(100, 149, now).check(now, 50, false).is_err());
    }

    #[test]
    fn removing_may_use_half_of_the_reserve() {
        let now = Instant::now();
        assert_eq!(space(100, 50, now).check(now, 50, true), Ok(()));
        assert!(space(100, 49, now).check(now, 0, true).is_err());
    }

    #[test]
    fn room_that_was_made_is_seen_without_a_restart() {
        let then = Instant::now();
        let mut full = space(1, 0, then);
        assert!(full.check(then, 0, false).is_err());
        assert_eq!(full.check(then + FRESH, 0, false), Ok(()));
    }
}
