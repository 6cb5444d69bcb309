//! CQL without Penstock: the loop that the sink is compared with. It writes the rows that the sink
//! writes, to tables made by the statements that made the sink's, grouped by partition where rows of
//! one partition are many.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use scylla::{
    client::{PoolSize, session::Session, session_builder::SessionBuilder},
    cluster::metadata::{self, ColumnKind, ColumnType},
    statement::batch::{Batch, BatchType},
    value::{CqlValue, Row},
};
use tokio::task::JoinSet;

use crate::{
    load::ID_DIGITS,
    measure::{self, Cost, Meter, Watched},
};

/// Rows of a batch.
const BATCH: u64 = 32;
/// The column that tells the rows of the load apart.
const ID: &str = "id";

/// Where the store is.
#[derive(Args, Clone, Debug)]
pub struct CqlArg {
    /// ScyllaDB or Cassandra; keyspaces are made and dropped on it.
    #[arg(long, env = "PENSTOCK_TEST_CQL", value_name = "HOST:PORT")]
    pub cql: String,
}

/// A session.
#[derive(Clone)]
pub struct Cql {
    address: String,
    session: Arc<Session>,
}

/// A table that gets a row for each event.
#[derive(Clone)]
pub struct Table {
    name: String,
    columns: Vec<String>,
    id: usize,
    /// A row of each of several partitions.
    rows: Vec<Vec<Option<CqlValue>>>,
    /// How long its rows live, in seconds; 0 is for ever.
    ttl: Option<CqlValue>,
}

impl Cql {
    /// Connects.
    pub async fn connect(arg: &CqlArg) -> Result<Self> {
        let session = SessionBuilder::new()
            .known_node(&arg.cql)
            .pool_size(PoolSize::PerHost(NonZeroUsize::MIN))
            .build()
            .await
            .with_context(|| format!("cannot connect to {}", arg.cql))?;
        Ok(Self { address: arg.cql.clone(), session: Arc::new(session) })
    }

    /// A keyspace's name that was not used before.
    pub fn keyspace(&self, round: u32) -> String {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("bench_{}_{round}", since.as_secs())
    }

    /// The lines of a configuration that name the store.
    pub fn config(&self, keyspace: &str) -> String {
        format!("[store]\nurl = \"scylla://{}/{keyspace}\"\nreplication = 1\n", self.address)
    }

    /// The server, to be watched, if it runs on this machine.
    pub fn watched(&self) -> Option<Watched> {
        measure::listener(&self.address).map(|pid| ("CQL", pid))
    }

    /// Drops a keyspace.
    pub async fn drop(&self, keyspace: &str) -> Result<()> {
        self.session.query_unpaged(format!("DROP KEYSPACE IF EXISTS {keyspace}"), ()).await?;
        Ok(())
    }

    /// The statements that make a keyspace and its tables again.
    pub async fn definition(&self, keyspace: &str) -> Result<Vec<String>> {
        let described =
            self.session.query_unpaged(format!("DESCRIBE KEYSPACE {keyspace}"), ()).await?;
        let described = described.into_rows_result()?;
        let statements = described.rows::<(String, String, String, String)>()?;
        Ok(statements.map(|row| row.map(|(.., statement)| statement)).collect::<Result<_, _>>()?)
    }

    /// Makes a keyspace as another is.
    pub async fn make(&self, definition: &[String], from: &str, to: &str) -> Result<()> {
        for statement in definition {
            self.session.query_unpaged(statement.replace(from, to), ()).await?;
        }
        self.session.await_schema_agreement().await?;
        Ok(())
    }

    /// The tables in which the sink has rows of events.
    pub async fn tables(&self, keyspace: &str) -> Result<Vec<Table>> {
        self.session.refresh_metadata().await?;
        let state = self.session.get_cluster_state();
        let known = state.get_keyspace(keyspace).context("no such keyspace")?;
        let mut tables = Vec::new();
        for (name, table) in &known.tables {
            if table.columns.contains_key(ID) {
                let found = self.sample(keyspace, name, table).await?;
                tables.extend(found);
            }
        }
        ensure!(!tables.is_empty(), "the sink's keyspace has no rows of events");
        Ok(tables)
    }

    /// Rows of some partitions of a table; `None` if it is empty.
    async fn sample(
        &self,
        keyspace: &str,
        name: &str,
        of: &metadata::Table,
    ) -> Result<Option<Table>> {
        let key = &of.partition_key;
        let keys = format!("SELECT DISTINCT {} FROM {keyspace}.{name} LIMIT 16", key.join(", "));
        let found = self.session.query_unpaged(keys, ()).await?.into_rows_result()?;
        let one = format!(
            "FROM {keyspace}.{name} WHERE {} LIMIT 1",
            key.iter().map(|column| format!("{column} = ?")).collect::<Vec<_>>().join(" AND ")
        );
        let life = of.columns.iter().find(|(_, column)| {
            column.kind == ColumnKind::Regular && matches!(column.typ, ColumnType::Native(_))
        });
        let (life, _) = life.context("a table without a column that tells how long rows live")?;
        let life = self.session.prepare(format!("SELECT TTL({life}) {one}")).await?;
        let one = self.session.prepare(format!("SELECT * {one}")).await?;
        let mut ttl = None;
        let (mut columns, mut rows) = (Vec::<String>::new(), Vec::<Vec<_>>::new());
        for partition in found.rows::<Row>()? {
            let partition = partition?.columns;
            let lives =
                self.session.execute_unpaged(&life, &partition).await?.into_rows_result()?;
            let (seconds,) = lives.first_row::<(Option<i32>,)>()?;
            ttl = Some(CqlValue::Int(seconds.unwrap_or_default()));
            let row = self.session.execute_unpaged(&one, &partition).await?.into_rows_result()?;
            columns = row.column_specs().iter().map(|spec| spec.name().to_owned()).collect();
            rows.push(row.first_row::<Row>()?.columns);
        }
        let Some(first) = rows.first() else { return Ok(None) };
        // To write a null would be to write a tombstone.
        let held: Vec<usize> = (0..columns.len()).filter(|n| first[*n].is_some()).collect();
        let columns: Vec<String> = held.iter().map(|n| columns[*n].clone()).collect();
        let rows = rows.iter().map(|row| held.iter().map(|n| row[*n].clone()).collect()).collect();
        let id = columns.iter().position(|column| column == ID).context("a row without an id")?;
        Ok(Some(Table { name: name.to_owned(), columns, id, rows, ttl }))
    }

    /// The bare driver loop: the rows of so many events, in unlogged batches of 32, so many at a time.
    pub async fn write(
        &self,
        keyspace: &str,
        tables: &[Table],
        events: u64,
        in_flight: usize,
    ) -> Result<Cost> {
        let mut writers = Vec::new();
        for table in tables {
            writers.push((self.batch(keyspace, table).await?, table.clone()));
        }
        let (writers, next) = (Arc::new(writers), Arc::new(AtomicU64::new(0)));
        let watched = [Some(("bare", std::process::id())), self.watched()];
        let meter = Meter::start(&watched.into_iter().flatten().collect::<Vec<_>>())?;
        let mut tasks = JoinSet::new();
        for _ in 0..in_flight {
            let (session, writers, next) = (self.session.clone(), writers.clone(), next.clone());
            tasks.spawn(async move {
                loop {
                    let batch = next.fetch_add(1, Ordering::Relaxed);
                    if batch * BATCH >= events {
                        return anyhow::Ok(());
                    }
                    let ids = ids(batch);
                    let timestamp = timestamp();
                    for (statement, table) in &*writers {
                        let rows = table.numbered(batch, &ids, &timestamp);
                        session.batch(statement, rows).await?;
                    }
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        meter.read()
    }

    async fn batch(&self, keyspace: &str, table: &Table) -> Result<Batch> {
        let marks = vec!["?"; table.columns.len()].join(", ");
        let columns = table.columns.join(", ");
        let name = &table.name;
        let insert = format!(
            "INSERT INTO {keyspace}.{name} ({columns}) VALUES ({marks}) USING TIMESTAMP ? AND TTL ?"
        );
        let mut insert = self.session.prepare(insert).await?;
        insert.set_is_idempotent(true);
        let mut batch = Batch::new(BatchType::Unlogged);
        (0..BATCH).for_each(|_| batch.append_statement(insert.clone()));
        batch.set_is_idempotent(true);
        Ok(batch)
    }
}

impl Table {
    /// The rows of a batch: of one partition, unless the id is part of its key. They borrow what they
    /// can: copies would burden the loop.
    fn numbered<'a>(
        &'a self,
        batch: u64,
        ids: &'a [Option<CqlValue>],
        timestamp: &'a Option<CqlValue>,
    ) -> Vec<Vec<&'a Option<CqlValue>>> {
        let like = &self.rows[batch as usize % self.rows.len()];
        let rows = ids.iter().map(|id| {
            let mut row: Vec<_> = like.iter().chain([timestamp, &self.ttl]).collect();
            row[self.id] = id;
            row
        });
        rows.collect()
    }
}

fn ids(batch: u64) -> Vec<Option<CqlValue>> {
    let id = |number| Some(CqlValue::Text(format!("{number:0width$}", width = ID_DIGITS)));
    (batch * BATCH..(batch + 1) * BATCH).map(id).collect()
}

/// Now, as the time that rows are written at.
fn timestamp() -> Option<CqlValue> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(CqlValue::BigInt(since.as_micros() as i64))
}
