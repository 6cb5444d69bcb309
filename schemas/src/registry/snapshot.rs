//! What is known at one moment, and a namespace's view of it.
//!
//! Looking never waits and never changes anything. A [`View`] shows one namespace and nothing of any
//! other: not even that an id of another one exists.

use std::{collections::HashMap, sync::Arc};

use super::{Denied, Level, Mode, Registered, State};

/// What is known at one moment.
#[derive(Default)]
pub(super) struct Snapshot {
    /// By namespace; a map of maps, so that looking up borrows.
    pub(super) namespaces: HashMap<Arc<str>, Namespace>,
    pub(super) ids: HashMap<u32, Arc<Registered>>,
}

/// A tenant's subjects and settings.
#[derive(Default)]
pub(super) struct Namespace {
    pub(super) subjects: HashMap<Arc<str>, Subject>,
    pub(super) level: Option<Level>,
    pub(super) mode: Option<Mode>,
}

/// A type's versions and settings.
#[derive(Default)]
pub(super) struct Subject {
    /// In order, those that are gone too.
    pub(super) versions: Vec<Arc<Registered>>,
    /// The last live one.
    pub(super) latest: Option<Arc<Registered>>,
    pub(super) level: Option<Level>,
    pub(super) mode: Option<Mode>,
}

impl Snapshot {
    pub(super) fn subject(&self, namespace: &str, subject: &str) -> Option<&Subject> {
        self.namespaces.get(namespace)?.subjects.get(subject)
    }
}

/// A version as requests name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionName {
    /// `latest` or `-1`.
    Latest,
    /// Its number.
    Number(u32),
}

impl VersionName {
    /// Of a text; none when it names no version.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "latest" | "-1" => Some(Self::Latest),
            number => number
                .parse()
                .ok()
                .filter(|number| (1..=i32::MAX as u32).contains(number))
                .map(Self::Number),
        }
    }
}

/// Which versions a look shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Show {
    /// Live ones.
    #[default]
    Live,
    /// Live and deleted ones.
    WithDeleted,
    /// Deleted ones.
    Deleted,
}

impl Show {
    fn shows(self, version: &Registered) -> bool {
        match version.state {
            State::Live => self != Self::Deleted,
            State::Deleted => self != Self::Live,
            State::Gone => false,
        }
    }
}

/// What one namespace sees at one moment.
pub struct View {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) namespace: Arc<str>,
}

impl View {
    fn space(&self) -> Option<&Namespace> {
        self.snapshot.namespaces.get(&self.namespace)
    }

    fn subject(&self, subject: &str) -> Option<&Subject> {
        self.snapshot.subject(&self.namespace, subject)
    }

    /// Every version that the namespace has, of any subject.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Registered>> {
        self.space().into_iter().flat_map(|space| space.subjects.values()).flat_map(|s| &s.versions)
    }

    /// Names of subjects, in order.
    pub fn subjects(&self, prefix: &str, show: Show) -> Vec<Arc<str>> {
        let shown = |subject: &Subject| {
            let live = subject.latest.is_some();
            subject.versions.iter().any(|version| show.shows(version))
                && !(show == Show::Deleted && live)
        };
        let subjects = self.space().into_iter().flat_map(|space| &space.subjects);
        let mut names: Vec<_> = subjects
            .filter(|(name, subject)| name.starts_with(prefix) && shown(subject))
            .map(|(name, _)| name.clone())
            .collect();
        names.sort_unstable();
        names
    }

    /// A subject's versions, in order.
    ///
    /// # Errors
    /// There are none to show.
    pub fn versions(&self, subject: &str, show: Show) -> Result<Vec<Arc<Registered>>, Denied> {
        let versions = self.subject(subject).into_iter().flat_map(|s| &s.versions);
        let shown: Vec<_> = versions.filter(|v| show.shows(v)).cloned().collect();
        match shown.is_empty() {
            true => Err(Denied::SubjectNotFound(subject.to_owned())),
            false => Ok(shown),
        }
    }

    /// One version.
    ///
    /// # Errors
    /// There is no such subject, or version of it.
    pub fn version(
        &self,
        subject: &str,
        version: VersionName,
        show: Show,
    ) -> Result<Arc<Registered>, Denied> {
        let versions = self.versions(subject, show)?;
        match version {
            VersionName::Latest => {
                let live = versions.iter().rev().find(|v| v.state == State::Live);
                let latest = live.or(versions.last()).cloned();
                latest.ok_or_else(|| Denied::VersionNotFound("latest".into()))
            }
            VersionName::Number(number) => {
                let named = versions.into_iter().find(|v| v.version == number);
                named.ok_or_else(|| Denied::VersionNotFound(number.to_string()))
            }
        }
    }

    /// The schema with an id, whether or not a version is still shown with it.
    ///
    /// # Errors
    /// The namespace has none.
    pub fn by_id(&self, id: u32) -> Result<Arc<Registered>, Denied> {
        let found = self.snapshot.ids.get(&id).filter(|r| r.namespace == self.namespace);
        found.cloned().ok_or(Denied::SchemaNotFound)
    }

    /// The highest id of the namespace.
    pub fn highest_id(&self) -> Option<u32> {
        self.all().map(|version| version.id).max()
    }

    /// The versions that have an id, by subject.
    ///
    /// # Errors
    /// The namespace has no such schema.
    pub fn uses(&self, id: u32, show: Show) -> Result<Vec<Arc<Registered>>, Denied> {
        self.by_id(id)?;
        let mut uses: Vec<_> =
            self.all().filter(|v| v.id == id && show.shows(v)).cloned().collect();
        uses.sort_by(|a, b| (&a.subject, a.version).cmp(&(&b.subject, b.version)));
        Ok(uses)
    }

    /// Ids of live schemas that use a version's types, in order.
    pub fn referenced_by(&self, version: &Registered) -> Vec<u32> {
        let names = |user: &Registered| {
            user.references.iter().any(|reference| {
                *reference.subject == *version.subject
                    && u32::try_from(reference.version) == Ok(version.version)
            })
        };
        let users = self.all().filter(|user| user.state == State::Live && names(user));
        let mut ids: Vec<_> = users.map(|user| user.id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The namespace's own level.
    pub fn own_level(&self) -> Option<Level> {
        self.space()?.level
    }

    /// A subject's own level.
    pub fn subject_level(&self, subject: &str) -> Option<Level> {
        self.subject(subject)?.level
    }

    /// The level that counts for a subject.
    pub fn level(&self, subject: &str) -> Level {
        self.subject_level(subject).or_else(|| self.own_level()).unwrap_or_default()
    }

    /// The namespace's own mode.
    pub fn own_mode(&self) -> Option<Mode> {
        self.space()?.mode
    }

    /// A subject's own mode.
    pub fn subject_mode(&self, subject: &str) -> Option<Mode> {
        self.subject(subject)?.mode
    }

    /// The mode that counts for a subject.
    pub fn mode(&self, subject: &str) -> Mode {
        self.subject_mode(subject).or_else(|| self.own_mode()).unwrap_or_default()
    }
}
