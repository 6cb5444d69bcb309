//! Transactions: what is read and what is written move as one.

use super::*;
use crate::{TransactError, partition_for};

/// A group, its input with two records, and an output.
async fn set_up(log: &Log) -> (String, String, String) {
    let (input, output) = (fresh_topic(log, "in", 1).await, fresh_topic(log, "out", 1).await);
    append_all(log, &input, ["a", "b"].map(|v| record("k", v))).await;
    (fresh("group"), input, output)
}

/// Outputs are there when the commit is answered, and not before; so are the positions.
pub async fn outputs_and_positions_move_together(h: &impl Harness) {
    let log = h.log().await;
    let (group, input, output) = set_up(&log).await;
    let mut member = transactor(&log, &group, &input, &fresh("id")).await;
    let (records, positions) = member.records(2).await;
    assert!(read_all(&log, &output, 0).await.is_empty());
    assert_eq!(log.committed(&group, &input).await.unwrap(), [None]);
    patient(member.commit(to(&output, &records), &positions)).await.unwrap();
    assert_eq!(texts(&read_all(&log, &output, 0).await), ["a", "b"]);
    assert_eq!(log.committed(&group, &input).await.unwrap(), [Some(positions[0].1)]);
}

/// A transaction under a lease that is gone stores nothing; the rest comes again as lost and
/// assigned, from where the group stands.
pub async fn an_aborted_transaction_leaves_nothing_and_comes_again(h: &impl Harness) {
    let log = h.log().await;
    let (group, input, output) = set_up(&log).await;
    let mut member = transactor(&log, &group, &input, &fresh("id")).await;
    let (records, positions) = member.records(2).await;
    let (mut lease, position) = positions[0].clone();
    lease.id += 1_000_000;
    let aborted = patient(member.commit(to(&output, &records), &[(lease, position)])).await;
    assert!(matches!(aborted, Err(TransactError::Aborted(_))), "{aborted:?}");
    assert!(read_all(&log, &output, 0).await.is_empty());
    assert_eq!(log.committed(&group, &input).await.unwrap(), [None]);
    let refused = patient(member.commit(to(&output, &records), &positions)).await;
    assert!(refused.is_err(), "the leases went with the transaction");
    loop {
        let revocation = member.revoked().await;
        assert!(revocation.lost);
        if revocation.leases.contains(&positions[0].0) {
            break;
        }
    }
    member.assigned().await.resume();
    let (records, positions) = member.records(2).await;
    patient(member.commit(to(&output, &records), &positions)).await.unwrap();
    assert_eq!(texts(&read_all(&log, &output, 0).await), ["a", "b"]);
}

/// A transaction takes at least one offset for itself, so nobody can count by offsets.
pub async fn a_transaction_leaves_a_hole_that_readers_pass(h: &impl Harness) {
    let log = h.log().await;
    let (group, input, output) = set_up(&log).await;
    let mut member = transactor(&log, &group, &input, &fresh("id")).await;
    let (records, positions) = member.records(2).await;
    patient(member.commit(to(&output, &records), &positions)).await.unwrap();
    let end = log.bounds(&output, 0).await.unwrap().end;
    let last = read_all(&log, &output, 0).await.last().unwrap().offset;
    assert!(end > last + 1, "ends at {end} right after {last}");
    append_all(&log, &output, [record("k", "after")]).await;
    assert_eq!(texts(&read_all(&log, &output, 0).await), ["a", "b", "after"]);
}

/// A transactor that ends before its commit leaves nothing; the next does the work, once.
pub async fn what_was_not_committed_is_done_again_once(h: &impl Harness) {
    let log = h.log().await;
    let (group, input, output) = set_up(&log).await;
    let id = fresh("id");
    let mut member = transactor(&log, &group, &input, &id).await;
    member.records(2).await;
    drop(member);
    let mut member = transactor(&log, &group, &input, &id).await;
    let (records, positions) = member.records(2).await;
    patient(member.commit(to(&output, &records), &positions)).await.unwrap();
    drop(member);
    let mut member = transactor(&log, &group, &input, &id).await;
    member.assigned().await.resume();
    member.expect_silence().await;
    assert_eq!(texts(&read_all(&log, &output, 0).await), ["a", "b"]);
}

/// Outputs may go to several topics and partitions at once.
pub async fn a_transaction_spans_topics_and_partitions(h: &impl Harness) {
    let log = h.log().await;
    let (group, input, output) = set_up(&log).await;
    let wide = fresh_topic(&log, "wide", 3).await;
    let mut member = transactor(&log, &group, &input, &fresh("id")).await;
    let (records, positions) = member.records(2).await;
    let mut outputs = to(&output, &records);
    for i in 0..30 {
        outputs.push((wide.as_str().into(), record(format!("k{i}"), i.to_string())));
    }
    patient(member.commit(outputs, &positions)).await.unwrap();
    assert_eq!(read_all(&log, &output, 0).await.len(), 2);
    let mut seen = 0;
    for partition in 0..3 {
        for stored in read_all(&log, &wide, partition).await {
            let key = stored.record.key.as_deref().unwrap_or_default();
            assert_eq!(partition_for(key, 3), partition);
            seen += 1;
        }
    }
    assert_eq!(seen, 30);
}

/// A transaction that was answered is there after opening again, whole.
pub async fn a_committed_transaction_survives_reopening(h: &impl Harness) {
    let log = h.log().await;
    let (group, input, output) = set_up(&log).await;
    let mut member = transactor(&log, &group, &input, &fresh("id")).await;
    let (records, positions) = member.records(2).await;
    patient(member.commit(to(&output, &records), &positions)).await.unwrap();
    let end = log.bounds(&output, 0).await.unwrap().end;
    drop(member);
    let log = h.reopen(log).await;
    assert_eq!(texts(&read_all(&log, &output, 0).await), ["a", "b"]);
    assert_eq!(log.committed(&group, &input).await.unwrap(), [Some(positions[0].1)]);
    assert_eq!(log.bounds(&output, 0).await.unwrap().end, end);
}

/// Of two transactors of one id only the later can commit.
pub async fn a_later_transactor_fences_the_earlier(h: &impl Harness) {
    let log = h.log().await;
    let (group, input, output) = set_up(&log).await;
    let id = fresh("id");
    let mut earlier = transactor(&log, &group, &input, &id).await;
    let (records, positions) = earlier.records(2).await;
    let mut later = transactor(&log, &group, &input, &id).await;
    assert!(patient(earlier.commit(to(&output, &records), &positions)).await.is_err());
    drop(earlier);
    let (records, positions) = later.records(2).await;
    patient(later.commit(to(&output, &records), &positions)).await.unwrap();
    assert_eq!(texts(&read_all(&log, &output, 0).await), ["a", "b"]);
}
