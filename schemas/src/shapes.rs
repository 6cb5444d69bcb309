//! Events as the document of the API describes them.
//!
//! Nothing is read into these: they tell a reader what [`crate::event_from_json`] takes and what
//! [`crate::event_to_json`] writes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// An event of CloudEvents 1.0 in structured mode. Further members are extension attributes: names
/// of `a-z` and `0-9`; strings, booleans or 32-bit integers.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed", "subject": "alice",
    "data": { "amount": 12.5 }
}))]
pub struct CloudEvent {
    /// `1.0`
    #[schema(pattern = "^1\\.0$")]
    pub specversion: String,
    /// Unique within `source`.
    #[schema(min_length = 1, max_length = 8192, pattern = "^[^\\x00-\\x1F\\x7F-\\x9F]+$")]
    pub id: String,
    /// Where it comes from: a URI reference (RFC 3986).
    #[schema(min_length = 1, max_length = 8192, pattern = "^[^\\x00-\\x1F\\x7F-\\x9F]+$")]
    pub source: String,
    /// What happened.
    #[schema(min_length = 1, max_length = 8192, pattern = "^[^\\x00-\\x1F\\x7F-\\x9F]+$")]
    pub r#type: String,
    /// What it happened to: order is kept for each subject.
    #[schema(
        min_length = 1,
        max_length = 8192,
        pattern = "^[^\\x00-\\x1F\\x7F-\\x9F]+$",
        nullable = false
    )]
    pub subject: Option<String>,
    /// When, in RFC 3339; filled in when it is absent.
    #[schema(format = DateTime, nullable = false)]
    pub time: Option<String>,
    /// The media type of the data; JSON when it is absent.
    #[schema(nullable = false)]
    pub datacontenttype: Option<String>,
    /// The schema that the data keeps to: a URI.
    #[schema(nullable = false)]
    pub dataschema: Option<String>,
    /// The data, where it is JSON; a string with another `datacontenttype`.
    pub data: Option<Value>,
    /// The data, where it is bytes; never beside `data`.
    #[schema(nullable = false)]
    pub data_base64: Option<String>,
    /// Extension attributes.
    #[serde(flatten)]
    pub extensions: BTreeMap<String, Extension>,
}

/// The value of an extension attribute.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum Extension {
    /// Without control characters.
    Text(String),
    /// A boolean.
    Flag(bool),
    /// Of 32 bits.
    Number(i32),
    /// As if the attribute were not there.
    Null,
}

/// An event whose `specversion`, `id` and `time` may be left out, and otherwise a [`CloudEvent`].
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "source": "/shop", "type": "order.placed", "data": { "amount": 3 } }))]
pub struct PlainEvent {
    /// Unique within `source`; filled in when it is absent.
    #[schema(
        min_length = 1,
        max_length = 8192,
        pattern = "^[^\\x00-\\x1F\\x7F-\\x9F]+$",
        nullable = false
    )]
    pub id: Option<String>,
    /// Where it comes from: a URI reference (RFC 3986).
    #[schema(min_length = 1, max_length = 8192, pattern = "^[^\\x00-\\x1F\\x7F-\\x9F]+$")]
    pub source: String,
    /// What happened.
    #[schema(min_length = 1, max_length = 8192, pattern = "^[^\\x00-\\x1F\\x7F-\\x9F]+$")]
    pub r#type: String,
    /// Everything else that an event may have.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}
