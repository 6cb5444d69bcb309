//! What happens to records between being read and being committed. No I/O and no waiting: it runs
//! on a thread for computing.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use eventlog::{Batch, Headers, HeadersBuilder, Lease, Position, Record, Stored};
use schemas::{Codec, DecodeError, EncodeError, Fault, Wanted, dead_letter};

use crate::{Chain, Events, Outcome, Tally};

/// The step of a dead letter whose record is no event.
const DECODE: &str = "decode";
/// The step of a dead letter whose record became events that fit no schema or no topic.
const ENCODE: &str = "encode";
/// A larger output is not written. The log's own limit is above it.
const LARGEST_OUTPUT: usize = 4 * 1024 * 1024;
/// Bytes of outputs after which work stops to have them committed, whatever a program makes of
/// one event.
const ENOUGH_OUTPUT: usize = 8 * 1024 * 1024;
/// Bytes of a detail that a dead letter's header keeps.
const LONGEST_DETAIL: usize = 1024;

/// What work needs to know, shared by all batches.
pub(super) struct Workshop {
    pub(super) processor: Arc<str>,
    pub(super) chain: Chain,
    pub(super) codec: Codec,
    pub(super) to: Arc<str>,
    pub(super) dead_letters: Arc<str>,
}

/// Results of a batch, or of a piece of one, ready to be committed.
pub(super) struct Part {
    pub(super) lease: Lease,
    /// The position to commit.
    pub(super) next: Position,
    pub(super) outputs: Vec<(Arc<str>, Record)>,
    pub(super) counts: Counts,
}

/// What is published once a part is committed.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) emitted: u64,
    pub(super) dropped: u64,
    pub(super) dead: u64,
    /// Events written, which are more than records where a step makes several of one.
    pub(super) events: u64,
    pub(super) tally: Tally,
    /// The runner's own rejections, by step and reason.
    pub(super) faults: HashMap<(&'static str, &'static str), u64>,
    /// Append time of the last record.
    pub(super) appended_at: Option<i64>,
}

/// Batches being worked on.
pub(super) struct Work {
    shop: Arc<Workshop>,
    waiting: VecDeque<Batch>,
    /// What is left of the first batch, its results so far, and where it ends.
    current: Option<(std::vec::IntoIter<Stored>, Part, Position)>,
    /// A record that must wait for the registry, with the events that it became if it got so far.
    held: Option<(Stored, Option<Events>)>,
    /// What the registry was asked for.
    asked: HashSet<Wanted>,
    /// Bytes of outputs after which it is full.
    enough: usize,
    /// Bytes of the outputs that are done.
    bytes: usize,
    done: Vec<Part>,
}

/// A record that the registry should be asked for first.
struct Halt {
    wanted: Wanted,
    /// The events that it became, if it got so far.
    events: Option<Events>,
}

/// How far work got.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All batches are done.
    Done,
    /// There is enough to commit, and more to do.
    Full,
    /// A record is about to be given up for what is known of schemas: learn this, then go on.
    Ask(Wanted),
}

impl Part {
    /// Nothing to write, a position to move.
    fn skip(lease: Lease, next: Position) -> Self {
        Self { lease, next, outputs: Vec::new(), counts: Counts::default() }
    }
}

/// Cuts batches into shares of nearly as many records, in their order: at least one share and at most so many.
fn shares(batches: Vec<Batch>, most: usize) -> Vec<VecDeque<Batch>> {
    let records: usize = batches.iter().map(|batch| batch.records.len()).sum();
    let each = records.div_ceil(most.max(1));
    let (mut shares, mut share, mut room) = (Vec::new(), VecDeque::new(), each);
    for mut batch in batches {
        while batch.records.len() > room {
            if room > 0 {
                let later = batch.records.split_off(room);
                let next = later.first().map_or(batch.next, |stored| stored.offset);
                let records = std::mem::replace(&mut batch.records, later);
                share.push_back(Batch { lease: batch.lease.clone(), records, next });
            }
            shares.push(std::mem::take(&mut share));
            room = each;
        }
        room -= batch.records.len();
        share.push_back(batch);
    }
    shares.push(share);
    shares
}

impl Work {
    /// Work on batches, for at most so many cores. Its results belong together in this order.
    pub(super) fn divide(shop: &Arc<Workshop>, batches: Vec<Batch>, cores: usize) -> Vec<Self> {
        let shares = shares(batches, cores);
        let enough = ENOUGH_OUTPUT / shares.len();
        let work = shares.into_iter().map(|waiting| Self {
            shop: shop.clone(),
            waiting,
            current: None,
            held: None,
            asked: HashSet::new(),
            enough,
            bytes: 0,
            done: Vec::new(),
        });
        work.collect()
    }

    /// Works until all is done, there is enough to commit, or the registry must be asked. Once it
    /// was asked, going on means that a schema which is still unknown does not exist: records were
    /// read before the registry was, and a schema is registered before its first record.
    ///
    /// It is asked once for each thing in the work of a few batches: records beyond mending cost no
    /// more than the first of them.
    pub(super) fn run(&mut self) -> Progress {
        if self.bytes >= self.enough && !self.is_done() {
            return Progress::Full; // it waits for others before it
        }
        loop {
            let Some((records, part, end)) = &mut self.current else {
                let Some(batch) = self.waiting.pop_front() else { return Progress::Done };
                let mut part = Part::skip(batch.lease, batch.next);
                part.outputs.reserve(batch.records.len());
                self.current = Some((batch.records.into_iter(), part, batch.next));
                continue;
            };
            let next = |records: &mut std::vec::IntoIter<_>| Some((records.next()?, None));
            while let Some((stored, events)) = self.held.take().or_else(|| next(records)) {
                let before = part.outputs.len();
                if let Err(halt) = self.shop.record(&stored, events, &self.asked, part) {
                    self.held = Some((stored, halt.events));
                    return Progress::Ask(halt.wanted);
                }
                self.bytes += part.outputs[before..].iter().map(|(_, r)| r.size()).sum::<usize>();
                if self.bytes >= self.enough && records.len() > 0 {
                    let rest = Part::skip(part.lease.clone(), *end);
                    part.next = stored.offset + 1;
                    self.done.push(std::mem::replace(part, rest));
                    return Progress::Full;
                }
            }
            self.done.extend(self.current.take().map(|(_, part, _)| part));
            if self.bytes >= self.enough && !self.waiting.is_empty() {
                return Progress::Full;
            }
        }
    }

    /// Whether nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    /// How many records are left.
    pub(super) fn waiting_records(&self) -> usize {
        let current = self.current.iter().map(|(records, ..)| records.len());
        current.chain(self.waiting.iter().map(|batch| batch.records.len())).sum()
    }

    /// The registry was asked for this.
    pub(super) fn asked(&mut self, wanted: Wanted) {
        self.asked.insert(wanted);
    }

    /// Takes what is done, in the order it was read.
    pub(super) fn take(&mut self) -> Vec<Part> {
        self.bytes = 0;
        std::mem::take(&mut self.done)
    }

    /// Leases of what was not taken.
    pub(super) fn leases(&self) -> impl Iterator<Item = &Lease> {
        let current = self.current.iter().map(|(_, part, _)| part);
        let parts = self.done.iter().chain(current).map(|part| &part.lease);
        parts.chain(self.waiting.iter().map(|batch| &batch.lease))
    }
}

impl Workshop {
    /// Adds one record's results to its part, going on with its events if it has become those
    /// already; nothing is added when the registry should be asked first.
    fn record(
        &self,
        stored: &Stored,
        events: Option<Events>,
        asked: &HashSet<Wanted>,
        part: &mut Part,
    ) -> Result<(), Box<Halt>> {
        part.counts.appended_at = Some(stored.appended_at);
        if let Some(events) = events {
            return self.emit(stored, events, asked, part);
        }
        if self.chain.is_copy() {
            part.outputs.push((self.to.clone(), stored.record.clone()));
            part.counts.emitted += 1;
            part.counts.events += 1;
            return Ok(());
        }
        let event = match self.codec.decode(&stored.record) {
            Ok(event) => event,
            Err(error @ DecodeError::UnknownSchema(id)) => {
                let wanted = Wanted::Id(id);
                if !asked.contains(&wanted) {
                    return Err(Box::new(Halt { wanted, events: None }));
                }
                self.fault(stored, DECODE, "unknown_schema", &error.to_string(), part);
                return Ok(());
            }
            Err(DecodeError::Malformed(detail)) => {
                self.fault(stored, DECODE, "undecodable", &detail, part);
                return Ok(());
            }
        };
        match self.chain.apply(event, &mut part.counts.tally) {
            Outcome::Dropped => part.counts.dropped += 1,
            Outcome::Rejected { step, reason, detail } => {
                self.bury(stored, &step, &reason, &detail, part);
            }
            Outcome::Emitted(events) => return self.emit(stored, events, asked, part),
        }
        Ok(())
    }

    /// All of a record's events, or none: one that cannot be written takes the others with it.
    fn emit(
        &self,
        stored: &Stored,
        events: Events,
        asked: &HashSet<Wanted>,
        part: &mut Part,
    ) -> Result<(), Box<Halt>> {
        let before = part.outputs.len();
        for event in events.as_slice() {
            let (reason, detail) = match self.codec.encode(event) {
                Ok(mut record) => {
                    record.key = stored.record.key.clone();
                    if let Some(headers) = carried(&stored.record.headers, &record.headers) {
                        record.headers = headers;
                    }
                    if record.size() <= LARGEST_OUTPUT {
                        part.outputs.push((self.to.clone(), record));
                        continue;
                    }
                    ("too_large", format!("an event of more than {LARGEST_OUTPUT} bytes"))
                }
                Err(EncodeError::Unresolved) => {
                    part.outputs.truncate(before);
                    let wanted = Wanted::of(event);
                    return Err(Box::new(Halt { wanted, events: Some(events) }));
                }
                Err(EncodeError::Unfit(faults)) => {
                    let wanted = Wanted::of(event);
                    if !asked.contains(&wanted) {
                        part.outputs.truncate(before);
                        return Err(Box::new(Halt { wanted, events: Some(events) }));
                    }
                    ("schema", describe(&faults))
                }
            };
            part.outputs.truncate(before);
            self.fault(stored, ENCODE, reason, &detail, part);
            return Ok(());
        }
        part.counts.emitted += 1;
        part.counts.events += events.as_slice().len() as u64;
        Ok(())
    }

    fn fault(
        &self,
        stored: &Stored,
        step: &'static str,
        reason: &'static str,
        detail: &str,
        part: &mut Part,
    ) {
        *part.counts.faults.entry((step, reason)).or_default() += 1;
        self.bury(stored, step, reason, detail, part);
    }

    fn bury(&self, stored: &Stored, step: &str, reason: &str, detail: &str, part: &mut Part) {
        let Lease { topic, partition, .. } = &part.lease;
        let letter = dead_letter(
            stored,
            topic,
            *partition,
            &self.processor,
            step,
            reason,
            &shortened(detail),
        );
        part.outputs.push((self.dead_letters.clone(), letter));
        part.counts.dead += 1;
    }
}

/// The output's headers with those of the input that are no part of the event, such as
/// `traceparent`; `None` when there are none.
fn carried(input: &Headers, output: &Headers) -> Option<Headers> {
    let foreign = |name: &str| {
        !(name.starts_with("ce_")
            || name.starts_with("penstock_")
            || name.starts_with("__connect.errors.")
            || name == "content-type")
    };
    let mut builder = None;
    for (name, value) in input.iter().filter(|(name, _)| foreign(name)) {
        builder.get_or_insert_with(|| output.to_builder()).push(name, value);
    }
    builder.map(HeadersBuilder::build)
}

fn describe(faults: &[Fault]) -> String {
    let each = |fault: &Fault| format!("{}: {}", fault.pointer, fault.detail);
    faults.iter().map(each).collect::<Vec<_>>().join("; ")
}

fn shortened(detail: &str) -> Cow<'_, str> {
    match detail.floor_char_boundary(LONGEST_DETAIL) {
        end if end < detail.len() => format!("{}...", &detail[..end]).into(),
        _ => detail.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use eventlog::Options;
    use schemas::{Registry, Unknown};

    use super::*;
    use crate::testing::processor;

    /// Batches of partitions and as many records of a byte, which follow each other.
    fn batches(of: &[(u32, usize)]) -> Vec<Batch> {
        let value = Some("v".into());
        let record = Record { key: None, value, headers: Headers::default() };
        let mut ends: HashMap<u32, Position> = HashMap::new();
        let mut batch = |(partition, records): &(u32, usize)| {
            let end = ends.entry(*partition).or_default();
            let offsets = *end..*end + *records as Position;
            *end = offsets.end;
            let stored = |offset| Stored { offset, appended_at: 0, record: record.clone() };
            Batch {
                lease: Lease { id: 1, topic: "t".into(), partition: *partition },
                records: offsets.map(stored).collect(),
                next: *end,
            }
        };
        of.iter().map(&mut batch).collect()
    }

    /// Partition, records and next position of each batch of each share.
    fn shared(of: &[(u32, usize)], most: usize) -> Vec<Vec<(u32, usize, Position)>> {
        let each = |batch: &Batch| (batch.lease.partition, batch.records.len(), batch.next);
        let shares = shares(batches(of), most);
        shares.iter().map(|share| share.iter().map(each).collect()).collect()
    }

    #[test]
    fn batches_are_cut_into_even_shares_in_their_order() {
        let of = [(0, 4), (1, 9), (0, 3)];
        assert_eq!(shared(&of, 2), [vec![(0, 4, 4), (1, 4, 4)], vec![(1, 5, 9), (0, 3, 7)]]);
        assert_eq!(shared(&[(0, 5)], 2), [[(0, 3, 3)], [(0, 2, 5)]]);
        assert_eq!(shared(&[(0, 2)], 8), [[(0, 1, 1)], [(0, 1, 2)]]);
        assert_eq!(shared(&of, 1).len(), 1);
    }

    #[test]
    fn positions_without_records_keep_their_place() {
        assert_eq!(shared(&[(0, 0)], 2), [[(0, 0, 0)]]);
        let of = [(0, 2), (1, 0), (0, 2)];
        assert_eq!(shared(&of, 2), [vec![(0, 2, 2), (1, 0, 0)], vec![(0, 2, 4)]]);
    }

    #[tokio::test]
    async fn what_has_enough_does_no_more_until_that_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file:{}", dir.path().display());
        let log = eventlog::open(&url, Options::default()).await.unwrap();
        let shop = Workshop {
            processor: "clean".into(),
            chain: Chain::build(&processor("[]"), Path::new(".")).unwrap(),
            codec: Codec::new(Registry::open(log).await.unwrap(), Unknown::Accept),
            to: "events.clean".into(),
            dead_letters: "events.dlq".into(),
        };
        let mut work = Work::divide(&Arc::new(shop), batches(&[(0, 2)]), 1).remove(0);
        work.enough = 1;
        let taken = |work: &mut Work| work.take().iter().map(|part| part.outputs.len()).sum();
        for _ in 0..3 {
            assert_eq!(work.run(), Progress::Full);
        }
        assert_eq!((taken(&mut work), work.run()), (1usize, Progress::Done));
        assert_eq!(taken(&mut work), 1);
    }

    #[test]
    fn nothing_is_one_share() {
        assert_eq!(shared(&[], 2), [vec![]]);
    }
}
