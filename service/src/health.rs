//! What `/readyz` answers from: one entry for each part of the process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The parts of a process and how they are; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, State>>>);

#[derive(Clone, Debug, Default)]
struct State {
    failing: Option<String>,
    notes: Vec<String>,
}

/// One part's handle on its entry.
#[derive(Clone, Debug)]
pub struct Part {
    health: Health,
    name: String,
}

impl Health {
    /// Registers a part, not ready until it says so.
    pub fn part(&self, name: impl Into<String>) -> Part {
        let part = Part { health: self.clone(), name: name.into() };
        part.failing("starting");
        part
    }

    /// The parts that fail, with their reasons.
    pub fn failing(&self) -> Vec<(String, String)> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().filter_map(|(n, s)| Some((n.clone(), s.failing.clone()?))).collect()
    }

    /// What an operator should know although the process is ready, such as gaps in the log.
    pub fn notes(&self) -> Vec<(String, String)> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().flat_map(|(n, s)| s.notes.iter().map(|t| (n.clone(), t.clone()))).collect()
    }

    fn update(&self, name: &str, change: impl FnOnce(&mut State)) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(parts.entry(name.to_owned()).or_default());
    }
}

impl Part {
    /// Its name in `/readyz`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The part can serve.
    pub fn ready(&self) {
        self.health.update(&self.name, |s| s.failing = None);
    }

    /// The part cannot serve now, and why.
    pub fn failing(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.health.update(&self.name, |s| s.failing = Some(reason));
    }

    /// Forgets its notes.
    pub fn clear_notes(&self) {
        self.health.update(&self.name, |s| s.notes.clear());
    }

    /// Adds a note (at most 100 are kept).
    pub fn note(&self, text: impl Into<String>) {
        let text = text.into();
        self.health.update(&self.name, |s| {
            if s.notes.len() < 100 && !s.notes.contains(&text) {
                s.notes.push(text);
            }
        });
    }
}
