//! Lists of events: bucket by bucket, the sub-partitions of each merged.
//!
//! Every page is bounded by rows, by bytes held, by rows looked at and by buckets walked; one that
//! met a bound carries the key to go on from, even when it is empty. That key need not be a row's:
//! between two buckets it is the moment where they meet.

use std::sync::atomic::Ordering::Relaxed;

use super::{
    Cql,
    client::{call, unread},
    decode,
    layout::{subject_begin, subject_bucket},
    locators::Pointer,
    walk::{Lane, Walk},
};
use crate::store::{EventKey, EventRow, EventsPage, EventsQuery, Order, Selector, StoreError};

/// Rows that a page looks at: what a filter that matches little may cost.
const LOOK: usize = 10_000;

/// Bytes of data that a page holds, about.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// Buckets that a page walks through.
const BUCKETS: usize = 128;

/// Events that are fetched at once when a list by subject points at them: the first few, then
/// twice as many each time, since they may be large.
const FOLLOWED: usize = 16;
const FOLLOWED_AT_MOST: usize = 128;

/// The part of a list that a page begins with.
#[derive(Clone, Debug)]
struct Span {
    order: Order,
    /// Inclusive.
    from: i64,
    /// Exclusive.
    to: i64,
    /// Strictly behind this key in the list's order; it is within the times.
    after: Option<EventKey>,
}

impl Span {
    /// `None` when nothing can lie in it.
    fn of(query: &EventsQuery) -> Option<Self> {
        let mut span = Self { order: query.order, from: query.from, to: query.to, after: None };
        if let Some(after) = &query.after {
            match query.order {
                Order::Asc if after.time >= query.to => return None,
                Order::Desc if after.time < query.from => return None,
                Order::Asc if after.time >= query.from => span.from = after.time,
                Order::Desc if after.time < query.to => span.to = after.time.saturating_add(1),
                _ => return (query.from < query.to).then_some(span),
            }
            span.after = Some(after.clone());
        }
        (span.from < span.to).then_some(span)
    }

    /// The moment where the buckets that were walked end, as a key to go on from; `None` when the
    /// span ends there too.
    fn behind(&self, begin: i64, end: i64) -> Option<EventKey> {
        let time = match self.order {
            Order::Asc if end >= self.to => return None,
            Order::Desc if begin <= self.from => return None,
            Order::Asc => end,
            Order::Desc => begin,
        };
        // No row has a key as small as this one, so nothing at that time is passed over.
        Some(EventKey { time, source: String::new(), id: String::new() })
    }

    fn index(&self) -> usize {
        match self.order {
            Order::Asc => 0,
            Order::Desc => 1,
        }
    }
}

/// What a row of a list is ordered by.
trait Keyed {
    fn key(&self) -> (i64, &str, &str);

    fn owned(&self) -> EventKey {
        let (time, source, id) = self.key();
        EventKey { time, source: source.into(), id: id.into() }
    }
}

impl Keyed for EventRow {
    fn key(&self) -> (i64, &str, &str) {
        (self.event.time.micros, &self.event.source, &self.event.id)
    }
}

impl Keyed for Pointer {
    fn key(&self) -> (i64, &str, &str) {
        (self.key.time, &self.key.source, &self.key.id)
    }
}

/// One sub-partition of a bucket of a type.
struct TypeLane<'a> {
    cql: &'a Cql,
    query: &'a EventsQuery,
    span: &'a Span,
    kind: &'a str,
    bucket: i64,
    sub: i16,
}

impl Lane for TypeLane<'_> {
    type Row = EventRow;

    fn size(row: &EventRow) -> usize {
        row.event.data.size()
    }

    async fn fetch(
        &self,
        last: Option<&EventRow>,
        limit: usize,
    ) -> Result<Vec<EventRow>, StoreError> {
        let Self { cql, query, span, kind, bucket, sub } = *self;
        let key = last.map(Keyed::key);
        let key = key.or(span.after.as_ref().map(|a| (a.time, a.source.as_str(), a.id.as_str())));
        let pages = &cql.statements.by_type;
        let call = call::READ_EVENTS;
        let (namespace, limit, index) = (&*query.namespace, limit as i32, span.index());
        let client = &cql.client;
        let found = match (key, query.order) {
            (None, _) => {
                let values = (namespace, kind, bucket, sub, span.from, span.to, limit);
                client.rows(call, &pages.from[index], values).await?
            }
            (Some((time, source, id)), Order::Asc) => {
                let values = (namespace, kind, bucket, sub, time, source, id, span.to, limit);
                client.rows(call, &pages.after[index], values).await?
            }
            (Some((time, source, id)), Order::Desc) => {
                let values = (namespace, kind, bucket, sub, span.from, time, source, id, limit);
                client.rows(call, &pages.after[index], values).await?
            }
        };
        let rows = decode::events(&found, &query.namespace, kind)?;
        if !rows.is_empty() {
            let average = found.rows_bytes_size() / rows.len();
            let known = cql.row_bytes.load(Relaxed);
            cql.row_bytes.store((known * 7 + average) / 8, Relaxed);
        }
        Ok(rows)
    }

    fn before(&self, row: &EventRow, _: &Self, other: &EventRow) -> bool {
        ordered(self.span.order, row, other)
    }
}

/// One bucket of a subject.
struct SubjectLane<'a> {
    cql: &'a Cql,
    query: &'a EventsQuery,
    span: &'a Span,
    subject: &'a str,
    bucket: i64,
}

impl Lane for SubjectLane<'_> {
    type Row = Pointer;

    async fn fetch(
        &self,
        last: Option<&Pointer>,
        limit: usize,
    ) -> Result<Vec<Pointer>, StoreError> {
        let Self { cql, query, span, subject, bucket } = *self;
        let key = last.map(Keyed::key);
        let key = key.or(span.after.as_ref().map(|a| (a.time, a.source.as_str(), a.id.as_str())));
        let pages = &cql.statements.by_subject;
        let call = call::READ_EVENTS;
        let (namespace, limit, index) = (&*query.namespace, limit as i32, span.index());
        let client = &cql.client;
        let found = match (key, query.order) {
            (None, _) => {
                let values = (namespace, subject, bucket, span.from, span.to, limit);
                client.rows(call, &pages.from[index], values).await?
            }
            (Some((time, source, id)), Order::Asc) => {
                let values = (namespace, subject, bucket, time, source, id, span.to, limit);
                client.rows(call, &pages.after[index], values).await?
            }
            (Some((time, source, id)), Order::Desc) => {
                let values = (namespace, subject, bucket, span.from, time, source, id, limit);
                client.rows(call, &pages.after[index], values).await?
            }
        };
        let mut pointers = Vec::with_capacity(found.rows_num());
        for row in found.rows::<(i64, String, String, String)>().map_err(unread)? {
            let (time, source, id, kind) = row.map_err(unread)?;
            pointers.push(Pointer { key: EventKey { time, source, id }, kind });
        }
        Ok(pointers)
    }

    fn before(&self, row: &Pointer, _: &Self, other: &Pointer) -> bool {
        ordered(self.span.order, row, other)
    }
}

fn ordered(order: Order, row: &impl Keyed, other: &impl Keyed) -> bool {
    match order {
        Order::Asc => row.key() < other.key(),
        Order::Desc => row.key() > other.key(),
    }
}

/// What a walk found.
struct Page<T> {
    rows: Vec<T>,
    next: Option<EventKey>,
}

/// Walks until a bound is met. `buckets` are those of the walk, in order, with their limits in
/// time; `more` says that there are others behind them.
async fn page<L>(
    mut walk: Walk<L>,
    query: &EventsQuery,
    span: &Span,
    buckets: &[(i64, i64)],
    more: bool,
) -> Result<Page<L::Row>, StoreError>
where
    L: Lane,
    L::Row: Keyed + Clone,
{
    let mut rows = Vec::new();
    let (mut looked, mut bytes) = (0, 0);
    let mut last: Option<EventKey> = None;
    while walk.groups() > 0 {
        let Some(row) = walk.next().await? else { continue };
        if rows.len() >= query.limit.max(1) || looked >= LOOK || bytes >= PAGE_BYTES {
            return Ok(Page { rows, next: last });
        }
        looked += 1;
        bytes += L::size(&row);
        last = Some(row.owned());
        if query.source.as_ref().is_some_and(|source| source != row.key().1) {
            continue;
        }
        rows.push(row);
    }
    let next = match buckets.last() {
        Some((begin, end)) if more => span.behind(*begin, *end),
        _ => None,
    };
    Ok(Page { rows, next })
}

impl Cql {
    pub(super) async fn list(&self, query: &EventsQuery) -> Result<EventsPage, StoreError> {
        let Some(span) = Span::of(query) else {
            return Ok(EventsPage { rows: Vec::new(), next: None });
        };
        match &query.selector {
            Selector::Type(kind) => self.list_type(query, &span, kind).await,
            Selector::Subject(subject) => self.list_subject(query, &span, subject).await,
        }
    }

    async fn list_type(
        &self,
        query: &EventsQuery,
        span: &Span,
        kind: &str,
    ) -> Result<EventsPage, StoreError> {
        let (first, last) = (self.layout.bucket(span.from), self.layout.bucket(span.to - 1));
        let values = (&*query.namespace, kind, first, last, BUCKETS as i32);
        let statement = &self.statements.buckets[span.index()];
        let found = self.client.rows(call::READ_BUCKETS, statement, values).await?;
        let buckets = decode::buckets(&found)?;
        let lanes = |&bucket: &i64| {
            let lane = |sub| TypeLane { cql: self, query, span, kind, bucket, sub };
            (0..self.layout.subs).map(lane).collect::<Vec<_>>()
        };
        let subs = self.layout.subs.unsigned_abs().into();
        let (chunk, most) = (self.chunk(query, subs), self.held(subs));
        let walk = Walk::bounded(buckets.iter().map(lanes), chunk, most, PAGE_BYTES / subs);
        let limits = |&b: &i64| (self.layout.begin(b), self.layout.begin(b.saturating_add(1)));
        let more = buckets.len() >= BUCKETS;
        let buckets: Vec<_> = buckets.iter().map(limits).collect();
        let page = page(walk, query, span, &buckets, more).await?;
        Ok(EventsPage { rows: page.rows, next: page.next })
    }

    /// Rows to fetch of each lane at once, at most: what a page may hold of rows of the usual size.
    fn held(&self, lanes: usize) -> usize {
        (PAGE_BYTES / self.row_bytes.load(Relaxed).max(1) / lanes).max(2)
    }

    /// Rows to fetch of each lane at first: what a page needs when they are spread evenly.
    fn chunk(&self, query: &EventsQuery, lanes: usize) -> usize {
        match query.source {
            None => query.limit.saturating_add(1).saturating_mul(5) / 4 / lanes + 2,
            Some(_) => 128,
        }
    }

    async fn list_subject(
        &self,
        query: &EventsQuery,
        span: &Span,
        subject: &str,
    ) -> Result<EventsPage, StoreError> {
        let (first, last) = (subject_bucket(span.from), subject_bucket(span.to - 1));
        let values = (&*query.namespace, first, last, BUCKETS as i32);
        let statement = &self.statements.subject_buckets[span.index()];
        let found = self.client.rows(call::READ_BUCKETS, statement, values).await?;
        let buckets = decode::buckets(&found)?;
        let lanes = |&bucket: &i64| vec![SubjectLane { cql: self, query, span, subject, bucket }];
        let chunk = match query.source {
            None => query.limit.saturating_add(1),
            Some(_) => 256,
        };
        let walk = Walk::new(buckets.iter().map(lanes), chunk, usize::MAX);
        let limits = |&b: &i64| (subject_begin(b), subject_begin(b.saturating_add(1)));
        let more = buckets.len() >= BUCKETS;
        let buckets: Vec<_> = buckets.iter().map(limits).collect();
        let pointers = page(walk, query, span, &buckets, more).await?;
        self.follow(query, pointers).await
    }

    /// The events that pointers name; one that is not there is passed over.
    async fn follow(
        &self,
        query: &EventsQuery,
        pointers: Page<Pointer>,
    ) -> Result<EventsPage, StoreError> {
        let mut page = EventsPage { rows: Vec::new(), next: pointers.next };
        let mut bytes = 0;
        let (mut left, mut many) = (&pointers.rows[..], FOLLOWED);
        while let Some((some, rest)) = left.split_at_checked(many.min(left.len()))
            && !some.is_empty()
        {
            left = rest;
            many = (many * 2).min(FOLLOWED_AT_MOST);
            for row in self.events_at(&query.namespace, some).await?.into_iter().flatten() {
                bytes += row.event.data.size();
                page.rows.push(row);
            }
            if bytes >= PAGE_BYTES && !left.is_empty() {
                page.next = some.last().map(|pointer| pointer.key.clone());
                break;
            }
        }
        Ok(page)
    }
}
