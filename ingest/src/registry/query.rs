//! Query parameters of the registry. Unknown ones are passed over: clients send what newer registries
//! know.

use axum::{extract::FromRequestParts, http::request::Parts};
use schemas::Show;

use super::answer::Failure;

/// The parameters of every route; each reads those that concern it.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub deleted: bool,
    pub deleted_only: bool,
    pub permanent: bool,
    pub verbose: bool,
    pub normalize: bool,
    pub default_to_global: bool,
    pub fetch_max_id: bool,
    pub subject_prefix: String,
    pub subject: Option<String>,
    pub offset: usize,
    pub limit: Option<usize>,
}

impl Query {
    /// Of the part of a URI after `?`.
    fn parse(text: &str) -> Result<Self, Failure> {
        let mut query = Self::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let switch = || match value.to_ascii_lowercase().as_str() {
                "true" => Ok(true),
                "false" | "" => Ok(false),
                _ => Err(Failure::BadRequest(format!("`{name}` is true or false"))),
            };
            let number = || {
                value
                    .parse::<i64>()
                    .map_err(|_| Failure::BadRequest(format!("`{name}` is a whole number")))
            };
            match &*name {
                "deleted" | "lookupDeletedSchema" => query.deleted = switch()?,
                "deletedOnly" => query.deleted_only = switch()?,
                "permanent" => query.permanent = switch()?,
                "verbose" => query.verbose = switch()?,
                "normalize" => query.normalize = switch()?,
                "defaultToGlobal" => query.default_to_global = switch()?,
                "fetchMaxId" => query.fetch_max_id = switch()?,
                "subjectPrefix" => query.subject_prefix = value.into_owned(),
                "subject" => query.subject = Some(value.into_owned()).filter(|s| !s.is_empty()),
                "offset" => query.offset = usize::try_from(number()?).unwrap_or(0),
                // -1 is "all" to the registry's clients
                "limit" => query.limit = usize::try_from(number()?).ok(),
                _ => {}
            }
        }
        Ok(query)
    }

    /// Which versions it asks for.
    pub fn show(&self) -> Show {
        match (self.deleted_only, self.deleted) {
            (true, _) => Show::Deleted,
            (false, true) => Show::WithDeleted,
            (false, false) => Show::Live,
        }
    }

    /// The page of a list that it asks for.
    pub fn page<T>(&self, items: impl IntoIterator<Item = T>) -> Vec<T> {
        items.into_iter().skip(self.offset).take(self.limit.unwrap_or(usize::MAX)).collect()
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_known_and_unknown_parameters_then_the_known_ones_count() {
        let query = Query::parse("deleted=True&subjectPrefix=a%2Fb&format=&x=1&limit=-1").unwrap();
        assert_eq!(query.show(), Show::WithDeleted);
        assert_eq!(query.subject_prefix, "a/b");
        assert_eq!(query.page([1, 2, 3]), [1, 2, 3]);
        assert_eq!(Query::parse("offset=1&limit=1").unwrap().page([1, 2, 3]), [2]);
        assert!(Query::parse("permanent=maybe").is_err());
    }
}
