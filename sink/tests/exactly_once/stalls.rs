//! A partition that cannot be stored.

use std::sync::Arc;

use eventlog::partition_for;
use schemas::{Data, topics};
use sink::{Outcome, store::Store};

use crate::{
    faults::{Fault, Faulty},
    model::{expected, found},
    world::{BEGIN, Running, SECOND, World, departures, eventually, flight, window},
};

/// Appends flights; those of partition 0 are more than its task and all buffers before it hold.
async fn append(world: &World, flights: std::ops::Range<i64>) {
    let padding = format!(",\"note\":\"{}\"}}", "x".repeat(64 * 1024));
    let mut records = Vec::new();
    for n in flights {
        let mut event = flight(&n.to_string(), BEGIN + n * SECOND, "UA", n % 50);
        let record = world.codec.encode(&event).unwrap();
        if partition_for(record.key.as_deref().unwrap(), world.partitions) > 0 {
            records.push(record);
            continue;
        }
        let Data::Json(data) = &event.data else { panic!("a flight is JSON") };
        let data = String::from_utf8(data.to_vec()).unwrap();
        event.data = Data::Json(data.replacen('}', &padding, 1).into());
        records.push(world.codec.encode(&event).unwrap());
    }
    for some in records.chunks(100) {
        world.append_records(some.to_vec()).await;
    }
}

/// Waits until all partitions but the first are stored.
async fn others_are_stored(world: &World, running: &Running) {
    let clean = topics::CLEAN;
    eventually("the other partitions are stored", async || {
        assert!(!running.job.is_finished(), "the sink has stopped");
        let Some(epoch) = world.store.epoch(clean).await.unwrap() else { return false };
        for partition in 1..world.partitions {
            let end = world.log.bounds(clean, partition).await.unwrap().end;
            let state = world.store.partition(clean, epoch.epoch, partition).await.unwrap();
            if state.stored_to < end {
                return false;
            }
        }
        true
    })
    .await;
}

/// A sink whose first partition is refused, and is paused for it while the others are stored.
async fn stalled(world: &World) -> (Arc<Faulty>, Running) {
    append(world, 0..1_200).await;
    let faulty = Faulty::of(0, world.store.clone(), Fault::RefusedBefore);
    let store: Store = faulty.clone();
    let running = world.start_on(store, &window(4_000_000), &[departures()]);
    eventually("the partition is paused", async || running.metrics.paused.get() == 1).await;
    append(world, 1_200..1_400).await;
    others_are_stored(world, &running).await;
    (faulty, running)
}

#[tokio::test]
async fn a_partition_that_cannot_be_written_holds_up_neither_the_others_nor_the_group() {
    let world = World::new(4).await;
    let (_, first) = stalled(&world).await;
    let mut second = world.start(&window(4_000_000), &[departures()]);
    let mut next = 1_400;
    eventually("the second sink has partitions of its own", async || {
        append(&world, next..next + 20).await;
        next += 20;
        second.counted(Outcome::Stored) > 0
    })
    .await;
    first.crash().await;
    world.wait_stored(&mut second).await;
    second.stop().await;
    found(&world).await.must_be(&expected(&world).await, "at the end");
}

#[tokio::test]
async fn a_paused_partition_goes_on_where_it_was() {
    let world = World::new(4).await;
    let (faulty, mut running) = stalled(&world).await;
    faulty.mend();
    world.wait_stored(&mut running).await;
    eventually("no partition is paused", async || running.metrics.paused.get() == 0).await;
    append(&world, 1_400..1_500).await;
    world.wait_stored(&mut running).await;
    running.stop().await;
    found(&world).await.must_be(&expected(&world).await, "at the end");
}
