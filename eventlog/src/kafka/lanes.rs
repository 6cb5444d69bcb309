//! Which records librdkafka has, and which wait for it: of each partition one burst at a time.
//!
//! librdkafka sends nothing more of a partition while records of it are unanswered, and with more to
//! send its thread then runs in circles until the answer comes, taking a core from the broker that is
//! to give it (rdkafka_broker.c, `rd_kafka_toppar_producer_serve`). So what comes while a burst is
//! out waits here, and is the next burst: the busier the broker, the larger the bursts.
//!
//! The invariant: every record of a burst is reported to [`Lanes::answered`] exactly once, or its
//! partition stands still.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use prometheus_client::metrics::gauge::Gauge;
use tokio::{sync::mpsc, time::Instant};

use super::observe::locked;
use crate::Record;

/// A burst fits in one request: librdkafka's defaults for those.
const BURST_RECORDS: usize = 10_000;
const BURST_BYTES: usize = 1_000_000;

/// A record on its way, and whose it is.
pub(super) struct Waiting {
    pub record: Record,
    /// Its request's place in the table of deliveries, and its own place in the request.
    pub place: u32,
    pub at: usize,
    /// Nobody waits for it any longer then.
    pub until: Instant,
}

/// What is to be handed over next to a partition.
pub(super) struct Burst {
    pub lane: u16,
    pub topic: Arc<str>,
    pub partition: u32,
    pub records: Vec<Waiting>,
}

/// The lanes of a producer, one for each partition that it ever sent to.
pub(super) struct Lanes {
    inner: Mutex<Inner>,
    /// Names lanes whose next burst may go.
    ready: mpsc::UnboundedSender<u16>,
    /// Bytes in all lanes, as operators see them.
    gauge: Gauge,
}

#[derive(Default)]
struct Inner {
    /// The lane of each partition of a topic.
    index: HashMap<Arc<str>, Vec<Option<u16>>>,
    lanes: Vec<Lane>,
    bytes: usize,
}

struct Lane {
    topic: Arc<str>,
    partition: u32,
    /// Records of the burst that is out and not answered, and the bytes of all of it.
    out: usize,
    out_bytes: usize,
    waiting: VecDeque<Waiting>,
}

impl Lanes {
    /// Also where the lanes are named that may go; each at most once at a time.
    pub fn new(gauge: Gauge) -> (Self, mpsc::UnboundedReceiver<u16>) {
        let (ready, named) = mpsc::unbounded_channel();
        (Self { inner: Mutex::default(), ready, gauge }, named)
    }

    /// Takes the records of a request, each with its partition, as far as `most_bytes` in all lanes
    /// allow; answers those that do not fit, the first and all behind it, so that order holds.
    pub fn enter(
        &self,
        topic: &Arc<str>,
        records: Vec<(u32, Waiting)>,
        most_bytes: usize,
    ) -> Vec<Waiting> {
        let mut inner = locked(&self.inner);
        let Inner { index, lanes, bytes } = &mut *inner;
        let of_topic = index.entry(topic.clone()).or_default();
        let before = *bytes;
        let mut records = records.into_iter();
        let mut rest = Vec::new();
        for (partition, waiting) in records.by_ref() {
            let size = waiting.record.size();
            // One record may be larger than all room.
            let fits = *bytes == 0 || *bytes + size <= most_bytes;
            let lane = fits.then(|| lane_of(of_topic, lanes, topic, partition)).flatten();
            let Some(lane) = lane else {
                rest.push(waiting);
                break;
            };
            *bytes += size;
            let of = &mut lanes[usize::from(lane)];
            if of.out == 0 && of.waiting.is_empty() {
                let _ = self.ready.send(lane); // nobody hands over any more: the producer ends
            }
            of.waiting.push_back(waiting);
        }
        self.gauge.inc_by((*bytes - before) as i64);
        rest.extend(records.map(|(_, waiting)| waiting));
        rest
    }

    /// The next burst of a lane that was named.
    pub fn burst(&self, lane: u16) -> Option<Burst> {
        let mut inner = locked(&self.inner);
        let Lane { topic, partition, out, out_bytes, waiting } =
            inner.lanes.get_mut(usize::from(lane))?;
        let (mut count, mut bytes) = (0, 0);
        for next in waiting.iter().take(BURST_RECORDS) {
            bytes += next.record.size();
            if count > 0 && bytes > BURST_BYTES {
                bytes -= next.record.size();
                break;
            }
            count += 1;
        }
        (*out, *out_bytes) = (count, bytes);
        let records = waiting.drain(..count).collect();
        Some(Burst { lane, topic: topic.clone(), partition: *partition, records })
    }

    /// All that waits, whatever is out: for the end of the producer.
    pub fn rest(&self) -> Vec<Burst> {
        let mut inner = locked(&self.inner);
        let take = |(number, lane): (usize, &mut Lane)| Burst {
            lane: number as u16, // `Inner::lane` made no more
            topic: lane.topic.clone(),
            partition: lane.partition,
            records: lane.waiting.drain(..).collect(),
        };
        inner.lanes.iter_mut().enumerate().map(take).collect()
    }

    /// One record of a lane's burst was reported. Answers whether none is left of it.
    pub fn answered(&self, lane: u16) -> bool {
        let mut inner = locked(&self.inner);
        let Inner { lanes, bytes, .. } = &mut *inner;
        let Some(of) = lanes.get_mut(usize::from(lane)) else { return true };
        of.out = of.out.saturating_sub(1);
        if of.out == 0 {
            let done = std::mem::take(&mut of.out_bytes);
            *bytes = bytes.saturating_sub(done);
            self.gauge.dec_by(done as i64);
            if !of.waiting.is_empty() {
                let _ = self.ready.send(lane); // as above
            }
        }
        of.out == 0
    }
}

/// The lane of a partition, made when it is not there; `None` beyond what a number of it can say.
fn lane_of(
    of_topic: &mut Vec<Option<u16>>,
    lanes: &mut Vec<Lane>,
    topic: &Arc<str>,
    partition: u32,
) -> Option<u16> {
    let at = partition as usize;
    if of_topic.len() <= at {
        of_topic.resize(at + 1, None);
    }
    if of_topic[at].is_none() {
        of_topic[at] = Some(u16::try_from(lanes.len()).ok()?);
        let (out, out_bytes, waiting) = (0, 0, VecDeque::new());
        lanes.push(Lane { topic: topic.clone(), partition, out, out_bytes, waiting });
    }
    of_topic[at]
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.gauge.dec_by(locked(&self.inner).bytes as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1 << 20;

    fn waiting(at: usize, bytes: usize) -> Waiting {
        let record = Record { value: Some(vec![0; bytes].into()), ..Record::default() };
        Waiting { record, place: 0, at, until: Instant::now() }
    }

    /// Enters records of ten bytes; answers which did not fit into so many.
    fn enter(
        lanes: &Lanes,
        partition: u32,
        ats: std::ops::Range<usize>,
        most: usize,
    ) -> Vec<usize> {
        let records = ats.map(|at| (partition, waiting(at, 10))).collect();
        lanes.enter(&"t".into(), records, most).iter().map(|waiting| waiting.at).collect()
    }

    fn ats(burst: &Burst) -> Vec<usize> {
        burst.records.iter().map(|waiting| waiting.at).collect()
    }

    #[test]
    fn what_comes_while_a_burst_is_out_is_the_next_burst() {
        let (lanes, mut named) = Lanes::new(Gauge::default());
        enter(&lanes, 0, 0..2, MOST);
        let lane = named.try_recv().unwrap();
        assert_eq!(ats(&lanes.burst(lane).unwrap()), [0, 1]);
        enter(&lanes, 0, 2..3, MOST);
        enter(&lanes, 0, 3..5, MOST);
        lanes.answered(lane);
        assert!(named.try_recv().is_err(), "one of two is answered");
        lanes.answered(lane);
        assert_eq!(named.try_recv().unwrap(), lane);
        assert_eq!(ats(&lanes.burst(lane).unwrap()), [2, 3, 4]);
    }

    #[test]
    fn a_lane_is_named_once_however_many_wait_for_it() {
        let (lanes, mut named) = Lanes::new(Gauge::default());
        enter(&lanes, 0, 0..1, MOST);
        enter(&lanes, 0, 1..2, MOST);
        let lane = named.try_recv().unwrap();
        assert!(named.try_recv().is_err());
        assert_eq!(ats(&lanes.burst(lane).unwrap()), [0, 1]);
    }

    #[test]
    fn partitions_do_not_wait_for_each_other() {
        let (lanes, mut named) = Lanes::new(Gauge::default());
        enter(&lanes, 0, 0..1, MOST);
        lanes.burst(named.try_recv().unwrap()).unwrap();
        enter(&lanes, 7, 1..2, MOST);
        let burst = lanes.burst(named.try_recv().unwrap()).unwrap();
        assert_eq!((burst.partition, ats(&burst)), (7, vec![1]));
    }

    #[test]
    fn a_burst_is_no_larger_than_a_request_but_takes_one_record_of_any_size() {
        let (lanes, mut named) = Lanes::new(Gauge::default());
        let large = (0..3).map(|at| (0, waiting(at, BURST_BYTES * 2 / 3))).collect();
        assert!(lanes.enter(&"t".into(), large, 3 * BURST_BYTES).is_empty());
        let lane = named.try_recv().unwrap();
        for at in 0..3 {
            assert_eq!(ats(&lanes.burst(lane).unwrap()), [at]);
            lanes.answered(lane);
        }
        assert!(lanes.burst(lane).unwrap().records.is_empty());
    }

    #[test]
    fn what_does_not_fit_comes_back_with_all_behind_it_until_there_is_room_again() {
        let gauge = Gauge::default();
        let (lanes, mut named) = Lanes::new(gauge.clone());
        assert_eq!(enter(&lanes, 0, 0..4, 25), [2, 3]);
        assert_eq!(enter(&lanes, 1, 4..5, 25), [4]);
        assert_eq!(gauge.get(), 20);
        let lane = named.try_recv().unwrap();
        lanes.burst(lane).unwrap();
        for _ in 0..2 {
            lanes.answered(lane);
        }
        assert_eq!(gauge.get(), 0);
        assert!(enter(&lanes, 1, 4..5, 25).is_empty());
    }

    #[test]
    fn a_record_larger_than_all_room_goes_alone() {
        let (lanes, _named) = Lanes::new(Gauge::default());
        assert!(enter(&lanes, 0, 0..1, 5).is_empty());
        assert_eq!(enter(&lanes, 0, 1..2, 5), [1]);
    }
}
