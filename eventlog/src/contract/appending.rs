//! Appending: results, order, placing, durability, compare-and-append.

use super::*;
use crate::{AppendAtError, AppendError, Headers, partition_for};

/// One append of many records answers one result for each, in order, each with its place.
pub async fn each_record_gets_its_own_result(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "results", 3).await;
    let records: Vec<_> = (0..50).map(|i| record(format!("k{i}"), format!("v{i}"))).collect();
    let results = patient(log.append(&topic, records)).await;
    assert_eq!(results.len(), 50);
    for (i, result) in results.into_iter().enumerate() {
        let at = result.unwrap();
        let mut reader = log.read(&topic, at.partition, at.offset, at.offset + 1).await.unwrap();
        let (records, _) = patient(reader.next()).await.unwrap().unwrap();
        assert_eq!(texts(&records), [format!("v{i}")]);
        assert_eq!(records[0].offset, at.offset);
    }
}

/// Records of one key come back in the order of their appends.
pub async fn records_of_a_key_stay_in_order(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "order", 3).await;
    let value = |i: usize| record("same", format!("{i:03}"));
    append_all(&log, &topic, (0..20).map(value)).await;
    patient(log.append(&topic, (20..100).map(value).collect())).await;
    let records = read_all(&log, &topic, partition_for(b"same", 3)).await;
    assert_eq!(texts(&records), (0..100).map(|i| format!("{i:03}")).collect::<Vec<_>>());
    assert!(records.windows(2).all(|pair| pair[0].offset < pair[1].offset));
}

/// The partition of a key is what Kafka's Java client computes.
pub async fn keys_go_where_java_clients_send_them(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "keys", 4).await;
    for key in ["", "a", "abc", "foobar", "a-little-bit-long-string"] {
        let at = patient(log.append(&topic, vec![record(key, "v")])).await.remove(0).unwrap();
        assert_eq!(at.partition, partition_for(key.as_bytes(), 4), "{key}");
    }
}

/// Records without a key do not all land on one partition.
pub async fn records_without_a_key_are_spread(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "keyless", 4).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let keyless = Record { value: Some("v".into()), ..Record::default() };
        let results = patient(log.append(&topic, vec![keyless])).await;
        seen.insert(results[0].as_ref().unwrap().partition);
        if seen.len() > 1 {
            return;
        }
    }
    panic!("a hundred appends all went to {seen:?}");
}

/// Keys, values, headers, absent and empty ones, and tombstones survive as they are.
pub async fn records_come_back_as_they_were_appended(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "as-is", 1).await;
    let mut headers = Headers::builder();
    headers.push("ce_id", "1").push("twice", "a").push("twice", [0, 255]).push("", "");
    let records = vec![
        Record { key: None, value: Some("no key".into()), headers: Headers::default() },
        Record { key: Some("tombstone".into()), value: None, headers: Headers::default() },
        Record { key: Some("".into()), value: Some("".into()), headers: headers.build() },
        Record {
            key: Some(vec![0, 255, 10].into()),
            value: Some(vec![7; 300_000].into()),
            ..Record::default()
        },
    ];
    append_all(&log, &topic, records.clone()).await;
    let back: Vec<_> = read_all(&log, &topic, 0).await.into_iter().map(|s| s.record).collect();
    assert_eq!(back, records);
    assert_eq!(back[2].headers.get("twice"), Some(&[0, 255][..]));
}

/// Append times are the log's, about now, and never earlier than those before.
pub async fn append_times_never_go_back(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "times", 1).await;
    append_all(&log, &topic, (0..20).map(|i| record("k", i.to_string()))).await;
    let times: Vec<_> = read_all(&log, &topic, 0).await.iter().map(|s| s.appended_at).collect();
    assert!(times.is_sorted(), "{times:?}");
    let now = crate::Clock::system().now();
    assert!(times.iter().all(|t| (now - t).abs() < 60_000_000), "{times:?} around {now}");
}

/// A topic that does not exist refuses every record for good.
pub async fn an_unknown_topic_refuses_records(h: &impl Harness) {
    let log = h.log().await;
    let results = patient(log.append(&fresh("nowhere"), vec![record("k", "v"); 2])).await;
    assert_eq!(results.len(), 2);
    assert!(results.iter().all(|r| matches!(r, Err(AppendError::Refused(_)))), "{results:?}");
}

/// What was answered as stored is there after opening again, and offsets go on after it.
pub async fn what_was_acknowledged_survives_reopening(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "durable", 2).await;
    let records: Vec<_> = (0..40).map(|i| record(format!("k{i}"), i.to_string())).collect();
    append_all(&log, &topic, records).await;
    let mut before = Vec::new();
    for partition in 0..2 {
        before.push(read_all(&log, &topic, partition).await);
    }
    let log = h.reopen(log).await;
    for (partition, before) in (0..).zip(before) {
        assert_eq!(read_all(&log, &topic, partition).await, before);
        let key = key_for(partition, 2);
        let at = patient(log.append(&topic, vec![record(key, "new")])).await.remove(0).unwrap();
        assert!(before.iter().all(|stored| stored.offset < at.offset));
    }
}

/// At the expected end the records are stored, and the answer is the end for the next time.
pub async fn appending_at_the_end_succeeds_and_tells_the_new_end(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "at-end", 1).await;
    let mut end = log.bounds(&topic, 0).await.unwrap().end;
    for value in ["a", "b", "c"] {
        end = patient(log.append_at(&topic, end, vec![record("k", value)])).await.unwrap();
    }
    assert_eq!(log.bounds(&topic, 0).await.unwrap().end, end);
    assert_eq!(texts(&read_all(&log, &topic, 0).await), ["a", "b", "c"]);
}

/// At another position nothing is stored, and the end is told.
pub async fn appending_elsewhere_conflicts_and_stores_nothing(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "conflict", 1).await;
    append_all(&log, &topic, [record("k", "first")]).await;
    let conflict = patient(log.append_at(&topic, 0, vec![record("k", "lost")])).await;
    let Err(AppendAtError::Conflict { end }) = conflict else { panic!("{conflict:?}") };
    assert_eq!(texts(&read_all(&log, &topic, 0).await), ["first"]);
    patient(log.append_at(&topic, end, vec![record("k", "second")])).await.unwrap();
    assert_eq!(texts(&read_all(&log, &topic, 0).await), ["first", "second"]);
}

/// Of many who append at the same end at once, exactly one succeeds.
pub async fn of_two_who_append_at_one_end_one_wins(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "race", 1).await;
    let tasks: Vec<_> = (0..8)
        .map(|i| {
            let (log, topic) = (log.clone(), topic.clone());
            tokio::spawn(
                async move { log.append_at(&topic, 0, vec![record("k", i.to_string())]).await },
            )
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        won += usize::from(patient(task).await.unwrap().is_ok());
    }
    assert_eq!(won, 1);
    assert_eq!(read_all(&log, &topic, 0).await.len(), 1);
}

/// The end of several partitions is not one position.
pub async fn appending_at_an_end_needs_a_topic_of_one_partition(h: &impl Harness) {
    let log = h.log().await;
    let topic = fresh_topic(&log, "two", 2).await;
    let refused = patient(log.append_at(&topic, 0, vec![record("k", "v")])).await;
    let expected = matches!(refused, Err(AppendAtError::Append(AppendError::Refused(_))));
    assert!(expected, "{refused:?}");
}
