//! Answers as the document of the API describes them. They are written by hand, piece by piece, so that
//! pages are bounded in bytes; the end-to-end tests hold them against these.

use std::collections::BTreeMap;

use schemas::shapes::CloudEvent;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A page of events.
#[derive(Serialize, ToSchema)]
pub(super) struct EventPage {
    events: Vec<CloudEvent>,
    /// Ask again with this as `cursor`; absent at the end.
    #[schema(nullable = false)]
    next: Option<String>,
}

/// A page of types.
#[derive(Serialize, ToSchema)]
pub(super) struct TypePage {
    types: Vec<TypeCount>,
    /// Ask again with this as `cursor`; absent at the end.
    #[schema(nullable = false)]
    next: Option<String>,
}

/// How often events of a type came, and when.
#[derive(Serialize, ToSchema)]
pub(super) struct TypeCount {
    r#type: Option<String>,
    count: u64,
    /// The earliest `time`, to the microsecond.
    #[schema(required)]
    first: Option<String>,
    /// The latest `time`, to the microsecond.
    #[schema(required)]
    last: Option<String>,
}

/// The rollups that are defined.
#[derive(Serialize, ToSchema)]
pub(super) struct RollupList {
    rollups: Vec<RollupDefinition>,
}

/// A rollup.
#[derive(Serialize, ToSchema)]
pub(super) struct RollupDefinition {
    name: String,
    /// The event type that it counts.
    r#type: Option<String>,
    windows: Vec<String>,
    /// Paths into the event, by alias.
    group_by: BTreeMap<String, String>,
    /// `field` and `of`, by alias.
    measures: BTreeMap<String, Value>,
    /// Equal definitions have equal versions.
    version: String,
    /// Whether it can be read: it holds every event that is stored.
    complete: bool,
}

/// A page of rows.
#[derive(Serialize, ToSchema)]
pub(super) struct RollupPage {
    /// `start` with a window, the groups by alias, `count`, and each measure as `ALIAS_sum` and so on.
    rows: Vec<BTreeMap<String, Value>>,
    /// Ask again with this as `cursor`; absent at the end.
    #[schema(nullable = false)]
    next: Option<String>,
}
