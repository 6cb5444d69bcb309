//! What clients send: the parts of a path, and bodies.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body_util::{BodyExt, Limited};
use schemas::{Draft, Reference};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, error::Category};
use service::http::{Allowance, discard, turn_away};
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

use super::{DEADLINE, answer::Failure};
use crate::body;

/// Bytes of a body at most: a schema becomes one record, and logs take a megabyte.
pub(super) const MAX_BODY: usize = 512 * 1024;

/// The parts of a path.
pub(super) struct At<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(found) = Path::from_request_parts(parts, state).await.map_err(|_| {
            Failure::BadRequest("the path is not UTF-8 once its escapes are undone".into())
        })?;
        Ok(Self(found))
    }
}

/// The path of a type, as the document describes it.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it only describes")]
pub(super) struct AtSubject {
    /// An event type: 1 to 1,024 bytes in UTF-8, percent-encoded.
    #[param(
        example = "order.placed",
        min_length = 1,
        max_length = 1024,
        pattern = "^[^\\x00-\\x1F\\x7F-\\x9F]+$"
    )]
    subject: String,
}

/// What comes behind [`AtSubject`] in the path of a version.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it only describes")]
pub(super) struct AtVersion {
    /// A number from 1, or `latest`, which is also `-1`.
    #[param(example = "latest", pattern = "^([1-9][0-9]{0,8}|latest|-1)$")]
    version: String,
}

/// A schema as clients send it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SchemaDraft, example = json!({
    "schema": "{\"type\":\"record\",\"name\":\"Order\",\"fields\":[{\"name\":\"amount\",\"type\":\"double\"}]}"
}))]
pub(super) struct Sent {
    /// Its JSON, as a text.
    #[schema(required, nullable = false, min_length = 1)]
    schema: Option<String>,
    /// `AVRO`, as without it.
    #[schema(pattern = "^(AVRO)?$")]
    schema_type: Option<String>,
    /// What it uses of other types.
    #[serde(default)]
    references: Option<Vec<Reference>>,
    /// 0 or -1: an id is not for clients to give.
    #[schema(maximum = 0)]
    id: Option<i64>,
    /// 0 or -1: a version is not for clients to give.
    #[schema(maximum = 0)]
    version: Option<i64>,
    #[schema(ignore)]
    metadata: Option<Value>,
    #[schema(ignore)]
    rule_set: Option<Value>,
}

impl Sent {
    /// The schema and its references, if it is one that can be taken.
    pub(super) fn accept(self) -> Result<(String, Vec<Reference>), Failure> {
        let kind = self.schema_type.as_deref().unwrap_or("AVRO");
        if !kind.is_empty() && kind != "AVRO" {
            let why = "the schemaType must be AVRO: events are encoded as Avro";
            return Err(Failure::Invalid(why.into()));
        }
        // clients send 0 and -1 for "none"
        if self.id.is_some_and(|id| id > 0) || self.version.is_some_and(|version| version > 0) {
            return Err(Failure::NotPermitted(
                "an id or version of one's own needs the mode IMPORT, which does not exist here"
                    .into(),
            ));
        }
        if self.metadata.is_some() || self.rule_set.is_some() {
            return Err(Failure::Invalid(
                "metadata and ruleSet are not kept: leave them out".into(),
            ));
        }
        match self.schema.filter(|schema| !schema.trim().is_empty()) {
            Some(schema) => Ok((schema, self.references.unwrap_or_default())),
            None => Err(Failure::Invalid("the member `schema` is missing or empty".into())),
        }
    }
}

pub(super) fn draft<'d>(
    (text, references): &'d (String, Vec<Reference>),
    normalize: bool,
) -> Draft<'d> {
    Draft { text, references, normalize }
}

/// A JSON body, within its limit and deadline.
pub(super) struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Sync> axum::extract::FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: axum::extract::Request, _: &S) -> Result<Self, Failure> {
        if let Err(failure) = acceptable(&request) {
            turn_away(request, Allowance::CALLER).await;
            return Err(failure);
        }
        let mut body = request.into_body();
        let read = Limited::new(&mut body, MAX_BODY).collect();
        let bytes = match timeout(DEADLINE, read).await {
            Ok(Ok(read)) => read.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                discard(&mut body, Allowance::CALLER).await;
                return Err(Failure::TooLarge);
            }
            Ok(Err(_)) => return Err(Failure::Malformed("the body is cut short".into())),
            Err(_) => return Err(Failure::Late),
        };
        // An object first: a type's own reader would take an array of its members as well.
        let object: serde_json::Map<String, Value> =
            serde_json::from_slice(&bytes).map_err(|error| match error.classify() {
                Category::Data => Failure::Unprocessable("the body is not a JSON object".into()),
                _ => Failure::Malformed(format!("the body is not JSON: {error}")),
            })?;
        let read = serde_json::from_value(Value::Object(object)).map(Self);
        read.map_err(|error| Failure::Unprocessable(error.to_string()))
    }
}

/// Says why a body is not even read, if so.
fn acceptable(request: &axum::extract::Request) -> Result<(), Failure> {
    let given = request.headers().get(CONTENT_TYPE);
    if !given.is_none_or(|value| value.to_str().is_ok_and(is_json)) {
        return Err(Failure::MediaType);
    }
    if request.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Failure::Encoding);
    }
    match body::declared(request.body()) {
        Some(bytes) if bytes > MAX_BODY => Err(Failure::TooLarge),
        _ => Ok(()),
    }
}

/// Whether a content type is one of those that the registry's clients send.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json"
        || essence == "application/octet-stream"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// A subject of a path: an event type.
pub(super) fn subject(name: &str) -> Result<&str, Failure> {
    let good = !name.is_empty() && name.len() <= 1024 && !name.chars().any(char::is_control);
    if good { Ok(name) } else { Err(Failure::InvalidSubject) }
}

pub(super) fn version(name: &str) -> Result<schemas::VersionName, Failure> {
    schemas::VersionName::parse(name).ok_or(Failure::InvalidVersion)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_of_registry_clients_are_known() {
        for good in [
            "application/json",
            "application/vnd.schemaregistry.v1+json",
            "application/vnd.schemaregistry+json; charset=utf-8",
        ] {
            assert!(is_json(good), "{good}");
        }
        assert!(!is_json("text/plain") && !is_json("application/xml"));
    }
}
