//! The epoch of the topic: which life of its log the positions in the store belong to.
//!
//! A log that went backwards (made again, truncated, restored from a copy) gives offsets out a
//! second time. The invariant: no position of one life is ever compared with one of another, so
//! the epoch is judged before anything else that an assignment brings.

use eventlog::{Log, TopicInfo};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{SinkError, assignment::LOOKS, retry::Patient, store::TopicEpoch};

/// The epoch to work in; begins the first, and the next one when the log went backwards.
pub(crate) async fn current(
    patient: &Patient,
    log: &Log,
    topic: &str,
    now: i64,
) -> Result<TopicEpoch, SinkError> {
    let info = patient.log(|| log.topic(topic)).await?;
    let known = patient.store(|| patient.store.epoch(topic)).await?;
    let next = match known {
        None => TopicEpoch { epoch: 1, started_at: now, incarnation: info.incarnation },
        Some(known) => match backwards(patient, log, &info, &known).await? {
            None => return Ok(known),
            Some(why) => {
                let epoch = known.epoch + 1;
                tracing::warn!(topic, epoch, why, "the log went backwards; a new epoch begins");
                patient.status.part().note(format!("epoch {epoch} of {topic} began: {why}"));
                TopicEpoch { epoch, started_at: now, incarnation: info.incarnation }
            }
        },
    };
    let from = known.map(|known| known.epoch);
    // Another replica may have been first; what it began is current then.
    patient.store(|| patient.store.begin_epoch(topic, from, next)).await
}

/// Why the log cannot be the one that the store has recorded, if so.
async fn backwards(
    patient: &Patient,
    log: &Log,
    info: &TopicInfo,
    known: &TopicEpoch,
) -> Result<Option<String>, SinkError> {
    if let (Some(then), Some(now)) = (known.incarnation, info.incarnation)
        && then != now
    {
        return Ok(Some("the topic was deleted and made again".into()));
    }
    let look = async |partition| {
        let state = patient.partition(&info.name, known.epoch, partition).await?;
        let bounds = patient.log(|| log.bounds(&info.name, partition)).await?;
        let backwards = (bounds.end < state.stored_to).then(|| {
            let (end, stored_to) = (bounds.end, state.stored_to);
            format!("partition {partition} ends at {end}, and the store has it up to {stored_to}")
        });
        Ok(backwards)
    };
    let found = stream::iter(0..info.partitions).map(look).buffered(LOOKS);
    found.try_filter_map(|why| std::future::ready(Ok(why))).boxed().try_next().await
}
