//! What is wrong with a configuration, for the person who must correct it.

use std::{
    fmt::{self, Display, Formatter},
    path::PathBuf,
};

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// In an environment variable of this name.
    Environment(String),
    /// Nowhere: it is the default, or it is missing.
    Default,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where the setting was given.
    pub origin: Origin,
    /// Its path, such as `http.listen` or `rollups[0].windows`; empty when the whole is meant.
    pub setting: String,
    /// What is wrong and what to do.
    pub message: String,
    /// The known name that was probably meant.
    pub suggestion: Option<String>,
}

/// Every mistake that was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// In the order of the file, then those of the environment; never empty.
    pub mistakes: Vec<Mistake>,
}

impl ConfigError {
    /// These mistakes, in order. One that two checks found is told once.
    pub fn of(mistakes: impl IntoIterator<Item = Mistake>) -> Self {
        let mut all: Vec<Mistake> = Vec::new();
        for mistake in mistakes {
            if !all.contains(&mistake) {
                all.push(mistake);
            }
        }
        all.sort_by_key(|mistake| match &mistake.origin {
            Origin::File { line, column, .. } => (0, *line, *column),
            Origin::Environment(_) => (1, 0, 0),
            Origin::Default => (2, 0, 0),
        });
        Self { mistakes: all }
    }
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.mistakes.len() > 1 {
            writeln!(f, "the configuration has {} mistakes:", self.mistakes.len())?;
        }
        for (n, mistake) in self.mistakes.iter().enumerate() {
            let line_break = if n > 0 { "\n" } else { "" };
            write!(f, "{line_break}{mistake}")?;
        }
        Ok(())
    }
}

impl Display for Mistake {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File { path, line, column } => {
                write!(f, "{}:{line}:{column}: ", path.display())?;
            }
            Origin::Environment(name) => write!(f, "environment {name}: ")?,
            Origin::Default => {}
        }
        if !self.setting.is_empty() {
            write!(f, "{}: ", self.setting)?;
        }
        write!(f, "{}", self.message)?;
        match &self.suggestion {
            Some(name) => write!(f, "; did you mean `{name}`?"),
            None => Ok(()),
        }
    }
}

/// The name that was probably meant, if one of the known ones, which are in lower case, is close.
pub fn closest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |name: &str| strsim::jaro_winkler(&wrong.to_lowercase(), name);
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.8).then_some(best)
}
