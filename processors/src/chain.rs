//! A chain: the steps of one processor, in order, and what becomes of a record's event in it.
//!
//! A record is all or nothing. Its events go out together, or, when a step rejects one of them,
//! none does and the record goes to the dead letters: a replay then starts from the whole of it.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use schemas::Event;
use service::config::ProcessorConfig;

use crate::{Context, Events, Reason, Step, Verdict, steps};

/// The steps of one processor.
pub struct Chain {
    steps: Vec<Placed>,
    context: Context,
}

struct Placed {
    name: Arc<str>,
    step: Box<dyn Step>,
}

/// A step cannot be made from its settings. To be mended in the configuration or the program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("processor `{processor}`, step {number}: {detail}")]
pub struct StepError {
    /// Which processor.
    pub processor: String,
    /// Which of its steps, from 1.
    pub number: usize,
    /// What is wrong and what to do; may have several lines.
    pub detail: String,
}

/// What became of a record's event.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// These events go out.
    Emitted(Events),
    /// Nothing goes out, by a rule.
    Dropped,
    /// The record goes to the dead letters.
    Rejected {
        /// The step that rejected.
        step: Arc<str>,
        /// Its reason.
        reason: Reason,
        /// Its detail; may quote the event.
        detail: String,
    },
}

/// What a verdict was, without what it carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// The event went on.
    Emit,
    /// It was dropped.
    Drop,
    /// It was rejected.
    Reject,
}

/// Verdicts counted while records are processed, to be published once they are committed.
#[derive(Debug, Default)]
pub struct Tally {
    emits: Vec<u64>,
    ends: HashMap<(usize, Decision, Reason), u64>,
}

impl Chain {
    /// Makes the steps of a configuration; relative paths in it start at the directory.
    ///
    /// # Errors
    /// What is wrong with the first step that cannot be made.
    pub fn build(config: &ProcessorConfig, base_dir: &Path) -> Result<Self, StepError> {
        Ok(Self::of(made(config, base_dir).collect::<Result<Vec<_>, _>>()?))
    }

    /// As [`Chain::build`], with what is wrong with each of the steps.
    pub fn build_or_all(config: &ProcessorConfig, base_dir: &Path) -> Result<Self, Vec<StepError>> {
        let (mut good, mut wrong) = (Vec::new(), Vec::new());
        for step in made(config, base_dir) {
            step.map_or_else(|error| wrong.push(error), |step| good.push(step));
        }
        if wrong.is_empty() { Ok(Self::of(good)) } else { Err(wrong) }
    }

    /// A chain of these steps. A name that comes again gets its place, as in `remap#2`.
    pub fn of<'a>(steps: impl IntoIterator<Item = (&'a str, Box<dyn Step>)>) -> Self {
        let mut placed: Vec<Placed> = Vec::new();
        for (name, step) in steps {
            let again = placed.iter().any(|earlier| &*earlier.name == name);
            let name = if again { format!("{name}#{}", placed.len() + 1) } else { name.into() };
            placed.push(Placed { name: name.into(), step });
        }
        Self { steps: placed, context: Context::default() }
    }

    /// There are no steps: records are copied as they are.
    pub fn is_copy(&self) -> bool {
        self.steps.is_empty()
    }

    /// The name of a step by its index, as it stands in metrics and dead letters.
    pub fn step_name(&self, index: usize) -> &str {
        self.steps.get(index).map_or("", |placed| &placed.name)
    }

    /// Sends one event through all steps.
    pub fn apply(&self, event: Event, tally: &mut Tally) -> Outcome {
        let mut current = Events::One(event);
        for (index, placed) in self.steps.iter().enumerate() {
            let next = match current {
                Events::One(event) => self.step(index, placed, event, tally),
                Events::Many(events) => self.each(index, placed, events, tally),
            };
            current = match next {
                Verdict::Emit(events) => events,
                Verdict::Drop(_) => return Outcome::Dropped,
                Verdict::Reject { reason, detail } => {
                    return Outcome::Rejected { step: placed.name.clone(), reason, detail };
                }
            };
        }
        Outcome::Emitted(current)
    }

    /// One step on several events: the survivors together, or the first rejection.
    fn each(
        &self,
        index: usize,
        placed: &Placed,
        events: Vec<Event>,
        tally: &mut Tally,
    ) -> Verdict {
        let mut kept = Vec::with_capacity(events.len());
        let mut dropped = None;
        for event in events {
            match self.step(index, placed, event, tally) {
                Verdict::Emit(Events::One(event)) => kept.push(event),
                Verdict::Emit(Events::Many(events)) => kept.extend(events),
                Verdict::Drop(reason) => dropped = Some(reason),
                rejection @ Verdict::Reject { .. } => return rejection,
            }
        }
        match dropped {
            Some(reason) if kept.is_empty() => Verdict::Drop(reason),
            _ => match duplicate(&kept) {
                Some(rejection) => tally.count(index, rejection),
                None => Verdict::Emit(Events::Many(kept)),
            },
        }
    }

    /// One step on one event. A step that panics rejects: one event must not stop all others.
    fn step(&self, index: usize, placed: &Placed, event: Event, tally: &mut Tally) -> Verdict {
        let apply = AssertUnwindSafe(|| placed.step.apply(&self.context, event));
        let verdict = match catch_unwind(apply) {
            Ok(Verdict::Emit(Events::Many(events))) => match duplicate(&events) {
                Some(rejection) => rejection,
                None if events.is_empty() => Verdict::Drop("empty".into()),
                None => Verdict::Emit(Events::Many(events)),
            },
            Ok(verdict) => verdict,
            Err(_) => Verdict::reject("panic", "the step panicked"),
        };
        tally.count(index, verdict)
    }
}

/// The steps of a configuration under their names, each or what is wrong with it.
fn made<'a>(
    config: &'a ProcessorConfig,
    base_dir: &'a Path,
) -> impl Iterator<Item = Result<(&'a str, Box<dyn Step>), StepError>> {
    config.steps.iter().enumerate().map(move |(index, step)| {
        let wrong = |detail: String| StepError {
            processor: config.name.clone(),
            number: index + 1,
            detail,
        };
        let mut entries = step.iter();
        let (Some((name, settings)), None) = (entries.next(), entries.next()) else {
            return Err(wrong(
                "must be a table of one key, the step's name, such as { remap = \"program.vrl\" }"
                    .into(),
            ));
        };
        Ok((name.as_str(), steps::build(name, settings, base_dir).map_err(wrong)?))
    })
}

/// Two events of one identity would be one event to every reader.
fn duplicate(events: &[Event]) -> Option<Verdict> {
    let mut seen = std::collections::HashSet::with_capacity(events.len());
    let double = events.iter().position(|event| !seen.insert((&event.source, &event.id)))?;
    Some(Verdict::reject(
        "duplicate_identity",
        format!("event {double} of those emitted has the source and the id of an earlier one"),
    ))
}

impl Tally {
    fn count(&mut self, step: usize, verdict: Verdict) -> Verdict {
        let (decision, reason) = match &verdict {
            Verdict::Emit(_) => {
                if self.emits.len() <= step {
                    self.emits.resize(step + 1, 0);
                }
                self.emits[step] += 1;
                return verdict;
            }
            Verdict::Drop(reason) => (Decision::Drop, reason),
            Verdict::Reject { reason, .. } => (Decision::Reject, reason),
        };
        *self.ends.entry((step, decision, reason.clone())).or_default() += 1;
        verdict
    }

    /// Adds another tally to this one.
    pub fn merge(&mut self, other: Self) {
        if self.emits.len() < other.emits.len() {
            self.emits.resize(other.emits.len(), 0);
        }
        for (mine, theirs) in self.emits.iter_mut().zip(&other.emits) {
            *mine += theirs;
        }
        for (key, count) in other.ends {
            *self.ends.entry(key).or_default() += count;
        }
    }

    /// Each step's index, verdict and reason (empty where the event went on), with its count.
    pub fn iter(&self) -> impl Iterator<Item = (usize, Decision, &str, u64)> {
        let emits = self
            .emits
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(step, count)| (step, Decision::Emit, "", *count));
        let ends = self
            .ends
            .iter()
            .map(|((step, decision, reason), count)| (*step, *decision, &**reason, *count));
        emits.chain(ends)
    }
}

#[cfg(test)]
mod tests;
