//! The demo's data: where rows come from, how they are posted, and what must come out.
//!
//! The expected side is computed here from the table itself. It shares nothing with the pipeline,
//! not even the program that reads rows, or a mistake in there would go unnoticed.

use std::{collections::BTreeMap, io};

use anyhow::{Context, Result};
use csv::StringRecord;
use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};

use crate::post::Batch;

const TABLE: &[u8] = include_bytes!("../../demo/flights.csv.gz");

/// The program that turns rows into events.
pub const PROGRAM: &str = include_str!("../../demo/flights.vrl");
/// The type of the events that come out.
pub const DEPARTED: &str = "flight.departed";
/// Departures of January 2013 by local time lie within these days of UTC, delays included.
pub const FIRST_DAY: &str = "2013-01-01T00:00:00Z";
/// The day after the last one.
pub const LAST_DAY: &str = "2013-02-04T00:00:00Z";

/// The rows of the table, with their header.
pub struct Flights {
    header: StringRecord,
    reader: csv::Reader<GzDecoder<&'static [u8]>>,
}

impl Flights {
    /// Starts at the first row.
    pub fn open() -> Result<Self> {
        let mut reader = csv::Reader::from_reader(GzDecoder::new(TABLE));
        let header = reader.headers().context("the bundled table has no header")?.clone();
        Ok(Self { header, reader })
    }

    fn row(&mut self) -> io::Result<Option<Row>> {
        let mut fields = StringRecord::new();
        if !self.reader.read_record(&mut fields)? {
            return Ok(None);
        }
        let named = self.header.iter().zip(fields.iter());
        Ok(Some(Row(named.map(|(name, value)| (name.to_owned(), value.into())).collect())))
    }

    /// The rows as events, in batches of `size`.
    pub fn batches(mut self, size: usize) -> impl Iterator<Item = io::Result<Batch>> {
        std::iter::from_fn(move || {
            let mut batch = Batch::default();
            while batch.len() < size {
                match self.row() {
                    Ok(Some(row)) => batch.push(0, row.event().to_string().as_bytes()),
                    Ok(None) => break,
                    Err(error) => return Some(Err(error)),
                }
            }
            (!batch.is_empty()).then_some(Ok(batch))
        })
    }
}

struct Row(Map<String, Value>);

impl Row {
    fn text(&self, column: &str) -> &str {
        self.0.get(column).and_then(Value::as_str).unwrap_or_default()
    }

    /// The raw row as an event. Its id is the same whenever it is posted.
    fn event(self) -> Value {
        let number = |column| self.text(column).parse().unwrap_or(0);
        let (year, month, day): (u32, u32, u32) = (number("year"), number("month"), number("day"));
        let (carrier, flight) = (self.text("carrier"), self.text("flight"));
        let id = format!("{carrier}-{flight}-{year}-{month:02}-{day:02}-{}", self.text("origin"));
        json!({
            "specversion": "1.0",
            "id": id,
            "source": "nycflights13",
            "type": "flight.row",
            "subject": carrier,
            "time": self.text("time_hour"),
            "data": self.0,
        })
    }
}

/// Departures of a carrier and their delays in minutes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delays {
    /// Departures.
    pub count: u64,
    /// Sum of the delays.
    pub sum: f64,
    /// The smallest delay; negative is early.
    pub min: f64,
    /// The largest delay.
    pub max: f64,
}

impl Default for Delays {
    fn default() -> Self {
        Self { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl Delays {
    /// Adds those of other departures.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The mean delay.
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }
}

/// What the table says must come out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    /// Rows.
    pub rows: u64,
    /// Rows of flights that never departed.
    pub cancelled: u64,
    /// Departures by carrier.
    pub carriers: BTreeMap<String, Delays>,
}

impl Expected {
    /// Reads the table.
    pub fn read() -> Result<Self> {
        let mut flights = Flights::open()?;
        let mut expected = Self::default();
        while let Some(row) = flights.row()? {
            expected.rows += 1;
            if matches!(row.text("dep_time"), "" | "NA") {
                expected.cancelled += 1;
                continue;
            }
            let delay: f64 = row.text("dep_delay").parse().with_context(|| {
                format!("row {} of the bundled table has no departure delay", expected.rows)
            })?;
            let one = Delays { count: 1, sum: delay, min: delay, max: delay };
            expected.carriers.entry(row.text("carrier").to_owned()).or_default().add(&one);
        }
        Ok(expected)
    }

    /// Departures.
    pub fn stored(&self) -> u64 {
        self.rows - self.cancelled
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_says_what_is_known_of_january_2013() {
        let expected = Expected::read().unwrap();
        assert_eq!((expected.rows, expected.cancelled, expected.stored()), (27_004, 521, 26_483));
        let mut all = Delays::default();
        expected.carriers.values().for_each(|delays| all.add(delays));
        assert_eq!((all.count, all.sum), (26_483, 265_801.0));
        let united = expected.carriers["UA"];
        assert_eq!((united.count, format!("{:.4}", united.mean())), (4_605, "8.3262".into()));
    }

    #[test]
    fn every_row_is_an_event_with_an_id_of_its_own() {
        let mut ids = HashSet::new();
        for batch in Flights::open().unwrap().batches(500) {
            let batch = batch.unwrap();
            for index in 0..batch.len() {
                let event: Value = serde_json::from_slice(batch.event(index).unwrap().1).unwrap();
                assert!(ids.insert(event["id"].as_str().unwrap().to_owned()));
            }
        }
        assert_eq!(ids.len(), 27_004);
        assert!(ids.contains("UA-1545-2013-01-01-EWR"));
    }
}
