//! What became of records that were handed to librdkafka: one completion for each request, not one
//! for each record.
//!
//! librdkafka carries a word with each record and gives it back with the delivery report: the
//! request's place in a table, the record's place in the request, and the record's lane. The table and
//! not a pointer, so that nothing is allocated for a record, and a producer that goes away leaves
//! nothing behind. A place is used again only when every report of its request is in.

use std::sync::{Arc, Mutex};

use rdkafka::{
    ClientContext, Message,
    config::RDKafkaLogLevel,
    error::KafkaError,
    producer::{DeliveryResult, ProducerContext},
    types::RDKafkaErrorCode as Code,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    errors::{append_error, is_unknown, tell},
    lanes::Lanes,
    observe::{Observer, locked},
};
use crate::{AppendError, Appended};

const _: () = assert!(usize::BITS >= 64, "a request, a record and a lane share a word");

/// Bits of a word for the record's place, below those of its lane and its request.
const AT_BITS: u32 = 24;
const LANE_BITS: u32 = 16;
/// So many records a request may have.
pub(super) const MOST_RECORDS: usize = 1 << AT_BITS;
/// So many requests may be under way.
const MOST_REQUESTS: usize = 1 << (usize::BITS - AT_BITS - LANE_BITS);

/// One result for each record of a request.
pub(super) type Results = Vec<Result<Appended, AppendError>>;

/// The context of a producer.
pub(super) struct Deliveries {
    observer: Observer,
    /// What is out, and what waits for that.
    pub lanes: Lanes,
    table: Arc<Mutex<Table>>,
    /// Lets [`tell_all`] look for requests that are whole.
    whole: mpsc::Sender<()>,
    /// Why the producer cannot go on.
    fatal: Mutex<Option<String>>,
}

#[derive(Default)]
struct Table {
    requests: Vec<Option<Request>>,
    free: Vec<u32>,
    /// Requests whose reports are all in, and who asked was not told.
    whole: Vec<u32>,
}

struct Request {
    results: Results,
    waiting: usize,
    done: oneshot::Sender<Results>,
}

impl Deliveries {
    /// Also where lanes are named whose next burst may go. Needs a tokio runtime.
    pub fn new(observer: Observer) -> (Self, mpsc::UnboundedReceiver<u16>) {
        let (lanes, named) = Lanes::new(observer.queued_bytes());
        let (whole, told) = mpsc::channel(1);
        let table = Arc::<Mutex<Table>>::default();
        tokio::spawn(tell_all(table.clone(), told));
        (Self { observer, lanes, table, whole, fatal: Mutex::default() }, named)
    }

    /// Why the producer cannot go on, if so.
    pub fn fatal(&self) -> Option<String> {
        locked(&self.fatal).clone()
    }

    pub fn set_fatal(&self, why: String) {
        locked(&self.fatal).get_or_insert(why);
    }

    /// Lets somebody look whether brokers answer.
    pub fn suspect(&self) {
        self.observer.health().suspicion.notify_one();
    }

    /// Lets the next append look whether a topic is still there.
    pub fn doubt(&self, topic: &str) {
        self.observer.health().doubt(topic);
    }

    /// Takes a place for a request of so many records; `None` when all are taken.
    pub fn open(&self, records: usize) -> Option<(u32, oneshot::Receiver<Results>)> {
        let (done, results) = oneshot::channel();
        // Without a text it takes no memory of its own.
        let unknown = Err(AppendError::Unknown(String::new()));
        let request = Request { results: vec![unknown; records], waiting: records, done };
        let mut table = locked(&self.table);
        let place = match table.free.pop() {
            Some(place) => place,
            None if table.requests.len() == MOST_REQUESTS => return None,
            None => {
                table.requests.push(None);
                (table.requests.len() - 1) as u32
            }
        };
        table.requests[place as usize] = Some(request);
        Some((place, results))
    }

    /// The word that a record carries.
    pub fn word(place: u32, lane: u16, at: usize) -> usize {
        ((place as usize) << (AT_BITS + LANE_BITS)) | (usize::from(lane) << AT_BITS) | at
    }

    /// Settles a record that is in no lane.
    pub fn refuse(&self, place: u32, at: usize, why: AppendError) {
        locked(&self.table).settle(place, at, Err(why));
        self.tell();
    }

    /// Settles a record of a lane's burst. Whoever waits is told when all of the burst are settled:
    /// their reports come one behind the other, and a core that is woken for the first has the others, too.
    pub fn settle(&self, word: usize, result: Result<Appended, AppendError>) {
        let at = word & (MOST_RECORDS - 1);
        let lane = (word >> AT_BITS) as u16; // cuts off the place
        locked(&self.table).settle((word >> (AT_BITS + LANE_BITS)) as u32, at, result);
        if self.lanes.answered(lane) {
            self.tell();
        }
    }

    fn tell(&self) {
        let _ = self.whole.try_send(()); // when it is full, that is to be looked at already
    }

    /// What is known of a request that took too long. Its place stays taken until all reports are in.
    pub fn so_far(
        &self,
        place: u32,
        records: usize,
        asker: &mut oneshot::Receiver<Results>,
    ) -> Results {
        let table = locked(&self.table);
        if let Ok(results) = asker.try_recv() {
            return results; // the last report came in between, and the place may be another's
        }
        let request = table.requests.get(place as usize).and_then(Option::as_ref);
        let unknown = || Err(AppendError::Unknown("no report of it came".into()));
        let of = |result: &Result<_, _>| match result {
            Err(AppendError::Unknown(text)) if text.is_empty() => unknown(),
            other => other.clone(),
        };
        match request {
            Some(request) => request.results.iter().map(of).collect(),
            None => vec![unknown(); records],
        }
    }
}

/// Tells whoever asked. In a task, because one that wakes others does not wake a thread for each.
async fn tell_all(table: Arc<Mutex<Table>>, mut look: mpsc::Receiver<()>) {
    while look.recv().await.is_some() {
        locked(&table).tell();
    }
}

impl Table {
    fn settle(&mut self, place: u32, record: usize, result: Result<Appended, AppendError>) {
        let Some(slot) = self.requests.get_mut(place as usize) else { return };
        let Some(request) = slot.as_mut().filter(|request| request.waiting > 0) else { return };
        let Some(of_record) = request.results.get_mut(record) else { return };
        *of_record = result;
        request.waiting -= 1;
        if request.waiting == 0 {
            self.whole.push(place);
        }
    }

    fn tell(&mut self) {
        for place in self.whole.drain(..) {
            let request = self.requests.get_mut(place as usize).and_then(Option::take);
            self.free.push(place);
            if let Some(Request { results, done, .. }) = request {
                let _ = done.send(results); // who asked may have gone
            }
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, report: &DeliveryResult<'_>, word: usize) {
        let result = match report {
            Ok(message) => Ok(Appended {
                partition: u32::try_from(message.partition()).unwrap_or_default(),
                offset: u64::try_from(message.offset()).unwrap_or_default(),
            }),
            Err((error, message)) => {
                match error.rdkafka_error_code() {
                    Some(code) if is_unknown(code) => {
                        self.doubt(message.topic());
                    }
                    Some(Code::Fatal) => self.set_fatal(tell(error)),
                    Some(Code::MessageTimedOut) => self.suspect(),
                    _ => {}
                }
                Err(append_error(error, true))
            }
        };
        self.settle(word, result);
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.observer.log(level, facility, line);
    }

    fn stats_raw(&self, json: &[u8]) {
        self.observer.stats_raw(json);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(Code::Fatal) {
            self.set_fatal(reason.to_owned());
        }
        self.observer.error(error, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Metrics,
        kafka::observe::{Health, Role},
    };

    fn deliveries() -> Deliveries {
        let health = Arc::new(Health::new("a:1".into()));
        Deliveries::new(Observer::new(Role::Producer, None, health, Metrics::default())).0
    }

    fn at(offset: u64) -> Result<Appended, AppendError> {
        Ok(Appended { partition: 0, offset })
    }

    #[tokio::test]
    async fn a_request_completes_with_its_last_report_and_in_its_own_order() {
        let deliveries = deliveries();
        let (place, mut results) = deliveries.open(3).unwrap();
        for record in [2, 0] {
            locked(&deliveries.table).settle(place, record, at(record as u64));
        }
        assert!(results.try_recv().is_err());
        deliveries.refuse(place, 1, AppendError::Retry("full".into()));
        let expected = vec![at(0), Err(AppendError::Retry("full".into())), at(2)];
        assert_eq!(results.await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_place_is_used_again_only_when_all_reports_are_in() {
        let deliveries = deliveries();
        let (first, mut asker) = deliveries.open(2).unwrap();
        locked(&deliveries.table).settle(first, 0, at(7));
        let known = deliveries.so_far(first, 2, &mut asker);
        assert_eq!(known[0], at(7));
        assert!(matches!(known[1], Err(AppendError::Unknown(_))));
        drop(asker);
        let (second, _second) = deliveries.open(1).unwrap();
        assert_ne!(first, second);
        locked(&deliveries.table).settle(first, 1, at(8));
        let (other, _other) = deliveries.open(1).unwrap();
        assert_ne!(first, other, "who asked for the first was not told yet");
        locked(&deliveries.table).tell();
        let (third, _third) = deliveries.open(1).unwrap();
        assert_eq!(first, third);
    }

    #[tokio::test]
    async fn a_word_says_request_lane_and_record() {
        let deliveries = deliveries();
        let mut last = None;
        for _ in 0..3 {
            last = Some(deliveries.open(5).unwrap());
        }
        let (place, results) = last.unwrap();
        for record in (0..5).rev() {
            deliveries.settle(Deliveries::word(place, u16::MAX, record), at(record as u64));
        }
        assert_eq!(results.await.unwrap(), (0..5).map(at).collect::<Vec<_>>());
    }
}
