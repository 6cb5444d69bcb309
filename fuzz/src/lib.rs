//! What the fuzz targets share: a real door on a log in memory, without a socket.

mod door;
mod memory;

pub use door::{Answer, Door, Limits, message};
pub use memory::Memory;

use std::sync::Arc;

use schemas::{Codec, Defaults, Event, Registry, Unknown};

/// The type whose data has a schema, here.
pub const KIND: &str = "typed";

/// A schema with something of everything.
pub const SCHEMA: &str = include_str!("typed.avsc");

/// Gives each `name:value` line up to an empty one to `take`, and answers what is behind that; `None`
/// where a line is none or is not taken.
pub fn head<'t>(
    text: &'t [u8],
    mut take: impl FnMut(&[u8], &[u8]) -> Option<()>,
) -> Option<&'t [u8]> {
    let mut rest = text;
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        if line.is_empty() {
            return Some(rest);
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        take(&line[..colon], &line[colon + 1..])?;
    }
}

/// A codec whose registry, in `log`, knows [`KIND`] in the namespace `default`.
pub async fn codec(log: &Memory) -> Codec {
    let registry = Registry::open(log.handle()).await.expect("the log is in memory");
    registry.register(schemas::DEFAULT_NAMESPACE, KIND, SCHEMA).await.expect("the schema is good");
    Codec::new(registry, Unknown::Accept)
}

/// Insists that what the event says as JSON is the same event when it is read again.
pub fn assert_reads_back(event: &Event) {
    let mut json = Vec::new();
    schemas::event_to_json(event, &mut json);
    let namespace: Arc<str> = event.namespace.clone();
    let mut defaults =
        Defaults { namespace: &namespace, now: 0, fill_id: None, fill_specversion: false };
    let (mut again, _) = schemas::event_from_json(&json, &mut defaults)
        .unwrap_or_else(|faults| panic!("{faults:?} in {}", String::from_utf8_lossy(&json)));
    again.time_filled = event.time_filled;
    assert_eq!(&again, event);
}
