//! A schema as records use it: by its id, in Confluent framing.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Data, DecodeError, Fault, avro::Avro, codec::UnknownFields};

/// A schema with its id. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Framed {
    /// Names it in every record.
    pub(crate) id: u32,
    /// Parsed; an error when it is beyond this version of Penstock.
    pub(crate) avro: Arc<Result<Avro, String>>,
}

impl Framed {
    /// Checks data and makes its value: Confluent framing (0, the id as 4 bytes, the datum).
    pub(crate) fn encode(&self, data: &Data, unknown: UnknownFields) -> Result<Bytes, Vec<Fault>> {
        let refuse = |code, detail: String| Err(vec![Fault::at(code, "data", detail)]);
        let json = match data {
            Data::Json(json) => json,
            Data::None => return refuse("missing_data", "the type's schema needs `data`".into()),
            Data::Bytes(_) => {
                return refuse("invalid_data", "the type's schema needs `data` in JSON".into());
            }
        };
        let avro = match &*self.avro {
            Ok(avro) => avro,
            Err(why) => {
                return refuse(
                    "unusable_schema",
                    format!("schema {} is not usable: {why}", self.id),
                );
            }
        };
        let mut value = Vec::with_capacity(json.len() + 5);
        value.push(0);
        value.extend_from_slice(&self.id.to_be_bytes());
        avro.encode(json, unknown, &mut value)?;
        Ok(value.into())
    }

    /// Takes a datum back.
    pub(crate) fn decode(&self, datum: &[u8]) -> Result<Data, DecodeError> {
        let malformed =
            |why: &str| DecodeError::Malformed(format!("a datum of schema {}: {why}", self.id));
        let avro = (*self.avro).as_ref().map_err(|why| malformed(why))?;
        avro.decode(datum).map(|json| Data::Json(json.into())).map_err(malformed)
    }
}
