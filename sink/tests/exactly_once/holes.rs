//! What was not folded, not committed, or is gone.

use schemas::{Event, topics};
use sink::Outcome;

use crate::{
    faults::{Fault, Faulty},
    model::{expected, found},
    world::{
        BEGIN, GROUP, HOUR, SECOND, World, departures, departures_definition, eventually, flight,
        open_log, window,
    },
};

fn flights(range: std::ops::Range<i64>) -> Vec<Event> {
    range.map(|n| flight(&n.to_string(), BEGIN + n * SECOND, "UA", n % 50)).collect()
}

async fn is_complete(world: &World, epoch: u32) -> Vec<bool> {
    let version = departures_definition().version();
    let marks = world.store.marks(topics::CLEAN, epoch, version).await.unwrap();
    marks.into_iter().map(|(_, mark)| mark.complete).collect()
}

#[tokio::test]
async fn a_rollup_defined_later_is_folded_from_the_log() {
    let world = World::new(2).await;
    world.append(&flights(0..300)).await;
    world.append(&flights(100..400)).await; // some twice
    world.settle(&window(4_000_000), &[]).await;
    assert_eq!(found(&world).await.departures.len(), 0);

    let running = world.settle(&window(4_000_000), &[departures()]).await;

    found(&world).await.must_be(&expected(&world).await, "at the end");
    assert_eq!(running.metrics.folded_again.get(), 400);
    assert_eq!(is_complete(&world, 1).await, [true, true]);
}

#[tokio::test]
async fn a_rollup_taken_out_and_put_back_is_folded_where_it_was_away() {
    let world = World::new(1).await;
    world.append(&flights(0..100)).await;
    world.settle(&window(4_000_000), &[departures()]).await;
    world.append(&flights(50..200)).await;
    world.settle(&window(4_000_000), &[]).await;
    world.append(&flights(150..250)).await;
    let running = world.settle(&window(4_000_000), &[departures()]).await;
    found(&world).await.must_be(&expected(&world).await, "at the end");
    assert_eq!(running.metrics.folded_again.get(), 100);
}

#[tokio::test]
async fn a_flush_that_was_stored_and_not_committed_counts_once() {
    let world = World::new(1).await;
    world.append(&flights(0..100)).await;
    let faulty = Faulty::new(world.store.clone(), Fault::SilentAfter, 0, 1);
    let running = world.start_on(faulty.clone(), &window(0), &[departures()]);
    eventually("the store has it", async || faulty.happened() == 1).await;
    running.crash().await;
    assert_eq!(world.log.committed(GROUP, topics::CLEAN).await.unwrap(), [None]);

    world.append(&flights(0..150)).await;
    let running = world.settle(&window(0), &[departures()]).await;

    found(&world).await.must_be(&expected(&world).await, "at the end");
    assert_eq!(running.counted(Outcome::Replayed), 100);
}

#[tokio::test]
async fn a_flush_whose_rollups_were_not_written_is_folded_when_it_comes_again() {
    for size in [0, 4_000_000] {
        let world = World::new(1).await;
        world.append(&flights(0..100)).await;
        let faulty = Faulty::new(world.store.clone(), Fault::EventsOnly, 0, 1);
        let running = world.start_on(faulty.clone(), &window(size), &[departures()]);
        eventually("half of it is there", async || faulty.happened() == 1).await;
        running.crash().await;

        world.settle(&window(size), &[departures()]).await;
        found(&world).await.must_be(&expected(&world).await, &format!("window {size}"));
    }
}

#[tokio::test]
async fn a_store_that_answers_late_or_wrongly_is_asked_again() {
    for fault in [Fault::RefusedBefore, Fault::DeniedAfter] {
        let world = World::new(2).await;
        let faulty = Faulty::new(world.store.clone(), fault, 1, 3);
        let mut running = world.start_on(faulty.clone(), &window(8), &[departures()]);
        for n in 0..5 {
            world.append(&flights(n * 50..n * 50 + 100)).await;
            world.wait_stored(&mut running).await;
        }
        running.stop().await;
        assert_eq!(faulty.happened(), 3);
        found(&world).await.must_be(&expected(&world).await, &format!("{fault:?}"));
    }
}

#[tokio::test]
async fn while_the_store_refuses_nothing_is_committed_and_health_says_why() {
    let world = World::new(1).await;
    world.append(&flights(0..100)).await;
    let faulty = Faulty::new(world.store.clone(), Fault::RefusedBefore, 0, u32::MAX);
    let running = world.start_on(faulty.clone(), &window(8), &[departures()]);
    eventually("it was asked some times", async || faulty.happened() >= 4).await;
    assert_eq!(world.log.committed(GROUP, topics::CLEAN).await.unwrap(), [None]);
    let failing = running.health.failing();
    assert!(failing[0].1.contains("the store does not answer: a fault"), "{failing:?}");
    running.crash().await;
}

#[tokio::test]
async fn more_than_all_queues_hold_goes_through_a_slow_store() {
    let world = World::new(2).await;
    for n in 0..10 {
        world.append(&flights(n * 1_800..n * 1_800 + 2_000)).await;
    }
    let faulty = Faulty::new(world.store.clone(), Fault::RefusedBefore, 1, 3);
    let mut running = world.start_on(faulty, &window(1_000), &[departures()]);
    world.wait_stored(&mut running).await;
    running.stop().await;
    found(&world).await.must_be(&expected(&world).await, "at the end");
    assert_eq!(running.counted(Outcome::Stored), 18_200);
    assert_eq!(running.counted(Outcome::Duplicate), 1_800);
}

#[tokio::test]
async fn a_log_that_begins_again_begins_an_epoch_and_counts_nothing_twice() {
    let mut world = World::new(1).await;
    world.append(&flights(0..100)).await;
    world.settle(&window(4_000_000), &[departures()]).await;

    world.lose_log().await;
    world.append(&flights(50..150)).await;
    let running = world.settle(&window(4_000_000), &[departures()]).await;

    assert_eq!(world.store.epoch(topics::CLEAN).await.unwrap().unwrap().epoch, 2);
    assert_eq!(running.counted(Outcome::Duplicate), 50);
    let found = found(&world).await;
    assert_eq!(found.events.len(), 150);
    assert_eq!(found.types.values().sum::<u64>(), 150);
    assert_eq!(found.departures.values().map(|row| row.0).sum::<u64>(), 2 * 150);
}

#[tokio::test]
async fn a_store_that_is_lost_is_filled_again_from_the_log() {
    let mut world = World::new(1).await;
    world.append(&flights(0..100)).await;
    world.settle(&window(4_000_000), &[departures()]).await;

    let other = world.dir.path().join("other");
    world.store = crate::world::open_store(&other).await;
    world.settle(&window(4_000_000), &[departures()]).await;

    found(&world).await.must_be(&expected(&world).await, "at the end");
    assert_eq!(is_complete(&world, 1).await, [true]);
}

#[tokio::test]
async fn what_retention_took_unread_is_counted_noted_and_leaves_rollups_incomplete() {
    let mut world = World::new(1).await;
    let path = world.dir.path().join("small");
    (world.log, world.codec) = open_log(&path, &world.clock, 1, Some(10_000)).await;
    world.append(&flights(0..10)).await;
    world.settle(&window(4_000_000), &[departures()]).await;
    assert_eq!(is_complete(&world, 1).await, [true]);

    for n in 1..40 {
        world.append(&flights(n * 100..n * 100 + 100)).await;
    }
    eventually("retention took some", async || {
        world.log.bounds(topics::CLEAN, 0).await.unwrap().start > 100
    })
    .await;
    let mut running = world.start(&window(4_000_000), &[departures()]);
    world.wait_stored(&mut running).await;

    assert_eq!(running.metrics.gaps.get(), 1);
    assert!(running.health.notes()[0].1.contains("lost"), "{:?}", running.health.notes());
    assert_eq!(is_complete(&world, 1).await, [false]);
    running.stop().await;
}

#[tokio::test]
async fn events_older_than_their_retention_go_and_their_retry_still_counts_once() {
    if !crate::AGES_BY_OUR_CLOCK {
        return;
    }
    let world = World::new(1).await;
    world.append(&flights(0..10)).await;
    world.settle(&window(4_000_000), &[departures()]).await;
    world.pass(100 * 24 * HOUR);
    world.append(&flights(5..15)).await;
    let mut running = world.start(&window(4_000_000), &[departures()]);
    world.wait_stored(&mut running).await;
    eventually("the old ones are gone", async || found(&world).await.events.len() == 5).await;
    running.stop().await;
    let counts = found(&world).await.departures.into_values().map(|row| row.0);
    assert_eq!(counts.collect::<Vec<_>>(), [15, 15]);
}
