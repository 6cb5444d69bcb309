//! What a deletion hides, and what it never takes away.

use super::*;

const LATEST: VersionName = VersionName::Latest;

fn number(version: u32) -> VersionName {
    VersionName::Number(version)
}

async fn two_versions(log: &Log) -> Registry {
    let registry = open(log).await;
    registry.register("n", "s", ONE).await.unwrap();
    registry.register("n", "s", TWO).await.unwrap();
    registry
}

fn denied<T: std::fmt::Debug>(result: Result<T, RegisterError>) -> Denied {
    match result.unwrap_err() {
        RegisterError::Denied(denied) => denied,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn given_a_deleted_version_then_the_one_before_is_the_latest_and_its_id_still_decodes() {
    let log = test_log().await;
    let registry = two_versions(&log).await;
    assert_eq!(registry.delete_version("n", "s", LATEST, false).await, Ok(2));
    for replica in [registry, open(&log).await] {
        assert_eq!(replica.latest("n", "s").unwrap().version, 1);
        let view = replica.view("n");
        let missing = Denied::VersionNotFound("2".into());
        assert_eq!(view.version("s", number(2), Show::Live).unwrap_err(), missing);
        assert_eq!(view.version("s", number(2), Show::WithDeleted).unwrap().id, 2);
        assert_eq!(view.by_id(2).unwrap().text.as_ref(), TWO);
        assert!(replica.framed(2).unwrap().decode(&[2, 0]).is_ok());
    }
}

#[tokio::test]
async fn given_a_version_deleted_for_good_then_nobody_sees_it_but_its_id_still_decodes() {
    let log = test_log().await;
    let registry = two_versions(&log).await;
    let refused = registry.delete_version("n", "s", number(2), true).await;
    assert_eq!(denied(refused), Denied::VersionNotDeleted("s".into(), 2));
    registry.delete_version("n", "s", number(2), false).await.unwrap();
    let refused = registry.delete_version("n", "s", number(2), false).await;
    assert_eq!(denied(refused), Denied::VersionDeleted("s".into(), 2));
    assert_eq!(registry.delete_version("n", "s", number(2), true).await, Ok(2));
    for replica in [registry, open(&log).await] {
        let view = replica.view("n");
        assert_eq!(view.versions("s", Show::WithDeleted).unwrap().len(), 1);
        assert_eq!(view.uses(2, Show::WithDeleted).unwrap().len(), 0);
        assert!(replica.framed(2).unwrap().decode(&[2, 0]).is_ok());
    }
}

#[tokio::test]
async fn given_a_schema_registered_again_after_its_deletion_then_it_keeps_its_id_under_a_new_version()
 {
    let log = test_log().await;
    let registry = two_versions(&log).await;
    registry.delete_version("n", "s", number(2), false).await.unwrap();
    registry.delete_version("n", "s", number(2), true).await.unwrap();
    let again = registry.register("n", "s", TWO).await.unwrap();
    assert_eq!((again.id, again.version), (2, 3));
}

#[tokio::test]
async fn given_a_deleted_version_then_a_new_one_is_not_compared_with_it() {
    let log = test_log().await;
    let registry = open(&log).await;
    registry.register("n", "s", ONE).await.unwrap();
    registry.delete_subject("n", "s", false).await.unwrap();
    let other = registry.register("n", "s", OTHER).await.unwrap();
    assert_eq!((other.id, other.version), (2, 2));
}

#[tokio::test]
async fn given_a_deleted_subject_then_it_is_listed_only_to_who_asks_for_it_until_it_is_gone() {
    let log = test_log().await;
    let registry = two_versions(&log).await;
    assert_eq!(
        denied(registry.delete_subject("n", "s", true).await),
        Denied::SubjectNotDeleted("s".into())
    );
    registry.set_level("n", Some("s"), Some(Level::Full)).await.unwrap();
    assert_eq!(registry.delete_subject("n", "s", false).await, Ok(vec![1, 2]));
    assert!(registry.latest("n", "s").is_none());
    let view = registry.view("n");
    assert_eq!(view.subject_level("s"), None, "its settings are forgotten");
    assert!(view.subjects("", Show::Live).is_empty());
    assert_eq!(view.subjects("", Show::Deleted), ["s".into()]);
    assert_eq!(
        denied(registry.delete_subject("n", "s", false).await),
        Denied::SubjectDeleted("s".into())
    );
    assert_eq!(registry.delete_subject("n", "s", true).await, Ok(vec![1, 2]));
    assert!(registry.view("n").subjects("", Show::WithDeleted).is_empty());
    assert_eq!(
        denied(registry.delete_subject("n", "s", true).await),
        Denied::SubjectNotFound("s".into())
    );
}

#[tokio::test]
async fn given_another_namespace_then_it_can_neither_see_nor_delete() {
    let log = test_log().await;
    let registry = two_versions(&log).await;
    let view = registry.view("m");
    assert_eq!(view.by_id(1).unwrap_err(), Denied::SchemaNotFound);
    assert_eq!(view.uses(1, Show::WithDeleted).unwrap_err(), Denied::SchemaNotFound);
    assert!(view.subjects("", Show::WithDeleted).is_empty());
    let refused = registry.delete_subject("m", "s", false).await;
    assert_eq!(denied(refused), Denied::SubjectNotFound("s".into()));
}
