//! Which version of a rollup may answer.
//!
//! A version serves when it holds every event that the store holds: in each partition of the
//! topic's current epoch, its mark is complete and reaches as far as the store does. A version
//! that is still being folded, or that nobody folds any more since the definition changed, does
//! not. A partition that nothing was ever stored from asks for no mark, so that a rollup of an
//! empty pipeline is empty rather than unavailable.

use std::{collections::BTreeMap, sync::Arc};

use super::{Query, failure::Failure};
use crate::store::{Definition, PartitionState, VersionId};

/// A definition, and whether it may answer.
pub(super) struct Candidate {
    pub(super) definition: Definition,
    pub(super) version: VersionId,
    pub(super) complete: bool,
}

/// For each name, in the order of names: the newest complete version, else the newest.
pub(super) async fn candidates(query: &Query) -> Result<Vec<Candidate>, Failure> {
    let definitions = query.store.definitions().await?;
    let states = states(query).await?;
    let mut chosen: BTreeMap<Arc<str>, Candidate> = BTreeMap::new();
    for definition in definitions {
        let version = definition.version();
        let complete = states.iter().all(|state| holds_everything(state, version));
        let better = chosen.get(&definition.name).is_none_or(|held| complete || !held.complete);
        if better {
            chosen.insert(definition.name.clone(), Candidate { definition, version, complete });
        }
    }
    Ok(chosen.into_values().collect())
}

/// The one that answers for a name.
pub(super) fn choose(candidates: Vec<Candidate>, name: &str) -> Result<Candidate, Failure> {
    let known: Vec<Arc<str>> =
        candidates.iter().filter(|c| !is_own(c)).map(|c| c.definition.name.clone()).collect();
    match candidates.into_iter().find(|c| &*c.definition.name == name) {
        Some(candidate) if candidate.complete => Ok(candidate),
        Some(_) => Err(Failure::later(
            "rollup_incomplete",
            "The rollup is not complete yet",
            "It does not hold every stored event, so its numbers would be wrong. They are being \
             computed, or cannot be when the log no longer holds what they need. Try again.",
        )),
        None => Err(Failure::missing(
            "rollup_not_found",
            "There is no such rollup",
            match &known[..] {
                [] => "No rollups are defined.".to_owned(),
                known => format!("Those there are: {}.", known.join(", ")),
            },
        )
        .with("known", known)),
    }
}

/// Whether a rollup is Penstock's own.
pub(super) fn is_own(candidate: &Candidate) -> bool {
    candidate.definition.name.starts_with('_')
}

async fn states(query: &Query) -> Result<Vec<PartitionState>, Failure> {
    let Some(topic) = query.store.epoch(&query.topic).await? else { return Ok(Vec::new()) };
    let mut states = Vec::new();
    for partition in 0..query.partitions {
        states.push(query.store.partition(&query.topic, topic.epoch, partition).await?);
    }
    Ok(states)
}

fn holds_everything(state: &PartitionState, version: VersionId) -> bool {
    state.stored_to == 0
        || state
            .marks
            .iter()
            .any(|mark| mark.version == version && mark.complete && mark.to >= state.stored_to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::FoldMark;

    fn state(stored_to: u64, marks: &[(u64, u64, bool)]) -> PartitionState {
        let marks = marks.iter().map(|(version, to, complete)| FoldMark {
            version: VersionId(*version),
            from: 0,
            to: *to,
            complete: *complete,
        });
        PartitionState { stored_to, marks: marks.collect() }
    }

    #[test]
    fn a_version_holds_everything_when_its_mark_reaches_the_store_s() {
        assert!(holds_everything(&state(10, &[(1, 3, true), (2, 10, true)]), VersionId(2)));
    }

    #[test]
    fn a_version_that_lags_is_marked_incomplete_or_has_no_mark_does_not() {
        assert!(!holds_everything(&state(10, &[(1, 9, true)]), VersionId(1)));
        assert!(!holds_everything(&state(10, &[(1, 10, false)]), VersionId(1)));
        assert!(!holds_everything(&state(10, &[(2, 10, true)]), VersionId(1)));
    }

    #[test]
    fn a_partition_that_nothing_was_stored_from_asks_for_no_mark() {
        assert!(holds_everything(&state(0, &[]), VersionId(1)));
    }
}
