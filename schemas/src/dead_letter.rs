//! What nobody could take, kept with its original bytes and with where and why it failed.

use eventlog::{Record, Stored};

/// Makes the record for [`crate::topics::DEAD_LETTERS`]: key, value and headers as they were, and
/// beside them Kafka Connect's error headers, so that existing tools show them.
///
/// `who` is the processor or sink, `step` where in it, `reason` a stable word, `detail` a
/// sentence that holds no value of the event. A letter that fails again carries its headers again; the
/// last of each name is the latest.
pub fn dead_letter(
    original: &Stored,
    topic: &str,
    partition: u32,
    who: &str,
    step: &str,
    reason: &str,
    detail: &str,
) -> Record {
    let record = &original.record;
    let mut headers = record.headers.to_builder();
    headers
        .push("__connect.errors.topic", topic)
        .push("__connect.errors.partition", partition.to_string())
        .push("__connect.errors.offset", original.offset.to_string())
        .push("__connect.errors.connector.name", who)
        .push("__connect.errors.stage", step)
        .push("__connect.errors.exception.class.name", reason)
        .push("__connect.errors.exception.message", detail);
    Record { key: record.key.clone(), value: record.value.clone(), headers: headers.build() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use eventlog::Headers;

    use super::*;

    #[test]
    fn given_a_record_then_its_letter_holds_it_unchanged_and_says_where_and_why() {
        let mut headers = Headers::builder();
        headers.push("ce_id", "1");
        let record = Record {
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"\x00\xFFnot json")),
            headers: headers.build(),
        };
        let stored = Stored { offset: 7, appended_at: 0, record };
        let letter = dead_letter(&stored, "events.raw", 3, "clean", "remap", "remap_error", "no");
        assert_eq!((&letter.key, &letter.value), (&stored.record.key, &stored.record.value));
        let all: Vec<_> =
            letter.headers.iter().map(|(n, v)| (n, std::str::from_utf8(v).unwrap())).collect();
        assert_eq!(
            all,
            [
                ("ce_id", "1"),
                ("__connect.errors.topic", "events.raw"),
                ("__connect.errors.partition", "3"),
                ("__connect.errors.offset", "7"),
                ("__connect.errors.connector.name", "clean"),
                ("__connect.errors.stage", "remap"),
                ("__connect.errors.exception.class.name", "remap_error"),
                ("__connect.errors.exception.message", "no"),
            ]
        );
    }
}
