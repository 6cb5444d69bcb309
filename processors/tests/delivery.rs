//! Exactly once: whatever ends a processor, and whoever takes its partitions over.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod harness;

use std::{collections::HashMap, time::Duration};

use eventlog::Stored;
use harness::{House, Running, event, events, random};
use schemas::{Event, topics};
use service::config::DeliveryMode;

const PROGRAM: &str = ".data.seen = true";

/// Posts events in small groups, as time goes by.
async fn post_slowly(house: &House, count: usize, pause: Duration) {
    for start in (0..count).step_by(10) {
        house.post(events(start..start + 10)).await;
        tokio::time::sleep(pause).await;
    }
}

async fn assert_each_once(house: &House, count: usize) {
    house.wait_for(topics::CLEAN, count).await;
    house.wait_until_read("clean").await;
    let times = house.times_by_id().await;
    assert_eq!(times.len(), count, "events are missing");
    let doubled: Vec<_> = times.iter().filter(|(_, times)| **times != 1).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
    assert_eq!(house.all(topics::DEAD_LETTERS).await.len(), 0);
}

/// The events of a key in the order in which they were numbered.
fn assert_in_order(clean: Vec<Stored>) {
    let mut last = HashMap::new();
    for Stored { record, .. } in clean {
        let (_, _, id) = schemas::identity_of(&record).unwrap();
        let number: usize = id[1..].parse().unwrap();
        let before = last.insert(record.key, number);
        assert!(before.is_none_or(|before| before < number), "{before:?} before {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_pass_once_over_many_orderly_restarts() {
    let house = House::new().await;
    let restarts = async {
        let mut seed = 1;
        for _ in 0..20 {
            let running = Running::start(house.runner(Some(PROGRAM)));
            tokio::time::sleep(Duration::from_millis(random(&mut seed) % 40)).await;
            running.stop().await.unwrap();
        }
    };
    tokio::join!(post_slowly(&house, 1000, Duration::from_millis(4)), restarts);
    let running = Running::start(house.runner(Some(PROGRAM)));
    assert_each_once(&house, 1000).await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_pass_once_over_many_sudden_deaths() {
    let house = House::new().await;
    let restarts = async {
        let mut seed = 2;
        for _ in 0..60 {
            let running = Running::start(house.runner(Some(PROGRAM)));
            tokio::time::sleep(Duration::from_micros(random(&mut seed) % 20_000)).await;
            running.kill().await;
        }
    };
    tokio::join!(post_slowly(&house, 1000, Duration::from_millis(6)), restarts);
    let running = Running::start(house.runner(Some(PROGRAM)));
    assert_each_once(&house, 1000).await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_pass_once_while_members_join_leave_and_die() {
    let house = House::new().await;
    let member = |name: &str| {
        let mut runner = house.runner(Some(PROGRAM));
        runner.instance = name.into();
        Running::start(runner)
    };
    let scaling = async {
        let mut seed = 3;
        let mut pause = || Duration::from_millis(random(&mut seed) % 60);
        let stays = member("a");
        for round in 0..8 {
            tokio::time::sleep(pause()).await;
            let comes = member("b");
            tokio::time::sleep(pause()).await;
            if round % 2 == 0 {
                comes.stop().await.unwrap();
            } else {
                comes.kill().await;
            }
        }
        let comes = member("b");
        tokio::time::sleep(pause()).await;
        stays.kill().await;
        comes
    };
    let (_, last) = tokio::join!(post_slowly(&house, 1000, Duration::from_millis(5)), scaling);
    assert_each_once(&house, 1000).await;
    last.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn order_holds_within_a_key() {
    let house = House::new().await;
    house.post(events(0..2000)).await;
    let running = Running::start(house.runner(Some(PROGRAM)));
    let clean = house.wait_for(topics::CLEAN, 2000).await;
    running.stop().await.unwrap();
    assert_in_order(clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn order_holds_within_a_key_whose_first_events_fill_several_transactions() {
    let house = House::new().await;
    let of_one_key = |n| Event {
        subject: Some("one".into()),
        ..event(format!("e{n}"), if n < 300 { r#"{"large":true}"# } else { "{}" })
    };
    house.post((0..600).map(of_one_key)).await;
    let program = r#"
        if .data.large == true {
            big = "0123456789abcdef"
            for_each([1,2,3,4,5,6,7,8,9,10,11,12]) -> |_i, _v| { big = big + big }
            .data = big
        }
    "#;
    let running = Running::start(house.runner(Some(program)));
    let clean = house.wait_for(topics::CLEAN, 600).await;
    running.stop().await.unwrap();
    assert_eq!(clean.len(), 600);
    assert_in_order(clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_loses_nothing_over_sudden_deaths() {
    let house = House::new().await;
    let runner = || {
        let mut runner = house.runner(Some(PROGRAM));
        runner.config.delivery = DeliveryMode::AtLeastOnce;
        runner
    };
    let restarts = async {
        let mut seed = 4;
        for _ in 0..30 {
            let running = Running::start(runner());
            tokio::time::sleep(Duration::from_micros(random(&mut seed) % 20_000)).await;
            running.kill().await;
        }
    };
    tokio::join!(post_slowly(&house, 500, Duration::from_millis(5)), restarts);
    let running = Running::start(runner());
    house.wait_until_read("clean").await;
    running.stop().await.unwrap();
    assert_eq!(house.times_by_id().await.len(), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_output_than_one_transaction_holds_is_committed_in_several() {
    let house = House::new().await;
    house.post((0..30).map(|n| event(format!("e{n}"), "{}"))).await;
    let program = r#"
        big = "0123456789abcdef"
        for_each([1,2,3,4,5,6,7,8,9,10,11,12]) -> |_i, _v| { big = big + big }
        parent = merge(., {"data": big})
        . = map_values([1,2,3,4,5,6,7,8,9,10]) -> |_n| { parent }
    "#;
    let running = Running::start(house.runner(Some(program)));
    assert_each_once(&house, 300).await;
    running.stop().await.unwrap();
    let transactions = house.metric(&["transactions_total"]);
    let count: u64 = transactions[0].rsplit(' ').next().unwrap().parse().unwrap();
    assert!(count > 1, "{transactions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_processed_at_shutdown_is_finished() {
    let house = House::new().await;
    house.post(events(0..500)).await;
    let running = Running::start(house.runner(Some(PROGRAM)));
    house.wait_for(topics::CLEAN, 1).await;
    running.stop().await.unwrap();
    let committed =
        house.log.committed(&processors::group_name("clean"), topics::RAW).await.unwrap();
    let read = house.all(topics::RAW).await;
    let below = |(partition, stored): &&(u32, Stored)| {
        committed[*partition as usize].is_some_and(|position| stored.offset < position)
    };
    assert_eq!(house.times_by_id().await.len(), read.iter().filter(below).count());
}
