//! The Confluent HTTP API, as far as a reader of schemas needs it.

use std::{collections::HashMap, fmt::Write, sync::Arc, time::Duration};

use serde::Deserialize;
use service::fetch::{Fetched, Fetcher};

use crate::{
    Reference, RegistryError,
    avro::Avro,
    framed::Framed,
    registry::{MAX_REFERENCED, texts},
};

/// Bytes of an answer at most.
const LARGEST: usize = 4 * 1024 * 1024;
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(4);

/// A registry's address.
pub(super) struct Api {
    url: String,
    fetcher: Fetcher,
}

/// A schema as the registry sends it, by id or as a version.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    #[serde(default)]
    id: u32,
    schema: String,
    schema_type: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
}

impl Api {
    pub(super) fn new(url: &str, credentials: Option<&(String, String)>) -> Self {
        let fetcher = Fetcher::new(LARGEST, DEADLINE);
        let fetcher = match credentials {
            Some((user, password)) => fetcher.with_basic(user, password),
            None => fetcher,
        };
        Self { url: url.trim_end_matches('/').to_owned(), fetcher }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whether it answers those who ask with these credentials.
    pub(super) async fn is_there(&self) -> Result<(), RegistryError> {
        self.get::<Vec<String>>(&["schemas", "types"]).await.map(drop)
    }

    /// The latest schema of a subject; none when it has none.
    pub(super) async fn latest(&self, subject: &str) -> Result<Option<Framed>, RegistryError> {
        let found = self.get::<Sent>(&["subjects", subject, "versions", "latest"]).await?;
        match found {
            Some(sent) => self.framed(sent.id, sent).await.map(Some),
            None => Ok(None),
        }
    }

    /// The schema of an id; none when there is none.
    pub(super) async fn by_id(&self, id: u32) -> Result<Option<Framed>, RegistryError> {
        match self.get::<Sent>(&["schemas", "ids", &id.to_string()]).await? {
            Some(sent) => self.framed(id, sent).await.map(Some),
            None => Ok(None),
        }
    }

    /// A schema ready for use, with what it refers to.
    async fn framed(&self, id: u32, sent: Sent) -> Result<Framed, RegistryError> {
        let avro = match sent.schema_type.as_deref() {
            None | Some("" | "AVRO") => {
                let references = sent.references.unwrap_or_default();
                let others = self.referenced(&references).await?;
                let known = |reference: &Reference| {
                    let found = others.get(&(reference.subject.clone(), reference.version))?;
                    Some((&*found.schema, found.references.as_deref().unwrap_or_default()))
                };
                texts(&references, known).and_then(|texts| Avro::parse_with(&sent.schema, &texts))
            }
            Some(_) => Err("its schemaType is not AVRO".into()),
        };
        Ok(Framed { id, avro: Arc::new(avro) })
    }

    /// The schemas that references lead to; one that is not there is left out.
    async fn referenced(
        &self,
        references: &[Reference],
    ) -> Result<HashMap<(String, i32), Sent>, RegistryError> {
        let mut open = references.to_vec();
        let mut found = HashMap::new();
        while let Some(Reference { subject, version, .. }) = open.pop() {
            let key = (subject, version);
            if found.contains_key(&key) || found.len() > MAX_REFERENCED {
                continue;
            }
            let path = ["subjects", &key.0, "versions", &version.to_string()];
            if let Some(sent) = self.get::<Sent>(&path).await? {
                open.extend(sent.references.iter().flatten().cloned());
                found.insert(key, sent);
            }
        }
        Ok(found)
    }

    /// What is at a path; none when nothing is, or no URL can name it.
    async fn get<T: for<'de> Deserialize<'de>>(
        &self,
        path: &[&str],
    ) -> Result<Option<T>, RegistryError> {
        let failed = |why: String| RegistryError::Retry(format!("{} {why}", self.url));
        if path.iter().any(|segment| vanishes(segment)) {
            return Ok(None);
        }
        let mut url = self.url.clone();
        for segment in path {
            url.push('/');
            escape(segment, &mut url);
        }
        let Fetched { status, body, .. } = self
            .fetcher
            .get(&url)
            .await
            .map_err(|why| failed(format!("does not answer: {why}")))?;
        match status.as_u16() {
            200 => serde_json::from_slice(&body)
                .map(Some)
                .map_err(|error| failed(format!("sent no answer of a schema registry: {error}"))),
            404 if is_registry(&body) => Ok(None),
            // A name that no subject can have: too long, or of characters that the registry refuses.
            400 | 414 | 422 | 431 => Ok(None),
            401 | 403 => Err(failed(format!(
                "answered {status}: check schemas.registry_user and schemas.registry_password"
            ))),
            _ => Err(failed(format!("answered {status}"))),
        }
    }
}

/// Whether a 404 is the registry's own word: one of a proxy on the way says nothing of schemas.
fn is_registry(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Said {
        error_code: u32,
    }
    let said = serde_json::from_slice::<Said>(body);
    said.is_ok_and(|said| (40401..=40403).contains(&said.error_code))
}

/// Whether a segment of a path leads elsewhere, also percent-encoded (RFC 3986, 5.2.4 and 6.2.2): what
/// answers there knows of no subject.
fn vanishes(segment: &str) -> bool {
    matches!(segment, "" | "." | "..")
}

/// Percent-encodes a segment of a path (RFC 3986, 2.3).
fn escape(segment: &str, url: &mut String) {
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}"); // writing to a String cannot fail
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_of_any_characters_is_one_segment() {
        let mut url = String::new();
        escape("shop:a/b ä?.", &mut url);
        assert_eq!(url, "shop%3Aa%2Fb%20%C3%A4%3F.");
    }

    #[tokio::test]
    async fn a_subject_that_no_url_can_name_is_none_and_nobody_is_asked() {
        let nowhere = Api::new("http://127.0.0.1:1", None);
        for subject in [".", "..", ""] {
            assert!(matches!(nowhere.latest(subject).await, Ok(None)), "{subject:?}");
        }
        for subject in ["...", ".a", "shop:."] {
            assert!(nowhere.latest(subject).await.is_err(), "{subject:?}");
        }
    }

    #[test]
    fn only_the_registry_itself_can_say_that_something_is_not_there() {
        assert!(is_registry(br#"{"error_code":40401,"message":"Subject 'a' not found."}"#));
        assert!(!is_registry(br#"{"error_code":404,"message":"HTTP 404 Not Found"}"#));
        assert!(!is_registry(b"<html>no such page</html>"));
    }
}
