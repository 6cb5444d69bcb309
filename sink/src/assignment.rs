//! What an assignment means: where to read from, where to work from, what is missing.
//!
//! [`plan`] decides from what log and store say, and does nothing. The invariant: work begins at or
//! below both the committed position and what the store has, because everything above either may be
//! missing; and what lies below is read for the window only.

use eventlog::{Assignment, Bounds, Log, Position};
use service::config::SinkConfig;

use crate::{
    SinkError,
    retry::Patient,
    store::{FoldMark, PartitionState, TopicEpoch, VersionId},
    window::{Before, Window},
};

/// So many partitions are looked at side by side, in the log and in the store.
pub(crate) const LOOKS: usize = 8;

/// All that a partition's task needs to begin.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) assignment: Assignment,
    pub(crate) epoch: TopicEpoch,
    pub(crate) state: PartitionState,
    pub(crate) log_start: Position,
    pub(crate) begin: Begin,
}

/// Positions to begin at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    /// Records from here on are deduplicated, folded and stored.
    pub(crate) work: Position,
    /// Records from here on are read, those below `work` for the window.
    pub(crate) read: Position,
    /// What the subscription is told; `None` leaves it at the committed position, so that it
    /// reports the gap that is there.
    pub(crate) answer: Option<Position>,
    /// What came before the records that are read.
    pub(crate) before: Before,
    /// Records that the store never had and the log has no longer; the subscription knows nothing of it.
    pub(crate) lost: Option<(Position, Position)>,
}

/// The position of the first record of a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dated {
    pub(crate) time: i64,
    pub(crate) position: Position,
}

/// Asks log and store, and plans.
pub(crate) async fn start(
    patient: &Patient,
    log: &Log,
    assignment: Assignment,
    epoch: TopicEpoch,
    config: &SinkConfig,
    now: i64,
) -> Result<Start, SinkError> {
    let (topic, partition) = (assignment.lease.topic.clone(), assignment.lease.partition);
    let state = patient.partition(&topic, epoch.epoch, partition).await?;
    let time = now.saturating_sub(micros(config.warm_time));
    let position = patient.log(|| log.position_at(&topic, partition, time)).await?;
    // After the dated position, so that what retention takes meanwhile shows here.
    let bounds = patient.log(|| log.bounds(&topic, partition)).await?;
    let begin = plan(
        assignment.committed,
        state.stored_to,
        bounds,
        Dated { time, position },
        config.warm_records.min(config.window_records) as u64,
        epoch.epoch,
    );
    Ok(Start { assignment, epoch, state, log_start: bounds.start, begin })
}

/// Where to begin, given where the group stands, what the store has, and what the log holds.
pub(crate) fn plan(
    committed: Option<Position>,
    stored_to: Position,
    bounds: Bounds,
    warm: Dated,
    warm_records: u64,
    epoch: u32,
) -> Begin {
    let wanted = committed.unwrap_or(0).min(stored_to);
    let work = wanted.max(bounds.start);
    // Holes make the distance an upper bound of the records.
    let by_records = work.saturating_sub(warm_records);
    let read = warm.position.max(by_records).max(bounds.start).min(work);
    let answer = if committed == Some(wanted) && wanted < bounds.start { None } else { Some(read) };
    let before = if read == 0 && epoch == 1 {
        Before::Nothing
    } else if read <= warm.position && (bounds.start == 0 || warm.position > bounds.start) {
        Before::UpTo(warm.time)
    } else {
        Before::Unknown // what retention took may be younger than the time asked for
    };
    let lost = (0 < stored_to && stored_to < bounds.start && committed != Some(wanted))
        .then_some((stored_to, bounds.start));
    Begin { work, read, answer, before, lost }
}

impl Start {
    /// The deduplication window to begin with.
    pub(crate) fn window(&self, config: &SinkConfig) -> Window {
        let floor = match self.epoch.epoch {
            1 => i64::MIN,
            _ => self.epoch.started_at.saturating_add(micros(config.clock_skew)),
        };
        Window::new(config.window_records, self.begin.before, floor)
    }

    /// The marks of these versions as they are now, and those with a hole below `work`.
    pub(crate) fn marks(&self, versions: impl Iterator<Item = VersionId>) -> Vec<FoldMark> {
        versions
            .map(|version| {
                let known = self.state.marks.iter().find(|mark| mark.version == version);
                let mut mark = known.copied().unwrap_or(FoldMark {
                    version,
                    from: self.log_start,
                    to: 0,
                    complete: true,
                });
                if mark.to < self.log_start {
                    mark.to = self.log_start;
                    mark.complete = false;
                }
                mark
            })
            .collect()
    }
}

pub(crate) fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u64 = 1_000_000;

    fn bounds(start: Position, end: Position) -> Bounds {
        Bounds { start, end }
    }

    fn dated(position: Position) -> Dated {
        Dated { time: 77, position }
    }

    #[test]
    fn a_fresh_group_works_from_the_start_of_the_log_and_knows_that_nothing_came_before() {
        let begin = plan(None, 0, bounds(0, 500), dated(400), MANY, 1);
        let expected =
            Begin { work: 0, read: 0, answer: Some(0), before: Before::Nothing, lost: None };
        assert_eq!(begin, expected);
    }

    #[test]
    fn reading_begins_below_the_committed_position_by_time() {
        let begin = plan(Some(300), 300, bounds(0, 500), dated(250), MANY, 1);
        let expected =
            Begin { work: 300, read: 250, answer: Some(250), before: Before::UpTo(77), lost: None };
        assert_eq!(begin, expected);
    }

    #[test]
    fn reading_begins_below_the_committed_position_by_records_at_most() {
        let begin = plan(Some(300), 300, bounds(0, 500), dated(250), 20, 1);
        assert_eq!((begin.read, begin.before), (280, Before::Unknown));
    }

    #[test]
    fn an_idle_partition_needs_no_warming_to_know_its_time() {
        let begin = plan(Some(300), 300, bounds(0, 300), dated(300), MANY, 1);
        assert_eq!((begin.read, begin.before), (300, Before::UpTo(77)));
    }

    #[test]
    fn work_begins_where_the_store_ends_when_it_is_behind_the_group() {
        assert_eq!(plan(Some(300), 120, bounds(0, 500), dated(300), MANY, 1).work, 120);
        assert_eq!(plan(Some(300), 0, bounds(0, 500), dated(300), MANY, 1).work, 0);
    }

    #[test]
    fn work_begins_where_the_group_stands_when_the_store_is_ahead() {
        assert_eq!(plan(Some(300), 350, bounds(0, 500), dated(300), MANY, 1).work, 300);
    }

    #[test]
    fn the_subscription_reports_a_gap_at_the_committed_position_itself() {
        let begin = plan(Some(300), 300, bounds(400, 500), dated(450), MANY, 1);
        assert_eq!((begin.answer, begin.lost, begin.work), (None, None, 400));
    }

    #[test]
    fn a_gap_above_the_store_and_below_the_group_is_found_here() {
        let begin = plan(Some(450), 300, bounds(400, 500), dated(450), MANY, 1);
        assert_eq!((begin.answer, begin.lost), (Some(400), Some((300, 400))));
    }

    #[test]
    fn in_a_later_epoch_a_whole_log_is_not_all_there_ever_was() {
        let begin = plan(None, 0, bounds(0, 500), dated(0), MANY, 2);
        assert_eq!(begin.before, Before::UpTo(77));
    }

    #[test]
    fn what_retention_took_may_be_younger_than_the_time_asked_for() {
        let begin = plan(Some(300), 300, bounds(300, 500), dated(300), MANY, 1);
        assert_eq!(begin.before, Before::Unknown);
    }
}
