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

/// Asks how many bytes are free.
type Ask = Box<dyn FnMut() -> std::io::Result<u64> + Send>;

/// Watches the file system of a folder.
pub(super) struct Space {
    path: Arc<Path>,
    min_free: u64,
    ask: Ask,
    seen: Option<(Instant, u64)>,
}

impl Space {
    /// Asks the file system of the folder.
    pub(super) fn of(path: Arc<Path>, min_free: u64) -> Self {
        let folder = path.clone();
        let ask = move || {
            let stat = rustix::fs::statvfs(&*folder)?;
            Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
        };
        Self::new(path, min_free, Box::new(ask))
    }

    pub(super) fn new(path: Arc<Path>, min_free: u64, ask: Ask) -> Self {
        Self { path, min_free, ask, seen: None }
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
                let free = (self.ask)().map_err(|e| {
                    StoreError::Retry(format!(
                        "store {}: cannot ask for its free space: {e}",
                        self.path.display()
                    ))
                })?;
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

    fn space(min_free: u64, free: u64) -> Space {
        Space::new(Path::new("/").into(), min_free, Box::new(move || Ok(free)))
    }

    #[test]
    fn below_the_reserve_a_write_is_to_be_retried() {
        let now = Instant::now();
        assert!(matches!(space(100, 99).check(now, 0, false), Err(StoreError::Retry(_))));
        assert_eq!(space(100, 100).check(now, 0, false), Ok(()));
    }

    #[test]
    fn bytes_still_to_be_sorted_count_as_taken() {
        let now = Instant::now();
        assert!(space(100, 149).check(now, 50, false).is_err());
    }

    #[test]
    fn removing_may_use_half_of_the_reserve() {
        let now = Instant::now();
        assert_eq!(space(100, 50).check(now, 50, true), Ok(()));
        assert!(space(100, 49).check(now, 0, true).is_err());
    }

    #[test]
    fn room_that_was_made_is_seen_without_a_restart() {
        let then = Instant::now();
        let mut answers = [0, 1].into_iter();
        let ask = move || Ok(answers.next().unwrap_or_default());
        let mut space = Space::new(Path::new("/").into(), 1, Box::new(ask));
        assert!(space.check(then, 0, false).is_err());
        assert!(space.check(then + FRESH / 2, 0, false).is_err(), "the answer is still fresh");
        assert_eq!(space.check(then + FRESH, 0, false), Ok(()));
    }

    #[test]
    fn a_folder_that_is_gone_is_to_be_retried_rather_than_taken_for_roomy() {
        let mut space = Space::of(Path::new("/nowhere/at/all").into(), 0);
        assert!(matches!(space.check(Instant::now(), 0, false), Err(StoreError::Retry(_))));
    }
}
