//! From a whole body to records: on which thread, and when the schema registry is asked in between.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use schemas::{Defaults, Event, Wanted};
use service::{auth::Caller, http::request_id};
use tokio::time::{Instant, timeout_at};

use super::{Door, internal, unix_micros};
use crate::{
    Ingest,
    budget::Share,
    check::{self, Checked},
    decode,
    form::{Form, Head},
    ids::Ids,
    parse,
    refusal::Refusal,
};

/// A body larger than this is parsed on a thread of its own: parsing it would keep a thread of the
/// runtime for longer than about a millisecond.
const INLINE_BYTES: usize = 256 * 1024;

/// How long the registry may take to answer; the other events of a request wait for it.
const LEARN_WITHIN: Duration = Duration::from_secs(5);

/// A request whose body is whole.
pub(super) struct Posted {
    pub caller: Caller,
    pub head: Head,
    pub headers: HeaderMap,
    pub bytes: Bytes,
    /// Whether its events were charged to the key's rate.
    pub charged: bool,
}

/// A request, what became of its events so far, and its share of the budget.
type Examined = (Posted, Checked, Share);

impl Door {
    /// From a whole body to records. What does not fit the schema of its type as it is known here is
    /// checked again once the registry was asked: a producer that has just registered a schema with
    /// another replica must not be refused for good.
    pub(super) async fn check(
        self: &Arc<Self>,
        posted: Posted,
        share: Share,
        deadline: Instant,
    ) -> Result<(Checked, Share), Refusal> {
        let now = unix_micros();
        let mut examined = self.examined(posted, share, now, deadline).await?;
        if !examined.1.doubted.is_empty() {
            examined = Box::pin(self.examined_again(examined, now, deadline)).await?; // rare
        }
        let (posted, checked, mut share) = examined;
        share.shrink(posted.bytes.len());
        Ok((checked, share))
    }

    /// The same once the registry was asked for the types in doubt.
    async fn examined_again(
        self: &Arc<Self>,
        (posted, mut checked, mut share): Examined,
        now: i64,
        deadline: Instant,
    ) -> Result<Examined, Refusal> {
        if !self.learn(&posted.caller.namespace, &checked.doubted, deadline).await {
            checked.leave_undecided();
            return Ok((posted, checked, share));
        }
        share.shrink(checked.bytes());
        drop(checked);
        self.examined(posted, share, now, deadline).await
    }

    /// Asks the registry for these types; `false` when it cannot answer now.
    async fn learn(
        &self,
        namespace: &Arc<str>,
        kinds: &BTreeSet<String>,
        deadline: Instant,
    ) -> bool {
        let wanted: Vec<_> = kinds
            .iter()
            .map(|kind| Wanted::Type { namespace: namespace.clone(), kind: kind.clone() })
            .collect();
        let deadline = deadline.min(Instant::now() + LEARN_WITHIN);
        let failed = match timeout_at(deadline, self.ingest.codec.learn(&wanted)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the schema registry did not answer in time".to_owned(),
        };
        if self.first_of_this_second() {
            tracing::warn!(
                request_id = request_id::current().unwrap_or_default(),
                error = failed,
                "events could not be checked against their schemas"
            );
        }
        false
    }

    async fn examined(
        self: &Arc<Self>,
        mut posted: Posted,
        mut share: Share,
        now: i64,
        deadline: Instant,
    ) -> Result<Examined, Refusal> {
        if posted.bytes.len() <= INLINE_BYTES && posted.head.codings.is_empty() {
            let checked = self.examine(&mut posted, now, &mut share)?;
            return Ok((posted, checked, share));
        }
        Box::pin(self.examined_on_a_thread(posted, share, now, deadline)).await
    }

    async fn examined_on_a_thread(
        self: &Arc<Self>,
        mut posted: Posted,
        mut share: Share,
        now: i64,
        deadline: Instant,
    ) -> Result<Examined, Refusal> {
        let door = Arc::clone(self);
        let turn = timeout_at(deadline, self.large.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| Refusal::OverBudget)?;
        let examined = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let checked = door.examine(&mut posted, now, &mut share)?;
            Ok((posted, checked, share))
        });
        examined.await.unwrap_or_else(internal)
    }

    /// From the bytes as sent to records; on return `share` stands for the records and for the body,
    /// decompressed. The events are charged to the key's rate once, however often they are examined.
    fn examine(
        &self,
        posted: &mut Posted,
        now: i64,
        share: &mut Share,
    ) -> Result<Checked, Refusal> {
        let Ingest { config, codec, .. } = &*self.ingest;
        let Posted { caller, head, headers, bytes, charged } = posted;
        let namespace = &caller.namespace;
        if !head.codings.is_empty() {
            let limit = config.max_decompressed_bytes;
            let decoded = decode::decode(bytes, &head.codings, limit, share)?;
            share.shrink(bytes.len());
            *bytes = decoded.into();
            head.codings.clear();
        }
        let plain = head.form == Form::Plain;
        let mut ids = Ids::new(head.idempotency_key.as_deref(), namespace);
        let mut new_id = || ids.next();
        let mut defaults = Defaults {
            namespace,
            now,
            fill_id: plain.then_some(&mut new_id as &mut dyn FnMut() -> String),
            fill_specversion: plain,
        };
        let largest = config.max_event_bytes;
        let encode = |event: &Event| codec.encode(event);
        let mut charge = |events| match caller.limits().filter(|_| !*charged) {
            Some(limits) => limits.take(events, bytes.len()).map(|()| *charged = true),
            None => Ok(()),
        };
        let checked = match head.form {
            Form::Binary => {
                charge(1)?;
                check::binary(headers, bytes.clone(), largest, &mut defaults, encode)
            }
            form => {
                let pieces = parse::split(bytes, form, config.max_batch_events)?;
                charge(pieces.len())?;
                check::events(&pieces, largest, &mut defaults, encode)
            }
        };
        share.charge(checked.bytes());
        Ok(checked)
    }
}
