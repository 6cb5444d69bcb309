//! Folding a rollup's hole from the log: a new definition, or a flush whose rollups were not written.
//!
//! Runs before a partition goes on, for the versions with a hole alone; events are not stored
//! again. The invariant: a record counts if and only if the locator names it as the one that stored
//! its identity, which is exact, because everything in a hole is below what the store has.

use std::{collections::BTreeMap, sync::Arc};

use eventlog::{Log, LogError, Position, Stored};
use schemas::{Codec, Event};

use crate::{
    SinkError,
    assignment::Start,
    decode::decode,
    fold::{Folder, Plan},
    retry::Patient,
    store::{Flush, FoldMark, Identity, Origin},
};

/// Records folded between two writes of how far it went.
const RECORDS_AT_ONCE: usize = 20_000;

/// What back-folding works with.
pub(crate) struct Backfold<'a> {
    pub(crate) log: &'a Log,
    pub(crate) codec: &'a Codec,
    pub(crate) patient: &'a Patient,
    pub(crate) start: &'a Start,
    pub(crate) plans: &'a [Arc<Plan>],
}

impl Backfold<'_> {
    /// Brings every mark (one for each plan, in order) up to where work begins.
    pub(crate) async fn run(&self, marks: &mut [FoldMark]) -> Result<(), SinkError> {
        let to = self.start.begin.work;
        let mut holes: BTreeMap<Position, Vec<usize>> = BTreeMap::new();
        for (plan, mark) in marks.iter().enumerate().filter(|(_, mark)| mark.to < to) {
            holes.entry(mark.to).or_default().push(plan);
        }
        for (from, plans) in holes {
            let lease = &self.start.assignment.lease;
            tracing::info!(
                partition = lease.partition,
                from,
                to,
                rollups = plans.len(),
                "folding again what these rollups have not seen"
            );
            self.fold(from, to, &plans, marks).await?;
        }
        Ok(())
    }

    async fn fold(
        &self,
        from: Position,
        to: Position,
        holed: &[usize],
        marks: &mut [FoldMark],
    ) -> Result<(), SinkError> {
        let plans: Arc<[Arc<Plan>]> = holed.iter().map(|&p| self.plans[p].clone()).collect();
        let lease = &self.start.assignment.lease;
        let (topic, partition) = (&*lease.topic, lease.partition);
        let mut folder = Folder::new(plans.clone(), self.start.epoch.epoch, partition);
        let mut position = from;
        let mut unwritten = 0;
        'open: while position < to {
            let opened = self.patient.log(|| async {
                match self.log.read(topic, partition, position, to).await {
                    Err(LogError::OutOfRange { start, .. }) if start > position => Ok(Err(start)),
                    other => other.map(Ok),
                }
            });
            let mut reader = match opened.await? {
                Ok(reader) => reader,
                Err(start) => {
                    position = start.min(to); // retention was faster
                    holed.iter().for_each(|&p| marks[p].complete = false);
                    continue 'open;
                }
            };
            loop {
                let (records, next) = match reader.next().await {
                    Ok(Some(batch)) => batch,
                    Ok(None) => {
                        position = to;
                        break;
                    }
                    Err(LogError::Retry(_) | LogError::OutOfRange { .. }) => {
                        self.patient.metrics.retries.inc();
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                        continue 'open;
                    }
                    Err(error) => return Err(SinkError::Log(error)),
                };
                unwritten += records.len();
                let mut rest = &records[..];
                while !rest.is_empty() {
                    let folded = self.fold_some(&mut folder, &plans, rest).await?;
                    rest = &rest[folded..];
                }
                position = next;
                if unwritten >= RECORDS_AT_ONCE {
                    self.write(&mut folder, position.min(to), holed, marks).await?;
                    unwritten = 0;
                }
            }
        }
        self.write(&mut folder, to, holed, marks).await
    }

    /// Folds the first of these records; how many.
    async fn fold_some(
        &self,
        folder: &mut Folder,
        plans: &[Arc<Plan>],
        records: &[Stored],
    ) -> Result<usize, SinkError> {
        let decoded = decode(self.codec, self.patient, records).await?;
        let count = decoded.len();
        let folded: Vec<(Event, u64)> = decoded
            .into_iter()
            .zip(records)
            .filter_map(|(event, stored)| Some((event.ok()?, stored.offset)))
            .filter(|(event, _)| plans.iter().any(|plan| plan.folds(event)))
            .collect();
        let identities: Vec<Identity> = folded
            .iter()
            .map(|(event, _)| Identity {
                namespace: event.namespace.clone(),
                source: event.source.clone(),
                id: event.id.clone(),
            })
            .collect();
        let located = self.patient.locate(&identities).await?;
        let (epoch, partition) = (self.start.epoch.epoch, self.start.assignment.lease.partition);
        for ((event, offset), origin) in folded.into_iter().zip(located) {
            if origin == Some(Origin { epoch, partition, offset }) {
                folder.add(&event, offset);
                self.patient.metrics.folded_again.inc();
            }
        }
        let found = self.patient.rollup_rows(&folder.missing()).await?;
        folder.load(found);
        folder.fold();
        Ok(count)
    }

    async fn write(
        &self,
        folder: &mut Folder,
        to: Position,
        holed: &[usize],
        marks: &mut [FoldMark],
    ) -> Result<(), SinkError> {
        holed.iter().for_each(|&p| marks[p].to = marks[p].to.max(to));
        let lease = &self.start.assignment.lease;
        let flush = Arc::new(Flush {
            topic: lease.topic.clone(),
            epoch: self.start.epoch.epoch,
            partition: lease.partition,
            events: Vec::new(),
            rollups: folder.snapshot(),
            marks: holed.iter().map(|&p| marks[p]).collect(),
            stored_to: self.start.state.stored_to,
        });
        self.patient.metrics.rollup_rows.inc_by(flush.rollups.len() as u64);
        self.patient.write(&flush).await?;
        folder.forget();
        Ok(())
    }
}
