//! Which member of a group should read which partition: even, and moving as little as possible.

use std::{collections::BTreeMap, sync::Arc};

/// A topic and a partition of it.
pub(crate) type Place = (Arc<str>, u32);

/// Answers the member that each place should go to. `places` come with their present owner;
/// `members` with the topics they want. Only members that want a topic get its partitions.
pub(crate) fn assign(
    places: &[(Place, Option<u64>)],
    members: &BTreeMap<u64, Vec<Arc<str>>>,
) -> BTreeMap<Place, u64> {
    let wants = |member: u64, place: &Place| {
        members.get(&member).is_some_and(|topics| topics.contains(&place.0))
    };
    let mut load: BTreeMap<u64, usize> = members.keys().map(|m| (*m, 0)).collect();
    let mut target = BTreeMap::new();
    for (place, owner) in places {
        if let Some(owner) = owner.filter(|owner| wants(*owner, place)) {
            target.insert(place.clone(), owner);
            *load.entry(owner).or_default() += 1;
        }
    }
    let idlest = |load: &BTreeMap<u64, usize>, place: &Place| {
        let candidates = load.iter().filter(|(m, _)| wants(**m, place));
        candidates.min_by_key(|(_, n)| **n).map(|(m, n)| (*m, *n))
    };
    for (place, _) in places {
        if !target.contains_key(place)
            && let Some((member, _)) = idlest(&load, place)
        {
            target.insert(place.clone(), member);
            *load.entry(member).or_default() += 1;
        }
    }
    // Each move makes the loads more even, so this ends.
    loop {
        let mut moved = false;
        for (place, owner) in target.iter_mut().rev() {
            let Some((member, least)) = idlest(&load, place) else { continue };
            if load.get(owner).is_some_and(|n| *n > least + 1) {
                *load.entry(*owner).or_default() -= 1;
                *load.entry(member).or_default() += 1;
                *owner = member;
                moved = true;
            }
        }
        if !moved {
            return target;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(topic: &str, owners: &[Option<u64>]) -> Vec<(Place, Option<u64>)> {
        owners.iter().enumerate().map(|(i, o)| ((topic.into(), i as u32), *o)).collect()
    }

    fn members(of: &[(u64, &[&str])]) -> BTreeMap<u64, Vec<Arc<str>>> {
        of.iter().map(|(m, topics)| (*m, topics.iter().map(|t| (*t).into()).collect())).collect()
    }

    fn loads(target: &BTreeMap<Place, u64>, member: u64) -> usize {
        target.values().filter(|m| **m == member).count()
    }

    #[test]
    fn a_new_member_gets_its_even_share_and_no_more_moves() {
        let target = assign(&places("t", &[Some(1); 5]), &members(&[(1, &["t"]), (2, &["t"])]));
        assert_eq!((loads(&target, 1), loads(&target, 2)), (3, 2));
    }

    #[test]
    fn what_is_even_stays() {
        let owners = [Some(1), Some(2), Some(2), Some(1)];
        let target = assign(&places("t", &owners), &members(&[(1, &["t"]), (2, &["t"])]));
        let now: Vec<_> = target.values().map(|m| Some(*m)).collect();
        assert_eq!(now, owners);
    }

    #[test]
    fn what_a_departed_member_had_goes_to_the_idlest() {
        let owners = [Some(1), Some(9), Some(2), Some(9)];
        let target = assign(&places("t", &owners), &members(&[(1, &["t"]), (2, &["t"])]));
        assert_eq!((loads(&target, 1), loads(&target, 2)), (2, 2));
    }

    #[test]
    fn a_member_gets_only_topics_it_wants() {
        let mut all = places("a", &[None; 3]);
        all.extend(places("b", &[None; 3]));
        let target = assign(&all, &members(&[(1, &["a"]), (2, &["a", "b"])]));
        assert!(target.iter().all(|(place, m)| &*place.0 == "a" || *m == 2));
        assert_eq!(target.len(), 6);
    }

    #[test]
    fn without_members_nothing_is_assigned() {
        assert!(assign(&places("t", &[Some(1), None]), &BTreeMap::new()).is_empty());
    }
}
