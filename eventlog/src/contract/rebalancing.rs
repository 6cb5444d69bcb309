//! Several members of a group: sharing, revocation, leases.

use super::*;

/// Appends one record to each of four partitions.
async fn four(log: &Log, topic: &str, round: usize) {
    for partition in 0..4 {
        append_all(log, topic, [record(key_for(partition, 4), format!("{round}/{partition}"))])
            .await;
    }
}

/// A member reads all; another joins: each record is processed by one of them, once.
pub async fn two_members_share_and_nothing_is_read_twice(h: &impl Harness) {
    let log = h.log().await;
    let (topic, group) = (fresh_topic(&log, "share", 4).await, fresh("group"));
    four(&log, &topic, 0).await;
    let mut first = log.subscribe(&group, &[&topic]).await.unwrap();
    let (before, positions) = first.records(4).await;
    first.commit(&positions).await.unwrap();
    let mut second = log.subscribe(&group, &[&topic]).await.unwrap();
    let revocation = first.revoked().await;
    assert_eq!((revocation.leases.len(), revocation.lost), (2, false));
    revocation.acknowledge();
    let assigned = second.assigned().await;
    assert_eq!(assigned.partitions.len(), 2);
    assigned.resume();
    four(&log, &topic, 1).await;
    let mut seen = texts(&before);
    seen.extend(texts(&first.records(2).await.0));
    seen.extend(texts(&second.records(2).await.0));
    first.expect_silence().await;
    second.expect_silence().await;
    seen.sort();
    assert_eq!(seen, ["0/0", "0/1", "0/2", "0/3", "1/0", "1/1", "1/2", "1/3"]);
}

/// Between revocation and acknowledgement a commit is still taken, and the next owner knows of it.
pub async fn a_revoked_partition_takes_commits_until_acknowledged(h: &impl Harness) {
    let log = h.log().await;
    let (topic, group) = (fresh_topic(&log, "last-commit", 2).await, fresh("group"));
    for partition in 0..2 {
        append_all(&log, &topic, [record(key_for(partition, 2), "v")]).await;
    }
    let mut first = log.subscribe(&group, &[&topic]).await.unwrap();
    let (_, positions) = first.records(2).await;
    let mut second = log.subscribe(&group, &[&topic]).await.unwrap();
    let revocation = first.revoked().await;
    first.commit(&positions).await.unwrap();
    let moved = revocation.leases[0].partition;
    revocation.acknowledge();
    let assigned = second.assigned().await;
    let expected = positions.iter().find(|(lease, _)| lease.partition == moved).unwrap().1;
    assert_eq!(assigned.partitions[0].lease.partition, moved);
    assert_eq!(assigned.partitions[0].committed, Some(expected));
    assigned.resume();
    second.expect_silence().await;
}

/// After the acknowledgement the lease is of no use.
pub async fn a_stale_lease_cannot_commit(h: &impl Harness) {
    let log = h.log().await;
    let (topic, group) = (fresh_topic(&log, "stale", 2).await, fresh("group"));
    append_all(&log, &topic, (0..2).map(|p| record(key_for(p, 2), "v"))).await;
    let mut first = log.subscribe(&group, &[&topic]).await.unwrap();
    let (_, positions) = first.records(2).await;
    let mut second = log.subscribe(&group, &[&topic]).await.unwrap();
    let revocation = first.revoked().await;
    let lease = revocation.leases[0].clone();
    revocation.acknowledge();
    let assigned = second.assigned().await;
    assert_ne!(assigned.partitions[0].lease.id, lease.id, "leases are never used twice");
    let stale = positions.iter().filter(|(l, _)| *l == lease).cloned().collect::<Vec<_>>();
    let refused = first.commit(&stale).await;
    assert!(matches!(refused, Err(LogError::Stale { .. })), "{refused:?}");
    assert_eq!(log.committed(&group, &topic).await.unwrap(), [None, None]);
}

/// A commit is all or nothing.
pub async fn one_stale_lease_spoils_the_whole_commit(h: &impl Harness) {
    let log = h.log().await;
    let (topic, group) = (fresh_topic(&log, "all-or-none", 2).await, fresh("group"));
    append_all(&log, &topic, (0..2).map(|p| record(key_for(p, 2), "v"))).await;
    let mut first = log.subscribe(&group, &[&topic]).await.unwrap();
    let (_, positions) = first.records(2).await;
    let mut second = log.subscribe(&group, &[&topic]).await.unwrap();
    first.revoked().await.acknowledge();
    let _assigned = second.assigned().await;
    let refused = first.commit(&positions).await;
    assert!(matches!(refused, Err(LogError::Stale { .. })), "{refused:?}");
    assert_eq!(log.committed(&group, &topic).await.unwrap(), [None, None]);
}

/// A member that does not answer a revocation loses its leases at the deadline.
pub async fn without_acknowledgement_the_deadline_fences(h: &impl Harness) {
    let log = h.log().await;
    let (topic, group) = (fresh_topic(&log, "deadline", 2).await, fresh("group"));
    append_all(&log, &topic, (0..2).map(|p| record(key_for(p, 2), "v"))).await;
    let mut first = log.subscribe(&group, &[&topic]).await.unwrap();
    let (_, positions) = first.records(2).await;
    let mut second = log.subscribe(&group, &[&topic]).await.unwrap();
    let asked = tokio::time::Instant::now();
    let revocation = first.revoked().await;
    let assigned = second.assigned().await;
    assert!(asked.elapsed() >= h.revoke_deadline() / 2, "it waited for the acknowledgement");
    assert_eq!(assigned.partitions[0].lease.partition, revocation.leases[0].partition);
    let late: Vec<_> =
        positions.into_iter().filter(|(lease, _)| revocation.leases.contains(lease)).collect();
    let refused = first.commit(&late).await;
    assert!(matches!(refused, Err(LogError::Stale { .. })), "{refused:?}");
}

/// What stays is read on without a break in its lease.
pub async fn only_partitions_that_move_are_revoked(h: &impl Harness) {
    let log = h.log().await;
    let (topic, group) = (fresh_topic(&log, "stay", 4).await, fresh("group"));
    four(&log, &topic, 0).await;
    let mut first = log.subscribe(&group, &[&topic]).await.unwrap();
    let (_, positions) = first.records(4).await;
    let _second = log.subscribe(&group, &[&topic]).await.unwrap();
    let revocation = first.revoked().await;
    let kept: Vec<_> =
        positions.into_iter().filter(|(lease, _)| !revocation.leases.contains(lease)).collect();
    assert_eq!(kept.len(), 2);
    revocation.acknowledge();
    first.commit(&kept).await.unwrap();
}

/// When a member goes, others take its partitions from where it committed.
pub async fn what_a_departed_member_held_goes_to_who_stays(h: &impl Harness) {
    let log = h.log().await;
    let (topic, group) = (fresh_topic(&log, "depart", 2).await, fresh("group"));
    let mut first = log.subscribe(&group, &[&topic]).await.unwrap();
    first.assigned().await.resume();
    let mut second = log.subscribe(&group, &[&topic]).await.unwrap();
    first.revoked().await.acknowledge();
    let assigned = second.assigned().await;
    let partition = assigned.partitions[0].lease.partition;
    assigned.resume();
    append_all(&log, &topic, [record(key_for(partition, 2), "not committed")]).await;
    assert_eq!(second.records(1).await.0.len(), 1);
    drop(second);
    let assigned = first.assigned().await;
    assert_eq!(assigned.partitions[0].lease.partition, partition);
    assigned.resume();
    assert_eq!(texts(&first.batch().await.records), ["not committed"]);
}

/// A pause ends with its lease: who paused is told of the revocation, and can resume only what it kept.
pub async fn a_paused_partition_can_be_revoked(h: &impl Harness) {
    let log = h.log().await;
    let (topic, group) = (fresh_topic(&log, "paused-moves", 2).await, fresh("group"));
    append_all(&log, &topic, (0..2).map(|p| record(key_for(p, 2), "a"))).await;
    let mut first = log.subscribe(&group, &[&topic]).await.unwrap();
    let (_, positions) = first.records(2).await;
    positions.iter().for_each(|(lease, _)| first.pause(lease));
    append_all(&log, &topic, (0..2).map(|p| record(key_for(p, 2), format!("b{p}")))).await;
    let mut second = log.subscribe(&group, &[&topic]).await.unwrap();
    let revocation = first.revoked().await;
    first.commit(&positions).await.unwrap();
    let moved = revocation.leases[0].partition;
    revocation.acknowledge();
    second.assigned().await.resume();
    assert_eq!(texts(&second.records(1).await.0), [format!("b{moved}")]);
    first.expect_silence().await;
    positions.iter().for_each(|(lease, at)| first.resume(lease, *at));
    assert_eq!(texts(&first.records(1).await.0), [format!("b{}", 1 - moved)]);
    first.expect_silence().await;
    second.expect_silence().await;
}
