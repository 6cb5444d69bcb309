//! What keys must be. Neither a hash nor what stands in its place is repeated in a message.

use std::collections::BTreeMap;

use super::{Found, check_name};
use crate::{
    auth::{Scope, key},
    config::{Auth, Config},
};

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
        match key::read_hash(&key.hash) {
            Err(message) => found.push((at("hash"), message)),
            Ok(hash) => {
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
        for message in key.scopes.iter().filter_map(|name| Scope::parse(name).err()) {
            found.push((at("scopes"), message));
        }
    }
}
