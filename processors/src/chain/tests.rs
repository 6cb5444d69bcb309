//! What a chain makes of the verdicts of its steps.

use super::*;
use crate::testing::{event, processor};

/// A step made of a function.
struct Of<F>(F);

impl<F: Fn(Event) -> Verdict + Send + Sync + 'static> Step for Of<F> {
    fn apply(&self, _: &Context, event: Event) -> Verdict {
        (self.0)(event)
    }
}

fn step(f: impl Fn(Event) -> Verdict + Send + Sync + 'static) -> Box<dyn Step> {
    Box::new(Of(f))
}

fn pass() -> Box<dyn Step> {
    step(|event| Verdict::Emit(Events::One(event)))
}

/// Splits an event into copies with these ids.
fn split(ids: &'static [&'static str]) -> Box<dyn Step> {
    step(|event| {
        let copy = |id: &&str| Event { id: (*id).to_owned(), ..event.clone() };
        Verdict::Emit(Events::Many(ids.iter().map(copy).collect()))
    })
}

fn ids(outcome: &Outcome) -> Vec<&str> {
    match outcome {
        Outcome::Emitted(events) => events.as_slice().iter().map(|e| &*e.id).collect(),
        other => panic!("nothing was emitted: {other:?}"),
    }
}

fn counted(tally: &Tally) -> Vec<(usize, Decision, String, u64)> {
    let mut all: Vec<_> = tally.iter().map(|(s, d, r, n)| (s, d, r.to_owned(), n)).collect();
    all.sort_by_key(|(step, _, reason, _)| (*step, reason.clone()));
    all
}

#[test]
fn steps_run_in_order_on_what_the_last_one_emitted() {
    let rename = step(|e| Verdict::Emit(Events::One(Event { id: format!("{}!", e.id), ..e })));
    let chain = Chain::of([("split", split(&["a", "b"])), ("rename", rename)]);
    assert_eq!(ids(&chain.apply(event("{}"), &mut Tally::default())), ["a!", "b!"]);
}

#[test]
fn a_dropped_child_leaves_the_others() {
    let no_b = step(|e| match &*e.id {
        "b" => Verdict::Drop("unwanted".into()),
        _ => Verdict::Emit(Events::One(e)),
    });
    let chain = Chain::of([("split", split(&["a", "b", "c"])), ("filter", no_b)]);
    let mut tally = Tally::default();
    assert_eq!(ids(&chain.apply(event("{}"), &mut tally)), ["a", "c"]);
    let expected = [
        (0, Decision::Emit, String::new(), 1),
        (1, Decision::Emit, String::new(), 2),
        (1, Decision::Drop, "unwanted".into(), 1),
    ];
    assert_eq!(counted(&tally), expected);
}

#[test]
fn a_record_whose_children_are_all_dropped_is_dropped() {
    let none = step(|_| Verdict::Drop("unwanted".into()));
    let chain = Chain::of([("split", split(&["a", "b"])), ("filter", none), ("after", pass())]);
    assert_eq!(chain.apply(event("{}"), &mut Tally::default()), Outcome::Dropped);
}

#[test]
fn one_rejected_child_rejects_the_whole_record() {
    let no_b = step(|e| match &*e.id {
        "b" => Verdict::reject("bad", "b is bad"),
        _ => Verdict::Emit(Events::One(e)),
    });
    let chain = Chain::of([("split", split(&["a", "b", "c"])), ("check", no_b)]);
    let expected =
        Outcome::Rejected { step: "check".into(), reason: "bad".into(), detail: "b is bad".into() };
    assert_eq!(chain.apply(event("{}"), &mut Tally::default()), expected);
}

#[test]
fn two_events_of_one_identity_in_one_emit_are_rejected() {
    let chain = Chain::of([("split", split(&["a", "a"]))]);
    let outcome = chain.apply(event("{}"), &mut Tally::default());
    assert!(matches!(outcome, Outcome::Rejected { reason, .. } if reason == "duplicate_identity"));
}

#[test]
fn two_children_renamed_to_one_identity_by_a_later_step_are_rejected() {
    let same = step(|e| Verdict::Emit(Events::One(Event { id: "x".into(), ..e })));
    let chain = Chain::of([("split", split(&["a", "b"])), ("same", same)]);
    let outcome = chain.apply(event("{}"), &mut Tally::default());
    assert!(matches!(outcome, Outcome::Rejected { reason, .. } if reason == "duplicate_identity"));
}

#[test]
fn one_id_of_two_sources_is_two_identities() {
    let both = step(|e| {
        let other = Event { source: "/other".into(), ..e.clone() };
        Verdict::Emit(Events::Many(vec![e, other]))
    });
    let outcome = Chain::of([("both", both)]).apply(event("{}"), &mut Tally::default());
    assert_eq!(ids(&outcome), ["e1", "e1"]);
}

#[test]
fn a_step_that_panics_rejects_the_record() {
    let chain = Chain::of([("broken", step(|_| panic!("on purpose")))]);
    let outcome = chain.apply(event("{}"), &mut Tally::default());
    assert!(matches!(outcome, Outcome::Rejected { reason, .. } if reason == "panic"));
}

#[test]
fn a_configuration_without_steps_is_a_copy() {
    assert!(Chain::build(&processor("[]"), Path::new(".")).unwrap().is_copy());
}

#[test]
fn an_unknown_step_is_an_error_with_a_suggestion() {
    let error = Chain::build(&processor("[{ remao = \"x.vrl\" }]"), Path::new(".")).err().unwrap();
    assert_eq!(
        error.to_string(),
        "processor `clean`, step 1: there is no step `remao`; did you mean `remap`?"
    );
}

#[test]
fn a_name_that_is_not_close_in_spelling_is_not_suggested() {
    let error = Chain::build(&processor("[{ redact = {} }]"), Path::new(".")).err().unwrap();
    assert_eq!(error.detail, "there is no step `redact`; there is `remap`");
}

#[test]
fn every_step_that_cannot_be_made_is_told() {
    let config = processor("[{ remao = 1 }, { remap = { source = '.' } }, { remap = 'no.vrl' }]");
    let numbers = |errors: Vec<StepError>| errors.iter().map(|e| e.number).collect::<Vec<_>>();
    assert_eq!(Chain::build_or_all(&config, Path::new(".")).err().map(numbers), Some(vec![1, 3]));
}

#[test]
fn a_setting_of_the_wrong_type_is_told_in_words_without_its_value() {
    let config = processor("[{ remap = { source = 77777777 } }]");
    let error = Chain::build(&config, Path::new(".")).err().unwrap();
    assert!(error.detail.starts_with("must be text, not a whole number"), "{error}");
    assert!(!error.detail.contains("7777"), "{error}");
}

#[test]
fn a_step_of_two_names_is_an_error() {
    let config = processor("[{ remap = \"x.vrl\", redact = {} }]");
    let error = Chain::build(&config, Path::new(".")).err().unwrap();
    assert!(error.detail.contains("one key"), "{error}");
}

#[test]
fn a_program_in_the_configuration_runs() {
    let config = processor("[{ remap = { source = '.id = \"new\"' } }]");
    let chain = Chain::build(&config, Path::new(".")).unwrap();
    assert_eq!(ids(&chain.apply(event("{}"), &mut Tally::default())), ["new"]);
}

#[test]
fn a_step_that_comes_twice_is_told_apart_by_its_place() {
    let chain = Chain::of([("remap", pass()), ("remap", pass())]);
    assert_eq!((chain.step_name(0), chain.step_name(1)), ("remap", "remap#2"));
}
