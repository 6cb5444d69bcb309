//! Levels, modes, ids shared by subjects, and normal form.

use super::*;

/// Reads what [`ONE`] wrote, and not the other way round.
const WIDER: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"long"}]}"#;
/// Reads neither [`ONE`] nor [`WIDER`], and is read by both.
const MORE: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"x","type":"int"}]}"#;

#[tokio::test]
async fn given_a_level_then_new_versions_are_compared_as_it_says() {
    use Level as L;
    // what may follow ONE
    for (level, wider, more, other) in [
        (L::None, true, true, true),
        (L::Backward, true, false, false),
        (L::BackwardTransitive, true, false, false),
        (L::Forward, false, true, false),
        (L::ForwardTransitive, false, true, false),
        (L::Full, false, false, false),
        (L::FullTransitive, false, false, false),
    ] {
        let log = test_log().await;
        let registry = open(&log).await;
        registry.set_level("n", None, Some(level)).await.unwrap();
        registry.register("n", "s", ONE).await.unwrap();
        for (schema, fits) in [(WIDER, wider), (MORE, more), (OTHER, other)] {
            let draft = Draft { text: schema, ..Draft::default() };
            let clashes = registry.view("n").check("s", &draft, Against::Level).unwrap();
            assert_eq!(clashes.is_empty(), fits, "{level:?} {schema}");
        }
    }
}

#[tokio::test]
async fn given_a_level_that_is_not_transitive_then_only_the_latest_version_counts() {
    for (level, fits) in [(Level::Backward, true), (Level::BackwardTransitive, false)] {
        let log = test_log().await;
        let registry = open(&log).await;
        registry.set_level("n", Some("s"), Some(Level::None)).await.unwrap();
        registry.register("n", "s", OTHER).await.unwrap();
        registry.register("n", "s", ONE).await.unwrap();
        registry.set_level("n", Some("s"), Some(level)).await.unwrap();
        assert_eq!(registry.register("n", "s", WIDER).await.is_ok(), fits, "{level:?}");
    }
}

#[tokio::test]
async fn given_a_subjects_own_level_then_it_goes_before_the_namespaces_until_it_is_taken_back() {
    let log = test_log().await;
    let registry = open(&log).await;
    assert_eq!(registry.view("n").level("s"), Level::BackwardTransitive, "the default");
    registry.set_level("n", None, Some(Level::Full)).await.unwrap();
    registry.set_level("n", Some("s"), Some(Level::None)).await.unwrap();
    let replica = open(&log).await;
    assert_eq!(
        (replica.view("n").level("s"), replica.view("n").level("t")),
        (Level::None, Level::Full)
    );
    assert_eq!(replica.view("m").level("s"), Level::BackwardTransitive);
    assert_eq!(registry.set_level("n", Some("s"), None).await, Ok(Some(Level::None)));
    assert_eq!(registry.view("n").level("s"), Level::Full);
    let again = registry.set_level("n", Some("s"), None).await;
    assert_eq!(again, Err(Denied::NoLevel("s".into()).into()));
}

#[tokio::test]
async fn given_the_mode_readonly_then_nothing_changes_but_the_same_schema_is_still_found() {
    let log = test_log().await;
    let registry = open(&log).await;
    registry.register("n", "s", ONE).await.unwrap();
    registry.set_mode("n", Some("s"), Some(Mode::ReadOnly)).await.unwrap();
    let denied = RegisterError::Denied(Denied::ReadOnly("s".into()));
    assert_eq!(registry.register("n", "s", TWO).await.unwrap_err(), denied);
    assert_eq!(registry.delete_subject("n", "s", false).await.unwrap_err(), denied);
    assert_eq!(registry.set_level("n", Some("s"), Some(Level::None)).await.unwrap_err(), denied);
    assert_eq!(registry.register("n", "s", ONE).await.unwrap().version, 1);
    registry.register("n", "t", ONE).await.unwrap();
    registry.set_mode("n", Some("s"), Some(Mode::ReadWrite)).await.unwrap();
    registry.register("n", "s", TWO).await.unwrap();
}

#[tokio::test]
async fn given_one_schema_under_two_subjects_then_they_share_its_id_within_the_namespace_only() {
    let log = test_log().await;
    let registry = open(&log).await;
    let ids = [
        registry.register("n", "s", ONE).await.unwrap().id,
        registry.register("n", "t", ONE).await.unwrap().id,
        registry.register("m", "s", ONE).await.unwrap().id,
        registry.register("n", "u", TWO).await.unwrap().id,
    ];
    assert_eq!(ids, [1, 1, 2, 3]);
    let view = registry.view("n");
    let uses = view.uses(1, Show::Live).unwrap();
    let subjects: Vec<_> = uses.iter().map(|v| (&*v.subject, v.version)).collect();
    assert_eq!(subjects, [("s", 1), ("t", 1)]);
    assert_eq!(view.highest_id(), Some(3));
}

#[tokio::test]
async fn given_normalisation_then_names_written_in_another_way_are_the_same_schema() {
    let long = r#"{"type":"record","name":"n.R","fields":[{"name":"a","type":{"type":"int"}}]}"#;
    let short =
        r#"{"type":"record","name":"R","namespace":"n","fields":[{"name":"a","type":"int"}]}"#;
    let log = test_log().await;
    let registry = open(&log).await;
    let first = registry.register("n", "s", long).await.unwrap();
    let draft = |normalize| Draft { text: short, normalize, ..Draft::default() };
    let found = |normalize| registry.view("n").find("s", &draft(normalize), Show::Live);
    assert_eq!(found(true).unwrap().id, first.id);
    assert_eq!(found(false).unwrap_err(), Denied::SchemaNotFound.into());
    let again = registry.register_draft("n", "s", &draft(true)).await.unwrap();
    assert_eq!((again.id, again.version), (1, 1));
    assert_eq!(registry.register("n", "s", short).await.unwrap().version, 2);
}
