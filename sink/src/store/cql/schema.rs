//! The keyspace and its tables: made once, by whichever process comes first.
//!
//! Changes of the tables are numbered versions. A process that finds an older one takes a lease by
//! a lightweight transaction, looks again, and makes what is missing; the others wait for it. The
//! lease is a row with a time to live, so that one whose holder died ends by the server's clock
//! alone. Every statement can be run again, because a holder may die between any two.
//!
//! The invariant: columns are never dropped, since a column that is added again would hide what is
//! written to it with small timestamps.

use std::time::Duration;

use scylla::{
    errors::{DbError, ExecutionError, RequestAttemptError},
    response::query_result::{QueryResult, QueryRowsResult},
    serialize::row::SerializeRow,
    statement::{Consistency, unprepared::Statement},
    value::{CqlValue, Row},
};
use service::config::{RetentionConfig, StoreConfig};
use tokio::time::{Instant, sleep};

use super::{
    client::{Client, chance, unread},
    fault::Fault,
    layout::Layout,
    retention::seconds,
};
use crate::store::StoreError;

/// The version that this program knows.
const VERSION: i64 = 1;

/// A holder that died blocks others for so long, in seconds. Each step renews the lease.
const LEASE: i32 = 60;

/// How long one statement may take: making a table waits for the whole cluster.
const STEP: Duration = Duration::from_secs(45);

/// How long to wait for others to make the tables.
const WAIT: Duration = Duration::from_secs(180);

/// ScyllaDB refuses more than 50 windows in the life of a row.
const WINDOWS: u64 = 30;

/// Makes the keyspace and tables as far as they are missing, and checks that the layout is theirs.
pub(super) async fn prepare(
    client: &Client,
    layout: &Layout,
    config: &StoreConfig,
    retention: &RetentionConfig,
) -> Result<(), StoreError> {
    let schema = Schema { client, layout, config, retention };
    let mut version = schema.version().await?;
    if version < VERSION {
        schema.migrate().await?;
        version = schema.version().await?;
    }
    if version > VERSION {
        return Err(StoreError::Fatal(format!(
            "keyspace {} was made by a newer version of this program (its tables are version \
             {version}, and this program knows {VERSION}): run the newer one",
            client.address.keyspace
        )));
    }
    schema.check_layout().await
}

struct Schema<'a> {
    client: &'a Client,
    layout: &'a Layout,
    config: &'a StoreConfig,
    retention: &'a RetentionConfig,
}

impl Schema<'_> {
    fn keyspace(&self) -> &str {
        &self.client.address.keyspace
    }

    /// The version of the tables; 0 when there are none.
    async fn version(&self) -> Result<i64, StoreError> {
        if !self.has_table("layout").await? {
            return Ok(0);
        }
        match self.fixed("version").await {
            Ok(version) => Ok(version.unwrap_or(0)),
            // A table can be listed a moment before it can be used.
            Err(failed) if failed.unknown => Ok(0),
            Err(failed) => Err(failed.error),
        }
    }

    async fn has_table(&self, table: &str) -> Result<bool, StoreError> {
        let text = "SELECT table_name FROM system_schema.tables \
                    WHERE keyspace_name = ? AND table_name = ?";
        let found = self.rows(text, (self.keyspace(), table)).await?;
        Ok(found.rows_num() > 0)
    }

    async fn fixed(&self, name: &str) -> Result<Option<i64>, Failed> {
        let text = format!("SELECT value FROM {}.layout WHERE name = ?", self.keyspace());
        let found = self.rows(&text, (name,)).await?;
        Ok(found.maybe_first_row::<(i64,)>().map_err(unread)?.map(|(value,)| value))
    }

    async fn check_layout(&self) -> Result<(), StoreError> {
        for (name, wanted, setting) in self.layout.fixed() {
            let found = self.fixed(name).await?;
            if found != Some(wanted) {
                let found = found.map_or("nothing".into(), |found| found.to_string());
                return Err(StoreError::Fatal(format!(
                    "keyspace {} was made with {name} {found}, and this configuration says \
                     {wanted} ({setting}): it is fixed when a keyspace is made. Set it back, or use \
                     another keyspace",
                    self.keyspace()
                )));
            }
        }
        Ok(())
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        self.make_keyspace().await?;
        self.make_locks().await?;
        let holder = uuid::Uuid::new_v4().simple().to_string();
        let deadline = Instant::now() + WAIT;
        while !self.take_lease(&holder).await? {
            if self.version().await? >= VERSION {
                return self.agree().await;
            }
            if Instant::now() >= deadline {
                return Err(StoreError::Retry(format!(
                    "another process has been making the tables of keyspace {} for {} s",
                    self.keyspace(),
                    WAIT.as_secs()
                )));
            }
            sleep(Duration::from_secs_f64(0.2 + 0.4 * chance())).await;
        }
        let made = self.make_tables(&holder).await;
        // One that cannot be given back ends by itself.
        if let Err(error) = self.release(&holder).await {
            tracing::warn!(%error, "the lease on making tables was not given back");
        }
        made
    }

    async fn make_keyspace(&self) -> Result<(), StoreError> {
        let text = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
        if self.rows(text, (self.keyspace(),)).await?.rows_num() > 0 {
            return Ok(());
        }
        let nodes = self.client.nodes().max(1);
        let copies = self.config.replication.map_or(nodes.min(3), usize::from);
        if copies < 3 {
            tracing::warn!(
                keyspace = self.keyspace(),
                copies,
                "the keyspace is made with fewer than three copies: losing a node loses data or service"
            );
        }
        tracing::info!(keyspace = self.keyspace(), copies, "making the keyspace");
        self.define(format!(
            "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = \
             {{'class': 'NetworkTopologyStrategy', '{}': {copies}}}",
            self.keyspace(),
            self.client.datacenter.replace('\'', "''"),
        ))
        .await
    }

    /// The one table that is made without the lease, as it holds it. Nodes of Cassandra that make
    /// a table at the same moment may each give it an identity of its own, so those who come
    /// together part first.
    async fn make_locks(&self) -> Result<(), StoreError> {
        if !self.has_table("locks").await? {
            sleep(Duration::from_secs_f64(chance())).await;
        }
        if self.has_table("locks").await? {
            return self.agree().await;
        }
        self.define(format!(
            "CREATE TABLE IF NOT EXISTS {}.locks (name text PRIMARY KEY, holder text)",
            self.keyspace()
        ))
        .await
    }

    /// Whether the lease is ours now.
    async fn take_lease(&self, holder: &str) -> Result<bool, StoreError> {
        let text = format!(
            "INSERT INTO {}.locks (name, holder) VALUES ('migrations', ?) IF NOT EXISTS \
             USING TTL {LEASE}",
            self.keyspace()
        );
        match self.swap(&text, (holder,)).await {
            Ok(true) => return Ok(true),
            // When many try at once, the answer may get lost though the lease is ours.
            Ok(false) => {}
            Err(failed) if failed.unknown => return Ok(false),
            Err(Failed { error: StoreError::Retry(_), .. }) => {}
            Err(failed) => return Err(failed.error),
        }
        let text =
            format!("SELECT holder FROM {}.locks WHERE name = 'migrations'", self.keyspace());
        let mut statement = Statement::new(text);
        statement.set_consistency(Consistency::LocalSerial);
        let found = match self.run(statement, ()).await {
            Err(Failed { error: StoreError::Retry(_), .. }) => return Ok(false),
            answer => answer?.into_rows_result().map_err(unread)?,
        };
        let found = found.maybe_first_row::<(Option<&str>,)>().map_err(unread)?;
        Ok(found.and_then(|(holder,)| holder) == Some(holder))
    }

    async fn renew(&self, holder: &str) -> Result<(), StoreError> {
        let text = format!(
            "UPDATE {}.locks USING TTL {LEASE} SET holder = ? WHERE name = 'migrations' \
             IF holder = ?",
            self.keyspace()
        );
        if self.swap(&text, (holder, holder)).await? {
            return Ok(());
        }
        Err(StoreError::Retry("the lease on making tables was lost: it took too long".into()))
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        let text = format!(
            "DELETE FROM {}.locks WHERE name = 'migrations' IF holder = ?",
            self.keyspace()
        );
        self.swap(&text, (holder,)).await?;
        Ok(())
    }

    async fn make_tables(&self, holder: &str) -> Result<(), StoreError> {
        if self.version().await? >= VERSION {
            return Ok(());
        }
        tracing::info!(keyspace = self.keyspace(), "making the tables");
        for table in tables(self.retention) {
            self.renew(holder).await?;
            self.define(table.replace("{ks}", self.keyspace())).await?;
        }
        self.renew(holder).await?;
        for (name, value, _) in self.layout.fixed() {
            self.set(name, value).await?;
        }
        // Last: whoever sees it sees all the rest.
        self.set("version", VERSION).await
    }

    async fn set(&self, name: &str, value: i64) -> Result<(), StoreError> {
        let text = format!("INSERT INTO {}.layout (name, value) VALUES (?, ?)", self.keyspace());
        self.run(Statement::new(text), (name, value)).await?;
        Ok(())
    }

    /// Runs a statement that changes the schema, and waits until all nodes have it.
    async fn define(&self, text: String) -> Result<(), StoreError> {
        let what = text.split(" WITH ").next().unwrap_or_default();
        let what = what.split('(').next().unwrap_or_default().trim().to_owned();
        match self.client.session.query_unpaged(timed(Statement::new(text)), ()).await {
            Ok(_) => Ok(()),
            // Somebody else was faster, as far as this node knows.
            Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(
                DbError::AlreadyExists { .. },
                _,
            ))) => self.agree().await,
            Err(error) => Err(told(&what, &error)),
        }
    }

    async fn agree(&self) -> Result<(), StoreError> {
        self.client.session.await_schema_agreement().await.map(drop).map_err(|error| {
            StoreError::Retry(format!("the nodes do not agree on the schema: {error}"))
        })
    }

    async fn rows(&self, text: &str, values: impl SerializeRow) -> Result<QueryRowsResult, Failed> {
        let result = self.run(Statement::new(text), values).await?;
        Ok(result.into_rows_result().map_err(unread)?)
    }

    /// A lightweight transaction: whether it was applied.
    async fn swap(&self, text: &str, values: impl SerializeRow) -> Result<bool, Failed> {
        Ok(applied(self.rows(text, values).await?)?)
    }

    async fn run(
        &self,
        statement: Statement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, Failed> {
        let what = statement.contents.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        let answer = self.client.session.query_unpaged(timed(statement), values).await;
        answer.map_err(|error| Failed { error: told(&what, &error), unknown: is_unknown(&error) })
    }
}

/// A statement that failed.
struct Failed {
    error: StoreError,
    /// The node does not know what the statement names: perhaps not yet.
    unknown: bool,
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self { error, unknown: false }
    }
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

/// Whether a node does not know a table, or, as Cassandra for a moment, knows it and has not opened it.
fn is_unknown(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, said)) => {
            match error {
                DbError::Invalid => true,
                DbError::ServerError => said.contains("Unknown CF "),
                _ => false,
            }
        }
        _ => false,
    }
}

fn timed(mut statement: Statement) -> Statement {
    statement.set_request_timeout(Some(STEP));
    statement
}

/// None of the statements here holds a value of an event, so the server may say what it thinks.
fn told(what: &str, error: &ExecutionError) -> StoreError {
    let fault = Fault::from(error);
    let said = match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(_, said)) => said.as_str(),
        _ => "",
    };
    let text = format!("`{what}`: {}; {said}", fault.text);
    // A table that another process makes right now is listed before it can be used.
    let coming = fault.name == "invalid"
        && ["does not exist", "unconfigured table"].iter().any(|word| said.contains(word));
    match fault.transient || coming {
        true => StoreError::Retry(text),
        false => StoreError::Fatal(text),
    }
}

/// Whether a lightweight transaction was applied: the first column, whatever follows it. What
/// follows differs between servers.
pub(super) fn applied(answer: QueryRowsResult) -> Result<bool, StoreError> {
    let row = answer.first_row::<Row>().map_err(unread)?;
    match row.columns.first() {
        Some(Some(CqlValue::Boolean(applied))) => Ok(*applied),
        _ => Err(StoreError::Fatal("a conditional write was answered with no verdict".into())),
    }
}

/// Every table, `{ks}` standing for the keyspace. No clause that ScyllaDB and Cassandra spell
/// differently.
fn tables(retention: &RetentionConfig) -> Vec<String> {
    let events = ageing(retention.events);
    let identities = ageing(retention.rollups.max(retention.events));
    vec![
        "CREATE TABLE IF NOT EXISTS {ks}.layout (name text PRIMARY KEY, value bigint)".into(),
        // Only ever changed by lightweight transactions.
        "CREATE TABLE IF NOT EXISTS {ks}.topics (topic text PRIMARY KEY, epoch int, \
         started_at bigint, incarnation bigint, starts map<int, bigint>)"
            .into(),
        "CREATE TABLE IF NOT EXISTS {ks}.definitions (version bigint PRIMARY KEY, \
         registered bigint, body text)"
            .into(),
        "CREATE TABLE IF NOT EXISTS {ks}.progress (topic text, epoch int, part int, \
         stored_to bigint, marks map<bigint, frozen<tuple<boolean, bigint, bigint>>>, \
         PRIMARY KEY ((topic, epoch), part))"
            .into(),
        format!(
            "CREATE TABLE IF NOT EXISTS {{ks}}.events (namespace text, type text, bucket bigint, \
             sub smallint, time bigint, source text, id text, \
             origin frozen<tuple<int, int, bigint>>, attributes frozen<map<text, text>>, \
             flags tinyint, data blob, \
             PRIMARY KEY ((namespace, type, bucket, sub), time, source, id)) \
             WITH CLUSTERING ORDER BY (time DESC, source DESC, id DESC) AND {events}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {{ks}}.events_by_subject (namespace text, subject text, \
             bucket bigint, time bigint, source text, id text, type text, \
             PRIMARY KEY ((namespace, subject, bucket), time, source, id)) \
             WITH CLUSTERING ORDER BY (time DESC, source DESC, id DESC) AND {events}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {{ks}}.events_by_id (namespace text, source text, id text, \
             origin frozen<tuple<int, int, bigint>>, type text, time bigint, \
             PRIMARY KEY ((namespace, source, id))) WITH {identities}"
        ),
        "CREATE TABLE IF NOT EXISTS {ks}.buckets (namespace text, type text, bucket bigint, \
         PRIMARY KEY ((namespace, type), bucket)) WITH CLUSTERING ORDER BY (bucket DESC)"
            .into(),
        "CREATE TABLE IF NOT EXISTS {ks}.subject_buckets (namespace text, bucket bigint, \
         PRIMARY KEY ((namespace), bucket)) WITH CLUSTERING ORDER BY (bucket DESC)"
            .into(),
        "CREATE TABLE IF NOT EXISTS {ks}.rollup_buckets (namespace text, rollup text, \
         version bigint, window bigint, bucket bigint, epoch int, part int, \
         PRIMARY KEY ((namespace, rollup, version, window), bucket, epoch, part))"
            .into(),
        // Timestamps here are positions, not times, so the default compaction.
        "CREATE TABLE IF NOT EXISTS {ks}.rollups (namespace text, rollup text, version bigint, \
         window bigint, bucket bigint, epoch int, part int, start bigint, group_key text, \
         events bigint, last_offset bigint, \
         measures frozen<list<frozen<tuple<bigint, double, double, double>>>>, \
         PRIMARY KEY ((namespace, rollup, version, window, bucket, epoch, part), start, group_key))"
            .into(),
    ]
}

/// Options of a table whose rows age by the time they were appended.
fn ageing(keep: Duration) -> String {
    let hours = keep.as_secs().div_ceil(3_600).div_ceil(WINDOWS).max(1);
    let (size, unit) = if hours >= 48 { (hours.div_ceil(24), "DAYS") } else { (hours, "HOURS") };
    format!(
        "compaction = {{'class': 'TimeWindowCompactionStrategy', \
         'compaction_window_unit': '{unit}', 'compaction_window_size': {size}}} \
         AND default_time_to_live = {}",
        seconds(keep)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn a_table_that_is_listed_and_not_opened_yet_is_unknown() {
        let answer = |error, said: &str| {
            ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, said.into()))
        };
        let opening = "java.lang.IllegalArgumentException: Unknown CF eaff5120-ed9f-11f1";
        assert!(is_unknown(&answer(DbError::ServerError, opening)));
        assert!(is_unknown(&answer(DbError::Invalid, "table layout does not exist")));
        assert!(!is_unknown(&answer(DbError::ServerError, "java.lang.OutOfMemoryError")));
    }

    #[test]
    fn a_row_lives_through_at_most_fifty_windows() {
        for (seconds, window) in [
            (60, "'HOURS', 'compaction_window_size': 1}"),
            (30 * DAY, "'HOURS', 'compaction_window_size': 24}"),
            (90 * DAY, "'DAYS', 'compaction_window_size': 3}"),
            (730 * DAY, "'DAYS', 'compaction_window_size': 25}"),
        ] {
            let options = ageing(Duration::from_secs(seconds));
            assert!(options.contains(window), "{options}");
        }
    }
}
