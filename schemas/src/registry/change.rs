//! Changes: judged on what was read, written only if nothing came in between.
//!
//! A change that somebody was faster than, or whose fate is not known, is judged again on what is
//! there now. What is so already is success.

use std::{sync::Arc, time::Duration};

use eventlog::{AppendAtError, AppendError, Record};
use tokio::time::Instant;

use super::{
    Denied, Draft, Level, Mode, RegisterError, Registered, Registry, RegistryError, Show, State,
    VersionName, View,
    fold::{Fold, Scope, SubjectKey},
    judge::judge,
};
use crate::topics;

/// How long a change is tried while others get in between or the log is not well.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before a second try on a log that is not well; it doubles up to 16 times itself.
const BACKOFF: Duration = Duration::from_millis(50);

/// What a judgement comes to.
enum Next<T> {
    /// It is so.
    Is(T),
    /// Once these records are there, it is so.
    Append(Vec<Record>, T),
    /// Once these records are there, judge again.
    AppendAndLook(Vec<Record>),
}

impl Registry {
    /// Registers a schema as the next version of a type's. The same one again (the same JSON, apart
    /// from white space and the order of members) answers with the same id and version.
    pub async fn register(
        &self,
        namespace: &str,
        subject: &str,
        schema: &str,
    ) -> Result<Arc<Registered>, RegisterError> {
        self.register_draft(namespace, subject, &Draft { text: schema, ..Draft::default() }).await
    }

    /// [`Registry::register`], with references and normalisation.
    pub async fn register_draft(
        &self,
        namespace: &str,
        subject: &str,
        draft: &Draft<'_>,
    ) -> Result<Arc<Registered>, RegisterError> {
        let key = SubjectKey { namespace: namespace.into(), subject: subject.into() };
        self.change(namespace, |fold, view| {
            let resolved = view.resolve(draft)?;
            let same = |v: &Registered| v.prints.same(&resolved.prints, draft.normalize);
            let versions = view.versions(subject, Show::Live).unwrap_or_default();
            if let Some(same) = versions.iter().rev().find(|v| same(v)) {
                return Ok(Next::Is(same.clone()));
            }
            writable(view, subject)?;
            if let Some(clash) = judge(view.level(subject), &resolved.avro, &versions).first() {
                let detail = clash.details.join("; ");
                return Err(RegisterError::Incompatible { version: clash.version, detail });
            }
            let known = view.all().filter(|v| same(v)).map(|v| v.id).min();
            Ok(Next::AppendAndLook(fold.registration(
                &key,
                known,
                &resolved.text,
                &resolved.references,
            )?))
        })
        .await
    }

    /// Hides a version, or with `permanent` a hidden one for good. What was written with it still
    /// decodes, in both cases.
    pub async fn delete_version(
        &self,
        namespace: &str,
        subject: &str,
        version: VersionName,
        permanent: bool,
    ) -> Result<u32, RegisterError> {
        self.change(namespace, |fold, view| {
            let found = view.version(subject, version, Show::WithDeleted)?;
            let number = found.version;
            match (found.state, permanent) {
                (State::Live, true) => {
                    return Err(Denied::VersionNotDeleted(subject.into(), number).into());
                }
                (State::Deleted, false) => {
                    return Err(Denied::VersionDeleted(subject.into(), number).into());
                }
                _ => {}
            }
            writable(view, subject)?;
            unreferenced(view, &found)?;
            Ok(Next::Append(vec![fold.with_state(&found, after(permanent))?], number))
        })
        .await
    }

    /// Hides all versions of a subject and forgets its settings, or with `permanent` hides its hidden
    /// versions for good. Answers with their numbers.
    pub async fn delete_subject(
        &self,
        namespace: &str,
        subject: &str,
        permanent: bool,
    ) -> Result<Vec<u32>, RegisterError> {
        self.change(namespace, |fold, view| {
            let all = view.versions(subject, Show::WithDeleted)?;
            let live = view.versions(subject, Show::Live).unwrap_or_default();
            let versions = match (permanent, live.is_empty()) {
                (true, true) => all,
                (true, false) => return Err(Denied::SubjectNotDeleted(subject.into()).into()),
                (false, true) => return Err(Denied::SubjectDeleted(subject.into()).into()),
                (false, false) => live,
            };
            writable(view, subject)?;
            for version in &versions {
                unreferenced(view, version)?;
            }
            let mut records: Vec<_> = versions
                .iter()
                .map(|version| fold.with_state(version, after(permanent)))
                .collect::<Result<_, _>>()?;
            let scope = Scope::of(namespace, Some(subject));
            if view.subject_level(subject).is_some() {
                records.push(Fold::level(&scope, None)?);
            }
            if view.subject_mode(subject).is_some() {
                records.push(Fold::mode(&scope, None)?);
            }
            Ok(Next::Append(records, versions.iter().map(|v| v.version).collect()))
        })
        .await
    }

    /// Sets the level of a subject, or of all that have none of their own; `None` takes it back.
    /// Answers with what it was.
    pub async fn set_level(
        &self,
        namespace: &str,
        subject: Option<&str>,
        level: Option<Level>,
    ) -> Result<Option<Level>, RegisterError> {
        let record = Fold::level(&Scope::of(namespace, subject), level)?;
        self.change(namespace, |_, view| {
            writable(view, subject.unwrap_or_default())?;
            let before = match subject {
                Some(subject) => view.subject_level(subject),
                None => view.own_level(),
            };
            if let (None, None, Some(subject)) = (before, level, subject) {
                return Err(Denied::NoLevel(subject.into()).into());
            }
            match before == level {
                true => Ok(Next::Is(before)),
                false => Ok(Next::Append(vec![record.clone()], before)),
            }
        })
        .await
    }

    /// Sets the mode of a subject, or of all that have none of their own; `None` takes it back.
    /// Answers with what it was.
    pub async fn set_mode(
        &self,
        namespace: &str,
        subject: Option<&str>,
        mode: Option<Mode>,
    ) -> Result<Option<Mode>, RegisterError> {
        let record = Fold::mode(&Scope::of(namespace, subject), mode)?;
        self.change(namespace, |_, view| {
            let before = match subject {
                Some(subject) => view.subject_mode(subject),
                None => view.own_mode(),
            };
            if let (None, None, Some(subject)) = (before, mode, subject) {
                return Err(Denied::NoMode(subject.into()).into());
            }
            match before == mode {
                true => Ok(Next::Is(before)),
                false => Ok(Next::Append(vec![record.clone()], before)),
            }
        })
        .await
    }

    async fn change<T>(
        &self,
        namespace: &str,
        judge: impl Fn(&Fold, &View) -> Result<Next<T>, RegisterError>,
    ) -> Result<T, RegisterError> {
        let mut reading = self.0.reading.lock().await;
        let mut last = RegistryError::Retry("others change it without a pause".into());
        let mut pause = BACKOFF;
        // what becomes of an append that nobody knows the fate of
        let mut maybe = None;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.read(&mut reading).await?;
            let (records, outcome) =
                match (judge(&reading.fold, &self.view(namespace)), maybe.take()) {
                    (Ok(Next::Is(outcome)), _) => return Ok(outcome),
                    (Ok(Next::Append(records, outcome)), _) => (records, Some(outcome)),
                    (Ok(Next::AppendAndLook(records)), _) => (records, None),
                    (Err(RegisterError::Denied(denied)), Some(outcome)) if denied.says_done() => {
                        return Ok(outcome);
                    }
                    (Err(error), _) => return Err(error),
                };
            match self.0.log.append_at(topics::SCHEMAS, reading.position, records).await {
                Ok(_) => {
                    if let Some(outcome) = outcome {
                        self.read(&mut reading).await?;
                        return Ok(outcome);
                    }
                }
                // needs no pause: somebody did get through
                Err(AppendAtError::Conflict { .. }) => {}
                Err(AppendAtError::Append(AppendError::Refused(why))) => {
                    return Err(RegistryError::Fatal(why).into());
                }
                Err(AppendAtError::Append(error)) => {
                    if let AppendError::Unknown(_) = error {
                        maybe = outcome;
                    }
                    last = RegistryError::Retry(error.to_string());
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF * 16);
                }
            }
        }
        Err(last.into())
    }
}

fn after(permanent: bool) -> State {
    if permanent { State::Gone } else { State::Deleted }
}

fn writable(view: &View, subject: &str) -> Result<(), Denied> {
    match view.mode(subject) {
        Mode::ReadWrite => Ok(()),
        Mode::ReadOnly => Err(Denied::ReadOnly(subject.to_owned())),
    }
}

fn unreferenced(view: &View, version: &Registered) -> Result<(), Denied> {
    let users = view.referenced_by(version);
    match users.is_empty() {
        true => Ok(()),
        false => Err(Denied::Referenced(version.subject.to_string(), version.version, users)),
    }
}
