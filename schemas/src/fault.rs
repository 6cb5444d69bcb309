//! What is wrong with an event, said so that its producer can mend it.
//!
//! A fault names attributes, fields and types, and never repeats a value: faults reach answers,
//! logs and dead letters.

use std::fmt;

/// One thing that is wrong with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A stable word for programs, such as `missing_attribute`.
    pub code: &'static str,
    /// A sentence for people.
    pub detail: String,
    /// Where, as a JSON pointer (RFC 6901) relative to the event in structured form.
    pub pointer: String,
}

/// Faults of one event that are reported at most; more would only repeat the pattern.
pub(crate) const MAX_FAULTS: usize = 20;

/// Bytes of a name out of an event that a fault repeats at most.
const MAX_NAME: usize = 64;

impl Fault {
    /// A fault at a pointer.
    pub(crate) fn new(code: &'static str, pointer: String, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), pointer }
    }

    /// A fault at a top-level member.
    pub(crate) fn at(code: &'static str, name: &str, detail: impl Into<String>) -> Self {
        let mut pointer = String::new();
        push_pointer(&mut pointer, name);
        Self::new(code, pointer, detail)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.detail)
        } else {
            write!(f, "{}: {}", self.pointer, self.detail)
        }
    }
}

impl std::error::Error for Fault {}

/// Appends one reference token, escaped as RFC 6901 asks.
pub(crate) fn push_pointer(pointer: &mut String, token: &str) {
    pointer.push('/');
    for c in token.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            _ => pointer.push(c),
        }
    }
}

/// A member's name, short enough to repeat.
pub(crate) fn short(name: &str) -> &str {
    if name.len() <= MAX_NAME {
        return name;
    }
    let end = (0..=MAX_NAME).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_name_with_slash_and_tilde_then_the_pointer_escapes_them() {
        assert_eq!(Fault::at("x", "a/b~c", "d").pointer, "/a~1b~0c");
    }

    #[test]
    fn given_a_long_name_of_wide_letters_then_it_is_cut_between_letters() {
        assert_eq!(short(&"ü".repeat(40)), "ü".repeat(32));
    }
}
