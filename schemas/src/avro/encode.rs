//! JSON text to datum, with every fault pointed at.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    Avro, MAX_DATUM, MAX_JSON, MAX_WEIGHTLESS,
    compile::{Field, Kind, Node, Uuid},
    decode::decode,
    logical,
    tree::{self, Json},
};
use crate::{
    Fault,
    codec::UnknownFields,
    fault::{MAX_FAULTS, push_pointer, short},
    json::{MAX_DEPTH, Unfit},
};

/// How values are written in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notation {
    /// As events write them: the table in [`super`].
    Event,
    /// As schemas write defaults: logical types as the number or bytes below, bytes as a string
    /// of the characters 0 to 255.
    Schema,
}

impl Avro {
    /// Appends the datum of a JSON text. Pointers begin at `/data`.
    pub fn encode(
        &self,
        json: &[u8],
        unknown: UnknownFields,
        out: &mut Vec<u8>,
    ) -> Result<(), Vec<Fault>> {
        encode(&self.nodes, self.root, json, Notation::Event, unknown, out)
    }
}

/// See [`Avro::encode`]. On faults `out` is left with part of a datum.
pub(super) fn encode(
    nodes: &[Node],
    root: usize,
    json: &[u8],
    notation: Notation,
    unknown: UnknownFields,
    out: &mut Vec<u8>,
) -> Result<(), Vec<Fault>> {
    let invalid = |why: String| vec![Fault::at("invalid_data", "data", why)];
    // checked once for all strings
    let json = std::str::from_utf8(json).map_err(|_| invalid("`data` is not UTF-8".into()))?;
    let tree: Json<'_> =
        serde_json::from_str(json).map_err(|e| invalid(format!("`data` is not JSON: {e}")))?;
    let work = json.len().saturating_mul(WORK_PER_BYTE).saturating_add(WORK_PER_BYTE * 64);
    let start = out.len();
    let mut encoder = Encoder {
        nodes,
        notation,
        unknown,
        out,
        failures: 0,
        faults: Vec::new(),
        work,
        weightless: 0,
        grown: 0,
        depth: 0,
    };
    encoder.value(root, &tree, &Place::Root);
    // the compiler decodes defaults itself
    if encoder.failures == 0 && notation == Notation::Event {
        encoder.check_decodes(root, start, json.len());
    }
    if encoder.failures == 0 { Ok(()) } else { Err(encoder.faults) }
}

/// Values tried for each byte of JSON at most. Nested unions are tried branch by branch, and a
/// schema and a text that fail late could make that exponential.
const WORK_PER_BYTE: usize = 64;
/// Bytes written without any in the JSON (defaults, a decimal's sign) that are work like a value.
const BYTES_PER_WORK: usize = 64;
/// A decoder writes at most so many bytes for each byte of JSON, but for defaults and decimals: the most is
/// `1e15,` as a double.
const GROWTH: usize = 4;
/// Bytes of a decimal's JSON at most: its digits, a sign, a zero, a point, two quotes and a comma.
const LARGEST_DECIMAL: usize = 38 + 6;

/// Where a value stands: made on the stack, and into a pointer only when there is a fault.
enum Place<'p> {
    Root,
    Member(&'p Place<'p>, &'p str),
    Item(&'p Place<'p>, usize),
}

impl Place<'_> {
    fn pointer(&self, pointer: &mut String) {
        match self {
            Self::Root => pointer.push_str("/data"),
            Self::Member(parent, name) => {
                parent.pointer(pointer);
                push_pointer(pointer, short(name));
            }
            Self::Item(parent, index) => {
                parent.pointer(pointer);
                let _ = write!(pointer, "/{index}"); // a String takes every write
            }
        }
    }
}

struct Encoder<'e> {
    nodes: &'e [Node],
    notation: Notation,
    unknown: UnknownFields,
    out: &'e mut Vec<u8>,
    /// Faults met, also those beyond the number kept.
    failures: usize,
    faults: Vec<Fault>,
    work: usize,
    /// Items of no bytes so far.
    weightless: usize,
    /// Bytes of JSON that a decoder writes beyond those read, at most: defaults and zeros of decimals.
    grown: usize,
    depth: usize,
}

impl Encoder<'_> {
    fn fault(&mut self, code: &'static str, place: &Place<'_>, detail: impl Into<String>) {
        self.failures += 1;
        if self.faults.len() < MAX_FAULTS {
            let mut pointer = String::new();
            place.pointer(&mut pointer);
            self.faults.push(Fault::new(code, pointer, detail));
        }
    }

    fn mismatch(&mut self, node: usize, json: &Json<'_>, place: &Place<'_>) {
        let detail = format!("expected {}, found {}", self.expected(node), json.found());
        self.fault("invalid_type", place, detail);
    }

    /// A value of the right JSON type that the Avro type cannot hold.
    fn unfit(&mut self, node: usize, place: &Place<'_>) {
        let detail = format!("expected {}", self.expected(node));
        self.fault("invalid_value", place, detail);
    }

    fn too_large(&mut self, place: &Place<'_>) {
        self.fault("too_large", place, "the data is too large or its unions too deep");
    }

    /// Whether so many bytes may be written that the JSON does not have.
    fn may_fill(&mut self, bytes: usize, place: &Place<'_>) -> bool {
        let room = MAX_DATUM.saturating_sub(self.out.len());
        let work = self.work.checked_sub(bytes / BYTES_PER_WORK);
        let Some(work) = work.filter(|_| bytes <= room) else {
            self.too_large(place);
            return false;
        };
        self.work = work;
        true
    }

    /// Refuses a datum of which a decoder would make too much JSON. Most are far from that, and known
    /// to be; the others are decoded to see.
    fn check_decodes(&mut self, root: usize, start: usize, read: usize) {
        if read.saturating_mul(GROWTH).saturating_add(self.grown) <= MAX_JSON {
            return;
        }
        if let Err(why) = decode(self.nodes, root, &self.out[start..]) {
            self.fault("too_large", &Place::Root, why);
        }
    }

    fn value(&mut self, node: usize, json: &Json<'_>, place: &Place<'_>) {
        if self.work == 0 || self.out.len() > MAX_DATUM {
            return self.too_large(place);
        }
        self.work -= 1;
        if self.depth > MAX_DEPTH {
            return self.fault("invalid_data", place, Unfit::Depth.detail());
        }
        self.depth += usize::from(matches!(json, Json::Array(_) | Json::Object(_)));
        self.typed(node, json, place);
        self.depth -= usize::from(matches!(json, Json::Array(_) | Json::Object(_)));
    }

    fn typed(&mut self, node: usize, json: &Json<'_>, place: &Place<'_>) {
        let nodes = self.nodes;
        match (&nodes[node].kind, json) {
            (Kind::Null, Json::Null) => {}
            (Kind::Boolean, Json::Boolean(value)) => self.out.push(u8::from(*value)),
            (Kind::Int, _) => self.int(node, json, place),
            (Kind::Long, _) => self.long(node, json, place),
            (Kind::Double, Json::Float(value)) => self.out.extend(value.to_le_bytes()),
            (Kind::Double, Json::Integer(value)) => self.out.extend((*value as f64).to_le_bytes()),
            (Kind::Double, Json::Large(value)) => self.out.extend((*value as f64).to_le_bytes()),
            (Kind::Float, Json::Float(value)) => self.float(node, *value, place),
            (Kind::Float, Json::Integer(value)) => self.float(node, *value as f64, place),
            (Kind::Float, Json::Large(value)) => self.float(node, *value as f64, place),
            (Kind::String, Json::Text(text)) => self.bytes(text.as_bytes()),
            (Kind::Array(items), Json::Array(list)) => self.array(*items, list, place),
            (Kind::Map(values), Json::Object(members)) => self.map(*values, members, place),
            (Kind::Record(fields), Json::Object(members)) => self.record(fields, members, place),
            (Kind::Union(branches), _) => self.union(node, branches, json, place),
            (Kind::Enum(symbols), Json::Text(text)) => {
                match symbols.iter().position(|symbol| *symbol == **text) {
                    Some(index) => self.zigzag(index as i64),
                    None => self.unfit(node, place),
                }
            }
            (kind, _) if self.notation == Notation::Schema => {
                self.schema_notation(node, kind, json, place);
            }
            (kind, Json::Text(text)) if self.may_fit(node, json) => {
                if self.text(kind, text, place).is_none() {
                    self.unfit(node, place);
                }
            }
            (Kind::Decimal { .. }, Json::Integer(number)) => {
                self.whole_decimal(node, &number.to_string(), place);
            }
            (Kind::Decimal { .. }, Json::Large(number)) => {
                self.whole_decimal(node, &number.to_string(), place);
            }
            _ => self.mismatch(node, json, place),
        }
    }

    /// Types whose JSON is a string of some form.
    fn text(&mut self, kind: &Kind, text: &str, place: &Place<'_>) -> Option<()> {
        match kind {
            Kind::Bytes => self.bytes(&STANDARD.decode(text).ok()?),
            Kind::Fixed(size) => {
                let bytes = STANDARD.decode(text).ok().filter(|b| b.len() == *size)?;
                self.out.extend_from_slice(&bytes);
            }
            Kind::Date => self.zigzag(i64::from(logical::parse_date(text)?)),
            Kind::TimeOfDay(unit) => self.zigzag(logical::parse_time(text, *unit)?),
            Kind::Timestamp { unit, local } => {
                self.zigzag(logical::parse_timestamp(text, *unit, *local)?);
            }
            Kind::Decimal { precision, scale, fixed } => {
                self.decimal(logical::parse_decimal(text, *precision, *scale)?, *fixed, place);
            }
            Kind::Uuid(form) => {
                let uuid = logical::parse_uuid(text)?;
                match form {
                    Uuid::Text => self.bytes(text.as_bytes()),
                    Uuid::Bytes => self.bytes(&uuid),
                    Uuid::Fixed => self.out.extend_from_slice(&uuid),
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// Types that defaults write in another way than events do. What no event could say (a date beyond
    /// the calendar, a decimal of too many digits) is no default either.
    fn schema_notation(&mut self, node: usize, kind: &Kind, json: &Json<'_>, place: &Place<'_>) {
        let (start, failures) = (self.out.len(), self.failures);
        self.written_by_schemas(node, kind, json, place);
        let in_an_event = |datum: &[u8]| {
            let json = decode(self.nodes, node, datum).ok()?;
            let unknown = UnknownFields::Reject;
            encode(self.nodes, node, &json, Notation::Event, unknown, &mut Vec::new()).ok()
        };
        if self.failures == failures && in_an_event(&self.out[start..]).is_none() {
            self.unfit(node, place);
        }
    }

    fn written_by_schemas(&mut self, node: usize, kind: &Kind, json: &Json<'_>, place: &Place<'_>) {
        match (kind, json) {
            (Kind::Date | Kind::TimeOfDay(logical::Unit::Millis), _) => self.int(node, json, place),
            (Kind::TimeOfDay(_) | Kind::Timestamp { .. }, _) => self.long(node, json, place),
            (Kind::Uuid(Uuid::Text), Json::Text(text)) => self.bytes(text.as_bytes()),
            (
                Kind::Bytes | Kind::Fixed(_) | Kind::Decimal { .. } | Kind::Uuid(_),
                Json::Text(text),
            ) => {
                let bytes: Result<Vec<u8>, _> =
                    text.chars().map(|c| u8::try_from(u32::from(c))).collect();
                let size = match kind {
                    Kind::Fixed(size) | Kind::Decimal { fixed: Some(size), .. } => Some(*size),
                    Kind::Uuid(Uuid::Fixed) => Some(16),
                    _ => None,
                };
                match (bytes, size) {
                    (Ok(bytes), None) => self.bytes(&bytes),
                    (Ok(bytes), Some(size)) if bytes.len() == size => self.out.extend(bytes),
                    _ => self.unfit(node, place),
                }
            }
            _ => self.mismatch(node, json, place),
        }
    }

    fn int(&mut self, node: usize, json: &Json<'_>, place: &Place<'_>) {
        match json.integer() {
            Some(value) if i32::try_from(value).is_ok() => self.zigzag(value),
            Some(_) => self.out_of_range(node, place),
            None => self.no_integer(node, json, place),
        }
    }

    fn long(&mut self, node: usize, json: &Json<'_>, place: &Place<'_>) {
        match json.integer() {
            Some(value) => self.zigzag(value),
            None => self.no_integer(node, json, place),
        }
    }

    fn no_integer(&mut self, node: usize, json: &Json<'_>, place: &Place<'_>) {
        match json {
            Json::Large(_) => self.out_of_range(node, place),
            Json::Float(value) if value.fract() == 0.0 => self.out_of_range(node, place),
            _ => self.mismatch(node, json, place),
        }
    }

    fn out_of_range(&mut self, node: usize, place: &Place<'_>) {
        let detail = format!("the number is out of range of {}", self.expected(node));
        self.fault("out_of_range", place, detail);
    }

    fn float(&mut self, node: usize, value: f64, place: &Place<'_>) {
        let narrow = value as f32;
        if narrow.is_finite() {
            self.out.extend(narrow.to_le_bytes());
        } else {
            self.out_of_range(node, place);
        }
    }

    /// A decimal that is written as a number of JSON.
    fn whole_decimal(&mut self, node: usize, digits: &str, place: &Place<'_>) {
        if self.text(&self.nodes[node].kind, digits, place).is_none() {
            self.unfit(node, place);
        }
    }

    fn decimal(&mut self, unscaled: i128, fixed: Option<usize>, place: &Place<'_>) {
        self.grown = self.grown.saturating_add(LARGEST_DECIMAL);
        let (bytes, start) = logical::decimal_bytes(unscaled);
        let Some(size) = fixed else { return self.bytes(&bytes[start..]) };
        let sign = if unscaled < 0 { 0xFF } else { 0 };
        // a precision that its fixed cannot hold is no schema, so what is cut off is sign
        let missing = size.saturating_sub(16);
        if !self.may_fill(missing, place) {
            return;
        }
        self.out.extend(std::iter::repeat_n(sign, missing));
        self.out.extend_from_slice(&bytes[16 - (size - missing)..]);
    }

    fn array(&mut self, items: usize, list: &[Json<'_>], place: &Place<'_>) {
        if self.nodes[items].least == 0 {
            self.weightless += list.len();
            if self.weightless > MAX_WEIGHTLESS {
                return self.fault("too_large", place, "too many items that take no bytes");
            }
        }
        if !list.is_empty() {
            self.zigzag(list.len() as i64);
            for (index, item) in list.iter().enumerate() {
                self.value(items, item, &Place::Item(place, index));
            }
        }
        self.out.push(0);
    }

    fn map(
        &mut self,
        values: usize,
        members: &[(std::borrow::Cow<'_, str>, Json<'_>)],
        place: &Place<'_>,
    ) {
        if !members.is_empty() {
            for at in tree::repeated(members) {
                let here = Place::Member(place, &members[at].0);
                self.fault("duplicate_field", &here, "the key is given twice");
            }
            self.zigzag(members.len() as i64);
            for (name, value) in members {
                self.bytes(name.as_bytes());
                self.value(values, value, &Place::Member(place, name));
            }
        }
        self.out.push(0);
    }

    fn record(
        &mut self,
        fields: &[Field],
        members: &[(std::borrow::Cow<'_, str>, Json<'_>)],
        place: &Place<'_>,
    ) {
        let mut used = 0;
        // members mostly come in the schema's order: look where the next one should be
        let mut next = 0;
        for field in fields {
            let named = |at: &usize| members[*at].0 == *field.name;
            let at = Some(next)
                .filter(|at| *at < members.len() && named(at))
                .or_else(|| (0..members.len()).find(named));
            let here = Place::Member(place, &field.name);
            match (at, &field.default) {
                (Some(at), _) => {
                    used += 1;
                    next = at + 1;
                    self.value(field.node, &members[at].1, &here);
                }
                (None, Some(default)) => {
                    if self.may_fill(default.datum.len(), &here) {
                        self.out.extend_from_slice(&default.datum);
                        let written = default.json.saturating_add(field.label.len() + 1); // a comma
                        self.grown = self.grown.saturating_add(written);
                    }
                }
                (None, None) => {
                    let detail = format!("expected {}, found nothing", self.expected(field.node));
                    self.fault("missing_field", &here, detail);
                }
            }
        }
        if used < members.len() {
            self.superfluous(fields, members, place);
        }
    }

    fn superfluous(
        &mut self,
        fields: &[Field],
        members: &[(std::borrow::Cow<'_, str>, Json<'_>)],
        place: &Place<'_>,
    ) {
        for (at, (name, _)) in members.iter().enumerate() {
            if self.faults.len() >= MAX_FAULTS {
                break;
            }
            let here = Place::Member(place, name);
            if !fields.iter().any(|field| field.name == **name) {
                if self.unknown == UnknownFields::Drop {
                    continue;
                }
                self.fault("unknown_field", &here, "the schema has no such field");
            } else if members[..at].iter().any(|(earlier, _)| earlier == name) {
                self.fault("duplicate_field", &here, "the field is given twice");
            }
        }
    }

    /// The first branch that fits. Where the JSON type leaves one branch only, its faults are
    /// reported; where it leaves several and none fits, those of the first. Where unknown fields are
    /// dropped, a branch that knows them all goes before one that would lose some.
    fn union(&mut self, node: usize, branches: &[usize], json: &Json<'_>, place: &Place<'_>) {
        let mut likely = branches.iter().enumerate().filter(|(_, b)| self.may_fit(**b, json));
        let Some((first, branch)) = likely.next() else {
            return self.mismatch(node, json, place);
        };
        let more: Vec<_> = likely.collect();
        if more.is_empty() {
            return self.branch(first, *branch, json, place);
        }
        let configured = self.unknown;
        let passes: &[UnknownFields] = match configured {
            UnknownFields::Reject => &[UnknownFields::Reject],
            UnknownFields::Drop => &[UnknownFields::Reject, UnknownFields::Drop],
        };
        let (start, failures, faults) = (self.out.len(), self.failures, self.faults.len());
        let weightless = self.weightless;
        let mut kept = (failures, Vec::new());
        for unknown in passes {
            self.unknown = *unknown;
            for (index, branch) in std::iter::once((first, branch)).chain(more.iter().copied()) {
                self.out.truncate(start);
                self.failures = failures;
                self.weightless = weightless;
                self.faults.truncate(faults);
                self.branch(index, *branch, json, place);
                if self.failures == failures {
                    self.unknown = configured;
                    return;
                }
                if index == first {
                    kept = (self.failures, self.faults.split_off(faults));
                }
            }
        }
        self.unknown = configured;
        self.faults.truncate(faults);
        self.failures = kept.0;
        self.faults.extend(kept.1);
    }

    fn branch(&mut self, index: usize, node: usize, json: &Json<'_>, place: &Place<'_>) {
        self.zigzag(index as i64);
        if self.work == 0 {
            return self.value(node, json, place); // which faults it
        }
        self.work -= 1;
        self.typed(node, json, place); // the same value: not a level deeper
    }

    /// Whether a value's JSON type is one that a node takes.
    fn may_fit(&self, node: usize, json: &Json<'_>) -> bool {
        let numbers = self.notation == Notation::Schema;
        match (&self.nodes[node].kind, json) {
            (Kind::Null, Json::Null) | (Kind::Boolean, Json::Boolean(_)) => true,
            (Kind::Int | Kind::Long, _) => {
                json.integer().is_some() || matches!(json, Json::Large(_))
            }
            (Kind::Float | Kind::Double, Json::Integer(_) | Json::Large(_) | Json::Float(_)) => {
                true
            }
            (Kind::Array(_), Json::Array(_)) => true,
            (Kind::Map(_) | Kind::Record(_), Json::Object(_)) => true,
            (Kind::Decimal { .. }, Json::Integer(_) | Json::Large(_)) => !numbers,
            (Kind::Date | Kind::TimeOfDay(_) | Kind::Timestamp { .. }, _) if numbers => {
                json.integer().is_some()
            }
            (
                Kind::String
                | Kind::Bytes
                | Kind::Fixed(_)
                | Kind::Enum(_)
                | Kind::Date
                | Kind::TimeOfDay(_)
                | Kind::Timestamp { .. }
                | Kind::Decimal { .. }
                | Kind::Uuid(_),
                Json::Text(_),
            ) => true,
            _ => false,
        }
    }

    fn zigzag(&mut self, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            self.out.push(rest as u8 | 0x80); // the low seven bits
            rest >>= 7;
        }
        self.out.push(rest as u8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.zigzag(bytes.len() as i64);
        self.out.extend_from_slice(bytes);
    }

    /// What a node takes, in words.
    fn expected(&self, node: usize) -> String {
        match &self.nodes[node].kind {
            Kind::Null => "null".into(),
            Kind::Boolean => "a boolean".into(),
            Kind::Int => "an int (32 bits)".into(),
            Kind::Long => "a long (64 bits)".into(),
            Kind::Float => "a float".into(),
            Kind::Double => "a double".into(),
            Kind::Bytes => "a string in base64 (bytes)".into(),
            Kind::Fixed(size) => format!("a string in base64 of {size} bytes (fixed)"),
            Kind::String => "a string".into(),
            Kind::Enum(_) => "one of the enum's symbols".into(),
            Kind::Array(_) => "an array".into(),
            Kind::Map(_) => "an object (map)".into(),
            Kind::Record(_) => "an object (record)".into(),
            Kind::Date => "a date such as 2013-01-31".into(),
            Kind::TimeOfDay(_) => "a time of day such as 10:15:00".into(),
            Kind::Timestamp { local: false, .. } => {
                "an RFC 3339 time such as 2013-01-01T10:15:00Z".into()
            }
            Kind::Timestamp { local: true, .. } => {
                "a time without offset such as 2013-01-01T10:15:00".into()
            }
            Kind::Decimal { precision, scale, .. } => {
                format!("a decimal string of {precision} digits, {scale} after the point")
            }
            Kind::Uuid(_) => "a UUID".into(),
            Kind::Union(branches) => {
                let words: Vec<_> = branches.iter().map(|b| self.expected(*b)).collect();
                words.join(" or ")
            }
        }
    }
}
