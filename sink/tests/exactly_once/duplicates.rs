//! One identity, many records.

use schemas::{Data, Event, Timestamp, topics};
use sink::Outcome;

use crate::{
    model::{expected, found},
    world::{BEGIN, HOUR, SECOND, World, departures, flight, window},
};

fn flights(range: std::ops::Range<i64>) -> Vec<Event> {
    let carrier = |n| ["UA", "EV", "B6"][n as usize % 3];
    range.map(|n| flight(&n.to_string(), BEGIN + n * SECOND, carrier(n), n % 50 - 10)).collect()
}

#[tokio::test]
async fn the_same_events_sent_twice_change_nothing() {
    let world = World::new(2).await;
    world.append(&flights(0..500)).await;
    world.settle(&window(4_000_000), &[departures()]).await;
    let once = found(&world).await;
    assert_eq!(once.events.len(), 500);

    world.append(&flights(0..500)).await;
    let second = world.settle(&window(4_000_000), &[departures()]).await;

    found(&world).await.must_be(&once, "after the second time");
    assert_eq!(second.counted(Outcome::Duplicate), 500);
}

#[tokio::test]
async fn events_too_large_to_be_held_at_once_are_stored_once_and_in_order() {
    let world = World::new(1).await;
    let padding = format!(",\"note\":\"{}\"}}", "x".repeat(400_000));
    let mut events = flights(0..60);
    for event in events.iter_mut().skip(1).step_by(3) {
        let Data::Json(data) = &event.data else { panic!("a flight is JSON") };
        let data = String::from_utf8(data.to_vec()).unwrap();
        event.data = Data::Json(data.replacen('}', &padding, 1).into());
    }
    world.append(&events).await;
    world.append(&events[20..40]).await;
    let running = world.settle(&window(4_000_000), &[departures()]).await;
    assert_eq!(running.counted(Outcome::Stored), 60);
    assert_eq!(running.counted(Outcome::Duplicate), 20);
    found(&world).await.must_be(&expected(&world).await, "at the end");
}

#[tokio::test]
async fn one_id_of_two_sources_is_two_events() {
    let world = World::new(1).await;
    let one = flight("same", BEGIN, "UA", 1);
    let other = Event { source: "/elsewhere".into(), ..one.clone() };
    world.append(&[one, other]).await;
    world.settle(&window(4_000_000), &[departures()]).await;
    let found = found(&world).await;
    assert_eq!(found.events.len(), 2);
    assert_eq!(found.departures.values().map(|row| row.0).collect::<Vec<_>>(), [2, 2]);
}

#[tokio::test]
async fn a_retry_after_more_events_than_the_window_holds_counts_once() {
    let world = World::new(1).await;
    let mut running = world.start(&window(8), &[departures()]);
    world.append(&flights(0..1)).await;
    world.append(&flights(100..200)).await;
    world.wait_stored(&mut running).await;
    world.append(&flights(0..1)).await;
    world.wait_stored(&mut running).await;
    running.stop().await;
    assert_eq!(running.counted(Outcome::Duplicate), 1);
    found(&world).await.must_be(&expected(&world).await, "at the end");
}

#[tokio::test]
async fn a_retry_whose_time_was_filled_in_at_the_door_counts_once() {
    let world = World::new(1).await;
    let filled = |time| Event { time_filled: true, ..flight("a", time, "UA", 5) };
    let mut running = world.start(&window(8), &[departures()]);
    world.append(&[filled(BEGIN)]).await;
    world.pass(2 * HOUR);
    let later: Vec<Event> =
        (0..100).map(|n| flight(&format!("x{n}"), world.now() - n * SECOND, "EV", 1)).collect();
    world.append(&later).await;
    world.wait_stored(&mut running).await;
    world.pass(HOUR); // so that the new time lies within the window, and the first copy before it
    world.append(&[filled(world.now())]).await;
    world.wait_stored(&mut running).await;
    running.stop().await;
    assert_eq!(running.counted(Outcome::Duplicate), 1);
    found(&world).await.must_be(&expected(&world).await, "at the end");
}

#[tokio::test]
async fn a_window_over_the_whole_log_reads_no_locator() {
    let world = World::new(1).await;
    let mut old = flights(0..300); // of 1970, so that time cannot help
    old.iter_mut().for_each(|event| event.time = Timestamp::from_micros(event.time.micros - BEGIN));
    world.append(&old).await;
    let running = world.settle(&window(4_000_000), &[]).await;
    assert_eq!((running.look_ups(), running.counted(Outcome::Stored)), (0, 300));
}

#[tokio::test]
async fn after_a_restart_events_of_now_read_no_locator_and_old_ones_do() {
    let world = World::new(1).await;
    world.append(&flights(0..300)).await;
    world.settle(&window(4_000_000), &[]).await;
    world.pass(24 * HOUR);
    let mut running = world.start(&window(4_000_000), &[]);
    let now: Vec<Event> =
        (0..100).map(|n| flight(&format!("now{n}"), world.now(), "UA", n)).collect();
    world.append(&now).await;
    world.wait_stored(&mut running).await;
    assert_eq!(running.look_ups(), 0);
    world.append(&flights(0..1)).await;
    world.wait_stored(&mut running).await;
    running.stop().await;
    assert_eq!((running.look_ups(), running.counted(Outcome::Duplicate)), (1, 1));
}

#[tokio::test]
async fn poison_goes_to_the_dead_letters_and_the_others_go_on() {
    let world = World::new(1).await;
    world.append(&flights(0..2)).await;
    let mut poison = world.codec.encode(&flights(2..3)[0]).unwrap();
    poison.value = Some("{ not json".into());
    world.append_records(vec![poison.clone()]).await;
    let huge = Event { source: "/".repeat(10_000), ..flights(3..4)[0].clone() };
    world.append_records(vec![world.codec.encode(&huge).unwrap()]).await;
    world.append(&flights(4..6)).await;
    let running = world.settle(&window(4_000_000), &[departures()]).await;

    assert_eq!(found(&world).await.events.len(), 4);
    assert_eq!(running.counted(Outcome::DeadLettered), 2);
    let letters = world.records(topics::DEAD_LETTERS).await;
    assert_eq!(letters.len(), 2);
    let letter = &letters[0].1.record;
    assert_eq!(letter.value, poison.value);
    assert_eq!(letter.headers.get_str("__connect.errors.topic"), Some(topics::CLEAN));
    assert_eq!(letter.headers.get_str("__connect.errors.connector.name"), Some("sink"));
    let reason = |n: usize| {
        let headers = &letters[n].1.record.headers;
        headers.get_str("__connect.errors.exception.class.name").map(str::to_owned)
    };
    assert_eq!(reason(0).as_deref(), Some("malformed"));
    assert_eq!(reason(1).as_deref(), Some("too_large"));
}
