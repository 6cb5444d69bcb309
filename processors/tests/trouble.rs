//! What a processor does when the log fails it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod harness;

use std::time::Duration;

use harness::{
    House, Running, events,
    faulty::{
        Plan,
        Trouble::{self, Aborted, AnswerLost, None as Works, NotCommitted},
    },
    of_unknown_schema,
};
use schemas::{Unknown, topics};

/// Sends events through a log in trouble, some of them while the troubles last.
async fn run_through(troubles: &[Trouble]) -> House {
    let plan = Plan::default();
    let house = House::with(Unknown::Accept, |log| plan.wrap(log)).await;
    plan.commits(troubles);
    let running = Running::start(house.runner(Some(".data.seen = true")));
    for start in (0..400).step_by(100) {
        house.post(events(start..start + 50)).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        house.post(events(start + 50..start + 100)).await;
        house.wait_for(topics::CLEAN, start + 100).await;
    }
    house.wait_until_read("clean").await;
    running.stop().await.unwrap();
    assert!(plan.is_over(), "all that should go wrong did");
    house
}

async fn assert_each_once(house: &House) {
    let times = house.times_by_id().await;
    assert_eq!(times.len(), 400);
    assert!(times.values().all(|times| *times == 1), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn given_transactions_that_abort_then_each_event_passes_once() {
    let house = run_through(&[Aborted, Works, Aborted, Aborted]).await;
    assert_each_once(&house).await;
    assert!(house.metric(&["aborts_total"])[0].ends_with(" 3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_commit_whose_answer_is_lost_then_each_event_passes_once() {
    assert_each_once(&run_through(&[AnswerLost, Works, AnswerLost]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_commits_that_never_happened_then_each_event_passes_once() {
    assert_each_once(&run_through(&[NotCommitted, NotCommitted, Works, NotCommitted]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_aborted_transaction_counted_is_not_counted_twice() {
    let house = run_through(&[Aborted, AnswerLost, Aborted]).await;
    let emitted = house.metric(&["records_total", "emitted"]);
    let count: u64 = emitted[0].rsplit(' ').next().unwrap().parse().unwrap();
    assert!(count <= 400, "{emitted:?}"); // a lost answer leaves its records uncounted
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_log_that_cannot_answer_then_health_says_so_until_it_can() {
    let plan = Plan::default();
    let house = House::with(Unknown::Accept, |log| plan.wrap(log)).await;
    plan.subscriptions(3);
    house.post(events(0..10)).await;
    let running = Running::start(house.runner(Some("true")));
    let mut reasons = Vec::new();
    while !plan.is_over() {
        reasons.extend(house.health.failing());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(reasons.iter().any(|(_, reason)| reason.contains("on purpose")), "{reasons:?}");
    house.wait_for(topics::CLEAN, 10).await;
    assert_eq!(house.health.failing(), []);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn given_reads_that_fail_then_nothing_is_lost_or_doubled() {
    let plan = Plan::default();
    let house = House::with(Unknown::Accept, |log| plan.wrap(log)).await;
    house.post(events(0..50)).await;
    let running = Running::start(house.runner(Some("true")));
    house.wait_for(topics::CLEAN, 50).await;
    plan.reads(2);
    house.post(events(50..100)).await;
    house.wait_for(topics::CLEAN, 100).await;
    house.wait_until_read("clean").await;
    running.stop().await.unwrap();
    assert!(house.times_by_id().await.values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_registry_that_does_not_answer_then_it_is_waited_for_without_leaving_the_group() {
    let plan = Plan::default();
    let house = House::with(Unknown::Accept, |log| plan.wrap(log)).await;
    plan.registry(3);
    house.append(vec![of_unknown_schema(&house.codec)]).await;
    house.post(events(0..10)).await;
    let running = Running::start(house.runner(Some("true")));
    house.wait_for(topics::DEAD_LETTERS, 1).await;
    house.wait_for(topics::CLEAN, 10).await;
    assert!(plan.is_over());
    assert_eq!(plan.joined(), 1);
    house.wait_until_healthy().await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_waits_for_its_registry_still_stops() {
    let plan = Plan::default();
    let house = House::with(Unknown::Accept, |log| plan.wrap(log)).await;
    plan.registry(usize::MAX);
    house.append(vec![of_unknown_schema(&house.codec)]).await;
    let running = Running::start(house.runner(Some("true")));
    tokio::time::sleep(Duration::from_millis(50)).await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_waits_for_a_failing_log_still_stops() {
    let plan = Plan::default();
    let house = House::with(Unknown::Accept, |log| plan.wrap(log)).await;
    plan.subscriptions(usize::MAX);
    let running = Running::start(house.runner(Some("true")));
    tokio::time::sleep(Duration::from_millis(50)).await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_exist_ends_the_processor_and_is_named() {
    let house = House::new().await;
    let mut runner = house.runner(None);
    runner.config.to = "events.nowhere".into();
    let running = Running::start(runner);
    let error = tokio::time::timeout(harness::DEADLINE, async {
        loop {
            match house.health.failing().as_slice() {
                [(_, reason)] if reason != "starting" => return reason.clone(),
                _ => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    });
    assert!(error.await.unwrap().contains("events.nowhere"));
    assert!(running.stop().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_counted_and_noted_and_reading_goes_on_after_it() {
    let plan = Plan::default();
    let house = House::with(Unknown::Accept, |log| plan.wrap(log)).await;
    plan.gap();
    house.post(events(0..10)).await;
    let running = Running::start(house.runner(Some("true")));
    house.wait_for(topics::CLEAN, 10).await;
    running.stop().await.unwrap();
    assert!(house.metric(&["gaps_total"])[0].ends_with(" 1"));
    let notes = house.health.notes();
    assert!(notes[0].1.contains("events.raw/"), "{notes:?}");
}
