//! Ids for events that came without one.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Names the events of one request, one after the other.
pub enum Ids {
    /// Never the same twice.
    Fresh,
    /// The same again for the same key, tenant and place, so that a retry has no further effect.
    Repeatable {
        /// The hash so far.
        seed: Sha256,
        /// How many were named.
        named: u64,
    },
}

impl Ids {
    /// Ids of a request, repeatable when it has an `Idempotency-Key`.
    pub fn new(key: Option<&str>, namespace: &str) -> Self {
        let Some(key) = key else { return Self::Fresh };
        let mut seed = Sha256::new();
        for part in [namespace, key] {
            seed.update((part.len() as u64).to_be_bytes());
            seed.update(part);
        }
        Self::Repeatable { seed, named: 0 }
    }

    /// The next id: a UUID, of version 7 or, when it is repeatable, 8 (RFC 9562).
    pub fn next(&mut self) -> String {
        match self {
            Self::Fresh => Uuid::now_v7().to_string(),
            Self::Repeatable { seed, named } => {
                let hash = seed.clone().chain_update(named.to_be_bytes()).finalize();
                *named += 1;
                let mut first = [0; 16];
                first.copy_from_slice(&hash[..16]);
                uuid::Builder::from_custom_bytes(first).into_uuid().to_string()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three(key: Option<&str>, namespace: &str) -> [String; 3] {
        let mut ids = Ids::new(key, namespace);
        [ids.next(), ids.next(), ids.next()]
    }

    #[test]
    fn a_key_gives_the_same_ids_again_and_each_once() {
        let ids = three(Some("k"), "n");
        assert_eq!(ids, three(Some("k"), "n"));
        assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    }

    #[test]
    fn another_key_or_tenant_gives_other_ids() {
        let ids = three(Some("k"), "n");
        for other in [three(Some("l"), "n"), three(Some("k"), "m"), three(Some(""), "nk")] {
            assert!(ids.iter().all(|id| !other.contains(id)));
        }
    }

    #[test]
    fn without_a_key_no_id_comes_again() {
        assert!(three(None, "n").iter().all(|id| !three(None, "n").contains(id)));
    }
}
