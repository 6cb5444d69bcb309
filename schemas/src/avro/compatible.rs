//! Whether what one schema wrote another one reads: the rules of the specification's section
//! "Schema Resolution", with the place of each clash.
//!
//! A clash that only some values would meet (a symbol, a branch of a union) is a clash. Logical
//! types count as the types below them, but for decimals, whose digits must agree. Every type is
//! compared as what it is, wherever in its schema it happens to be defined.

use std::collections::{HashMap, HashSet};

use apache_avro::{
    Schema,
    schema::{
        Aliases, EnumSchema, FixedSchema, InnerDecimalSchema, Name, RecordSchema, UuidSchema,
    },
};

use super::defaults;

/// Clashes told at most.
const MAX_CLASHES: usize = 20;
/// Pairs of types compared at most: unions in unions are tried branch by branch.
const MAX_WORK: usize = 100_000;
/// Types within types compared at most: names lead deeper than their text is nested.
const MAX_DEPTH: usize = 128;

/// What keeps `reader` from reading all that `writer` can have written; nothing when it can. Each
/// entry begins with a path into the data.
pub(super) fn clashes(reader: &Schema, writer: &Schema) -> Vec<String> {
    let mut checker = Checker {
        readers: names(reader),
        writers: names(writer),
        assumed: HashSet::new(),
        order: Vec::new(),
        found: Vec::new(),
        work: MAX_WORK,
        depth: 0,
    };
    checker.pair(reader, writer, &Path::Root);
    checker.found
}

/// A place in the data.
enum Path<'p> {
    Root,
    Field(&'p Path<'p>, &'p str),
    Each(&'p Path<'p>),
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Root => f.write_str("/data"),
            Self::Field(parent, name) => write!(f, "{parent}/{name}"),
            Self::Each(parent) => write!(f, "{parent}/*"),
        }
    }
}

/// A type without its logical meaning.
enum Plain<'s> {
    Primitive(Primitive),
    Array(&'s Schema),
    Map(&'s Schema),
    Union(&'s [Schema]),
    Record(&'s RecordSchema),
    Enum(&'s EnumSchema),
    Fixed(&'s FixedSchema),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Primitive {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
}

struct Checker<'s> {
    readers: HashMap<Name, &'s Schema>,
    writers: HashMap<Name, &'s Schema>,
    /// Pairs under way or found to fit: types that hold themselves meet themselves again.
    assumed: HashSet<(*const Schema, *const Schema)>,
    /// The same in the order they came, so that what rested on a refuted one can be forgotten.
    order: Vec<(*const Schema, *const Schema)>,
    found: Vec<String>,
    work: usize,
    depth: usize,
}

impl<'s> Checker<'s> {
    fn clash(&mut self, path: &Path<'_>, what: &str) {
        if self.found.len() < MAX_CLASHES {
            self.found.push(format!("{path}: {what}"));
        }
    }

    /// Compares a pair, and tells whether it fits.
    fn pair(&mut self, reader: &'s Schema, writer: &'s Schema, path: &Path<'_>) -> bool {
        let (Some(reader), Some(writer)) =
            (resolve(&self.readers, reader), resolve(&self.writers, writer))
        else {
            self.clash(path, "a type is not defined");
            return false;
        };
        if self.work == 0 || self.depth == MAX_DEPTH {
            self.clash(&Path::Root, "the schemas are too large or too deep to compare");
            return false;
        }
        self.work -= 1;
        let pair = (std::ptr::from_ref(reader), std::ptr::from_ref(writer));
        if !self.assumed.insert(pair) {
            return true;
        }
        let since = self.order.len();
        self.order.push(pair);
        self.depth += 1;
        let fits = self.resolved(reader, writer, path);
        self.depth -= 1;
        if !fits {
            for pair in self.order.drain(since..) {
                self.assumed.remove(&pair);
            }
        }
        fits
    }

    fn resolved(&mut self, reader: &'s Schema, writer: &'s Schema, path: &Path<'_>) -> bool {
        if let (Schema::Decimal(new), Schema::Decimal(old)) = (reader, writer)
            && (new.precision, new.scale) != (old.precision, old.scale)
        {
            let what = format!(
                "the reader takes decimals of {} digits, {} after the point; the writer has {} and {}",
                new.precision, new.scale, old.precision, old.scale
            );
            self.clash(path, &what);
            return false;
        }
        match (plain(reader), plain(writer)) {
            (_, Plain::Union(branches)) => {
                branches.iter().fold(true, |fits, branch| self.pair(reader, branch, path) & fits)
            }
            (Plain::Union(branches), _) => self.some_branch(branches, writer, path),
            (Plain::Primitive(new), Plain::Primitive(old)) if promotes(old, new) => true,
            (Plain::Array(new), Plain::Array(old)) | (Plain::Map(new), Plain::Map(old)) => {
                self.pair(new, old, &Path::Each(path))
            }
            (Plain::Record(new), Plain::Record(old)) => {
                self.same_name(&new.name, &new.aliases, &old.name, path)
                    && self.records(new, old, path)
            }
            (Plain::Enum(new), Plain::Enum(old)) => {
                self.same_name(&new.name, &new.aliases, &old.name, path)
                    && self.enums(new, old, path)
            }
            (Plain::Fixed(new), Plain::Fixed(old)) => {
                self.same_name(&new.name, &new.aliases, &old.name, path)
                    && self.sizes(new.size, old.size, path)
            }
            (new, old) => {
                let what =
                    format!("the reader takes {}, the writer has {}", word(&new), word(&old));
                self.clash(path, &what);
                false
            }
        }
    }

    /// A branch that takes all of it. Where there is none and only one is of the kind, its clashes are
    /// told.
    fn some_branch(&mut self, branches: &'s [Schema], writer: &'s Schema, path: &Path<'_>) -> bool {
        let before = self.found.len();
        let mut told = Vec::new();
        for branch in branches {
            if self.pair(branch, writer, path) {
                self.found.truncate(before);
                return true;
            }
            told.push(self.found.split_off(before));
        }
        let kind =
            |schema| resolve(&self.readers, schema).map(|s| std::mem::discriminant(&plain(s)));
        let of = resolve(&self.writers, writer).map(|s| std::mem::discriminant(&plain(s)));
        let complex = resolve(&self.writers, writer)
            .is_some_and(|s| !matches!(plain(s), Plain::Primitive(_)));
        let mut alike = branches.iter().zip(told).filter(|(b, _)| complex && kind(b) == of);
        match (alike.next(), alike.next()) {
            (Some((_, clashes)), None) => {
                self.found.extend(clashes.into_iter().take(MAX_CLASHES - before.min(MAX_CLASHES)));
            }
            _ => {
                let has = resolve(&self.writers, writer).map_or("it", |s| word(&plain(s)));
                self.clash(path, &format!("no branch of the reader's union takes {has}"));
            }
        }
        false
    }

    fn same_name(
        &mut self,
        reader: &Name,
        aliases: &Aliases,
        writer: &Name,
        path: &Path<'_>,
    ) -> bool {
        let full = writer.fullname(None);
        let aliased = aliases.iter().flatten().any(|alias| alias.fullname(None) == full);
        let same = reader.name() == writer.name() || aliased;
        if !same {
            let what = format!(
                "the reader's type is named {}, the writer's {full}: an alias would make them one",
                reader.fullname(None)
            );
            self.clash(path, &what);
        }
        same
    }

    fn records(&mut self, new: &'s RecordSchema, old: &'s RecordSchema, path: &Path<'_>) -> bool {
        let mut fits = true;
        for field in &new.fields {
            let here = Path::Field(path, &field.name);
            let mut names = std::iter::once(&field.name).chain(&field.aliases);
            let written = names.find_map(|name| old.fields.iter().find(|f| f.name == *name));
            match written {
                Some(written) => fits &= self.pair(&field.schema, &written.schema, &here),
                None if defaults::of(field).is_some() => {}
                None => {
                    self.clash(
                        &here,
                        "the writer has no such field, and the reader no default for it",
                    );
                    fits = false;
                }
            }
        }
        fits
    }

    fn enums(&mut self, new: &EnumSchema, old: &EnumSchema, path: &Path<'_>) -> bool {
        let lacks = |symbol: &&String| !new.symbols.contains(symbol);
        let missing: Vec<_> = old.symbols.iter().filter(lacks).map(String::as_str).collect();
        if new.default.is_some() || missing.is_empty() {
            return true;
        }
        let what = format!("the reader lacks the symbols {}, and a default", missing.join(", "));
        self.clash(path, &what);
        false
    }

    fn sizes(&mut self, new: usize, old: usize, path: &Path<'_>) -> bool {
        if new != old {
            self.clash(path, &format!("the reader takes {new} bytes, the writer has {old}"));
        }
        new == old
    }
}

fn promotes(from: Primitive, to: Primitive) -> bool {
    use Primitive as P;
    from == to
        || matches!(
            (from, to),
            (P::Int, P::Long | P::Float | P::Double)
                | (P::Long, P::Float | P::Double)
                | (P::Float, P::Double)
                | (P::Bytes, P::String)
                | (P::String, P::Bytes)
        )
}

fn resolve<'s>(names: &HashMap<Name, &'s Schema>, schema: &'s Schema) -> Option<&'s Schema> {
    match schema {
        Schema::Ref { name } => names.get(name).copied(),
        other => Some(other),
    }
}

fn plain(schema: &Schema) -> Plain<'_> {
    let primitive = Plain::Primitive;
    match schema {
        Schema::Null | Schema::Ref { .. } => primitive(Primitive::Null), // a name was resolved before
        Schema::Boolean => primitive(Primitive::Boolean),
        Schema::Int | Schema::Date | Schema::TimeMillis => primitive(Primitive::Int),
        Schema::Long
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => primitive(Primitive::Long),
        Schema::Float => primitive(Primitive::Float),
        Schema::Double => primitive(Primitive::Double),
        Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => {
            primitive(Primitive::Bytes)
        }
        Schema::String | Schema::Uuid(UuidSchema::String) => primitive(Primitive::String),
        Schema::Decimal(decimal) => match &decimal.inner {
            InnerDecimalSchema::Bytes => primitive(Primitive::Bytes),
            InnerDecimalSchema::Fixed(fixed) => Plain::Fixed(fixed),
        },
        Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => {
            Plain::Fixed(fixed)
        }
        Schema::Array(array) => Plain::Array(&array.items),
        Schema::Map(map) => Plain::Map(&map.types),
        Schema::Union(union) => Plain::Union(union.variants()),
        Schema::Record(record) => Plain::Record(record),
        Schema::Enum(list) => Plain::Enum(list),
    }
}

fn word(plain: &Plain<'_>) -> &'static str {
    match plain {
        Plain::Primitive(Primitive::Null) => "null",
        Plain::Primitive(Primitive::Boolean) => "a boolean",
        Plain::Primitive(Primitive::Int) => "an int",
        Plain::Primitive(Primitive::Long) => "a long",
        Plain::Primitive(Primitive::Float) => "a float",
        Plain::Primitive(Primitive::Double) => "a double",
        Plain::Primitive(Primitive::Bytes) => "bytes",
        Plain::Primitive(Primitive::String) => "a string",
        Plain::Array(_) => "an array",
        Plain::Map(_) => "a map",
        Plain::Union(_) => "a union",
        Plain::Record(_) => "a record",
        Plain::Enum(_) => "an enum",
        Plain::Fixed(_) => "a fixed",
    }
}

/// Every named type of a schema.
fn names(schema: &Schema) -> HashMap<Name, &Schema> {
    let mut names = HashMap::new();
    let mut open = vec![schema];
    while let Some(schema) = open.pop() {
        if let (Some(name), false) = (schema.name(), matches!(schema, Schema::Ref { .. })) {
            names.insert(name.clone(), schema);
        }
        match plain(schema) {
            Plain::Array(inner) | Plain::Map(inner) => open.push(inner),
            Plain::Union(branches) => open.extend(branches),
            Plain::Record(record) => open.extend(record.fields.iter().map(|f| &f.schema)),
            Plain::Primitive(_) | Plain::Enum(_) | Plain::Fixed(_) => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn between(reader: &Value, writer: &Value) -> Vec<String> {
        let parse = |schema: &Value| defaults::parse(schema.clone()).unwrap();
        clashes(&parse(reader), &parse(writer))
    }

    fn record(fields: Value) -> Value {
        json!({"type": "record", "name": "R", "fields": fields})
    }

    #[test]
    fn given_promotions_then_only_the_wider_type_reads_the_narrower() {
        for (narrow, wide) in
            [("int", "long"), ("int", "double"), ("long", "float"), ("float", "double")]
        {
            assert!(between(&json!(wide), &json!(narrow)).is_empty());
            assert_eq!(between(&json!(narrow), &json!(wide)).len(), 1);
        }
        assert!(between(&json!("bytes"), &json!("string")).is_empty());
        assert!(between(&json!("long"), &json!({"type": "int", "logicalType": "date"})).is_empty());
    }

    #[test]
    fn given_several_clashes_then_each_is_told_with_its_place() {
        let old = record(
            json!([{"name": "a", "type": "int"}, {"name": "b", "type": {"type": "array", "items": "long"}}]),
        );
        let new = record(
            json!([{"name": "a", "type": "string"}, {"name": "b", "type": {"type": "array", "items": "int"}},
            {"name": "c", "type": "int"}, {"name": "d", "type": "int", "default": 1}]),
        );
        assert_eq!(
            between(&new, &old),
            [
                "/data/a: the reader takes a string, the writer has an int",
                "/data/b/*: the reader takes an int, the writer has a long",
                "/data/c: the writer has no such field, and the reader no default for it",
            ]
        );
    }

    #[test]
    fn given_unions_then_every_branch_that_was_written_must_be_read() {
        let (both, one) = (json!(["null", "string"]), json!(["null"]));
        assert!(between(&both, &one).is_empty());
        assert_eq!(between(&one, &both), ["/data: no branch of the reader's union takes a string"]);
        assert_eq!(
            between(&json!("string"), &both),
            ["/data: the reader takes a string, the writer has null"]
        );
        let optional = |fields| json!(["null", record(fields)]);
        let told = between(
            &optional(json!([{"name": "a", "type": "int"}])),
            &optional(json!([{"name": "a", "type": "long"}])),
        );
        assert_eq!(told, ["/data/a: the reader takes an int, the writer has a long"]);
    }

    #[test]
    fn given_a_symbol_taken_away_then_it_clashes_unless_there_is_a_default() {
        let list = |symbols: Value| json!({"type": "enum", "name": "E", "symbols": symbols});
        let mut new = list(json!(["A"]));
        assert_eq!(
            between(&new, &list(json!(["A", "B"]))),
            ["/data: the reader lacks the symbols B, and a default"]
        );
        new["default"] = json!("A");
        assert!(between(&new, &list(json!(["A", "B"]))).is_empty());
    }

    #[test]
    fn given_another_name_then_an_alias_makes_them_one() {
        let old = json!({"type": "fixed", "name": "n.Old", "size": 2});
        let mut new = json!({"type": "fixed", "name": "n.New", "size": 2});
        assert!(between(&new, &old)[0].contains("an alias"));
        new["aliases"] = json!(["Old"]);
        assert!(between(&new, &old).is_empty());
        new["size"] = json!(3);
        assert_eq!(between(&new, &old), ["/data: the reader takes 3 bytes, the writer has 2"]);
    }

    #[test]
    fn given_a_field_under_an_alias_then_it_is_the_one_that_was_written() {
        let old = record(json!([{"name": "a", "type": "int"}]));
        let new = record(json!([{"name": "b", "aliases": ["a"], "type": "int"}]));
        assert!(between(&new, &old).is_empty());
    }

    #[test]
    fn given_a_type_that_is_now_defined_in_another_field_then_nothing_clashes() {
        let money =
            json!({"type": "record", "name": "Money", "fields": [{"name": "x", "type": "int"}]});
        let old = record(json!([{"name": "a", "type": money}, {"name": "b", "type": "Money"}]));
        let new = record(json!([{"name": "b", "type": money}]));
        assert!(between(&new, &old).is_empty());
        let worse = json!({"type": "record", "name": "Money", "fields": [{"name": "x", "type": "boolean"}]});
        assert_eq!(
            between(&record(json!([{"name": "b", "type": worse}])), &old),
            ["/data/b/x: the reader takes a boolean, the writer has an int"]
        );
    }

    #[test]
    fn given_recursive_types_then_the_comparison_ends() {
        let list = |kind: &str| {
            json!({"type": "record", "name": "List", "fields": [
            {"name": "value", "type": kind}, {"name": "next", "type": ["null", "List"]}]})
        };
        assert!(between(&list("long"), &list("int")).is_empty());
        assert_eq!(between(&list("int"), &list("long")).len(), 1);
    }

    #[test]
    fn given_names_that_lead_deeper_than_a_stack_then_it_is_said_and_the_comparison_ends() {
        let types = (0..5_000).map(|n| {
            let before = if n == 0 { json!("int") } else { json!(format!("R{}", n - 1)) };
            let kind = json!({"type": "record", "name": format!("R{n}"), "fields": [
                {"name": "next", "type": ["null", before], "default": null}]});
            json!({"name": format!("f{n}"), "type": ["null", kind], "default": null})
        });
        let deepest = json!({"name": "deepest", "type": "R4999"});
        let all = |prefix: &str| {
            let mut fields: Vec<_> = types.clone().collect();
            for field in &mut fields {
                field["name"] = json!(format!("{prefix}{}", field["name"].as_str().unwrap()));
            }
            fields.push(deepest.clone());
            record(Value::Array(fields))
        };
        assert!(between(&all("new_"), &all("old_"))[0].contains("too deep"));
    }

    #[test]
    fn given_decimals_then_their_digits_must_agree() {
        let of = |scale: u32| json!({"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": scale});
        assert!(between(&of(2), &of(2)).is_empty());
        assert_eq!(between(&of(2), &of(1)).len(), 1);
    }
}
