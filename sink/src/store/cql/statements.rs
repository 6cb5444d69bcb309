//! Every statement of the data path, prepared once. Reads and writes alike are repeatable.

use scylla::statement::{
    batch::{Batch, BatchType},
    prepared::PreparedStatement,
};

use super::client::Client;
use crate::store::StoreError;

/// Rows of one partition in a batch.
pub(super) const BATCH_ROWS: usize = 64;

/// An insert, alone and in batches: one for each number of rows, made beforehand.
pub(super) struct Insert {
    pub(super) one: PreparedStatement,
    batches: Vec<Batch>,
}

impl Insert {
    fn new(one: PreparedStatement) -> Self {
        let batches = (0..=BATCH_ROWS).map(|rows| repeated(&one, rows)).collect();
        Self { one, batches }
    }

    /// The batch of so many rows, [`BATCH_ROWS`] at most.
    pub(super) fn of(&self, rows: usize) -> &Batch {
        &self.batches[rows.min(BATCH_ROWS)]
    }
}

fn repeated(statement: &PreparedStatement, rows: usize) -> Batch {
    let mut batch = unlogged();
    (0..rows).for_each(|_| batch.append_statement(statement.clone()));
    batch
}

/// A batch without statements. Unlogged: what it holds is repeated as a whole until it is in.
pub(super) fn unlogged() -> Batch {
    let mut batch = Batch::new(BatchType::Unlogged);
    batch.set_is_idempotent(true);
    batch
}

pub(super) struct Statements {
    pub(super) event: Insert,
    pub(super) locator: Insert,
    pub(super) subject: Insert,
    pub(super) rollup: Insert,
    pub(super) bucket: PreparedStatement,
    pub(super) subject_bucket: PreparedStatement,
    pub(super) rollup_bucket: PreparedStatement,
    pub(super) stored_to: PreparedStatement,
    pub(super) mark: PreparedStatement,

    pub(super) epoch: PreparedStatement,
    pub(super) progress: PreparedStatement,
    pub(super) all_progress: PreparedStatement,
    pub(super) definitions: PreparedStatement,
    pub(super) locate: PreparedStatement,
    pub(super) locate_some: PreparedStatement,
    pub(super) place: PreparedStatement,
    pub(super) some_events: PreparedStatement,
    /// Lists by type and by subject, ascending and descending, from a key or from a time.
    pub(super) by_type: Pages,
    pub(super) by_subject: Pages,
    /// Buckets from one to another, ascending and descending.
    pub(super) buckets: [PreparedStatement; 2],
    pub(super) subject_buckets: [PreparedStatement; 2],
    pub(super) rollup_buckets: PreparedStatement,
    pub(super) rollup_rows: PreparedStatement,
    /// From a key on, and from behind it.
    pub(super) rollup_scan: [PreparedStatement; 2],
}

/// A page of a clustered list: `from` begins at a time and `after` behind a key, each ascending
/// at 0 and descending at 1.
pub(super) struct Pages {
    pub(super) from: [PreparedStatement; 2],
    pub(super) after: [PreparedStatement; 2],
}

const EVENT: &str = "time, source, id, origin, attributes, flags, data, writetime(flags)";

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, StoreError> {
        let ks = &client.address.keyspace;
        let one = |text: &str| client.prepare(text.replace("{ks}", ks));
        let insert = async |text: &str| Ok::<_, StoreError>(Insert::new(one(text).await?));
        let pages = async |columns: &str, table: &str, partition: &str| {
            let select = format!("SELECT {columns} FROM {{ks}}.{table} WHERE {partition}");
            let from = " AND time >= ? AND time < ?";
            Ok::<_, StoreError>(Pages {
                from: [
                    one(&format!("{select}{from} ORDER BY time ASC, source ASC, id ASC LIMIT ?"))
                        .await?,
                    one(&format!("{select}{from} LIMIT ?")).await?,
                ],
                after: [
                    one(&format!(
                        "{select} AND (time, source, id) > (?, ?, ?) AND (time) < (?) \
                         ORDER BY time ASC, source ASC, id ASC LIMIT ?"
                    ))
                    .await?,
                    one(&format!(
                        "{select} AND (time) >= (?) AND (time, source, id) < (?, ?, ?) LIMIT ?"
                    ))
                    .await?,
                ],
            })
        };
        let directory = async |table: &str, partition: &str| {
            let select = format!(
                "SELECT bucket FROM {{ks}}.{table} WHERE {partition} AND bucket >= ? AND bucket <= ?"
            );
            Ok::<_, StoreError>([
                one(&format!("{select} ORDER BY bucket ASC LIMIT ?")).await?,
                one(&format!("{select} LIMIT ?")).await?,
            ])
        };
        let scan = async |beyond: &str| {
            one(&format!(
                "SELECT start, group_key, events, last_offset, measures FROM {{ks}}.rollups WHERE \
                 namespace = ? AND rollup = ? AND version = ? AND window = ? AND bucket = ? AND \
                 epoch = ? AND part = ? AND (start, group_key) {beyond} (?, ?) AND (start) < (?) \
                 LIMIT ?"
            ))
            .await
        };
        Ok(Self {
            event: insert(
                "INSERT INTO {ks}.events (namespace, type, bucket, sub, time, source, id, origin, \
                 attributes, flags, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
                 USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            locator: insert(
                "INSERT INTO {ks}.events_by_id (namespace, source, id, origin, type, time) \
                 VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            subject: insert(
                "INSERT INTO {ks}.events_by_subject (namespace, subject, bucket, time, source, id, \
                 type) VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            rollup: insert(
                "INSERT INTO {ks}.rollups (namespace, rollup, version, window, bucket, epoch, part, \
                 start, group_key, events, last_offset, measures) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            bucket: one(
                "INSERT INTO {ks}.buckets (namespace, type, bucket) VALUES (?, ?, ?) USING TTL ?",
            )
            .await?,
            subject_bucket: one(
                "INSERT INTO {ks}.subject_buckets (namespace, bucket) VALUES (?, ?) USING TTL ?",
            )
            .await?,
            rollup_bucket: one(
                "INSERT INTO {ks}.rollup_buckets (namespace, rollup, version, window, bucket, \
                 epoch, part) VALUES (?, ?, ?, ?, ?, ?, ?) USING TTL ?",
            )
            .await?,
            stored_to: one(
                "UPDATE {ks}.progress USING TIMESTAMP ? SET stored_to = ? \
                 WHERE topic = ? AND epoch = ? AND part = ?",
            )
            .await?,
            mark: one(
                "UPDATE {ks}.progress USING TIMESTAMP ? SET marks[?] = ? \
                 WHERE topic = ? AND epoch = ? AND part = ?",
            )
            .await?,
            epoch: one(
                "SELECT epoch, started_at, incarnation, starts FROM {ks}.topics WHERE topic = ?",
            )
            .await?,
            progress: one(
                "SELECT stored_to, marks FROM {ks}.progress \
                 WHERE topic = ? AND epoch = ? AND part = ?",
            )
            .await?,
            all_progress: one("SELECT part, marks FROM {ks}.progress WHERE topic = ? AND epoch = ?")
                .await?,
            definitions: one("SELECT registered, version, body FROM {ks}.definitions").await?,
            locate: one(
                "SELECT id, origin FROM {ks}.events_by_id WHERE namespace = ? AND source = ? AND id = ?",
            )
            .await?,
            locate_some: one(
                "SELECT id, origin FROM {ks}.events_by_id WHERE namespace = ? AND source = ? \
                 AND id IN ?",
            )
            .await?,
            place: one(
                "SELECT type, time FROM {ks}.events_by_id \
                 WHERE namespace = ? AND source = ? AND id = ?",
            )
            .await?,
            some_events: one(&format!(
                "SELECT {EVENT} FROM {{ks}}.events WHERE namespace = ? AND type = ? AND bucket = ? \
                 AND sub = ? AND (time, source, id) IN ?"
            ))
            .await?,
            by_type: pages(
                EVENT,
                "events",
                "namespace = ? AND type = ? AND bucket = ? AND sub = ?",
            )
            .await?,
            by_subject: pages(
                "time, source, id, type",
                "events_by_subject",
                "namespace = ? AND subject = ? AND bucket = ?",
            )
            .await?,
            buckets: directory("buckets", "namespace = ? AND type = ?").await?,
            subject_buckets: directory("subject_buckets", "namespace = ?").await?,
            rollup_buckets: one(
                "SELECT bucket, epoch, part FROM {ks}.rollup_buckets WHERE namespace = ? AND \
                 rollup = ? AND version = ? AND window = ? AND (bucket, epoch, part) > (?, ?, ?) \
                 AND (bucket) <= (?) LIMIT ?",
            )
            .await?,
            rollup_rows: one(
                "SELECT start, group_key, events, last_offset, measures FROM {ks}.rollups WHERE \
                 namespace = ? AND rollup = ? AND version = ? AND window = ? AND bucket = ? AND \
                 epoch = ? AND part = ? AND (start, group_key) IN ?",
            )
            .await?,
            rollup_scan: [scan(">=").await?, scan(">").await?],
        })
    }
}
