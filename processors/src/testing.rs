//! What the tests of this crate build events and configurations with.

use bytes::Bytes;
use schemas::{Data, Event, Timestamp};
use service::config::ProcessorConfig;

/// An event with the data given.
pub(crate) fn event(data: &str) -> Event {
    Event {
        namespace: "shop".into(),
        id: "e1".into(),
        source: "/checkout".into(),
        kind: "order.placed".into(),
        subject: Some("cart-7".into()),
        time: Timestamp { micros: 1_357_034_400_000_000, text: "2013-01-01T10:00:00+00:00".into() },
        time_filled: false,
        data_content_type: Some("application/json".into()),
        data_schema: None,
        extensions: [("region".to_owned(), "eu".into())].into(),
        data: Data::Json(Bytes::copy_from_slice(data.as_bytes())),
    }
}

/// A processor from a list of steps in TOML.
pub(crate) fn processor(steps: &str) -> ProcessorConfig {
    toml::from_str(&format!("name = \"clean\"\nsteps = {steps}")).unwrap()
}
