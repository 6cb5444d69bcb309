//! One member of a group: starting, going on, waiting, gaps.

use super::*;

/// Without a committed position a group reads everything.
pub async fn a_new_group_starts_at_the_start(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "start", 2).await;
    append_all(&log, &topic, (0..10).map(|i| record(format!("k{i}"), i.to_string()))).await;
    let mut member = log.subscribe(&fresh("group"), &[&topic]).await.unwrap();
    let assigned = member.assigned().await;
    assert_eq!(assigned.partitions.len(), 2);
    assert!(assigned.partitions.iter().all(|p| p.committed.is_none()));
    assigned.resume();
    let (records, _) = member.records(10).await;
    assert_eq!(records.len(), 10);
    member.expect_silence().await;
}

/// Reading waits for the start positions.
pub async fn nothing_is_read_before_the_assignment_is_answered(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "unanswered", 1).await;
    append_all(&log, &topic, [record("k", "v")]).await;
    let mut member = log.subscribe(&fresh("group"), &[&topic]).await.unwrap();
    let assigned = member.assigned().await;
    member.expect_silence().await;
    assigned.resume();
    assert_eq!(texts(&member.batch().await.records), ["v"]);
}

/// An assignment that is dropped without an answer means: go on where the group stands.
pub async fn a_dropped_assignment_resumes(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "dropped", 1).await;
    append_all(&log, &topic, [record("k", "v")]).await;
    let mut member = log.subscribe(&fresh("group"), &[&topic]).await.unwrap();
    drop(member.assigned().await);
    assert_eq!(texts(&member.batch().await.records), ["v"]);
}

/// The next member starts where the last one committed.
pub async fn a_group_goes_on_where_it_committed(h: &impl Harness) {
    let log = h.log().await;
    let (topic, group) = (fresh_topic(&log, "go-on", 1).await, fresh("group"));
    append_all(&log, &topic, ["a", "b"].map(|v| record("k", v))).await;
    let mut member = log.subscribe(&group, &[&topic]).await.unwrap();
    let (_, positions) = member.records(2).await;
    member.commit(&positions).await.unwrap();
    assert_eq!(log.committed(&group, &topic).await.unwrap(), [Some(positions[0].1)]);
    patient(member.close()).await.unwrap();
    append_all(&log, &topic, [record("k", "c")]).await;
    let mut member = log.subscribe(&group, &[&topic]).await.unwrap();
    let assigned = member.assigned().await;
    assert_eq!(assigned.partitions[0].committed, Some(positions[0].1));
    assigned.resume();
    assert_eq!(texts(&member.batch().await.records), ["c"]);
}

/// Committed positions are there after opening again.
pub async fn committed_positions_survive_reopening(h: &impl Harness) {
    let log = h.log().await;
    let (topic, group) = (fresh_topic(&log, "kept", 1).await, fresh("group"));
    append_all(&log, &topic, ["a", "b"].map(|v| record("k", v))).await;
    let mut member = log.subscribe(&group, &[&topic]).await.unwrap();
    let (_, positions) = member.records(2).await;
    member.commit(&positions).await.unwrap();
    drop(member);
    let log = h.reopen(log).await;
    assert_eq!(log.committed(&group, &topic).await.unwrap(), [Some(positions[0].1)]);
}

/// Each group reads everything and has positions of its own.
pub async fn groups_do_not_see_each_other(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "groups", 1).await;
    append_all(&log, &topic, ["a", "b"].map(|v| record("k", v))).await;
    let (one, other) = (fresh("group"), fresh("group"));
    let mut first = log.subscribe(&one, &[&topic]).await.unwrap();
    let (_, positions) = first.records(2).await;
    first.commit(&positions).await.unwrap();
    assert_eq!(log.committed(&other, &topic).await.unwrap(), [None]);
    let mut second = log.subscribe(&other, &[&topic]).await.unwrap();
    assert_eq!(texts(&second.records(2).await.0), ["a", "b"]);
}

/// A member may start below the committed position, to see again what it needs.
pub async fn a_warm_start_reads_again_below_the_committed_position(h: &impl Harness) {
    let log = h.log().await;
    let (topic, group) = (fresh_topic(&log, "warm", 1).await, fresh("group"));
    append_all(&log, &topic, ["a", "b", "c"].map(|v| record("k", v))).await;
    let mut member = log.subscribe(&group, &[&topic]).await.unwrap();
    let (all, positions) = member.records(3).await;
    member.commit(&positions).await.unwrap();
    patient(member.close()).await.unwrap();
    let mut member = log.subscribe(&group, &[&topic]).await.unwrap();
    member.assigned().await.start_at(vec![Some(all[1].offset)]);
    assert_eq!(texts(&member.records(2).await.0), ["b", "c"]);
    assert_eq!(log.committed(&group, &topic).await.unwrap(), [Some(positions[0].1)]);
}

/// A member that waits at the end gets what is appended then.
pub async fn a_waiting_member_wakes_for_an_append(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "wake", 1).await;
    let mut member = log.subscribe(&fresh("group"), &[&topic]).await.unwrap();
    member.assigned().await.resume();
    let waiting = tokio::spawn(async move { member.batch().await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    append_all(&log, &topic, [record("k", "late")]).await;
    assert_eq!(texts(&patient(waiting).await.unwrap().records), ["late"]);
}

/// A wait that is given up and begun again loses and doubles nothing.
pub async fn a_dropped_wait_loses_nothing(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "cancel", 2).await;
    let mut member = log.subscribe(&fresh("group"), &[&topic]).await.unwrap();
    member.assigned().await.resume();
    let appending = tokio::spawn({
        let (log, topic) = (log.clone(), topic.clone());
        async move {
            append_all(&log, &topic, (0..100).map(|i| record(format!("k{i}"), i.to_string())))
                .await;
        }
    });
    let mut seen = Vec::new();
    let give_up = tokio::time::Instant::now() + PATIENCE;
    while seen.len() < 100 {
        assert!(tokio::time::Instant::now() < give_up, "only {} came", seen.len());
        let wait = Duration::from_micros(200);
        if let Ok(delivery) = tokio::time::timeout(wait, member.next()).await {
            let Delivery::Batch(batch) = delivery.unwrap() else { continue };
            seen.extend(texts(&batch.records));
        }
    }
    patient(appending).await.unwrap();
    member.expect_silence().await;
    seen.sort_by_key(|value| value.parse::<u32>().unwrap());
    assert_eq!(seen, (0..100).map(|i| i.to_string()).collect::<Vec<_>>());
}

/// When retention took records that the group had not read, it is told exactly which.
pub async fn a_position_that_is_gone_is_a_gap(h: &impl Harness) {
    let log = h.log().await;
    let (topic, group) = (fresh_topic(&log, "gap", 1).await, fresh("group"));
    append_all(&log, &topic, ["a", "b", "c", "d"].map(|v| record("k", v))).await;
    let all = read_all(&log, &topic, 0).await;
    let mut member = log.subscribe(&group, &[&topic]).await.unwrap();
    let assigned = member.assigned().await;
    let lease = assigned.partitions[0].lease.clone();
    member.commit(&[(lease, all[1].offset)]).await.unwrap();
    drop(assigned);
    patient(member.close()).await.unwrap();
    h.take_before(&log, &topic, 0, all[3].offset).await;
    let mut member = log.subscribe(&group, &[&topic]).await.unwrap();
    member.assigned().await.resume();
    let delivery = member.delivery().await;
    let Delivery::Gap(gap) = delivery else { panic!("expected a gap, got {delivery:?}") };
    assert_eq!((gap.from, gap.to), (all[1].offset, all[3].offset));
    assert_eq!(texts(&member.batch().await.records), ["d"]);
}

/// Starting below what is left, but above nothing that was not read, is not a gap.
pub async fn a_warm_start_below_the_start_is_no_gap(h: &impl Harness) {
    let log = h.log().await;
    let (topic, group) = (fresh_topic(&log, "warm-gap", 1).await, fresh("group"));
    append_all(&log, &topic, ["a", "b", "c", "d"].map(|v| record("k", v))).await;
    let all = read_all(&log, &topic, 0).await;
    let mut member = log.subscribe(&group, &[&topic]).await.unwrap();
    let (_, positions) = member.records(4).await;
    member.commit(&positions).await.unwrap();
    patient(member.close()).await.unwrap();
    h.take_before(&log, &topic, 0, all[2].offset).await;
    let mut member = log.subscribe(&group, &[&topic]).await.unwrap();
    member.assigned().await.start_at(vec![Some(all[0].offset)]);
    assert_eq!(texts(&member.records(2).await.0), ["c", "d"]);
}

/// Nothing can be read from a position that was never given out, and no other is chosen instead.
pub async fn a_start_beyond_the_end_is_refused(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "beyond", 1).await;
    append_all(&log, &topic, [record("k", "v")]).await;
    let end = log.bounds(&topic, 0).await.unwrap().end;
    let mut member = log.subscribe(&fresh("group"), &[&topic]).await.unwrap();
    member.assigned().await.start_at(vec![Some(end + 10)]);
    let refused = loop {
        match patient(member.receive()).await {
            Ok(Delivery::Revoked(_)) => {}
            other => break other,
        }
    };
    let Err(LogError::OutOfRange { wanted, end: told, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((wanted, told), (end + 10, end));
}

/// At the end of a topic whose last offsets are holes, the position still comes to the end.
pub async fn a_batch_may_be_empty_and_still_advance(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "advance", 1).await;
    let end = patient(log.append_at(&topic, 0, vec![record("k", "v")])).await.unwrap();
    let mut member = log.subscribe(&fresh("group"), &[&topic]).await.unwrap();
    member.assigned().await.resume();
    let mut at = 0;
    while at < end {
        let delivery = member.delivery().await;
        let Delivery::Batch(batch) = delivery else { panic!("expected records, got {delivery:?}") };
        assert!(batch.next > at);
        at = batch.next;
    }
    assert_eq!(at, end);
}

/// While a partition is paused the others go on; then it goes on where it was.
pub async fn a_paused_partition_holds_up_no_other_and_loses_nothing(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "paused", 2).await;
    let [paused, other] = [0, 1].map(|partition| key_for(partition, 2));
    append_all(&log, &topic, [record(&paused, "a"), record(&other, "b")]).await;
    let mut member = log.subscribe(&fresh("group"), &[&topic]).await.unwrap();
    let (_, positions) = member.records(2).await;
    let (lease, at) = positions.into_iter().find(|(lease, _)| lease.partition == 0).unwrap();
    append_all(&log, &topic, [record(&paused, "c")]).await;
    tokio::time::sleep(Duration::from_millis(100)).await; // it may be read ahead
    member.pause(&lease);
    append_all(&log, &topic, [record(&paused, "d"), record(&other, "e")]).await;
    assert_eq!(texts(&member.records(1).await.0), ["e"]);
    member.expect_silence().await;
    member.resume(&lease, at);
    append_all(&log, &topic, [record(&other, "f")]).await;
    let (records, _) = member.records(3).await;
    let of = |partition: &str| {
        let of = records
            .iter()
            .filter(|stored| stored.record.key.as_deref() == Some(partition.as_bytes()));
        of.map(|stored| text(&stored.record)).collect::<Vec<_>>()
    };
    assert_eq!((of(&paused), of(&other)), (vec!["c".into(), "d".into()], vec!["f".into()]));
    append_all(&log, &topic, [record(&paused, "g")]).await;
    let (records, positions) = member.records(1).await;
    assert_eq!(texts(&records), ["g"]);
    let (lease, at) = &positions[0];
    append_all(&log, &topic, [record(&paused, "h")]).await;
    for _ in 0..3 {
        member.pause(lease);
        member.resume(lease, *at);
    }
    assert_eq!(texts(&member.records(1).await.0), ["h"]);
    member.expect_silence().await;
}
