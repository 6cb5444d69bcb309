//! From a parsed schema to a table of nodes: names resolved to places, defaults already encoded,
//! and for each node the fewest bytes its values take, so that a decoder can tell a count that
//! the input cannot hold.

use std::collections::HashMap;

use apache_avro::{
    Schema,
    schema::{DecimalSchema, InnerDecimalSchema, Name, RecordSchema, UuidSchema},
};
use serde_json::Value;

use super::{
    MAX_DATUM, MAX_JSON,
    decode::decode,
    defaults,
    encode::{self, Notation},
    logical::Unit,
};
use crate::{codec::UnknownFields, json};

/// What stands at one place of a schema. Children are indexes into the table.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// The fewest bytes of any value.
    pub(super) least: usize,
}

#[derive(Debug)]
pub(super) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<Field>),
    Date,
    TimeOfDay(Unit),
    Timestamp { unit: Unit, local: bool },
    Decimal { precision: u32, scale: u32, fixed: Option<usize> },
    Uuid(Uuid),
}

/// How a UUID is stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum Uuid {
    Text,
    Bytes,
    Fixed,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    /// Its name as JSON with a colon, as a decoder writes it.
    pub(super) label: Vec<u8>,
    pub(super) node: usize,
    pub(super) default: Option<Filling>,
}

/// A default, ready to be put in.
#[derive(Debug)]
pub(super) struct Filling {
    pub(super) datum: Vec<u8>,
    /// Bytes of the JSON that a decoder makes of it.
    pub(super) json: usize,
}

/// The digits of the largest decimal: what 128 bits hold.
const MAX_PRECISION: usize = 38;

/// Compiles a schema: the table and the root's place in it.
pub(super) fn compile(schema: &Schema) -> Result<(Vec<Node>, usize), String> {
    let mut compiler = Compiler::default();
    let root = compiler.node(schema)?;
    compiler.measure();
    compiler.encode_defaults()?;
    Ok((compiler.nodes, root))
}

#[derive(Default)]
struct Compiler {
    nodes: Vec<Node>,
    names: HashMap<Name, usize>,
    defaults: Vec<Default>,
    /// Bytes of the defaults encoded so far, and of their JSON.
    filled: (usize, usize),
}

/// A default to encode once all nodes are known.
struct Default {
    record: usize,
    field: usize,
    json: String,
}

impl Compiler {
    fn push(&mut self, kind: Kind) -> usize {
        self.nodes.push(Node { kind, least: 0 });
        self.nodes.len() - 1
    }

    /// The node of a type with a name. The parser has made names full, and overwrites what had one before.
    fn named(&mut self, name: &Name, kind: Kind) -> Result<usize, String> {
        let at = self.push(kind);
        match self.names.insert(name.clone(), at) {
            None => Ok(at),
            Some(_) => Err(format!("it defines `{name}` twice")),
        }
    }

    fn node(&mut self, schema: &Schema) -> Result<usize, String> {
        let timestamp = |unit, local| Kind::Timestamp { unit, local };
        Ok(match schema {
            Schema::Null => self.push(Kind::Null),
            Schema::Boolean => self.push(Kind::Boolean),
            Schema::Int => self.push(Kind::Int),
            Schema::Long => self.push(Kind::Long),
            Schema::Float => self.push(Kind::Float),
            Schema::Double => self.push(Kind::Double),
            Schema::Bytes => self.push(Kind::Bytes),
            Schema::String => self.push(Kind::String),
            Schema::Date => self.push(Kind::Date),
            Schema::TimeMillis => self.push(Kind::TimeOfDay(Unit::Millis)),
            Schema::TimeMicros => self.push(Kind::TimeOfDay(Unit::Micros)),
            Schema::TimestampMillis => self.push(timestamp(Unit::Millis, false)),
            Schema::TimestampMicros => self.push(timestamp(Unit::Micros, false)),
            Schema::TimestampNanos => self.push(timestamp(Unit::Nanos, false)),
            Schema::LocalTimestampMillis => self.push(timestamp(Unit::Millis, true)),
            Schema::LocalTimestampMicros => self.push(timestamp(Unit::Micros, true)),
            Schema::LocalTimestampNanos => self.push(timestamp(Unit::Nanos, true)),
            Schema::Uuid(UuidSchema::String) => self.push(Kind::Uuid(Uuid::Text)),
            Schema::Uuid(UuidSchema::Bytes) => self.push(Kind::Uuid(Uuid::Bytes)),
            Schema::Uuid(UuidSchema::Fixed(fixed)) => {
                self.named(&fixed.name, Kind::Uuid(Uuid::Fixed))?
            }
            Schema::Fixed(fixed) => self.named(&fixed.name, Kind::Fixed(fixed.size))?,
            Schema::Enum(list) => self.named(&list.name, Kind::Enum(list.symbols.clone()))?,
            Schema::Decimal(decimal) => self.decimal(decimal)?,
            Schema::Array(array) => {
                let items = self.node(&array.items)?;
                self.push(Kind::Array(items))
            }
            Schema::Map(map) => {
                let values = self.node(&map.types)?;
                self.push(Kind::Map(values))
            }
            Schema::Union(union) => {
                let branches: Result<_, _> =
                    union.variants().iter().map(|branch| self.node(branch)).collect();
                self.push(Kind::Union(branches?))
            }
            Schema::Record(record) => self.record(record)?,
            Schema::Ref { name } => {
                *self.names.get(name).ok_or_else(|| format!("no type is named {name}"))?
            }
            Schema::BigDecimal => {
                return Err("the logical type big-decimal is not supported".into());
            }
            Schema::Duration(_) => return Err("the logical type duration is not supported".into()),
        })
    }

    fn decimal(&mut self, of: &DecimalSchema) -> Result<usize, String> {
        if of.precision > MAX_PRECISION {
            return Err(format!("decimals of more than {MAX_PRECISION} digits are not supported"));
        }
        let kind = |fixed| Kind::Decimal {
            precision: of.precision as u32, // at most 38, and the scale at most that
            scale: of.scale as u32,
            fixed,
        };
        Ok(match &of.inner {
            InnerDecimalSchema::Bytes => self.push(kind(None)),
            InnerDecimalSchema::Fixed(fixed) => {
                let largest = 10_i128.pow(of.precision as u32) - 1;
                if fixed.size < 16 && largest >> (8 * fixed.size).saturating_sub(1) != 0 {
                    return Err(format!("{} digits do not fit {}", of.precision, fixed.name));
                }
                self.named(&fixed.name, kind(Some(fixed.size)))?
            }
        })
    }

    fn record(&mut self, record: &RecordSchema) -> Result<usize, String> {
        // named before its fields are compiled: they may refer to it
        let at = self.named(&record.name, Kind::Null)?;
        let mut fields = Vec::with_capacity(record.fields.len());
        for (place, field) in record.fields.iter().enumerate() {
            let node = self.node(&field.schema)?;
            if let Some(default) = defaults::of(field) {
                let json = Value::to_string(default);
                self.defaults.push(Default { record: at, field: place, json });
            }
            let mut label = Vec::new();
            json::push_string(&mut label, &field.name);
            label.push(b':');
            fields.push(Field { name: field.name.clone(), label, node, default: None });
        }
        self.nodes[at].kind = Kind::Record(fields);
        Ok(at)
    }

    /// Finds `least` for all nodes. Starting from nothing and only ever growing, the sums settle
    /// within as many rounds as names nest; a recursive type without an end would grow for ever, so
    /// the rounds are limited. Any value below the true one is safe.
    fn measure(&mut self) {
        for _ in 0..self.nodes.len().min(64) {
            let mut settled = true;
            for at in 0..self.nodes.len() {
                let least = self.least(&self.nodes[at].kind);
                settled &= least == self.nodes[at].least;
                self.nodes[at].least = least;
            }
            if settled {
                break;
            }
        }
    }

    fn least(&self, kind: &Kind) -> usize {
        match kind {
            Kind::Null => 0,
            Kind::Float => 4,
            Kind::Double => 8,
            Kind::Fixed(size) | Kind::Decimal { fixed: Some(size), .. } => *size,
            Kind::Uuid(Uuid::Fixed) => 16,
            Kind::Uuid(Uuid::Bytes) => 17,
            Kind::Union(branches) => 1_usize
                .saturating_add(branches.iter().map(|b| self.nodes[*b].least).min().unwrap_or(0)),
            Kind::Record(fields) => {
                fields.iter().fold(0, |sum: usize, f| sum.saturating_add(self.nodes[f.node].least))
            }
            _ => 1,
        }
    }

    /// Encodes the defaults. One may be a record that lacks a field with a default of its own, so
    /// they are tried until a round brings nothing new.
    fn encode_defaults(&mut self) -> Result<(), String> {
        let mut open = std::mem::take(&mut self.defaults);
        loop {
            let (mut failed, mut first) = (Vec::new(), None);
            let before = open.len();
            for default in open {
                let Kind::Record(fields) = &self.nodes[default.record].kind else { continue };
                let field = &fields[default.field];
                let mut datum = Vec::new();
                let json = default.json.as_bytes();
                let unknown = UnknownFields::Reject;
                match encode::encode(
                    &self.nodes,
                    field.node,
                    json,
                    Notation::Schema,
                    unknown,
                    &mut datum,
                ) {
                    Ok(()) => {
                        let filling = filling(&self.nodes, field, datum)?;
                        self.filled.0 = self.filled.0.saturating_add(filling.datum.len());
                        self.filled.1 = self.filled.1.saturating_add(filling.json);
                        if self.filled.0 > MAX_DATUM {
                            return Err(format!("the defaults take more than {MAX_DATUM} bytes"));
                        }
                        if self.filled.1 > MAX_JSON {
                            return Err(format!(
                                "the defaults take more than {MAX_JSON} bytes of JSON"
                            ));
                        }
                        self.set_default(default.record, default.field, filling);
                    }
                    Err(faults) => {
                        let why = faults.first().map(ToString::to_string).unwrap_or_default();
                        first.get_or_insert_with(|| {
                            format!("the default of field `{}` does not fit: {why}", field.name)
                        });
                        failed.push(default);
                    }
                }
            }
            match first {
                None => return Ok(()),
                Some(why) if failed.len() == before => return Err(why),
                Some(_) => open = failed,
            }
        }
    }

    fn set_default(&mut self, record: usize, field: usize, filling: Filling) {
        if let Kind::Record(fields) = &mut self.nodes[record].kind {
            fields[field].default = Some(filling);
        }
    }
}

/// What fills a field in. It is decoded once, so that an encoder knows how much JSON it will be.
fn filling(nodes: &[Node], field: &Field, datum: Vec<u8>) -> Result<Filling, String> {
    let json = decode(nodes, field.node, &datum)
        .map_err(|why| format!("the default of field `{}` cannot be used: {why}", field.name))?;
    Ok(Filling { json: json.len(), datum })
}
