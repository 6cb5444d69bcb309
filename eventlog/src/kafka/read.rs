//! Reading a partition outside any group.
//!
//! A reader ends by position, which the records alone cannot show: what lies before it may be markers
//! of transactions. librdkafka's own position passes those; where it does not, what compaction left
//! empty, librdkafka tells when it has come to the end of what is committed. The end was asked for
//! before the first record was, and it never goes back under one leader; so at that word all records
//! before it have been delivered, if the partition still has the same leader.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rdkafka::{
    Message, Offset, TopicPartitionList, consumer::Consumer as _, error::KafkaError,
    types::RDKafkaErrorCode as Code,
};

use super::{Core, blocking, client::CALL, errors::log_error, readers::Loan, record};
use crate::{LogError, Position, ReadDriver, Stored};

/// How long to wait for more once there is something.
const MORE: Duration = Duration::from_millis(1);

/// Reads from a position up to another.
pub(super) struct KafkaReader {
    core: Arc<Core>,
    state: Option<State>,
    topic: Arc<str>,
    partition: u32,
    at: Position,
    to: Position,
}

/// What goes to the blocking thread and comes back.
struct State {
    loan: Loan,
    leader: Option<i32>,
}

impl Core {
    /// See [`crate::LogDriver::read`]; blocks.
    pub(super) fn reader(
        self: &Arc<Self>,
        topic: &str,
        partition: u32,
        from: Position,
        to: Position,
    ) -> Result<KafkaReader, LogError> {
        let loan = self.readers.take()?;
        let bounds = match self.bounds_by(&loan, topic, partition) {
            Ok(bounds) => bounds,
            Err(error) => {
                loan.spoil();
                return Err(error);
            }
        };
        if from < bounds.start || from > bounds.end {
            return Err(self.out_of_range(topic, partition, from, bounds));
        }
        let to = to.min(bounds.end);
        let mut state = State { loan, leader: None };
        if from < to {
            state.leader = Some(self.leader(topic, partition)?);
            assign(&state.loan, topic, partition, from)?;
        }
        let topic = topic.into();
        Ok(KafkaReader { core: self.clone(), state: Some(state), topic, partition, at: from, to })
    }
}

fn assign(loan: &Loan, topic: &str, partition: u32, at: Position) -> Result<(), LogError> {
    let wrong = |error| log_error("reading", topic, &error);
    let mut list = TopicPartitionList::with_capacity(1);
    let offset = Offset::Offset(i64::try_from(at).unwrap_or(i64::MAX));
    let partition = i32::try_from(partition).unwrap_or(i32::MAX);
    list.add_partition_offset(topic, partition, offset).map_err(wrong)?;
    loan.assign(&list).map_err(wrong)
}

/// The position behind what was delivered, and behind the markers that followed it.
fn passed(loan: &Loan, at: Position) -> Position {
    let positions = loan.position().unwrap_or_default();
    let offset = positions.elements().first().map(|place| place.offset());
    match offset {
        Some(Offset::Offset(offset)) => at.max(u64::try_from(offset).unwrap_or_default()),
        _ => at,
    }
}

/// How a look at the log ended.
enum Came {
    Records(Vec<Stored>, Position),
    /// Retention was quicker, or the log went back.
    Gone,
}

/// Waits for records; blocks. Answers also when only the position advanced.
fn wait(
    core: &Core,
    state: &mut State,
    topic: &str,
    partition: u32,
    from: Position,
    to: Position,
) -> Result<Came, LogError> {
    let options = &core.clients.options;
    let (mut records, mut at, mut bytes) = (Vec::new(), from, 0);
    let mut until = Instant::now() + CALL;
    while at < to && bytes < options.batch_bytes && records.len() < options.batch_records {
        let patience = if records.is_empty() { until - Instant::now().min(until) } else { MORE };
        match state.loan.poll(patience) {
            Some(Ok(message)) => {
                let offset = u64::try_from(message.offset()).unwrap_or_default();
                if offset < at {
                    continue;
                }
                at = offset + 1;
                if offset < to {
                    let stored = record::stored(&message);
                    bytes += stored.record.size();
                    records.push(stored);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {
                at = passed(&state.loan, at);
                if at >= to {
                    break;
                }
                let leader = core.leader(topic, partition)?;
                if state.leader == Some(leader) {
                    at = to;
                } else {
                    // A new leader may have known less when it said so: ask again from here.
                    state.leader = Some(leader);
                    let bounds = core.bounds_by(&state.loan, topic, partition)?;
                    if bounds.end < to || bounds.start > at {
                        return Ok(Came::Gone);
                    }
                    assign(&state.loan, topic, partition, at)?;
                    until = Instant::now() + CALL;
                }
            }
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) if records.is_empty() => {
                    return Ok(Came::Gone);
                }
                Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => break,
                Some(
                    Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition,
                ) => {
                    return Err(LogError::Unknown(format!("{topic}/{partition}")));
                }
                // librdkafka goes on by itself after the others, and after these too.
                _ => tracing::debug!(topic, partition, %error, "a read met an error"),
            },
            None if !records.is_empty() => {
                at = passed(&state.loan, at);
                break;
            }
            None if Instant::now() >= until => {
                return Err(LogError::Retry(format!(
                    "nothing of {topic}/{partition} came from {from} on within {CALL:?}"
                )));
            }
            None => {}
        }
    }
    Ok(Came::Records(records, at.min(to)))
}

#[async_trait]
impl ReadDriver for KafkaReader {
    async fn next(&mut self) -> Result<Option<(Vec<Stored>, Position)>, LogError> {
        if self.at >= self.to {
            self.state = None; // another reader may have it
            return Ok(None);
        }
        let (core, topic) = (self.core.clone(), self.topic.clone());
        let (partition, at, to) = (self.partition, self.at, self.to);
        // A wait that was dropped took the state with it: begin again where it began.
        let state = self.state.take();
        let (state, came) = blocking("reading", move || {
            let mut state = match state {
                Some(state) => state,
                None => {
                    let loan = core.readers.take()?;
                    let leader = Some(core.leader(&topic, partition)?);
                    assign(&loan, &topic, partition, at)?;
                    State { loan, leader }
                }
            };
            match wait(&core, &mut state, &topic, partition, at, to) {
                Ok(Came::Records(records, next)) => Ok((state, (records, next))),
                Ok(Came::Gone) => {
                    let bounds = core.bounds_by(&state.loan, &topic, partition)?;
                    Err(core.out_of_range(&topic, partition, at, bounds))
                }
                Err(error) => {
                    state.loan.spoil();
                    Err(error)
                }
            }
        })
        .await?;
        self.at = came.1;
        self.state = (self.at < self.to).then_some(state);
        Ok(Some(came))
    }
}
