//! The registry over a log: registering. [`deleting`], [`settings`] and [`references`] have files of
//! their own.

mod deleting;
mod references;
mod settings;

use super::*;
use crate::test_log::test_log;

const ONE: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;
const TWO: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"long"},{"name":"b","type":["null","string"],"default":null}]}"#;
const OTHER: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string"}]}"#;

/// A schema of its own for each number.
fn numbered(n: usize) -> String {
    ONE.replace("\"R\"", &format!("\"R{n}\""))
}

async fn open(log: &Log) -> Registry {
    Registry::open(log.clone()).await.unwrap()
}

#[tokio::test]
async fn given_the_same_schema_again_then_its_id_and_version_stay() {
    let log = test_log().await;
    let registry = open(&log).await;
    let first = registry.register("n", "s", ONE).await.unwrap();
    let spaced = r#"{ "name":"R", "type":"record", "fields":[{"type":"int","name":"a"}] }"#;
    let again = registry.register("n", "s", spaced).await.unwrap();
    assert_eq!((first.id, first.version, again.id, again.version), (1, 1, 1, 1));
}

#[tokio::test]
async fn given_an_earlier_version_again_then_it_is_found_and_the_latest_stays() {
    let log = test_log().await;
    let registry = open(&log).await;
    registry.register("n", "s", ONE).await.unwrap();
    registry.register("n", "s", TWO).await.unwrap();
    assert_eq!(registry.register("n", "s", ONE).await.unwrap().version, 1);
    assert_eq!(registry.latest("n", "s").unwrap().version, 2);
}

#[tokio::test]
async fn given_a_schema_that_only_changes_a_default_then_it_is_a_new_version() {
    let log = test_log().await;
    let registry = open(&log).await;
    let with = |default: u32| {
        format!(
            r#"{{"type":"record","name":"R","fields":[{{"name":"a","type":"int","default":{default}}}]}}"#
        )
    };
    registry.register("n", "s", &with(1)).await.unwrap();
    assert_eq!(registry.register("n", "s", &with(2)).await.unwrap().version, 2);
}

#[tokio::test]
async fn given_a_version_that_cannot_read_an_earlier_one_then_it_is_refused() {
    let log = test_log().await;
    let registry = open(&log).await;
    registry.register("n", "s", ONE).await.unwrap();
    registry.register("n", "s", TWO).await.unwrap();
    for (schema, version) in
        [(OTHER, 2), (ONE.replace('}', ",\"x\":1}").replace("int", "boolean").as_str(), 2)]
    {
        let refused = registry.register("n", "s", schema).await;
        assert!(
            matches!(&refused, Err(RegisterError::Incompatible { version: v, .. }) if *v == version),
            "{refused:?}"
        );
    }
    assert_eq!(registry.view("n").versions("s", Show::Live).unwrap().len(), 2);
}

#[tokio::test]
async fn given_a_symbol_taken_away_then_it_is_refused_although_some_values_still_fit() {
    let log = test_log().await;
    let registry = open(&log).await;
    let symbols = |s: &str| format!(r#"{{"type":"enum","name":"E","symbols":[{s}]}}"#);
    registry.register("n", "s", &symbols(r#""A","B""#)).await.unwrap();
    let refused = registry.register("n", "s", &symbols(r#""A""#)).await;
    assert!(matches!(refused, Err(RegisterError::Incompatible { .. })));
    registry.register("n", "s", &symbols(r#""A","B","C""#)).await.unwrap();
}

#[tokio::test]
async fn given_what_is_no_schema_then_it_is_invalid() {
    let log = test_log().await;
    let registry = open(&log).await;
    for text in ["", "{", "\"strange\"", r#"{"type":"record","name":"R"}"#] {
        let refused = registry.register("n", "s", text).await;
        assert!(matches!(refused, Err(RegisterError::Invalid(_))), "{text}");
    }
}

#[tokio::test]
async fn given_two_replicas_then_each_sees_the_others_schemas_and_no_id_comes_twice() {
    let log = test_log().await;
    let (a, b) = (open(&log).await, open(&log).await);
    let first = a.register("n", "s", ONE).await.unwrap();
    let second = b.register("n", "t", TWO).await.unwrap(); // b had not read a's
    assert_eq!((first.id, second.id), (1, 2));
    assert!(a.by_id(2).is_none());
    a.refresh().await.unwrap();
    assert_eq!(a.by_id(2).unwrap().subject.as_ref(), "t");
}

#[tokio::test]
async fn given_many_registrations_at_once_from_two_replicas_then_all_get_ids_of_their_own() {
    let log = test_log().await;
    let replicas = [open(&log).await, open(&log).await];
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let registry = replicas[n % 2].clone();
            tokio::spawn(async move {
                registry.register("n", &format!("s{n}"), &numbered(n)).await.unwrap().id
            })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(task.await.unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn given_a_namespace_then_it_does_not_see_anothers_subjects() {
    let log = test_log().await;
    let registry = open(&log).await;
    registry.register("n", "s", ONE).await.unwrap();
    assert!(registry.latest("m", "s").is_none());
    assert_eq!(registry.register("m", "s", OTHER).await.unwrap().version, 1);
}

#[tokio::test]
async fn given_a_follower_then_it_learns_of_a_schema_by_itself_and_stops_when_told() {
    let log = test_log().await;
    let (writer, reader) = (open(&log).await, open(&log).await);
    let shutdown = CancellationToken::new();
    let task = {
        let (reader, shutdown) = (reader.clone(), shutdown.clone());
        tokio::spawn(async move { reader.follow(shutdown).await })
    };
    writer.register("n", "s", ONE).await.unwrap();
    let learnt = async {
        while reader.latest("n", "s").is_none() {
            tokio::time::sleep(POLL / 20).await;
        }
    };
    tokio::time::timeout(POLL * 20, learnt).await.unwrap();
    shutdown.cancel();
    task.await.unwrap();
}
