//! What a subject asks of a new version, and whether it takes one.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which earlier versions a new one is compared with, and in which direction. The names are those of
/// the Confluent Schema Registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schema(as = CompatibilityLevel)]
pub enum Level {
    /// With none.
    None,
    /// The new version reads what the latest wrote.
    Backward,
    /// The new version reads what every earlier one wrote. The default, because records stay for longer
    /// than versions are the latest.
    #[default]
    BackwardTransitive,
    /// The latest version reads what the new one writes.
    Forward,
    /// Every earlier version reads what the new one writes.
    ForwardTransitive,
    /// Both directions, with the latest.
    Full,
    /// Both directions, with every earlier version.
    FullTransitive,
}

impl Level {
    /// Every level.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Backward,
        Self::BackwardTransitive,
        Self::Forward,
        Self::ForwardTransitive,
        Self::Full,
        Self::FullTransitive,
    ];

    /// Its name in requests and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Backward => "BACKWARD",
            Self::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Self::Forward => "FORWARD",
            Self::ForwardTransitive => "FORWARD_TRANSITIVE",
            Self::Full => "FULL",
            Self::FullTransitive => "FULL_TRANSITIVE",
        }
    }

    /// By its name, in any case of letters.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name))
    }

    /// Whether every earlier version is compared with, not the latest alone.
    pub(super) fn transitive(self) -> bool {
        matches!(self, Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive)
    }

    /// Whether the new version must read what an earlier one wrote.
    pub(super) fn backward(self) -> bool {
        matches!(
            self,
            Self::Backward | Self::BackwardTransitive | Self::Full | Self::FullTransitive
        )
    }

    /// Whether an earlier version must read what the new one writes.
    pub(super) fn forward(self) -> bool {
        matches!(self, Self::Forward | Self::ForwardTransitive | Self::Full | Self::FullTransitive)
    }
}

/// Whether schemas may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schema(as = SubjectMode)]
pub enum Mode {
    /// They may.
    #[default]
    ReadWrite,
    /// They may not.
    ReadOnly,
}

impl Mode {
    /// Its name in requests and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadWrite => "READWRITE",
            Self::ReadOnly => "READONLY",
        }
    }

    /// By its name, in any case of letters.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::ReadWrite, Self::ReadOnly]
            .into_iter()
            .find(|mode| mode.name().eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_records_and_in_requests() {
        for level in Level::ALL {
            assert_eq!(serde_json::to_value(level).unwrap(), level.name());
            assert_eq!(Level::parse(&level.name().to_lowercase()), Some(level));
        }
        for mode in [Mode::ReadWrite, Mode::ReadOnly] {
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.name());
            assert_eq!(Mode::parse(mode.name()), Some(mode));
        }
        assert_eq!((Level::parse("SOME"), Mode::parse("IMPORT")), (None, None));
    }
}
