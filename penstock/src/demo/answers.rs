//! What came out, read back over HTTP as anybody would.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use reqwest::{Client, Url};
use serde_json::Value;

use super::flights::{DEPARTED, Delays, FIRST_DAY, LAST_DAY};

/// More pages than any of the demo's answers has.
const MOST_PAGES: usize = 1000;

/// A reader of a running node.
pub struct Answers {
    client: Client,
    http: SocketAddr,
    admin: SocketAddr,
}

/// What the pipeline has done in this run, by its own metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counted {
    /// Records that the processor has finished with.
    pub processed: u64,
    /// Of these, dropped as `cancelled`.
    pub cancelled: u64,
    /// Events that the processor wrote.
    pub written: u64,
    /// Records that the sink has finished with.
    pub sunk: u64,
}

/// What the store answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// Departures in the store.
    pub events: u64,
    /// The rollup by carrier, added up from its days.
    pub by_day: BTreeMap<String, Delays>,
    /// The same from its hours.
    pub by_hour: BTreeMap<String, Delays>,
    /// The mean delays as the rollup answers them for the whole month.
    pub means: BTreeMap<String, f64>,
}

impl Answers {
    /// Reads from these addresses.
    pub fn of(http: SocketAddr, admin: SocketAddr) -> Result<Self> {
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        Ok(Self { client, http, admin })
    }

    /// Reads the metrics.
    pub async fn counted(&self) -> Result<Counted> {
        let text = self.text(Url::parse(&format!("http://{}/metrics", self.admin))?).await?;
        let sum = |name: &str, label: &str| sum(&text, name, label);
        Ok(Counted {
            processed: sum("penstock_processor_records_total", "processor=\"flights\""),
            cancelled: sum("penstock_processor_verdicts_total", "reason=\"cancelled\""),
            written: sum("penstock_processor_events_total", "processor=\"flights\""),
            sunk: sum("penstock_sink_records_total", ""),
        })
    }

    /// Reads what is in the store.
    pub async fn stored(&self) -> Result<Stored> {
        let mut stored = Stored::default();
        for row in self.rows("/v1/types", "types", &[]).await? {
            if row["type"] == DEPARTED {
                stored.events = row["count"].as_u64().context("a type without a count")?;
            }
        }
        for row in self.rollup(Some("1d")).await? {
            let (carrier, delays) = delays(&row)?;
            stored.by_day.entry(carrier).or_default().add(&delays);
        }
        for row in self.rollup(Some("1h")).await? {
            let (carrier, delays) = delays(&row)?;
            stored.by_hour.entry(carrier).or_default().add(&delays);
        }
        for row in self.rollup(None).await? {
            let (carrier, _) = delays(&row)?;
            stored.means.insert(carrier, number(&row, "delay_avg")?);
        }
        Ok(stored)
    }

    async fn rollup(&self, window: Option<&str>) -> Result<Vec<Value>> {
        let mut query = vec![("from", FIRST_DAY), ("to", LAST_DAY)];
        query.extend(window.map(|window| ("window", window)));
        self.rows("/v1/rollups/departures", "rows", &query).await
    }

    /// All rows of an answer, page by page.
    async fn rows(&self, path: &str, member: &str, query: &[(&str, &str)]) -> Result<Vec<Value>> {
        let mut rows = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut url = Url::parse(&format!("http://{}{path}", self.http))?;
            {
                let mut pairs = url.query_pairs_mut();
                pairs.extend_pairs(query).extend_pairs(cursor.iter().map(|c| ("cursor", c)));
            }
            let text = self.text(url.clone()).await?;
            let mut page: Value = serde_json::from_str(&text)?;
            match page[member].take() {
                Value::Array(more) => rows.extend(more),
                _ => bail!("{url} answered without `{member}`"),
            }
            match page["next"].take() {
                Value::String(next) => cursor = Some(next),
                _ => return Ok(rows),
            }
        }
        bail!("{path} answered with more than {MOST_PAGES} pages")
    }

    async fn text(&self, url: Url) -> Result<String> {
        let response = self.client.get(url.clone()).send().await?;
        let status = response.status();
        let text = response.text().await?;
        if !status.is_success() {
            bail!("{url} answered {status}: {text}");
        }
        Ok(text)
    }
}

fn delays(row: &Value) -> Result<(String, Delays)> {
    let carrier = row["carrier"].as_str().context("a row without a carrier")?.to_owned();
    let count = row["count"].as_u64().context("a row without a count")?;
    let number = |column| number(row, column);
    let (sum, min, max) = (number("delay_sum")?, number("delay_min")?, number("delay_max")?);
    Ok((carrier, Delays { count, sum, min, max }))
}

fn number(row: &Value, column: &str) -> Result<f64> {
    row[column].as_f64().with_context(|| format!("a row without {column}"))
}

/// The sum of a metric's values over all lines that have the label.
fn sum(text: &str, name: &str, label: &str) -> u64 {
    let of_metric =
        |line: &&str| line.strip_prefix(name).is_some_and(|l| l.starts_with(['{', ' ']));
    let lines = text.lines().filter(of_metric).filter(|line| line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_added_up_over_labels_and_nothing_else() {
        let text = "a_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\"} 4\na_total{x=\"2\"} 5\n\
                    a_total_more{x=\"1\"} 9\nb_total 7\n";
        assert_eq!(sum(text, "a_total", "x=\"1\""), 7);
        assert_eq!(sum(text, "a_total", ""), 12);
        assert_eq!(sum(text, "b_total", ""), 7);
        assert_eq!(sum(text, "c_total", ""), 0);
    }
}
