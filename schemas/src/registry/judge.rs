//! A draft against what is there: its references found, its twin looked for, its compatibility judged.
//!
//! Pure functions of a [`View`]; the registry asks them before it writes, clients ask them to know
//! beforehand.

use std::{collections::HashSet, sync::Arc};

use super::{
    Denied, Draft, Level, Reference, RegisterError, Registered, Show, VersionName, View,
    registered::{Prints, normalized},
};
use crate::avro::Avro;

/// Schemas that one may use, directly or through others.
pub(crate) const MAX_REFERENCED: usize = 200;
/// Bytes of a schema with all that it uses.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// What keeps a draft and a version from getting along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// The version.
    pub version: u32,
    /// What differs, with places in the data.
    pub details: Vec<String>,
}

/// Which versions a draft is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// Those that the subject's level asks for, as a registration does.
    Level,
    /// One.
    Version(VersionName),
}

/// A draft whose references are found.
pub(super) struct Resolved {
    pub(super) text: Arc<str>,
    pub(super) references: Vec<Reference>,
    pub(super) prints: Prints,
    pub(super) avro: Avro,
}

impl View {
    /// Finds what a draft refers to and parses it.
    pub(super) fn resolve(&self, draft: &Draft<'_>) -> Result<Resolved, RegisterError> {
        let references: Vec<_> =
            draft.references.iter().map(|r| self.pin(r)).collect::<Result<_, _>>()?;
        let text = match draft.normalize {
            true => normalized(draft.text),
            false => draft.text.to_owned(),
        };
        let known = |reference: &Reference| {
            let subject = self.snapshot.subject(&self.namespace, &reference.subject)?;
            let number = u32::try_from(reference.version).ok()?;
            let version = subject.versions.iter().find(|v| v.version == number)?;
            Some((&*version.text, &*version.references))
        };
        let texts = texts(&references, known).map_err(RegisterError::Invalid)?;
        let avro = Avro::parse_with(&text, &texts).map_err(RegisterError::Invalid)?;
        let prints = Prints::of(&text, &references);
        Ok(Resolved { text: text.into(), references, prints, avro })
    }

    /// A reference to the latest version becomes one to its number.
    fn pin(&self, reference: &Reference) -> Result<Reference, RegisterError> {
        let Reference { name, subject, version } = reference;
        let named = VersionName::parse(&version.to_string());
        let found = named.and_then(|named| self.version(subject, named, Show::Live).ok());
        let found = found.and_then(|found| i32::try_from(found.version).ok());
        let version = found.ok_or_else(|| {
            let what = format!("reference `{name}`: subject `{subject}` has no version {version}");
            RegisterError::Invalid(what)
        })?;
        Ok(Reference { version, ..reference.clone() })
    }

    /// The version of a subject that is the same as a draft; the last, where there are several.
    ///
    /// # Errors
    /// There is none, or the draft is no schema.
    pub fn find(
        &self,
        subject: &str,
        draft: &Draft<'_>,
        show: Show,
    ) -> Result<Arc<Registered>, RegisterError> {
        let versions = self.versions(subject, show)?;
        let prints = self.resolve(draft)?.prints;
        let same = versions.into_iter().rev().find(|v| v.prints.same(&prints, draft.normalize));
        Ok(same.ok_or(Denied::SchemaNotFound)?)
    }

    /// What would keep a draft from becoming a version of a subject; nothing when it could.
    ///
    /// # Errors
    /// The draft is no schema, or there is no such version.
    pub fn check(
        &self,
        subject: &str,
        draft: &Draft<'_>,
        against: Against,
    ) -> Result<Vec<Clash>, RegisterError> {
        let avro = self.resolve(draft)?.avro;
        let level = self.level(subject);
        let versions = match against {
            Against::Level => self.versions(subject, Show::Live).unwrap_or_default(),
            Against::Version(version) => match self.version(subject, version, Show::Live) {
                Ok(version) => vec![version],
                Err(_) if version == VersionName::Latest => Vec::new(),
                Err(denied) => return Err(denied.into()),
            },
        };
        Ok(judge(level, &avro, &versions))
    }
}

/// What a level has against a new schema; `versions` are in order.
pub(super) fn judge(level: Level, new: &Avro, versions: &[Arc<Registered>]) -> Vec<Clash> {
    let compared = if level.transitive() { versions.len() } else { 1 };
    let mut clashes = Vec::new();
    for earlier in versions.iter().rev().take(compared) {
        // what this Penstock cannot use was written by a later one
        let Ok(old) = &*earlier.avro else { continue };
        let mut details = Vec::new();
        if level.backward() {
            let found = new.clashes(old).into_iter();
            details.extend(found.map(|c| format!("the new schema cannot read its data: {c}")));
        }
        if level.forward() {
            let found = old.clashes(new).into_iter();
            details.extend(found.map(|c| format!("it cannot read the new schema's data: {c}")));
        }
        if !details.is_empty() {
            clashes.push(Clash { version: earlier.version, details });
        }
    }
    clashes
}

/// The texts of all schemas that references lead to, each once. The error is for the schema's author.
pub(crate) fn texts<'a>(
    references: &'a [Reference],
    known: impl Fn(&Reference) -> Option<(&'a str, &'a [Reference])>,
) -> Result<Vec<&'a str>, String> {
    let mut open: Vec<&Reference> = references.iter().collect();
    let (mut met, mut texts, mut bytes) = (HashSet::new(), Vec::new(), 0);
    while let Some(reference) = open.pop() {
        if !met.insert((reference.subject.as_str(), reference.version)) {
            continue;
        }
        let (text, more) = known(reference).ok_or_else(|| {
            format!("version {} of subject `{}` is gone", reference.version, reference.subject)
        })?;
        bytes += text.len();
        if met.len() > MAX_REFERENCED || bytes > MAX_BYTES {
            return Err(format!(
                "it refers to more than {MAX_REFERENCED} schemas or {MAX_BYTES} bytes of them"
            ));
        }
        texts.push(text);
        open.extend(more);
    }
    Ok(texts)
}
