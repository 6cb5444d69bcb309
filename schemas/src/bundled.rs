//! Schemas that come with Penstock, as text: what the demo registers.

/// The type of [`FLIGHT_DEPARTED`].
pub const FLIGHT_DEPARTED_TYPE: &str = "flight.departed";

/// A flight that departed, as the demo's program makes it.
pub const FLIGHT_DEPARTED: &str = include_str!("../avro/flight.departed.avsc");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{UnknownFields, avro::Avro};

    #[test]
    fn given_a_flight_then_the_bundled_schema_takes_it_and_gives_it_back() {
        let avro = Avro::parse(FLIGHT_DEPARTED).unwrap();
        let flight = r#"{"carrier":"UA","flight":1545,"tailnum":"N14228","origin":"EWR","dest":"IAH","sched_dep_time":"2013-01-01T10:15:00Z","dep_delay":2.0,"arr_delay":11.0,"air_time":227.0,"distance":1400.0}"#;
        let mut datum = Vec::new();
        avro.encode(flight.as_bytes(), UnknownFields::Reject, &mut datum).unwrap();
        assert_eq!(avro.decode(&datum), Ok(flight.as_bytes().to_vec()));
    }

    #[test]
    fn given_a_flight_without_departure_delay_then_it_is_refused_there() {
        let avro = Avro::parse(FLIGHT_DEPARTED).unwrap();
        let flight = br#"{"carrier":"UA","flight":1,"origin":"EWR","dest":"IAH","sched_dep_time":"2013-01-01T10:15:00Z","distance":1}"#;
        let faults = avro.encode(flight, UnknownFields::Reject, &mut Vec::new()).unwrap_err();
        let found: Vec<_> = faults.iter().map(|f| (f.code, &*f.pointer)).collect();
        assert_eq!(found, [("missing_field", "/data/dep_delay")]);
    }
}
