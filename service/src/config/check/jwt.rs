//! What tokens need to be told from anybody's.

use std::time::Duration;

use super::Found;
use crate::{
    auth::jwt::{ALGORITHMS, algorithm},
    config::{Auth, Config, JwtConfig, closest},
};

pub(super) fn check(config: &Config, found: &mut Found) {
    let mut say = |setting: &str, message: String| found.push((format!("jwt.{setting}"), message));
    let JwtConfig { jwks, issuer, audience, algorithms, leeway, refresh, .. } = &config.jwt;
    let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    if jwks.is_none() {
        for (setting, _) in
            [("issuer", issuer), ("audience", audience)].iter().filter(|s| given(s.1))
        {
            say(setting, "does nothing without `jwks`, the issuer's public keys".into());
        }
        return;
    }
    if config.http.auth == Some(Auth::None) {
        let message = "is not looked at with `auth = \"none\"` under [http]: remove one of them";
        say("jwks", message.into());
    }
    if let Some(scheme) = jwks.as_deref().and_then(|jwks| jwks.split_once("://")).map(|(s, _)| s)
        && !["http", "https"].contains(&scheme)
    {
        say("jwks", format!("`{scheme}` is not spoken here: give a path, or an https or http URL"));
    }
    if !given(issuer) {
        say("issuer", "is needed with `jwks`: the `iss` that tokens must have".into());
    }
    if !given(audience) {
        say("audience", "is needed with `jwks`: the `aud` that tokens must have".into());
    }
    let known = ALGORITHMS.map(|(name, _)| name);
    if algorithms.is_empty() {
        say("algorithms", format!("is empty: name some of {}", known.join(", ")));
    }
    for name in algorithms.iter().filter(|name| algorithm(name).is_none()) {
        let meant =
            closest(name, &known).map_or(String::new(), |n| format!("; did you mean `{n}`?"));
        let message = format!("`{name}` cannot be allowed; known are {}{meant}", known.join(", "));
        say("algorithms", message);
    }
    if *leeway > Duration::from_secs(600) {
        say("leeway", "must be at most 10m".into());
    }
    if *refresh < Duration::from_secs(1) {
        say("refresh", "must be at least 1s".into());
    }
    if config.keys.iter().any(|key| key.name == crate::auth::jwt::NAME) {
        say(
            "jwks",
            "callers with tokens are called `jwt`: give the key of that name another".into(),
        );
    }
}
