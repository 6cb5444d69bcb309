//! Random histories: events, some of them again, and sinks that are stopped, crashed, joined by others
//! and started again with windows of other sizes. However it went, the store holds what the log says.

use proptest::prelude::*;
use schemas::Event;
use service::config::RollupConfig;

use crate::{
    faults::{Fault, Faulty},
    model::{expected, found},
    world::{BEGIN, SECOND, World, departures, eventually, flight, window},
};

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// Events by number; equal numbers are one identity. The flag says that the door fills the time in.
    Append(Vec<(u8, bool)>),
    Pass(i64),
    /// A sink stores everything and stops in good order.
    Settle(usize),
    /// A sink is cut off when its store did something wrong.
    Crash {
        size: usize,
        fault: Fault,
        well: u32,
    },
    /// Two sinks share the partitions.
    Two(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop::sample::select(vec![0, 1, 8, 4_000_000]);
    let fault =
        prop::sample::select(vec![Fault::SilentAfter, Fault::EventsOnly, Fault::DeniedAfter]);
    let event = (0..60_u8, prop::bool::weighted(0.2));
    prop_oneof![
        4 => prop::collection::vec(event, 1..40).prop_map(Step::Append),
        1 => prop::sample::select(vec![SECOND, 30 * SECOND, 3_600 * SECOND]).prop_map(Step::Pass),
        2 => size.clone().prop_map(Step::Settle),
        2 => (size.clone(), fault, 0..3_u32)
            .prop_map(|(size, fault, well)| Step::Crash { size, fault, well }),
        1 => size.prop_map(Step::Two),
    ]
}

/// The event of a number: what it says depends on the number alone, but for a time filled in.
fn event(number: u8, filled: bool, now: i64) -> Event {
    let carrier = ["UA", "EV", "B6"][usize::from(number % 3)];
    // Most are of the time around the beginning, some a little ahead of it.
    let time = BEGIN + (i64::from(number) - 50) * 10 * SECOND;
    let time = if filled { now } else { time };
    // Numbers from 50 on always have their time filled in, so that a copy never claims another.
    let mut event = flight(&number.to_string(), time, carrier, i64::from(number));
    event.time_filled = filled;
    event
}

async fn go(steps: Vec<Step>) {
    let world = World::new(2).await;
    let rollups: &[RollupConfig] = &[departures()];
    for step in steps {
        match step {
            Step::Append(numbers) => {
                let events: Vec<Event> = numbers
                    .into_iter()
                    .map(|(number, filled)| event(number, filled || number >= 50, world.now()))
                    .collect();
                world.append(&events).await;
            }
            Step::Pass(time) => world.pass(time),
            Step::Settle(size) => {
                world.settle(&window(size), rollups).await;
            }
            Step::Crash { size, fault, well } => {
                let faulty = Faulty::new(world.store.clone(), fault, well, 1);
                let running = world.start_on(faulty.clone(), &window(size), rollups);
                eventually("it crashed or was done", async || {
                    faulty.happened() > 0 || world.is_stored(&running.versions).await
                })
                .await;
                running.crash().await;
            }
            Step::Two(size) => {
                let mut one = world.start(&window(size), rollups);
                let mut two = world.start(&window(size), rollups);
                world.append(&[event(7, false, world.now())]).await;
                world.wait_stored(&mut one).await;
                one.stop().await;
                world.append(&[event(8, false, world.now())]).await;
                world.wait_stored(&mut two).await;
                two.stop().await;
            }
        }
    }
    world.append(&[event(1, false, world.now())]).await;
    world.settle(&window(8), rollups).await;
    found(&world).await.must_be(&expected(&world).await, "at the end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_a_function_of_the_log(steps in prop::collection::vec(step(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(go(steps));
    }
}
