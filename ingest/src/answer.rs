//! What became of the events of a request, and the answer that says so.
//!
//! The precedence is here and nowhere else: an event that could not be stored now makes a 503,
//! whatever else happened; then 207 when some were stored and some refused; then 422.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use eventlog::{AppendError, Appended};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use schemas::Fault;
use serde::Serialize;
use service::problem::Problem;
use utoipa::ToSchema;

use crate::{
    check::{Checked, Place, Rejected},
    tally::{Tally, Types},
};

/// How many events of a 207 were refused.
const PENSTOCK_REJECTED: HeaderName = HeaderName::from_static("penstock-rejected");
/// RFC 7240.
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// A log that fails needs longer to recover than a spent budget.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");
/// Faults told beside the first one of an event.
const MORE_FAULTS: usize = 10;

/// Why one event was not stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct EventError {
    /// From 0.
    pub index: usize,
    /// In NDJSON, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub line: Option<usize>,
    /// Its id, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub id: Option<String>,
    /// The first fault.
    #[serde(flatten)]
    pub fault: EventFault,
    /// Further faults of the same event.
    #[schema(required = false)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<EventFault>,
}

/// One fault of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct EventFault {
    /// A stable word for programs.
    #[schema(value_type = String)]
    pub code: &'static str,
    /// For people.
    #[schema(value_type = String)]
    pub detail: Cow<'static, str>,
    /// JSON pointer (RFC 6901) into the event.
    pub pointer: String,
}

/// The body of a 202 or 207.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "accepted": 1, "rejected": 0 }))]
pub struct Accepted {
    /// How many events are durable.
    accepted: usize,
    /// How many were refused for good.
    rejected: usize,
    /// Those, by index.
    #[schema(required = false)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<EventError>,
    /// Where ids were filled in: that of each event by index, `null` for one that was refused.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<Option<String>>>,
}

/// A problem that says of each event why it was not stored.
#[derive(Serialize, ToSchema)]
pub struct Unstored {
    #[serde(flatten)]
    problem: Problem,
    /// How many events are durable.
    accepted: usize,
    /// How many were refused for good.
    rejected: usize,
    /// Every event that was not stored, by index.
    errors: Vec<EventError>,
}

/// The same, with what else a 503 says.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    unstored: Unstored,
    /// How many are to be sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    unavailable: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<Option<String>>>,
}

/// What became of the events of a request.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Durable.
    pub accepted: usize,
    /// Refused for good, by index.
    pub rejected: Vec<EventError>,
    /// Could not be stored now, or nobody knows; by index.
    pub unavailable: Vec<EventError>,
    /// Valid, but not stored because the request was strict and another one was invalid.
    pub withheld: usize,
    /// The ids of the accepted events, by index, when any was filled in.
    pub ids: Option<Vec<Option<String>>>,
    /// The request asked for all or nothing.
    pub strict: bool,
    /// The same counts by type.
    pub tally: Tally,
}

impl Outcome {
    /// A strict request with an event that is not valid, or of which nobody can tell: nothing is
    /// stored.
    pub fn withheld(checked: Checked) -> Self {
        let mut outcome = Self::before(checked.types, checked.rejected, checked.undecided);
        checked.places.iter().for_each(|place| outcome.tally.of(place.kind).withheld += 1);
        outcome.withheld = checked.records.len();
        outcome.strict = true;
        outcome
    }

    /// What is known before anything is appended.
    fn before(types: Types, rejected: Vec<Rejected>, undecided: Vec<Place>) -> Self {
        let mut tally = Tally::new(types);
        rejected.iter().for_each(|rejected| tally.of(rejected.place.kind).rejected += 1);
        undecided.iter().for_each(|place| tally.of(place.kind).unavailable += 1);
        let detail = "the schema registry cannot be asked whether it fits; retry";
        let undecided = undecided.into_iter();
        Self {
            rejected: rejected.into_iter().map(EventError::rejected).collect(),
            unavailable: undecided.map(|at| EventError::of(at, "unavailable", detail)).collect(),
            tally,
            ..Self::default()
        }
    }

    /// What the append made of the records. A record without a result has an unknown fate.
    pub fn appended(
        checked: Checked,
        results: Vec<Result<Appended, AppendError>>,
        strict: bool,
    ) -> Self {
        let mut ids = checked.ids_filled.then(|| vec![None; checked.events()]);
        let Checked { places, rejected, undecided, types, .. } = checked;
        let mut outcome = Self { strict, ..Self::before(types, rejected, undecided) };
        let mut results = results.into_iter();
        for place in places {
            let ends = outcome.tally.of(place.kind);
            let result = results.next();
            match &result {
                Some(Ok(_)) => ends.accepted += 1,
                Some(Err(AppendError::Refused(_))) => ends.rejected += 1,
                Some(Err(_)) | None => ends.unavailable += 1,
            }
            match result {
                Some(Ok(_)) => {
                    outcome.accepted += 1;
                    if let Some(slot) = ids.as_mut().and_then(|ids| ids.get_mut(place.index)) {
                        *slot = place.id;
                    }
                }
                Some(Err(AppendError::Refused(why))) => {
                    outcome.rejected.push(EventError::of(place, "refused_by_log", why));
                }
                Some(Err(AppendError::Retry(_))) => outcome.unavailable.push(EventError::of(
                    place,
                    "unavailable",
                    "the log cannot store it now; retry",
                )),
                Some(Err(AppendError::Unknown(_))) | None => {
                    outcome.unavailable.push(EventError::of(
                        place,
                        "outcome_unknown",
                        "it may or may not have been stored; a retry is safe with the same id",
                    ));
                }
            }
        }
        outcome.rejected.sort_by_key(|error| error.index);
        outcome.ids = ids;
        outcome
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        match (self.unavailable.is_empty(), self.rejected.is_empty(), self.accepted) {
            (false, ..) => StatusCode::SERVICE_UNAVAILABLE,
            (true, true, _) => StatusCode::ACCEPTED,
            (true, false, 1..) => StatusCode::MULTI_STATUS,
            (true, false, 0) => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    /// The answer; `hold` has its body kept, and counted, for as long as it is not sent.
    pub fn response(self, hold: impl FnOnce(Vec<u8>) -> Bytes) -> Response {
        let strict = self.strict;
        let mut response = match self.status() {
            StatusCode::SERVICE_UNAVAILABLE => self.service_unavailable(hold),
            StatusCode::UNPROCESSABLE_ENTITY => self.unprocessable(hold),
            status => self.success(status, hold),
        };
        if strict {
            let applied = HeaderValue::from_static("handling=strict");
            response.headers_mut().insert(PREFERENCE_APPLIED, applied);
        }
        response
    }

    fn success(self, status: StatusCode, hold: impl FnOnce(Vec<u8>) -> Bytes) -> Response {
        let rejected = self.rejected.len();
        let body =
            Accepted { accepted: self.accepted, rejected, errors: self.rejected, ids: self.ids };
        let Ok(body) = serde_json::to_vec(&body) else {
            // Numbers, texts and lists always are JSON.
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut response = (status, [json], hold(body)).into_response();
        if rejected > 0 {
            response.headers_mut().insert(PENSTOCK_REJECTED, rejected.into());
        }
        response
    }

    fn unprocessable(self, hold: impl FnOnce(Vec<u8>) -> Bytes) -> Response {
        let rejected = self.rejected.len();
        let detail = match self.withheld {
            0 => format!("none of the {rejected} events is valid; `errors` says why"),
            valid => format!(
                "{rejected} of {} events are invalid and the request is strict, so nothing was stored",
                rejected + valid
            ),
        };
        let problem = Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_events",
            "The events are not valid",
            detail,
        );
        let unstored = Unstored {
            problem: problem.of_this_request(),
            accepted: 0,
            rejected,
            errors: self.rejected,
        };
        Told { unstored, unavailable: None, ids: None }.response(hold)
    }

    fn service_unavailable(self, hold: impl FnOnce(Vec<u8>) -> Bytes) -> Response {
        let rejected = self.rejected.len();
        let unavailable = self.unavailable.len();
        let mut errors = self.rejected;
        errors.extend(self.unavailable);
        errors.sort_by_key(|error| error.index);
        let problem = Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "Events could not be stored now",
            format!("{unavailable} events could not be stored now; retry the whole request"),
        );
        let unstored = Unstored {
            problem: problem.of_this_request(),
            accepted: self.accepted,
            rejected,
            errors,
        };
        let told = Told { unstored, unavailable: Some(unavailable), ids: self.ids };
        let mut response = told.response(hold);
        response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        response
    }
}

impl Told {
    /// Written as it is: a tree of JSON values would take many times as much memory.
    fn response(&self, hold: impl FnOnce(Vec<u8>) -> Bytes) -> Response {
        let problem = &self.unstored.problem;
        let body = serde_json::to_vec(self).unwrap_or_else(|_| problem.to_json());
        problem.response(hold(body))
    }
}

impl EventError {
    fn rejected(rejected: Rejected) -> Self {
        let Place { index, line, id, .. } = rejected.place;
        let mut faults = rejected.faults.into_iter().take(1 + MORE_FAULTS).map(EventFault::from);
        let fault = faults.next().unwrap_or_else(|| EventFault {
            code: "invalid_event",
            detail: Cow::Borrowed("the event is not valid"),
            pointer: String::new(),
        });
        Self { index, line, id, fault, more: faults.collect() }
    }

    fn of(place: Place, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        let Place { index, line, id, .. } = place;
        let fault = EventFault { code, detail: detail.into(), pointer: String::new() };
        Self { index, line, id, fault, more: Vec::new() }
    }
}

impl From<Fault> for EventFault {
    fn from(fault: Fault) -> Self {
        Self { code: fault.code, detail: fault.detail.into(), pointer: fault.pointer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: Result<Appended, AppendError> = Ok(Appended { partition: 0, offset: 0 });

    fn place(index: usize) -> Place {
        Place { index, line: None, id: Some(format!("id-{index}")), kind: None }
    }

    fn invalid(index: usize) -> Rejected {
        let fault = Fault { code: "bad", detail: "bad".into(), pointer: "/x".into() };
        Rejected { place: place(index), faults: vec![fault.clone(), fault], by_schema: false }
    }

    fn outcome(results: Vec<Result<Appended, AppendError>>, invalid_after: usize) -> Outcome {
        let places = (0..results.len()).map(place).collect();
        let rejected = (results.len()..results.len() + invalid_after).map(invalid).collect();
        let checked = Checked { places, rejected, ids_filled: true, ..Checked::default() };
        Outcome::appended(checked, results, false)
    }

    fn retry() -> Result<Appended, AppendError> {
        Err(AppendError::Retry("busy".into()))
    }

    fn unknown() -> Result<Appended, AppendError> {
        Err(AppendError::Unknown("lost".into()))
    }

    fn refused() -> Result<Appended, AppendError> {
        Err(AppendError::Refused("too large".into()))
    }

    #[test]
    fn the_status_follows_the_precedence_503_207_422_202() {
        let cases = [
            (vec![], 0, 202),
            (vec![STORED], 0, 202),
            (vec![STORED], 1, 207),
            (vec![STORED, refused()], 0, 207),
            (vec![], 1, 422),
            (vec![refused()], 1, 422),
            (vec![retry()], 0, 503),
            (vec![unknown()], 0, 503),
            (vec![STORED, retry()], 1, 503),
            (vec![refused(), retry()], 1, 503),
        ];
        for (results, invalid, status) in cases {
            let shown = format!("{results:?} and {invalid} invalid");
            assert_eq!(outcome(results, invalid).status(), status, "{shown}");
        }
    }

    #[test]
    fn an_event_of_which_nobody_can_tell_makes_a_503_strict_or_not() {
        let undecided = || Checked { undecided: vec![place(0)], ..Checked::default() };
        for outcome in
            [Outcome::appended(undecided(), vec![], false), Outcome::withheld(undecided())]
        {
            assert_eq!(outcome.status(), 503);
            assert_eq!(outcome.unavailable[0].fault.code, "unavailable");
            assert_eq!(outcome.tally.by_type().next().unwrap().1.unavailable, 1);
        }
    }

    #[test]
    fn a_record_without_a_result_is_not_accepted() {
        let checked = Checked { places: vec![place(0), place(1)], ..Checked::default() };
        let outcome = Outcome::appended(checked, vec![STORED], false);
        assert_eq!(outcome.accepted, 1);
        assert_eq!(outcome.unavailable[0].fault.code, "outcome_unknown");
    }

    #[test]
    fn ids_stand_at_the_index_of_their_event_and_only_accepted_ones_have_one() {
        let outcome = outcome(vec![STORED, refused(), STORED], 1);
        let ids: Vec<_> =
            outcome.ids.unwrap().into_iter().map(|id| id.unwrap_or_default()).collect();
        assert_eq!(ids, ["id-0", "", "id-2", ""]);
    }

    #[test]
    fn an_event_is_listed_once_however_many_faults_it_has() {
        let outcome = outcome(vec![], 1);
        assert_eq!(outcome.rejected.len(), 1);
        let json = serde_json::to_value(&outcome.rejected[0]).unwrap();
        assert_eq!(json["pointer"], "/x");
        assert_eq!(json["more"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn events_refused_by_the_log_are_listed_in_order_with_the_invalid_ones() {
        let checked = Checked {
            places: vec![place(0), place(2)],
            rejected: vec![invalid(1), invalid(3)],
            ..Checked::default()
        };
        let outcome = Outcome::appended(checked, vec![refused(), refused()], false);
        let indexes: Vec<_> = outcome.rejected.iter().map(|error| error.index).collect();
        assert_eq!(indexes, [0, 1, 2, 3]);
    }
}
