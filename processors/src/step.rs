//! What a step is: a pure function from an event to a verdict.
//!
//! A step does no I/O, reads no clock, draws no random number and counts nothing. The same event
//! gets the same verdict, today, after a crash and on another machine: exactly-once delivery
//! stands on it, because what an aborted transaction had made is made again from the same input.

use std::borrow::Cow;

use schemas::Event;

/// One transformation of a chain.
pub trait Step: Send + Sync + 'static {
    /// Decides what becomes of one event.
    fn apply(&self, context: &Context, event: Event) -> Verdict;
}

/// Read-only reference data for the steps, loaded by the runner. No built-in step needs any yet.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Context {}

/// Why an event was dropped or rejected: a short word that becomes a metric label.
pub type Reason = Cow<'static, str>;

/// What becomes of an event.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one event is the common case; a box would cost")]
pub enum Verdict {
    /// It goes on, changed or not, alone or with others.
    Emit(Events),
    /// It ends here, and that is right.
    Drop(Reason),
    /// It cannot be processed: its record goes to the dead letters.
    Reject {
        /// The kind of failure.
        reason: Reason,
        /// What went wrong. May quote the event, so it belongs in the dead letter and nowhere else.
        detail: String,
    },
}

/// One event or several; one, which is nearly always, allocates nothing.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one event is the common case; a box would cost")]
pub enum Events {
    /// Exactly one.
    One(Event),
    /// Any number.
    Many(Vec<Event>),
}

impl Events {
    /// The events in order.
    pub fn as_slice(&self) -> &[Event] {
        match self {
            Self::One(event) => std::slice::from_ref(event),
            Self::Many(events) => events,
        }
    }
}

impl Verdict {
    /// A rejection.
    pub fn reject(reason: impl Into<Reason>, detail: impl Into<String>) -> Self {
        Self::Reject { reason: reason.into(), detail: detail.into() }
    }
}
