//! Topics, bounds, and readers outside any group.

use super::*;

/// Making a topic again changes nothing; topics are listed by name.
pub async fn topics_are_made_once_and_listed(h: &impl Harness) {
    let log = h.log().await;
    let (one, two) = (fresh_topic(&log, "a", 1).await, fresh_topic(&log, "b", 3).await);
    append_all(&log, &one, [record("k", "kept")]).await;
    log.ensure_topics(&[spec(&one, 1), spec(&two, 3)]).await.unwrap();
    assert_eq!(texts(&read_all(&log, &one, 0).await), ["kept"]);
    assert_eq!(log.topic(&two).await.unwrap().partitions, 3);
    let names: Vec<_> = log.topics().await.unwrap().into_iter().map(|t| t.name).collect();
    assert!(names.is_sorted(), "{names:?}");
    assert!(names.iter().any(|n| **n == *one) && names.iter().any(|n| **n == *two));
}

/// A configuration that says another number of partitions is told so.
pub async fn another_number_of_partitions_is_a_mismatch(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "fixed", 2).await;
    let told = log.ensure_topics(&[spec(&topic, 4)]).await;
    assert!(matches!(&told, Err(LogError::Mismatch { topic: t, .. }) if **t == *topic), "{told:?}");
    assert_eq!(log.topic(&topic).await.unwrap().partitions, 2);
}

/// A topic is recognised after opening again.
pub async fn an_incarnation_outlives_reopening(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "same", 1).await;
    let before = log.topic(&topic).await.unwrap();
    let log = h.reopen(log).await;
    assert_eq!(log.topic(&topic).await.unwrap(), before);
}

/// Asking for what does not exist is an error of its own.
pub async fn unknown_topics_and_partitions_are_told_as_such(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "known", 1).await;
    let nowhere = fresh("unknown");
    let unknown = |e: Option<LogError>| assert!(matches!(e, Some(LogError::Unknown(_))), "{e:?}");
    unknown(log.topic(&nowhere).await.err());
    unknown(log.bounds(&nowhere, 0).await.err());
    unknown(log.bounds(&topic, 1).await.err());
    unknown(log.read(&topic, 1, 0, 0).await.err());
    unknown(log.subscribe(&fresh("group"), &[&nowhere]).await.err());
    unknown(log.committed(&fresh("group"), &nowhere).await.err());
}

/// A reader gives what is between its positions, then ends.
pub async fn a_reader_reads_between_its_positions(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "between", 1).await;
    let values = (0..10).map(|i| record("k", i.to_string()));
    patient(log.append(&topic, values.collect())).await;
    let all = read_all(&log, &topic, 0).await;
    let (from, to) = (all[3].offset, all[7].offset);
    let mut reader = log.read(&topic, 0, from, to).await.unwrap();
    let (mut seen, mut last) = (Vec::new(), from);
    while let Some((records, next)) = patient(reader.next()).await.unwrap() {
        seen.extend(records);
        last = next;
    }
    assert_eq!(seen, all[3..7]);
    assert_eq!(last, to);
    assert!(patient(reader.next()).await.unwrap().is_none(), "an ended reader stays ended");
}

/// Positions before the start or after the end are refused with the bounds.
pub async fn a_reader_refuses_positions_out_of_range(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "range", 1).await;
    append_all(&log, &topic, (0..4).map(|i| record("k", i.to_string()))).await;
    let end = log.bounds(&topic, 0).await.unwrap().end;
    let beyond = log.read(&topic, 0, end + 1, end + 2).await.err();
    assert!(matches!(beyond, Some(LogError::OutOfRange { end: e, .. }) if e == end), "{beyond:?}");
    let middle = read_all(&log, &topic, 0).await[2].offset;
    h.take_before(&log, &topic, 0, middle).await;
    let start = log.bounds(&topic, 0).await.unwrap().start;
    assert_eq!(start, middle);
    let gone = log.read(&topic, 0, start - 1, end).await.err();
    assert!(matches!(gone, Some(LogError::OutOfRange { start: s, .. }) if s == start), "{gone:?}");
}

/// Where transactions left holes, a reader still comes to the end.
pub async fn a_reader_passes_holes_to_the_end(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "holes", 1).await;
    let mut end = 0;
    for value in ["a", "b"] {
        end = patient(log.append_at(&topic, end, vec![record("k", value)])).await.unwrap();
    }
    let mut reader = log.read(&topic, 0, 0, end).await.unwrap();
    let (mut seen, mut at) = (Vec::new(), 0);
    while let Some((records, next)) = patient(reader.next()).await.unwrap() {
        assert!(next > at, "a reader advances");
        seen.extend(records);
        at = next;
    }
    assert_eq!((texts(&seen), at), (vec!["a".to_owned(), "b".to_owned()], end));
}

/// A time leads to the first record appended then or later; a time to come leads to the end.
pub async fn a_time_leads_to_the_first_record_of_it(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "time", 1).await;
    for value in ["a", "b", "c"] {
        append_all(&log, &topic, [record("k", value)]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let all = read_all(&log, &topic, 0).await;
    let at = |time| log.position_at(&topic, 0, time);
    assert_eq!(at(all[1].appended_at).await.unwrap(), all[1].offset);
    assert_eq!(at(all[1].appended_at + 2_000).await.unwrap(), all[2].offset);
    assert_eq!(at(0).await.unwrap(), all[0].offset);
    let end = log.bounds(&topic, 0).await.unwrap().end;
    assert_eq!(at(all[2].appended_at + 3_600_000_000).await.unwrap(), end);
}
