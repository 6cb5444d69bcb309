//! Where each setting was given, for every check that finds a mistake in one, also after loading.

use std::collections::BTreeMap;

use super::mistake::{Mistake, Origin};

/// The places of the settings that were given. A configuration made in code has none.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    given: BTreeMap<String, Origin>,
    /// Of each list, which of the entries given are in the configuration: those that cannot be read
    /// are not.
    read: BTreeMap<String, Vec<usize>>,
}

impl Origins {
    pub(super) fn give(&mut self, setting: String, origin: Origin) {
        self.given.insert(setting, origin);
    }

    /// The next entry of the list in the configuration is this one of those given.
    pub(super) fn read_entry(&mut self, list: &str, number: usize) {
        self.read.entry(list.to_owned()).or_default().push(number);
    }

    /// Whether the setting was given at all.
    pub fn has(&self, setting: &str) -> bool {
        self.given.contains_key(setting)
    }

    /// Where the setting, or the nearest thing around it, was given.
    pub(super) fn of(&self, setting: &str) -> Origin {
        let mut path = setting;
        loop {
            if let Some(origin) = self.given.get(path) {
                return origin.clone();
            }
            let Some(end) = path.rfind(['.', '[']) else { return Origin::Default };
            path = &path[..end];
        }
    }

    /// A mistake in a setting of the configuration, such as `processors[0].steps[1]`; without a
    /// setting, one that has no place.
    pub fn mistake(&self, setting: &str, message: impl Into<String>) -> Mistake {
        let setting = self.as_given(setting).unwrap_or_else(|| setting.to_owned());
        Mistake { origin: self.of(&setting), setting, message: message.into(), suggestion: None }
    }

    /// A mistake from a text that begins with its setting, as in `log.properties: acks cannot be
    /// set`. The place is that of the part it speaks of, here `acks`.
    pub fn mistake_of(&self, text: &str) -> Mistake {
        let Some((setting, message)) = text.split_once(": ").filter(|(s, _)| is_setting(s)) else {
            return self.mistake("", text);
        };
        let mut mistake = self.mistake(setting, message);
        let mut parts = message.split([' ', ',']).map(|word| format!("{setting}.{word}"));
        if let Some(origin) = parts.find_map(|part| self.given.get(&part)) {
            mistake.origin = origin.clone();
        }
        mistake
    }

    /// The path with the number that an entry of a list has where it was given.
    fn as_given(&self, setting: &str) -> Option<String> {
        let (list, rest) = setting.split_once('[')?;
        let (number, rest) = rest.split_once(']')?;
        let given = self.read.get(list)?.get(number.parse::<usize>().ok()?)?;
        Some(format!("{list}[{given}]{rest}"))
    }
}

fn is_setting(text: &str) -> bool {
    text.contains('.') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._[]".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins() -> Origins {
        let mut origins = Origins::default();
        for name in ["log", "log.properties", "log.properties.linger.ms", "keys[1].hash"] {
            origins.give(name.into(), Origin::Environment(name.into()));
        }
        origins.read_entry("keys", 1);
        origins
    }

    #[test]
    fn a_mistake_is_placed_at_its_setting_or_the_nearest_thing_around_it() {
        for (setting, at) in [
            ("log.properties", "log.properties"),
            ("log.properties.linger.s", "log.properties"),
            ("log.url", "log"),
        ] {
            let origin = origins().mistake(setting, "is wrong").origin;
            assert_eq!(origin, Origin::Environment(at.into()), "{setting}");
        }
        assert_eq!(origins().mistake("store.url", "is wrong").origin, Origin::Default);
    }

    #[test]
    fn an_entry_of_a_list_has_the_number_that_it_was_given_with() {
        let mistake = origins().mistake("keys[0].hash", "is wrong");
        assert_eq!(mistake.to_string(), "environment keys[1].hash: keys[1].hash: is wrong");
    }

    #[test]
    fn a_text_that_begins_with_its_setting_is_placed_at_what_it_speaks_of() {
        let mistake = origins().mistake_of("log.properties: linger.ms, or its value, is wrong");
        assert_eq!(mistake.setting, "log.properties");
        assert_eq!(mistake.origin, Origin::Environment("log.properties.linger.ms".into()));
        let other = origins().mistake_of("cannot open: a file");
        assert_eq!((&*other.setting, &*other.message), ("", "cannot open: a file"));
    }
}
