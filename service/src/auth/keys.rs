//! The keys of a configuration, looked up by the hash of what was shown.
//!
//! A look-up says nothing by the time it takes: candidates are found by a part of the hash, in a
//! map with a random seed, and compared whole in constant time.

use std::{collections::HashMap, sync::Arc};

use subtle::ConstantTimeEq;

use super::{
    Caller, Limits, Scope,
    key::{self, KeyHash},
};
use crate::config::KeyConfig;

/// Keys by the first bytes of their hashes.
#[derive(Debug, Default)]
pub(super) struct Keys(HashMap<[u8; 8], Vec<(KeyHash, Caller)>>);

impl Keys {
    /// The keys of a configuration that was checked; what the check refuses is not a key. A key whose
    /// limits are what they were goes on with what is left of them.
    pub fn new(configured: &[KeyConfig], former: &Self) -> Self {
        let mut keys = Self::default();
        let former: HashMap<&str, &Arc<Limits>> = former
            .0
            .values()
            .flatten()
            .filter_map(|(_, caller)| Some((&*caller.name, caller.limits()?)))
            .collect();
        for config in configured {
            let Ok(hash) = key::read_hash(&config.hash) else { continue };
            let scopes = config.scopes.iter().filter_map(|name| Scope::parse(name).ok());
            let caller = Caller::new(config.name.as_str(), config.namespace.as_str(), scopes);
            let caller = match &config.rate {
                None => caller,
                Some(rate) => caller.within(match former.get(config.name.as_str()) {
                    Some(limits) if limits.config() == rate => Arc::clone(limits),
                    _ => Arc::new(Limits::new(rate)),
                }),
            };
            keys.0.entry(start(&hash)).or_default().push((hash, caller));
        }
        keys
    }

    /// Whose key that is.
    pub fn find(&self, shown: &str) -> Option<&Caller> {
        let hash = key::hash(shown);
        let candidates = self.0.get(&start(&hash))?;
        candidates.iter().find(|(known, _)| known.ct_eq(&hash).into()).map(|(_, caller)| caller)
    }
}

fn start(hash: &KeyHash) -> [u8; 8] {
    let mut start = [0; 8];
    start.copy_from_slice(&hash[..8]);
    start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RateConfig;

    #[test]
    fn a_key_is_found_by_itself_and_never_by_its_hash_or_a_part() {
        let hash = key::write_hash(&key::hash("pk_one"));
        let config = KeyConfig {
            name: "checkout".into(),
            hash: hash.clone(),
            namespace: "shop".into(),
            scopes: vec!["read".into()],
            rate: None,
        };
        let keys = Keys::new(&[config], &Keys::default());
        let caller = keys.find("pk_one").unwrap();
        assert_eq!((&*caller.name, &*caller.namespace), ("checkout", "shop"));
        assert!(caller.may(Scope::Read) && !caller.may(Scope::Write));
        for other in ["pk_on", "pk_one ", "", &hash, &hash["sha256:".len()..]] {
            assert_eq!(keys.find(other), None, "{other}");
        }
    }

    #[test]
    fn limits_that_did_not_change_are_not_filled_up_by_a_reload() {
        let rate = |events| Some(RateConfig { events: Some(events), ..RateConfig::default() });
        let config = |rate| KeyConfig {
            name: "a".into(),
            hash: key::write_hash(&key::hash("pk_a")),
            namespace: "n".into(),
            scopes: vec!["write".into()],
            rate,
        };
        let taken = |keys: &Keys| keys.find("pk_a").unwrap().limits().unwrap().take(20, 0).is_ok();
        let first = Keys::new(&[config(rate(10))], &Keys::default());
        assert!(taken(&first));
        let second = Keys::new(&[config(rate(10))], &first);
        assert!(!taken(&second));
        assert!(taken(&Keys::new(&[config(rate(11))], &second)));
    }
}
