//! What keys must be. Neither a hash nor what stands in its place is repeated in a message.

use std::{collections::BTreeMap, time::Duration};

use super::{Found, check_name};
use crate::{
    auth::{Scope, key},
    config::{Auth, Config, RateConfig},
};

/// A terabyte a second.
const LARGEST_RATE: u64 = 1 << 40;
const LONGEST_BURST: Duration = Duration::from_secs(3_600);

pub(super) fn check(config: &Config, found: &mut Found) {
    if config.http.auth == Some(Auth::None) && !config.keys.is_empty() {
        let message =
            "lets everybody in, so the [[keys]] would keep nobody out: remove one of them";
        found.push(("http.auth".into(), message.into()));
    }
    let (mut names, mut hashes) = (BTreeMap::new(), BTreeMap::new());
    for (n, key) in config.keys.iter().enumerate() {
        let at = |setting: &str| format!("keys[{n}].{setting}");
        if let Err(message) = check_name(&key.name) {
            found.push((at("name"), message));
        } else if names.insert(&key.name, n).is_some() {
            found.push((at("name"), format!("`{}` is taken by another key", key.name)));
        }
        let metrics = config.admin.metrics_hash.as_deref().map(key::read_hash);
        match key::read_hash(&key.hash) {
            Err(message) => found.push((at("hash"), message)),
            Ok(hash) => {
                if metrics == Some(Ok(hash)) {
                    let message = "is also admin.metrics_hash: give each its own key";
                    found.push((at("hash"), message.into()));
                }
                if let Some(other) = hashes.insert(hash, n) {
                    let other = &config.keys[other].name;
                    let message = format!("is also the hash of `{other}`: give each its own key");
                    found.push((at("hash"), message));
                }
            }
        }
        if let Err(message) = check_name(&key.namespace) {
            found.push((at("namespace"), message));
        }
        if key.scopes.is_empty() {
            let known = Scope::ALL.map(Scope::name).join(", ");
            found.push((at("scopes"), format!("is empty: name at least one of {known}")));
        }
        rate(key.rate.as_ref()).into_iter().for_each(|message| found.push((at("rate"), message)));
        for message in key.scopes.iter().filter_map(|name| Scope::parse(name).err()) {
            found.push((at("scopes"), message));
        }
    }
}

fn rate(rate: Option<&RateConfig>) -> Vec<String> {
    let Some(RateConfig { events, bytes, burst }) = rate else { return Vec::new() };
    let mut found = Vec::new();
    if events.is_none() && bytes.is_none() {
        found.push("limits nothing: give `events` or `bytes`, or leave it out".to_owned());
    }
    for (name, given) in [("events", events), ("bytes", bytes)] {
        if given.is_some_and(|rate| !(1..=LARGEST_RATE).contains(&rate)) {
            found.push(format!("`{name}` must be from 1 to {LARGEST_RATE} a second"));
        }
    }
    if !(Duration::from_secs(1)..=LONGEST_BURST).contains(burst) {
        found.push("`burst` must be from 1s to 1h".to_owned());
    }
    found
}
