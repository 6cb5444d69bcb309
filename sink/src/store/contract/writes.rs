//! Epochs, flushes, and what a late write must not do.

use std::sync::Arc;

use super::{Harness, Origin, StoreError, TopicEpoch, World, mark, offsets, rollups::row};
use crate::store::{Flush, PartitionState, VersionId};

pub async fn a_topic_never_begun_has_no_epoch(harness: &impl Harness) {
    let world = World::new(harness).await;
    assert_eq!(world.store.epoch(&format!("{}-other", world.topic)).await, Ok(None));
}

pub async fn the_first_epoch_begins_once(harness: &impl Harness) {
    let world = World::new(harness).await;
    let topic = format!("{}-other", world.topic);
    let first = TopicEpoch { incarnation: Some(u64::MAX), ..world.epoch(1) };
    assert_eq!(world.store.begin_epoch(&topic, None, first).await, Ok(first));
    let second = TopicEpoch { incarnation: Some(7), ..world.epoch(1) };
    assert_eq!(world.store.begin_epoch(&topic, None, second).await, Ok(first));
    assert_eq!(world.store.epoch(&topic).await, Ok(Some(first)));
}

pub async fn an_epoch_begins_only_after_the_one_it_names(harness: &impl Harness) {
    let world = World::new(harness).await;
    let (second, third) = (world.epoch(2), world.epoch(3));
    assert_eq!(world.store.begin_epoch(&world.topic, Some(1), second).await, Ok(second));
    assert_eq!(world.store.begin_epoch(&world.topic, Some(1), third).await, Ok(second));
    assert_eq!(world.store.epoch(&world.topic).await, Ok(Some(second)));
}

pub async fn of_many_who_begin_an_epoch_at_once_all_learn_the_same(harness: &impl Harness) {
    let world = World::new(harness).await;
    let tries = (0..8).map(|incarnation| {
        let next = TopicEpoch { incarnation: Some(incarnation), ..world.epoch(2) };
        world.store.begin_epoch(&world.topic, Some(1), next)
    });
    let answers = futures_util::future::join_all(tries).await;
    let current = world.store.epoch(&world.topic).await.unwrap().unwrap();
    assert_eq!(answers, vec![Ok::<_, StoreError>(current); 8]);
}

pub async fn a_partition_never_written_is_stored_to_nothing(harness: &impl Harness) {
    let world = World::new(harness).await;
    let state = world.store.partition(&world.topic, 1, 3).await;
    assert_eq!(state, Ok(PartitionState::default()));
}

pub async fn a_flush_is_there_whole_when_it_is_answered(harness: &impl Harness) {
    let world = World::new(harness).await;
    let event = world.event("a", 9);
    let rollup = row(&world, 0, "[1]", 9);
    world
        .write(Flush {
            events: vec![event.clone()],
            rollups: vec![rollup.clone()],
            marks: vec![mark(1, 0, 10)],
            ..world.flush(10)
        })
        .await;
    let store = &world.store;
    assert_eq!(store.event(&event.identity()).await, Ok(Some(event.clone())));
    assert_eq!(world.rows(&world.list()).await, vec![event]);
    let rows = store.rollup_rows(std::slice::from_ref(&rollup.key)).await;
    assert_eq!(rows, Ok(vec![Some(rollup)]));
    assert_eq!(
        store.partition(&world.topic, 1, 0).await,
        Ok(PartitionState { stored_to: 10, marks: vec![mark(1, 0, 10)] })
    );
}

pub async fn a_flush_written_again_changes_nothing(harness: &impl Harness) {
    let world = World::new(harness).await;
    let flush = Arc::new(Flush {
        events: vec![world.event("a", 0), world.event("b", 1)],
        rollups: vec![row(&world, 0, "[1]", 1)],
        marks: vec![mark(1, 0, 2)],
        ..world.flush(2)
    });
    for _ in 0..3 {
        world.store.write(flush.clone()).await.unwrap();
        assert_eq!(world.ids(&world.list()).await, ["b", "a"]);
        let rows = world.store.rollup_rows(&[flush.rollups[0].key.clone()]).await;
        assert_eq!(rows, Ok(vec![Some(flush.rollups[0].clone())]));
        assert_eq!(
            world.store.partition(&world.topic, 1, 0).await,
            Ok(PartitionState { stored_to: 2, marks: flush.marks.clone() })
        );
    }
}

pub async fn a_flush_of_a_position_alone_moves_its_partition_on(harness: &impl Harness) {
    let world = World::new(harness).await;
    world.write(world.flush(5)).await;
    let state = world.store.partition(&world.topic, 1, 0).await;
    assert_eq!(state, Ok(PartitionState { stored_to: 5, marks: Vec::new() }));
}

pub async fn what_was_answered_is_there_after_reopening(harness: &impl Harness) {
    let mut world = World::new(harness).await;
    let event = world.event("a", 0);
    let rollup = row(&world, 0, "[1]", 0);
    world
        .write(Flush {
            events: vec![event.clone()],
            rollups: vec![rollup.clone()],
            marks: vec![mark(1, 0, 1)],
            ..world.flush(1)
        })
        .await;
    world.store = harness.reopen(world.store).await;
    let store = &world.store;
    assert_eq!(store.epoch(&world.topic).await, Ok(Some(world.epoch(1))));
    assert_eq!(
        store.partition(&world.topic, 1, 0).await,
        Ok(PartitionState { stored_to: 1, marks: vec![mark(1, 0, 1)] })
    );
    assert_eq!(world.rows(&world.list()).await, vec![event.clone()]);
    assert_eq!(store.locate(&[event.identity()]).await, Ok(vec![Some(event.origin)]));
    let rows = store.rollup_rows(std::slice::from_ref(&rollup.key)).await;
    assert_eq!(rows, Ok(vec![Some(rollup)]));
}

pub async fn partitions_flushing_at_once_all_arrive(harness: &impl Harness) {
    let world = World::new(harness).await;
    let flush = |partition: u32, round: u64| {
        let mut event = world.event(&format!("{partition:02}/{round}"), round);
        event.origin.partition = partition;
        Flush { partition, events: vec![event], ..world.flush(round + 1) }
    };
    let (world, flush) = (&world, &flush);
    let tasks = (0..16).map(|partition| async move {
        for round in 0..5 {
            world.write(flush(partition, round)).await;
        }
    });
    futures_util::future::join_all(tasks).await;
    assert_eq!(world.rows(&world.list()).await.len(), 80);
    for partition in 0..16 {
        let state = world.store.partition(&world.topic, 1, partition).await.unwrap();
        assert_eq!(state.stored_to, 5, "partition {partition}");
    }
}

pub async fn the_stored_position_never_goes_back(harness: &impl Harness) {
    let world = World::new(harness).await;
    for (written, expected) in [(10, 10), (4, 10), (10, 10), (11, 11)] {
        world.write(world.flush(written)).await;
        let state = world.store.partition(&world.topic, 1, 0).await.unwrap();
        assert_eq!(state.stored_to, expected, "after writing {written}");
    }
}

pub async fn each_topic_epoch_and_partition_has_a_position_of_its_own(harness: &impl Harness) {
    let world = World::new(harness).await;
    let other = World::on(world.store.clone()).await;
    world.store.begin_epoch(&world.topic, Some(1), world.epoch(2)).await.unwrap();
    world.write(Flush { marks: vec![mark(1, 0, 10)], ..world.flush(10) }).await;
    world.write(Flush { partition: 1, ..world.flush(20) }).await;
    world.write(Flush { epoch: 2, marks: vec![mark(1, 0, 30)], ..world.flush(30) }).await;
    other.write(other.flush(40)).await;
    let mut seen = Vec::new();
    for (topic, epoch, partition) in
        [(&world.topic, 1, 0), (&world.topic, 1, 1), (&world.topic, 2, 0), (&other.topic, 1, 0)]
    {
        let state = world.store.partition(topic, epoch, partition).await.unwrap();
        seen.push((state.stored_to, state.marks.iter().map(|mark| mark.to).collect::<Vec<_>>()));
    }
    assert_eq!(seen, [(10, vec![10]), (20, vec![]), (30, vec![30]), (40, vec![])]);
}

pub async fn a_mark_never_goes_back(harness: &impl Harness) {
    let world = World::new(harness).await;
    let broken = super::FoldMark { complete: false, ..mark(1, 5, 20) };
    for (written, stored_to, expected) in [
        (mark(1, 0, 10), 10, mark(1, 0, 10)),
        (mark(1, 0, 4), 4, mark(1, 0, 10)),
        (broken, 20, broken),
    ] {
        world.write(Flush { marks: vec![written], ..world.flush(stored_to) }).await;
        let state = world.store.partition(&world.topic, 1, 0).await.unwrap();
        assert_eq!(state.marks, [expected], "after writing {written:?}");
    }
}

pub async fn a_rollup_row_of_a_slow_former_owner_loses(harness: &impl Harness) {
    let world = World::new(harness).await;
    let (early, late) = (row(&world, 0, "[1]", 59), row(&world, 0, "[1]", 99));
    world.write(Flush { rollups: vec![late.clone()], ..world.flush(100) }).await;
    world.write(Flush { rollups: vec![early], ..world.flush(60) }).await;
    let rows = world.store.rollup_rows(std::slice::from_ref(&late.key)).await.unwrap();
    assert_eq!(offsets(&rows), [Some(99)]);
    assert_eq!(rows, [Some(late)]);
}

pub async fn a_rollup_row_of_a_late_fold_loses_at_an_equal_position(harness: &impl Harness) {
    let world = World::new(harness).await;
    let (early, late) = (row(&world, 0, "[1]", 40), row(&world, 0, "[1]", 45));
    world.write(world.flush(50)).await;
    // Two tasks fold a new version from the log's beginning, one slower than the other.
    world.write(Flush { rollups: vec![late.clone()], ..world.flush(50) }).await;
    world.write(Flush { rollups: vec![early], ..world.flush(50) }).await;
    let rows = world.store.rollup_rows(&[late.key]).await.unwrap();
    assert_eq!(offsets(&rows), [Some(45)]);
}

pub async fn a_flush_of_an_older_epoch_leaves_a_newer_record_of_an_identity(
    harness: &impl Harness,
) {
    let world = World::new(harness).await;
    world.store.begin_epoch(&world.topic, Some(1), world.epoch(2)).await.unwrap();
    let late = world.event("a", 500);
    let mut newer = world.event("a", 0);
    newer.origin = Origin { epoch: 2, ..newer.origin };
    newer.appended_at = late.appended_at + 1;
    world.write(Flush { epoch: 2, events: vec![newer.clone()], ..world.flush(1) }).await;
    world.write(Flush { events: vec![late], ..world.flush(501) }).await;
    let located = world.store.locate(&[newer.identity()]).await;
    assert_eq!(located, Ok(vec![Some(newer.origin)]));
    assert_eq!(world.rows(&world.list()).await, [newer]);
}

pub async fn a_replay_gives_back_the_same_event(harness: &impl Harness) {
    let world = World::new(harness).await;
    let events = vec![world.event("a", 0), world.event("b", 1), world.event("c", 2)];
    world.store_events(events.clone()).await;
    // After a crash a task may flush the same records with other bounds.
    world.store_events(events[..1].to_vec()).await;
    world.store_events(events[1..].to_vec()).await;
    let marks = world.store.marks(&world.topic, 1, VersionId(1)).await;
    assert_eq!(marks, Ok(Vec::new()));
    let mut expected = events;
    expected.reverse();
    assert_eq!(world.rows(&world.list()).await, expected);
}
