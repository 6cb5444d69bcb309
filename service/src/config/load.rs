//! Reads the file, lays the environment over it, and remembers where each setting was given.
//!
//! Each key of a section is first read alone, so that one mistake does not hide the next. What a
//! section's keys are is asked of the settings' own types ([`fields_of`]): there is no second list
//! that could be forgotten.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    ops::Range,
    path::{Path, PathBuf, absolute},
};

use serde::{
    Deserializer,
    de::{DeserializeOwned, Visitor, value::Error as PlainError},
    forward_to_deserialize_any,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

use super::{
    Config, KeyConfig, check,
    mistake::{ConfigError, Mistake, Origin, closest},
    origins::Origins,
    words::{self, Told},
};

const PREFIX: &str = "PENSTOCK__";

/// A configuration that was checked, with every path that is needed at start made absolute.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What further relative paths (those of processors' steps) are relative to.
    pub base_dir: PathBuf,
    /// The file it came from, to be followed for what may change at run time.
    pub file: Option<PathBuf>,
}

/// Loads `path`, or the defaults without one, overridden by the variables `PENSTOCK__SECTION__KEY`
/// of `env`.
pub fn load(
    path: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let (loaded, mistakes) = read(path, env)?;
    if mistakes.is_empty() { Ok(loaded) } else { Err(ConfigError::of(mistakes)) }
}

/// The keys alone, as they are now. Mistakes in other known sections do not matter: they must not
/// stand in the way of a key that is revoked.
pub fn load_keys(
    path: &Path,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Vec<KeyConfig>, ConfigError> {
    let (loaded, mut mistakes) = read(Some(path), env)?;
    let elsewhere = |section: &str| section != "keys" && fields_of::<Config>().contains(&section);
    mistakes
        .retain(|mistake| !elsewhere(mistake.setting.split(['.', '[']).next().unwrap_or_default()));
    if mistakes.is_empty() { Ok(loaded.config.keys) } else { Err(ConfigError::of(mistakes)) }
}

/// What is there, and every mistake in it.
fn read(
    path: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<(Loaded, Vec<Mistake>), ConfigError> {
    let one = |setting: &str, message: String| ConfigError {
        mistakes: vec![Mistake {
            origin: Origin::Default,
            setting: setting.into(),
            message,
            suggestion: None,
        }],
    };
    let text = match path {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            one("", format!("cannot read the configuration {}: {error}", path.display()))
        })?,
    };
    let file_dir = path.and_then(Path::parent).filter(|dir| !dir.as_os_str().is_empty());
    let base_dir = absolute(file_dir.unwrap_or(Path::new(".")))
        .map_err(|error| one("", format!("cannot tell the current directory: {error}")))?;

    let mut variables: Vec<_> = env.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    let lines: Vec<_> =
        std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let mut reading = Reading::default();
    reading.file(path.unwrap_or(Path::new("")), &text, &lines);
    for (name, value) in &variables {
        reading.variable(name, value);
    }
    let mut config = reading.config();
    check::resolve_paths(&mut config, &base_dir);
    let mut mistakes = reading.mistakes;
    let broken = check::check(&config);
    mistakes.extend(broken.iter().map(|(setting, m)| config.origins.mistake(setting, m)));
    let file = path.and_then(|path| absolute(path).ok());
    Ok((Loaded { config, base_dir, file }, mistakes))
}

/// As [`load`], with the environment of this process.
pub fn load_here(path: Option<&Path>) -> Result<Loaded, ConfigError> {
    load(path, environment())
}

/// As [`load_keys`], with the environment of this process.
pub fn load_keys_here(path: &Path) -> Result<Vec<KeyConfig>, ConfigError> {
    load_keys(path, environment())
}

/// As [`load_here`], with the mistakes beside what could be read, for further checks to add theirs.
///
/// # Errors
/// The file cannot be read.
pub fn read_here(path: Option<&Path>) -> Result<(Loaded, Vec<Mistake>), ConfigError> {
    read(path, environment())
}

fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// A value with the place it was given at.
#[derive(Clone)]
struct Given<'t> {
    value: Spanned<DeValue<'t>>,
    source: Source<'t>,
}

#[derive(Clone, Copy)]
enum Source<'t> {
    /// With where each line of the text begins: every setting's place is asked for.
    File {
        path: &'t Path,
        text: &'t str,
        lines: &'t [usize],
    },
    Variable {
        name: &'t str,
        value: &'t str,
    },
}

impl Source<'_> {
    fn at(&self, span: Range<usize>) -> Origin {
        match self {
            Self::Variable { name, .. } => Origin::Environment((*name).to_owned()),
            Self::File { path, text, lines } => {
                let line = lines.partition_point(|begin| *begin <= span.start).max(1);
                let begin = lines.get(line - 1).copied().unwrap_or_default();
                let before = text.get(begin..span.start).unwrap_or_default();
                let column = before.chars().count() + 1;
                Origin::File { path: path.to_path_buf(), line, column }
            }
        }
    }
}

/// An entry of a list, and where its known settings are.
struct Entry<'t> {
    known: DeTable<'t>,
    values: Vec<(Range<usize>, String)>,
    span: Range<usize>,
    path: String,
    source: Source<'t>,
}

#[derive(Default)]
struct Reading<'t> {
    mistakes: Vec<Mistake>,
    /// Settings of sections, by section and key.
    sections: BTreeMap<String, BTreeMap<String, Given<'t>>>,
    /// Sections that are lists.
    lists: BTreeMap<String, Given<'t>>,
    origins: Origins,
}

impl<'t> Reading<'t> {
    fn file(&mut self, path: &'t Path, text: &'t str, lines: &'t [usize]) {
        let source = Source::File { path, text, lines };
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            for error in errors {
                let origin = source.at(error.span().unwrap_or(0..0));
                let message = format!("not TOML: {}", error.message().replace('\n', ", "));
                self.mistake(origin, "", message, None);
            }
            return; // What could be recovered would only lead to mistakes that are not the user's.
        }
        for (name, value) in table.into_inner() {
            let span = name.span();
            self.section(name.get_ref(), span, Given { value, source });
        }
    }

    fn variable(&mut self, name: &'t str, value: &'t str) {
        let setting = name[PREFIX.len()..].to_lowercase();
        let source = Source::Variable { name, value };
        let value = DeValue::parse(value).unwrap_or_else(|_| text_of(value));
        let mut parts = setting.splitn(2, "__");
        let section = parts.next().unwrap_or_default();
        match parts.next() {
            None => self.section(section, 0..0, Given { value, source }),
            Some(key) if self.is_section(section, &source, 0..0) => {
                if LISTS.contains(&section) {
                    let whole =
                        format!("is a list: set it whole, as {PREFIX}{}", section.to_uppercase());
                    return self.mistake(source.at(0..0), section, whole, None);
                }
                self.setting(section, key, 0..0, Given { value, source });
            }
            Some(_) => {}
        }
    }

    /// Takes in a whole section.
    fn section(&mut self, name: &str, span: Range<usize>, given: Given<'t>) {
        if !self.is_section(name, &given.source, span.clone()) {
            return;
        }
        let source = given.source;
        let value_span = given.value.span();
        self.origins.give(name.to_owned(), source.at(span.clone()));
        match (LISTS.contains(&name), given.value.into_inner()) {
            (true, value @ DeValue::Array(_)) => {
                let value = Spanned::new(value_span, value);
                self.lists.insert(name.to_owned(), Given { value, source });
            }
            (true, _) => {
                let message = format!("is a list of tables: write [[{name}]]");
                self.mistake(source.at(span), name, message, None);
            }
            (false, DeValue::Table(table)) => {
                for (key, value) in table {
                    let span = key.span();
                    self.setting(name, key.get_ref(), span, Given { value, source });
                }
            }
            (false, _) => {
                let message = format!("is a table: write [{name}] and its settings below");
                self.mistake(source.at(span), name, message, None);
            }
        }
    }

    fn is_section(&mut self, name: &str, source: &Source<'_>, span: Range<usize>) -> bool {
        let known = fields_of::<Config>();
        if !known.contains(&name) {
            self.unknown(source.at(span), name, name, known);
        }
        known.contains(&name)
    }

    fn setting(&mut self, section: &str, key: &str, span: Range<usize>, given: Given<'t>) {
        self.origins.give(format!("{section}.{key}"), given.source.at(span));
        self.sections.entry(section.to_owned()).or_default().insert(key.to_owned(), given);
    }

    fn config(&mut self) -> Config {
        Config {
            log: self.read("log"),
            store: self.read("store"),
            http: self.read("http"),
            admin: self.read("admin"),
            keys: self.read_list("keys"),
            jwt: self.read("jwt"),
            ingest: self.read("ingest"),
            schemas: self.read("schemas"),
            topics: self.read("topics"),
            retention: self.read("retention"),
            processors: self.read_list("processors"),
            rollups: self.read_list("rollups"),
            sink: self.read("sink"),
            telemetry: self.read("telemetry"),
            shutdown: self.read("shutdown"),
            // After all are read.
            origins: std::mem::take(&mut self.origins),
        }
    }

    fn read<T: DeserializeOwned + Default>(&mut self, section: &str) -> T {
        let mut good = DeTable::new();
        for (key, given) in self.sections.remove(section).unwrap_or_default() {
            let setting = format!("{section}.{key}");
            if !fields_of::<T>().contains(&key.as_str()) {
                let origin = self.origins.of(&setting);
                self.unknown(origin, &setting, &key, fields_of::<T>());
                continue;
            }
            self.inside(&setting, &given.value, &given.source);
            match alone::<T>(&key, &given) {
                Ok(value) => {
                    good.insert(Spanned::new(0..0, Cow::Owned(key)), value);
                }
                Err(error) => {
                    let span = error.span().filter(|span| !span.is_empty());
                    let origin = given.source.at(span.unwrap_or(given.value.span()));
                    self.typed(origin, &setting, error.message());
                }
            }
        }
        table::<T>(good, 0..0).unwrap_or_default()
    }

    fn read_list<T: DeserializeOwned>(&mut self, name: &str) -> Vec<T> {
        let Some(Given { value, source }) = self.lists.remove(name) else { return Vec::new() };
        let DeValue::Array(entries) = value.into_inner() else { return Vec::new() };
        let mut read = Vec::new();
        for (n, entry) in entries.into_iter().enumerate() {
            let (span, path) = (entry.span(), format!("{name}[{n}]"));
            self.origins.give(path.clone(), source.at(span.clone()));
            let DeValue::Table(entry) = entry.into_inner() else {
                let message = format!("is not a table: write [[{name}]]");
                self.mistake(source.at(span), &path, message, None);
                continue;
            };
            let mut known = DeTable::new();
            let mut values = Vec::new();
            for (key, value) in entry {
                let setting = format!("{path}.{}", key.get_ref());
                let origin = source.at(key.span());
                if fields_of::<T>().contains(&key.get_ref().as_ref()) {
                    self.origins.give(setting.clone(), origin);
                    self.inside(&setting, &value, &source);
                    values.push((value.span(), key.get_ref().to_string()));
                    known.insert(key, value);
                } else {
                    self.unknown(origin, &setting, key.get_ref(), fields_of::<T>());
                }
            }
            if let Some(value) = self.entry(Entry { known, values, span, path, source }) {
                read.push(value);
                self.origins.read_entry(name, n);
            }
        }
        read
    }

    /// Reads an entry of a list: once more without each setting that is wrong, to find the next.
    fn entry<T: DeserializeOwned>(&mut self, entry: Entry<'t>) -> Option<T> {
        let Entry { mut known, mut values, span, path, source } = entry;
        let mut wrong: Vec<String> = Vec::new();
        loop {
            let error = match table::<T>(known.clone(), span.clone()) {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            let at = error.span().filter(|at| !at.is_empty()).unwrap_or(span.clone());
            let Some(found) = values.iter().position(|(value, _)| value.contains(&at.start)) else {
                // What was wrong is not missing.
                let missing = |key: &String| error.message() == format!("missing field `{key}`");
                if !wrong.iter().any(missing) {
                    self.typed(source.at(at), &path, error.message());
                }
                return None;
            };
            let (_, key) = values.swap_remove(found);
            self.typed(source.at(at), &format!("{path}.{key}"), error.message());
            known.remove(key.as_str());
            wrong.push(key);
        }
    }

    /// Remembers the places of what a setting's tables and lists hold.
    fn inside(&mut self, setting: &str, value: &Spanned<DeValue<'_>>, source: &Source<'_>) {
        match value.get_ref() {
            DeValue::Table(table) => {
                for (key, value) in table {
                    let part = format!("{setting}.{}", key.get_ref());
                    self.part(part, key.span(), value, source);
                }
            }
            DeValue::Array(list) => {
                for (n, value) in list.iter().enumerate() {
                    self.part(format!("{setting}[{n}]"), value.span(), value, source);
                }
            }
            _ => {}
        }
    }

    fn part(
        &mut self,
        part: String,
        span: Range<usize>,
        value: &Spanned<DeValue<'_>>,
        source: &Source<'_>,
    ) {
        self.inside(&part, value, source);
        self.origins.give(part, source.at(span));
    }

    /// A mistake that a settings type found by itself.
    fn typed(&mut self, origin: Origin, setting: &str, message: &str) {
        // A table within a setting: serde names the field and the known ones in backquotes.
        if let Some(names) = message.strip_prefix("unknown field ") {
            let names: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
            if let Some((wrong, known)) = names.split_first() {
                return self.unknown(origin, setting, wrong, known);
            }
        }
        let Told { message, suggestion } = words::plain(message);
        self.mistake(origin, setting, message, suggestion);
    }

    fn unknown(&mut self, origin: Origin, setting: &str, wrong: &str, known: &[&str]) {
        let suggestion = closest(wrong, known).map(str::to_owned);
        let message = match suggestion {
            Some(_) => format!("unknown setting `{wrong}`"),
            None => format!("unknown setting `{wrong}`; known here: {}", known.join(", ")),
        };
        self.mistake(origin, setting, message, suggestion);
    }

    fn mistake(
        &mut self,
        origin: Origin,
        setting: &str,
        message: String,
        suggestion: Option<String>,
    ) {
        self.mistakes.push(Mistake { origin, setting: setting.to_owned(), message, suggestion });
    }
}

/// The sections that are lists of tables.
const LISTS: [&str; 3] = ["keys", "processors", "rollups"];

fn text_of(text: &str) -> Spanned<DeValue<'_>> {
    Spanned::new(0..text.len(), DeValue::String(Cow::Borrowed(text)))
}

/// Reads a section that has only this key. A variable's text is tried as TOML first and as plain
/// text then: `123` may be a number or a name.
fn alone<'t, T: DeserializeOwned>(
    key: &str,
    given: &Given<'t>,
) -> Result<Spanned<DeValue<'t>>, toml::de::Error> {
    let read = |value: &Spanned<DeValue<'t>>| {
        let mut only = DeTable::new();
        only.insert(Spanned::new(value.span(), Cow::Owned(key.to_owned())), value.clone());
        table::<T>(only, value.span())
    };
    match (read(&given.value), given.source) {
        (Ok(_), _) => Ok(given.value.clone()),
        (Err(error), Source::Variable { value, .. }) => {
            let text = text_of(value);
            read(&text).map(|_| text).map_err(|_| error)
        }
        (Err(error), Source::File { .. }) => Err(error),
    }
}

fn table<T: DeserializeOwned>(
    table: DeTable<'_>,
    span: Range<usize>,
) -> Result<T, toml::de::Error> {
    T::deserialize(ValueDeserializer::from(Spanned::new(span, DeValue::Table(table))))
}

/// The names of a struct's fields, as serde knows them.
fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // The answer is in `fields`; the deserializer itself always fails.
    let _ = T::deserialize(FieldNames(&mut fields));
    fields
}

struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = PlainError;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PlainError> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, PlainError> {
        Err(serde::de::Error::custom("only its shape was asked for"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl fmt::Debug for Given<'_> {
    /// Without the value, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given")
    }
}
