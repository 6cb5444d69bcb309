//! Which schemas are registered, and with which registry.

use std::time::Duration;

use http::Uri;

use super::Found;
use crate::config::SchemasConfig;

pub(super) fn check(config: &SchemasConfig, found: &mut Found) {
    let mut say =
        |setting: &str, message: String| found.push((format!("schemas.{setting}"), message));
    for (kind, path) in &config.register {
        if let Err(error) = std::fs::metadata(path) {
            let what = format!("cannot read the schema of `{kind}`, {}: {error}", path.display());
            say("register", what);
        }
    }
    let Some(url) = &config.registry else {
        for (setting, given) in [
            ("registry_user", config.registry_user.is_some()),
            ("registry_password", config.registry_password.is_some()),
        ] {
            if given {
                say(setting, "does nothing without `registry`, the URL of another registry".into());
            }
        }
        return;
    };
    if let Err(message) = check_url(url) {
        say("registry", message);
    }
    if config.registry_user.is_some() != config.registry_password.is_some() {
        let message = "user and password of the registry are given together or not at all";
        say("registry_user", message.into());
    }
    if !config.register.is_empty() {
        let message = "does nothing with `registry`: register schemas with that registry";
        say("register", message.into());
    }
    if config.registry_refresh < Duration::from_secs(1) {
        say("registry_refresh", "must be at least 1s".into());
    }
}

fn check_url(url: &str) -> Result<(), String> {
    if url.contains('@') {
        return Err("holds a user or password: give them as `registry_user` and \
                    `registry_password`"
            .into());
    }
    let uri: Uri = url.parse().map_err(|_| "is not a URL".to_owned())?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some() && uri.query().is_none() => Ok(()),
        _ => Err("is not the URL of a registry: write https://HOST:PORT or http://HOST:PORT, \
                  with the path before /subjects if there is one"
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(config: &SchemasConfig) -> Vec<String> {
        let mut found = Found::new();
        check(config, &mut found);
        found.into_iter().map(|(setting, _)| setting).collect()
    }

    #[test]
    fn a_registry_needs_an_address_without_secrets() {
        for (url, good) in [
            ("https://registry.example.com", true),
            ("http://127.0.0.1:8081/registry", true),
            ("https://me:s3cret@registry.example.com", false),
            ("registry.example.com:8081", false),
            ("kafka://registry:9092", false),
            ("https://registry/?a=b", false),
        ] {
            let config = SchemasConfig { registry: Some(url.into()), ..Default::default() };
            assert_eq!(mistakes(&config).is_empty(), good, "{url}");
            let said = check_url(url).err().unwrap_or_default();
            assert!(!said.contains("s3cret"), "{said}");
        }
    }

    #[test]
    fn settings_that_would_do_nothing_are_mistakes() {
        let user = SchemasConfig { registry_user: Some("me".into()), ..Default::default() };
        assert_eq!(mistakes(&user), ["schemas.registry_user"]);
        let registry = Some("https://registry".to_owned());
        let half = SchemasConfig { registry: registry.clone(), ..user };
        assert_eq!(mistakes(&half), ["schemas.registry_user"]);
        let register = [("a".to_owned(), "/".into())].into();
        let both = SchemasConfig { registry, register, ..Default::default() };
        assert_eq!(mistakes(&both), ["schemas.register"]);
    }
}
