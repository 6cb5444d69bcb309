//! Events as they were stored: listed by type or subject, or one by its identity.

use schemas::event_to_json;

use super::{
    Answer, Page, Tenant,
    cursor::{Cursor, Fingerprint},
    failure::Failure,
    params::Params,
    time::Asked,
};
use crate::store::{EventKey, EventsQuery, Identity, Order, Selector};

const LIST: [&str; 8] = ["type", "subject", "source", "from", "to", "order", "limit", "cursor"];
const USUAL: usize = 100;
const MOST: usize = 1000;
/// Rows read before it is known how large events are here: each may be a megabyte.
const FIRST_STEP: usize = 16;

/// `GET /v1/events`
pub(super) async fn list(
    query: &Tenant<'_>,
    mut params: Params,
    page: Page,
) -> Result<Answer, Failure> {
    params.only(&LIST)?;
    let selector = take_selector(&mut params)?;
    let source = params.take_filled("source")?;
    let asked = Asked::take(&mut params)?;
    let order = take_order(&mut params)?;
    let limit = params.take_limit(USUAL, MOST)?;
    let fingerprint = fingerprint(query, &selector, source.as_deref(), &asked, order);
    let cursor =
        params.take("cursor").map(|text| Cursor::decode(&text, fingerprint)).transpose()?;
    let range = match &cursor {
        Some(cursor) => cursor.range,
        None => asked.resolve((query.clock)())?,
    };

    let mut wanted = EventsQuery {
        namespace: query.namespace.clone(),
        selector,
        source,
        from: range.from,
        to: range.to,
        order,
        after: cursor.map(|c| EventKey { time: c.at, source: c.first, id: c.second }),
        limit: 0,
    };
    let mut json = br#"{"events":["#.to_vec();
    let mut rows = 0;
    let next = loop {
        wanted.limit = step(limit - rows, rows, json.len(), page.bytes);
        let found = query.store.events(&wanted).await?;
        for row in found.rows.iter().filter(|row| asked.holds(&row.event.time)) {
            if rows > 0 {
                json.push(b',');
            }
            event_to_json(&row.event, &mut json);
            rows += 1;
        }
        let Some(next) = found.next else { break None };
        wanted.after = Some(next);
        if rows >= limit || page.is_over(json.len()) {
            break wanted.after;
        }
    };
    json.push(b']');
    if let Some(EventKey { time, source, id }) = next {
        let cursor = Cursor { range, at: time, first: source, second: id };
        push_next(&mut json, &cursor.encode(fingerprint));
    }
    json.push(b'}');
    Ok(Answer { json, rows })
}

/// `GET /v1/event`
pub(super) async fn one(query: &Tenant<'_>, mut params: Params) -> Result<Answer, Failure> {
    params.only(&["source", "id"])?;
    let identity = Identity {
        namespace: query.namespace.clone(),
        source: params.require("source")?,
        id: params.require("id")?,
    };
    let Some(row) = query.store.event(&identity).await? else {
        return Err(Failure::missing(
            "event_not_found",
            "There is no such event",
            "No event of this `source` and `id` is stored. What was just accepted may take a \
             moment to get there.",
        ));
    };
    let mut json = Vec::with_capacity(512);
    event_to_json(&row.event, &mut json);
    Ok(Answer { json, rows: 1 })
}

/// Adds `next` to an object. A cursor is base64url, so it needs no escaping.
pub(super) fn push_next(json: &mut Vec<u8>, cursor: &str) {
    json.extend_from_slice(br#","next":""#);
    json.extend_from_slice(cursor.as_bytes());
    json.push(b'"');
}

/// How many rows to read next: what is missing, as far as their usual size lets it fit the page.
fn step(missing: usize, rows: usize, bytes: usize, most_bytes: usize) -> usize {
    let fitting = match rows {
        0 => FIRST_STEP,
        rows => most_bytes.saturating_sub(bytes) / (bytes / rows).max(1),
    };
    fitting.min(missing).max(1)
}

fn take_selector(params: &mut Params) -> Result<Selector, Failure> {
    match (params.take_filled("type")?, params.take_filled("subject")?) {
        (Some(kind), None) => Ok(Selector::Type(kind)),
        (None, Some(subject)) => Ok(Selector::Subject(subject)),
        (None, None) => Err(Failure::bad(
            "missing_parameter",
            "A parameter is missing",
            "Say which events: `type=` or `subject=`. `/v1/types` lists the types.",
        )),
        (Some(_), Some(_)) => Err(Failure::bad(
            "conflicting_parameters",
            "Two parameters exclude each other",
            "Give `type` or `subject`, not both.",
        )),
    }
}

fn take_order(params: &mut Params) -> Result<Order, Failure> {
    match params.take("order").as_deref() {
        None | Some("desc") => Ok(Order::Desc),
        Some("asc") => Ok(Order::Asc),
        Some(_) => Err(Failure::parameter(
            "order",
            "must be `desc` (newest first, the default) or `asc` (oldest first).",
        )),
    }
}

fn fingerprint(
    query: &Tenant<'_>,
    selector: &Selector,
    source: Option<&str>,
    asked: &Asked,
    order: Order,
) -> Fingerprint {
    let started = Fingerprint::of("events", query.namespace);
    let selected = match selector {
        Selector::Type(kind) => started.part("type").part(kind),
        Selector::Subject(subject) => started.part("subject").part(subject),
    };
    let direction = match order {
        Order::Desc => "desc",
        Order::Asc => "asc",
    };
    selected.optional(source).asked(asked).part(direction).done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_no_more_than_is_missing() {
        assert_eq!(step(5, 0, 11, 1 << 20), 5);
        assert_eq!(step(900, 100, 30_000, 1 << 20), 900);
    }

    #[test]
    fn the_first_step_is_small_and_large_events_keep_the_next_ones_small() {
        assert_eq!(step(1000, 0, 11, 1 << 23), FIRST_STEP);
        assert_eq!(step(984, 16, 4 << 20, 8 << 20), 16);
        assert_eq!(step(984, 16, 9 << 20, 8 << 20), 1);
    }
}
