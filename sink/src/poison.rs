//! What the store cannot hold: decided here, by the event alone, before it is deduplicated or folded.
//!
//! The limits are the same for every store, so that moving from one to another changes no
//! verdict; they may be raised later, never lowered.

use schemas::Event;

/// Attributes are parts of keys, and a key of CQL has at most 65,535 bytes.
const MAX_NAMES: usize = 16 * 1024;
/// Twice the largest body that the door takes by default.
const MAX_DATA: usize = 32 * 1024 * 1024;

/// # Errors
/// What is too large, by how much.
pub(crate) fn fits(event: &Event) -> Result<(), String> {
    let names = event.namespace.len()
        + event.kind.len()
        + event.source.len()
        + event.id.len()
        + event.subject.as_ref().map_or(0, String::len);
    if names > MAX_NAMES {
        return Err(format!(
            "namespace, type, source, id and subject have {names} bytes together, at most {MAX_NAMES} can be stored"
        ));
    }
    let data = match &event.data {
        schemas::Data::None => 0,
        schemas::Data::Json(bytes) | schemas::Data::Bytes(bytes) => bytes.len(),
    };
    let rest: usize = event.extensions.iter().map(|(n, v)| n.len() + v.len()).sum();
    if data + rest > MAX_DATA {
        return Err(format!(
            "data and extensions have {} bytes, at most {MAX_DATA} can be stored",
            data + rest
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event;

    #[test]
    fn an_ordinary_event_fits() {
        assert_eq!(fits(&event("a")), Ok(()));
    }

    #[test]
    fn names_that_no_key_can_hold_are_refused() {
        assert!(fits(&event(&"x".repeat(MAX_NAMES))).is_err());
    }
}
