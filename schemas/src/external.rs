//! A schema registry of another system, used in place of Penstock's own: any that speaks the Confluent
//! HTTP API. It is only read.
//!
//! What is known goes on while it is away; what is not known is asked for, and nothing is taken or
//! refused on a guess. Ids never change, so they are kept for good. The latest version of a type is
//! asked for again every [`Settings::refresh`], and at once when an event does not fit it; that a type
//! has no schema counts for [`ABSENT`]. Everything kept is bounded.
//!
//! `api` speaks HTTP and `known` is what was learnt; this file decides when to ask.

mod api;
mod known;

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt, stream};
use service::health::Part;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::{api::Api, known::Known};
use crate::{DEFAULT_NAMESPACE, RegistryError, codec::Wanted, framed::Framed, lookup::Latest};

/// How long it counts that a type has no schema.
const ABSENT: Duration = Duration::from_secs(5);
/// Questions at once.
const AT_ONCE: usize = 8;
/// After a question without answer nobody asks again for so long.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a registry that does not answer is tried in the background.
const TRY_EVERY: Duration = Duration::from_secs(2);

/// Where the registry is and how it is used.
#[derive(Clone)]
pub struct Settings {
    /// `http` or `https`, with the path before `/subjects`.
    pub url: String,
    /// User and password for Basic authentication.
    pub credentials: Option<(String, String)>,
    /// How old a type's latest version may be before it is asked for again.
    pub refresh: Duration,
}

/// A handle on it; clones share what is known.
#[derive(Clone)]
pub struct External(Arc<Shared>);

struct Shared {
    api: Api,
    refresh: Duration,
    known: RwLock<Known>,
    asking: Semaphore,
    /// When a question last had no answer, and why.
    failed: Mutex<Option<(Instant, RegistryError)>>,
}

impl External {
    /// Nothing is known, and nothing asked yet.
    pub fn new(settings: &Settings) -> Self {
        Self(Arc::new(Shared {
            api: Api::new(&settings.url, settings.credentials.as_ref()),
            refresh: settings.refresh,
            known: RwLock::default(),
            asking: Semaphore::new(AT_ONCE),
            failed: Mutex::default(),
        }))
    }

    /// Where it is, for people.
    pub fn url(&self) -> &str {
        self.0.api.url()
    }

    pub(crate) fn latest(&self, namespace: &str, kind: &str) -> Latest {
        self.known().latest(&subject(namespace, kind), Instant::now())
    }

    pub(crate) fn by_id(&self, id: u32) -> Option<Framed> {
        self.known().id(id)
    }

    /// Asks for what is wanted, unless somebody else did since.
    pub(crate) async fn learn(&self, wanted: &[Wanted]) -> Result<(), RegistryError> {
        let begun = Instant::now();
        let asked: Vec<_> = wanted.iter().map(|wanted| self.learn_one(wanted, begun)).collect();
        all(stream::iter(asked)).await
    }

    async fn learn_one(&self, wanted: &Wanted, begun: Instant) -> Result<(), RegistryError> {
        match wanted {
            Wanted::Id(id) => self.learn_id(*id).await,
            Wanted::Type { namespace, kind } => {
                self.learn_type(&subject(namespace, kind), begun).await
            }
        }
    }

    async fn learn_id(&self, id: u32) -> Result<(), RegistryError> {
        let _turn = self.0.asking.acquire().await;
        if self.by_id(id).is_some() {
            return Ok(());
        }
        self.recently_failed()?;
        let found = self.answered(self.0.api.by_id(id).await)?;
        if let Some(schema) = found {
            self.change(|known| known.learnt_id(schema));
        }
        Ok(())
    }

    async fn learn_type(&self, subject: &str, begun: Instant) -> Result<(), RegistryError> {
        let _turn = self.0.asking.acquire().await;
        if self.known().asked(subject) >= Some(begun) {
            return Ok(());
        }
        self.recently_failed()?;
        let asked = Instant::now();
        let found = self.answered(self.0.api.latest(subject).await)?;
        self.change(|known| known.learnt_type(subject, found, asked));
        Ok(())
    }

    /// Keeps what is known fresh until the token is cancelled, and tells readiness: failing until the
    /// registry has answered once, a note while it does not.
    pub async fn follow(&self, part: Part, shutdown: CancellationToken) {
        part.failing("the schema registry has not answered yet");
        let mut answered = false;
        let mut last = String::new();
        loop {
            let Some(looked) = shutdown.run_until_cancelled(self.look_again()).await else {
                return;
            };
            let pause = match looked {
                Ok(()) => {
                    answered = true;
                    last.clear();
                    part.ready();
                    part.clear_notes();
                    self.0.refresh
                }
                Err(error) => {
                    let error = error.to_string();
                    if error != last {
                        tracing::warn!(error, "only schemas that are known go on");
                    }
                    match answered {
                        true => part.note("it does not answer: only types that are known go on"),
                        false => part.failing(error.clone()),
                    }
                    last = error;
                    TRY_EVERY.min(self.0.refresh)
                }
            };
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Asks whether the registry is there, and again for the types that are known.
    async fn look_again(&self) -> Result<(), RegistryError> {
        let begun = Instant::now();
        self.answered(self.0.api.is_there().await)?;
        let subjects = self.known().subjects();
        let asked: Vec<_> =
            subjects.iter().map(|subject| self.learn_type(subject, begun)).collect();
        all(stream::iter(asked)).await
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.0.known.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The error of a question that had no answer a moment ago.
    fn recently_failed(&self) -> Result<(), RegistryError> {
        match &*self.0.failed.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((at, error)) if at.elapsed() < PAUSE => Err(error.clone()),
            _ => Ok(()),
        }
    }

    fn answered<T>(&self, answer: Result<T, RegistryError>) -> Result<T, RegistryError> {
        let mut failed = self.0.failed.lock().unwrap_or_else(PoisonError::into_inner);
        *failed = answer.as_ref().err().map(|error| (Instant::now(), error.clone()));
        answer
    }
}

/// Waits for all questions, some at a time, and answers with the first failure.
async fn all<Q>(asked: impl Stream<Item = Q>) -> Result<(), RegistryError>
where
    Q: Future<Output = Result<(), RegistryError>>,
{
    let answers = asked.buffer_unordered(AT_ONCE);
    answers.fold(Ok(()), |before, answer| std::future::ready(before.and(answer))).await
}

/// What a type is called in the registry: its own name in the default namespace, `NAMESPACE:TYPE` in
/// others. A type of the default namespace that holds a colon is `default:TYPE`, so that it is never
/// taken for another namespace's.
fn subject<'k>(namespace: &str, kind: &'k str) -> Cow<'k, str> {
    if namespace == DEFAULT_NAMESPACE && !kind.contains(':') {
        return kind.into();
    }
    format!("{namespace}:{kind}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_belongs_to_one_namespace() {
        assert_eq!(subject("default", "order.placed"), "order.placed");
        assert_eq!(subject("shop", "order.placed"), "shop:order.placed");
        assert_eq!(subject("default", "shop:order.placed"), "default:shop:order.placed");
    }
}
