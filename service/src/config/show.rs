//! The effective configuration as text, without its secrets.

use toml::Value;

use super::{Config, masked_url};

const MASK: &str = "***";

/// Settings whose value is a secret wherever they stand.
const SECRET: [&str; 8] =
    ["hash", "key", "metrics_hash", "password", "registry_password", "secret", "token", "salt"];
/// Words in the names of librdkafka's properties whose values are secrets.
const SECRET_WORDS: [&str; 5] = ["password", "secret", "key", "token", "jaas"];

/// Whether a property passed to librdkafka holds a secret, by its name.
pub fn is_secret_property(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// The configuration as TOML, secrets masked.
pub fn show(config: &Config) -> String {
    let mut value = match Value::try_from(config) {
        Ok(value) => value,
        // Every setting is one that TOML can write; a new one that is not shows up in the tests.
        Err(error) => return format!("# cannot be shown: {error}\n"),
    };
    mask(&mut value);
    if let Some(Value::Table(properties)) =
        value.get_mut("log").and_then(|log| log.get_mut("properties"))
    {
        let secrets = properties.iter_mut().filter(|(name, _)| is_secret_property(name));
        secrets.for_each(|(_, value)| *value = MASK.into());
    }
    toml::to_string(&value).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
}

fn mask(value: &mut Value) {
    match value {
        Value::String(text) => *text = masked_url(text),
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
        config.jwt.jwks = Some("https://me:s3cret@host/keys?token=s3cret".into());
        config.store.password = Some("s3cret".into());
        config.admin.metrics_hash = Some("sha256:s3cret".into());
        config.schemas.registry_password = Some("s3cret".into());
        for name in ["sasl.password", "ssl.key.pem", "sasl.oauthbearer.client.secret", "a.TOKEN"] {
            config.log.properties.insert(name.into(), "s3cret".into());
        }
        config.log.properties.insert("linger.ms".into(), "7".into());
        let shown = show(&config);
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("kafka://***@host:9092/x"), "{shown}");
        assert!(shown.contains("https://***@host/keys?token=***"), "{shown}");
        assert!(shown.contains("\"linger.ms\" = \"7\""), "{shown}");
    }
}
