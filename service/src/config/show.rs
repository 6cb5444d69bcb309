//! The effective configuration as text, without its secrets.

use toml::Value;

use super::Config;

const MASK: &str = "***";

/// Settings whose value is a secret wherever they stand.
const SECRET: [&str; 6] = ["hash", "key", "password", "secret", "token", "salt"];

/// The configuration as TOML, secrets masked.
pub fn show(config: &Config) -> String {
    let mut value = match Value::try_from(config) {
        Ok(value) => value,
        // Every setting is one that TOML can write; a new one that is not shows up in the tests.
        Err(error) => return format!("# cannot be shown: {error}\n"),
    };
    mask(&mut value);
    toml::to_string(&value).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
}

fn mask(value: &mut Value) {
    match value {
        Value::String(text) => *text = mask_url(text),
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Table(table) => {
            for (name, value) in table.iter_mut() {
                match value {
                    Value::String(text) if SECRET.contains(&name.as_str()) => *text = MASK.into(),
                    _ => mask(value),
                }
            }
        }
        _ => {}
    }
}

/// `scheme://user:password@host` without the password.
fn mask_url(text: &str) -> String {
    let masked = || {
        let (scheme, rest) = text.split_once("://")?;
        let authority_end = rest.find('/').unwrap_or(rest.len());
        let (user, host) = rest[..authority_end].rsplit_once('@')?;
        let (user, _) = user.split_once(':')?;
        Some(format!("{scheme}://{user}:{MASK}@{host}{}", &rest[authority_end..]))
    };
    masked().unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_read_again() {
        let shown = show(&Config::default());
        assert!(shown.contains("listen = \"127.0.0.1:8080\""), "{shown}");
        assert!(shown.contains("retention = \"1w\""), "{shown}");
        toml::from_str::<Config>(&shown).unwrap();
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let mut config: Config = toml::from_str(
            r#"
            processors = [{ name = "p", steps = [{ redact = { how = "hash", key = "s3cret" } }] }]
            keys = [{ name = "k", hash = "sha256:s3cret", namespace = "n", scopes = [] }]
            "#,
        )
        .unwrap();
        config.log.url = "kafka://me:s3cret@host:9092/x".into();
        let shown = show(&config);
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("kafka://me:***@host:9092/x"), "{shown}");
    }
}
