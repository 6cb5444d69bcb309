//! Datum to JSON text. The bytes may be anyone's: every length is checked against what is left.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    Avro, MAX_JSON, MAX_WEIGHTLESS,
    compile::{Field, Kind, Node, Uuid},
    logical,
};
use crate::json;

impl Avro {
    /// The JSON text of a datum, which must be all of `datum`. The error says what is broken.
    pub fn decode(&self, datum: &[u8]) -> Result<Vec<u8>, &'static str> {
        decode(&self.nodes, self.root, datum)
    }
}

/// See [`Avro::decode`].
pub(super) fn decode(nodes: &[Node], root: usize, datum: &[u8]) -> Result<Vec<u8>, &'static str> {
    let out = Vec::with_capacity(datum.len() * 3 + 64);
    let mut decoder = Decoder { nodes, rest: datum, out, weightless: 0, depth: 0 };
    decoder.value(root)?;
    if decoder.out.len() > MAX_JSON {
        return Err(LARGE);
    }
    if decoder.rest.is_empty() { Ok(decoder.out) } else { Err("bytes follow the datum") }
}

const LARGE: &str = "the JSON of the datum would be too large";

type Step = Result<(), &'static str>;

struct Decoder<'d> {
    nodes: &'d [Node],
    rest: &'d [u8],
    out: Vec<u8>,
    /// Items of no bytes so far.
    weightless: usize,
    depth: usize,
}

impl<'d> Decoder<'d> {
    fn value(&mut self, node: usize) -> Step {
        if self.out.len() > MAX_JSON {
            return Err(LARGE);
        }
        let nodes = self.nodes;
        match &nodes[node].kind {
            Kind::Null => self.out.extend_from_slice(b"null"),
            Kind::Boolean => match self.take(1)? {
                [0] => self.out.extend_from_slice(b"false"),
                [1] => self.out.extend_from_slice(b"true"),
                _ => return Err("a boolean is neither 0 nor 1"),
            },
            Kind::Int => {
                let value = self.int()?;
                self.integer(i64::from(value));
            }
            Kind::Long => {
                let value = self.long()?;
                self.integer(value);
            }
            Kind::Float => {
                let value = f32::from_le_bytes(*self.array()?);
                if !value.is_finite() {
                    return Err("a float is no JSON number");
                }
                let _ = serde_json::to_writer(&mut self.out, &value); // a Vec takes every write
            }
            Kind::Double => {
                let value = f64::from_le_bytes(*self.array()?);
                if !value.is_finite() {
                    return Err("a double is no JSON number");
                }
                json::push_f64(&mut self.out, value);
            }
            Kind::String | Kind::Uuid(Uuid::Text) => {
                let text = self.text()?;
                json::push_string(&mut self.out, text);
            }
            Kind::Bytes => {
                let bytes = self.bytes()?;
                self.base64(bytes);
            }
            Kind::Fixed(size) => {
                let bytes = self.take(*size)?;
                self.base64(bytes);
            }
            Kind::Enum(symbols) => {
                let index = usize::try_from(self.int()?).ok();
                let symbol =
                    index.and_then(|i| symbols.get(i)).ok_or("an enum has no such symbol")?;
                json::push_string(&mut self.out, symbol);
            }
            Kind::Union(branches) => {
                let index = usize::try_from(self.long()?).ok();
                let branch =
                    index.and_then(|i| branches.get(i)).ok_or("a union has no such branch")?;
                self.nested(|decoder| decoder.value(*branch))?;
            }
            Kind::Array(items) => self.nested(|decoder| decoder.list(*items))?,
            Kind::Map(values) => self.nested(|decoder| decoder.map(*values))?,
            Kind::Record(fields) => self.nested(|decoder| decoder.record(fields))?,
            kind => {
                self.out.push(b'"');
                self.logical(kind)?;
                self.out.push(b'"');
            }
        }
        Ok(())
    }

    /// Types whose JSON is a string of digits and signs.
    fn logical(&mut self, kind: &Kind) -> Step {
        match kind {
            Kind::Date => {
                let days = self.int()?;
                logical::push_date(&mut self.out, days).ok_or("a date is out of range")
            }
            Kind::TimeOfDay(unit) => {
                let count = self.long()?;
                let written = logical::push_time(&mut self.out, count, *unit);
                written.ok_or("a time of day is out of range")
            }
            Kind::Timestamp { unit, local } => {
                let count = self.long()?;
                let written = logical::push_timestamp(&mut self.out, count, *unit, *local);
                written.ok_or("a timestamp is out of range")
            }
            Kind::Decimal { scale, fixed, .. } => {
                let bytes = match fixed {
                    Some(size) => self.take(*size)?,
                    None => self.bytes()?,
                };
                let unscaled = logical::decimal_from(bytes).ok_or("a decimal is out of range")?;
                logical::push_decimal(&mut self.out, unscaled, *scale);
                Ok(())
            }
            Kind::Uuid(form) => {
                let bytes = match form {
                    Uuid::Bytes => self.bytes()?,
                    _ => self.take(16)?,
                };
                let uuid = bytes.try_into().map_err(|_| "a UUID is not of 16 bytes")?;
                logical::push_uuid(&mut self.out, uuid);
                Ok(())
            }
            _ => Err("not a logical type"),
        }
    }

    /// Deeper than this, no JSON reader would follow.
    fn nested(&mut self, inner: impl FnOnce(&mut Self) -> Step) -> Step {
        // a union is a level of its own here, so two for each level of JSON; one more is around what is
        // innermost and no level of JSON
        if self.depth > 2 * json::MAX_DEPTH {
            return Err("nested too deep");
        }
        self.depth += 1;
        inner(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn record(&mut self, fields: &[Field]) -> Step {
        self.out.push(b'{');
        for (at, field) in fields.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(&field.label);
            self.value(field.node)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn list(&mut self, items: usize) -> Step {
        self.out.push(b'[');
        self.blocks(self.nodes[items].least, |decoder| decoder.value(items))?;
        self.out.push(b']');
        Ok(())
    }

    fn map(&mut self, values: usize) -> Step {
        self.out.push(b'{');
        self.blocks(self.nodes[values].least.saturating_add(1), |decoder| {
            let name = decoder.text()?;
            json::push_string(&mut decoder.out, name);
            decoder.out.push(b':');
            decoder.value(values)
        })?;
        self.out.push(b'}');
        Ok(())
    }

    /// The blocks of an array or map, whose items take at least so many bytes each.
    fn blocks(&mut self, least: usize, mut item: impl FnMut(&mut Self) -> Step) -> Step {
        let mut first = true;
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                let size = self.long()?; // lets a reader skip the block; this one reads it
                if usize::try_from(size).map_or(true, |size| size > self.rest.len()) {
                    return Err("a block is longer than the datum");
                }
            }
            let count = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
            if least == 0 {
                self.weightless = self.weightless.saturating_add(count);
                if self.weightless > MAX_WEIGHTLESS {
                    return Err("too many items that take no bytes");
                }
            } else if count > self.rest.len() / least {
                return Err("a block has more items than the datum can hold");
            }
            for _ in 0..count {
                if !first {
                    self.out.push(b',');
                }
                first = false;
                item(self)?;
            }
        }
    }

    fn take(&mut self, size: usize) -> Result<&'d [u8], &'static str> {
        let (taken, rest) = self.rest.split_at_checked(size).ok_or("the datum ends too early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'d [u8; N], &'static str> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or("the datum ends too early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn long(&mut self) -> Result<i64, &'static str> {
        let mut value = 0_u64;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            if at == 9 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7F) << (7 * at);
            if *byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(if self.rest.len() < 10 { "the datum ends too early" } else { "a number is too long" })
    }

    fn int(&mut self) -> Result<i32, &'static str> {
        i32::try_from(self.long()?).map_err(|_| "an int is out of range")
    }

    fn bytes(&mut self) -> Result<&'d [u8], &'static str> {
        let size = usize::try_from(self.long()?).map_err(|_| "a length is negative")?;
        self.take(size)
    }

    fn text(&mut self) -> Result<&'d str, &'static str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a string is not UTF-8")
    }

    fn integer(&mut self, value: i64) {
        let _ = serde_json::to_writer(&mut self.out, &value); // a Vec takes every write
    }

    fn base64(&mut self, bytes: &[u8]) {
        json::push_string(&mut self.out, &STANDARD.encode(bytes));
    }
}
