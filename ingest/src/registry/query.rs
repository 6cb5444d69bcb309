//! Query parameters of the registry. Unknown ones are passed over: clients send what newer registries
//! know.

use axum::{extract::FromRequestParts, http::request::Parts};
use schemas::Show;
use utoipa::IntoParams;

use super::answer::Failure;

/// The parameters of every route; each reads those that concern it.
///
/// The document tells of each route those that do, in the groups at the end of this file.
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
                "false" => Ok(false),
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

/// A group of parameters, as the document describes it.
macro_rules! described {
    ($($(#[$about:meta])* $group:ident { $($(#[$doc:meta])* $name:ident: $kind:ty,)* })*) => {$(
        $(#[$about])*
        #[derive(IntoParams)]
        #[into_params(parameter_in = Query, rename_all = "camelCase")]
        #[expect(dead_code, reason = "it only describes")]
        pub(super) struct $group { $($(#[$doc])* $name: Option<$kind>,)* }
    )*};
}

described! {
    Deleted {
        /// Also what was deleted.
        deleted: bool,
        /// Only what was deleted.
        deleted_only: bool,
    }
    LookedUp {
        /// Also among the versions that were deleted.
        #[param(rename = "lookupDeletedSchema")]
        deleted: bool,
    }
    Paged {
        /// How many to pass over.
        offset: i64,
        /// How many at most; -1 is all.
        limit: i64,
    }
    Permanent {
        /// For good, after it was deleted without this.
        permanent: bool,
    }
    Normalize {
        /// Schemas are the same that differ in how names are written alone.
        normalize: bool,
    }
    Verbose {
        /// With the reasons.
        verbose: bool,
    }
    DefaultToGlobal {
        /// Where the type has none of its own, what counts for it.
        default_to_global: bool,
    }
    Prefix {
        /// Only types that begin so.
        subject_prefix: String,
    }
    OfSubject {
        /// Only of this type.
        subject: String,
    }
    MaxId {
        /// Tell the highest id of the namespace, too.
        fetch_max_id: bool,
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
        for unclear in ["permanent=maybe", "permanent=", "permanent"] {
            assert!(Query::parse(unclear).is_err(), "{unclear}");
        }
    }
}
