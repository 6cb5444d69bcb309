//! Events by identity, and what makes two of them two.

use bytes::Bytes;
use schemas::{Data, Extension};

use super::{Harness, World};
use crate::store::{MAX_ATTRIBUTE_BYTES, Selector, holdable};

pub async fn an_event_comes_back_as_it_was_stored(harness: &impl Harness) {
    let world = World::new(harness).await;
    let mut row = world.event("a", 0);
    row.event.subject = Some("sub ject".into());
    row.event.time.text = "2026-01-01T01:00:00.000000000+01:00".into();
    row.event.time_filled = true;
    row.event.data_content_type = Some("application/json; charset=utf-8".into());
    row.event.data_schema = Some("urn:schema".into());
    row.event.extensions = [
        ("traceparent".into(), "00-x".into()),
        ("empty".into(), "".into()),
        ("text".into(), "true".into()),
        ("flag".into(), Extension::Boolean(true)),
        ("number".into(), Extension::Integer(i32::MIN)),
    ]
    .into();
    world.store_events(vec![row.clone()]).await;
    assert_eq!(world.store.event(&row.identity()).await, Ok(Some(row.clone())));
    assert_eq!(world.rows(&world.list()).await, [row]);
}

pub async fn data_of_every_form_comes_back(harness: &impl Harness) {
    let world = World::new(harness).await;
    let forms = [
        Data::None,
        Data::Json(Bytes::from_static(b"null")),
        Data::Json(Bytes::from_static("{\"a\": \"é\"}".as_bytes())),
        Data::Bytes(Bytes::new()),
        Data::Bytes(Bytes::from_static(b"\x00\xff\x01")),
    ];
    let rows: Vec<_> = forms
        .into_iter()
        .zip(0..)
        .map(|(data, offset)| {
            let mut row = world.event(&offset.to_string(), offset);
            row.event.data = data;
            row
        })
        .collect();
    world.store_events(rows.clone()).await;
    for row in rows {
        assert_eq!(world.store.event(&row.identity()).await, Ok(Some(row)));
    }
}

pub async fn two_sources_with_one_id_at_one_time_are_two_events(harness: &impl Harness) {
    let world = World::new(harness).await;
    let (mut one, mut two) = (world.event("same", 0), world.event("same", 1));
    one.event.source = "one".into();
    two.event.source = "two".into();
    world.store_events(vec![one.clone(), two.clone()]).await;
    assert_eq!(world.rows(&world.list()).await, [two.clone(), one.clone()]);
    assert_eq!(
        world.store.locate(&[one.identity(), two.identity()]).await,
        Ok(vec![Some(one.origin), Some(two.origin)])
    );
    assert_eq!(world.store.event(&one.identity()).await, Ok(Some(one)));
}

pub async fn identities_of_any_text_are_kept_apart(harness: &impl Harness) {
    let world = World::new(harness).await;
    let texts =
        ["a", "a/b", "a\0", "a\0b", "a\u{1}", "a\u{1}\u{1}", "a ", "ä", "\u{10ffff}", "%00"];
    let mut rows = Vec::new();
    for source in texts {
        for id in texts {
            let mut row = world.event(id, rows.len() as u64);
            row.event.source = source.into();
            row.event.subject = Some(source.into());
            rows.push(row);
        }
    }
    world.store_events(rows.clone()).await;
    for row in &rows {
        assert_eq!(world.store.event(&row.identity()).await, Ok(Some(row.clone())));
    }
    assert_eq!(world.rows(&world.list()).await.len(), rows.len());
    for subject in texts {
        let mut query = world.list();
        query.selector = Selector::Subject(subject.into());
        assert_eq!(world.rows(&query).await.len(), texts.len(), "subject {subject:?}");
    }
}

pub async fn namespaces_do_not_see_each_other(harness: &impl Harness) {
    let world = World::new(harness).await;
    let other = World::on(world.store.clone()).await;
    let mut ours = world.event("a", 0);
    ours.event.subject = Some("sub".into());
    world.store_events(vec![ours.clone()]).await;
    assert_eq!(other.store.event(&other.identity("s", "a")).await, Ok(None));
    assert_eq!(other.store.locate(&[other.identity("s", "a")]).await, Ok(vec![None]));
    assert_eq!(other.rows(&other.list()).await, []);
    let mut by_subject = other.list();
    by_subject.selector = Selector::Subject("sub".into());
    assert_eq!(other.rows(&by_subject).await, []);
    by_subject.namespace = world.namespace.clone();
    assert_eq!(other.rows(&by_subject).await, [ours]);
}

pub async fn an_identity_never_stored_is_not_found(harness: &impl Harness) {
    let world = World::new(harness).await;
    world.store_events(vec![world.event("ab", 0)]).await;
    for (source, id) in [("s", "a"), ("s", "abc"), ("sa", "b"), ("", "sab")] {
        let identity = world.identity(source, id);
        assert_eq!(world.store.event(&identity).await, Ok(None), "{identity:?}");
        assert_eq!(world.store.locate(&[identity]).await, Ok(vec![None]));
    }
}

pub async fn identities_are_located_in_the_order_asked(harness: &impl Harness) {
    let world = World::new(harness).await;
    let rows: Vec<_> = (0..300).map(|n| world.event(&format!("{n:03}"), n)).collect();
    world.store_events(rows.clone()).await;
    assert_eq!(world.store.locate(&[]).await, Ok(vec![]));
    // Known and unknown, backwards, and some twice.
    let mut asked = Vec::new();
    let mut expected = Vec::new();
    for row in rows.iter().rev() {
        asked.push(row.identity());
        expected.push(Some(row.origin));
        asked.push(world.identity("s", &format!("no-{}", row.event.id)));
        expected.push(None);
        asked.push(rows[7].identity());
        expected.push(Some(rows[7].origin));
    }
    assert_eq!(world.store.locate(&asked).await, Ok(expected));
}

pub async fn the_longest_attributes_are_held(harness: &impl Harness) {
    let world = World::new(harness).await;
    // The worst of texts: what an encoding is most likely to escape.
    let longest = "\u{1}".repeat(MAX_ATTRIBUTE_BYTES);
    let mut row = world.event(&longest, 0);
    row.event.source = longest.clone();
    row.event.kind = longest.clone();
    row.event.subject = Some(longest.clone());
    assert_eq!(holdable(&row.event), Ok(()));
    world.store_events(vec![row.clone()]).await;
    assert_eq!(world.store.event(&row.identity()).await, Ok(Some(row.clone())));
    let mut query = world.list();
    query.selector = Selector::Subject(longest);
    assert_eq!(world.rows(&query).await, [row]);
}
