//! A schema's JSON with its names written out: in normal form, and with what other schemas define
//! put in.
//!
//! It works on JSON, before a schema is parsed, and judges nothing: what is no schema passes
//! through, for the parser to refuse. Names are resolved as the specification says: one without a
//! dot belongs to the namespace around it.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

/// Levels of a schema at most. A parser of JSON allows as many in one text; schemas put into each other
/// could add up to more than a stack holds.
const MAX_DEPTH: usize = 128;

/// The same schema in its normal form: full names, and no object where a name says as much. Two
/// texts of one schema that differ in these only have equal forms.
pub(crate) fn normal(schema: &Value) -> Value {
    Walk::default().schema(schema, "")
}

/// The schema with the types that it names and `others` define put in where they are first named,
/// so that it stands alone. Others may name each other. The error is for the schema's author.
pub(crate) fn bundle(schema: &Value, others: &[Value]) -> Result<Value, String> {
    let mut collect = Walk::default();
    for other in others {
        if full_name(other, "").is_none() {
            return Err("a referenced schema is no named type (record, enum or fixed)".into());
        }
        collect.schema(other, "");
    }
    if let Some(name) = collect.twice {
        return Err(format!("the referenced schemas define `{name}` twice"));
    }
    let mut walk = Walk { known: collect.defined, ..Walk::default() };
    let whole = walk.schema(schema, "");
    if let Some(name) = walk.twice {
        return Err(format!("the schema and those that it refers to define `{name}` twice"));
    }
    match walk.too_deep {
        true => {
            Err(format!("with the schemas that it refers to it has more than {MAX_DEPTH} levels"))
        }
        false => Ok(whole),
    }
}

#[derive(Default)]
struct Walk {
    /// Types to put in, in normal form.
    known: HashMap<String, Value>,
    /// Those that were put in.
    inside: HashSet<String>,
    /// Types met, in normal form.
    defined: HashMap<String, Value>,
    /// A name that was met again as something else, or is to put in and was met without.
    twice: Option<String>,
    /// How many types are being put in around here.
    putting_in: usize,
    depth: usize,
    too_deep: bool,
}

impl Walk {
    fn schema(&mut self, schema: &Value, space: &str) -> Value {
        if self.depth >= MAX_DEPTH {
            self.too_deep = true;
            return schema.clone();
        }
        self.depth += 1;
        let written = match schema {
            Value::String(name) => self.named(name, space),
            Value::Array(branches) => branches.iter().map(|b| self.schema(b, space)).collect(),
            Value::Object(members) => self.object(schema, members, space),
            other => other.clone(),
        };
        self.depth -= 1;
        written
    }

    /// A name: of a primitive type, of one defined before, or of one to put in.
    fn named(&mut self, name: &str, space: &str) -> Value {
        if PRIMITIVE.contains(&name) {
            return name.into();
        }
        let full = qualified(name, space);
        match self.known.get(&full).cloned() {
            Some(Value::Object(definition)) if self.inside.insert(full.clone()) => {
                self.putting_in += 1;
                let written = self.definition(full, &definition);
                self.putting_in -= 1;
                written
            }
            _ => full.into(),
        }
    }

    fn object(&mut self, schema: &Value, members: &Map<String, Value>, space: &str) -> Value {
        if let Some(full) = full_name(schema, space) {
            if self.known.contains_key(&full) {
                if self.putting_in == 0 {
                    self.twice = Some(full.clone());
                }
                // within what was put in, a type may come that was put in by itself before
                if !self.inside.insert(full.clone()) {
                    return full.into();
                }
            }
            return self.definition(full, members);
        }
        match members.get("type") {
            Some(inner) if members.len() == 1 => self.schema(inner, space),
            _ => self.members(members, space),
        }
    }

    fn definition(&mut self, full: String, members: &Map<String, Value>) -> Value {
        let space = full.rsplit_once('.').map_or("", |(space, _)| space).to_owned();
        let mut normal = Map::new();
        for (name, value) in members {
            let value = match name.as_str() {
                "namespace" => continue,
                "name" => full.clone().into(),
                "aliases" => aliases(value, &space),
                "fields" => self.fields(value, &space),
                _ => value.clone(),
            };
            normal.insert(name.clone(), value);
        }
        let normal = Value::Object(normal);
        let before = self.defined.insert(full.clone(), normal.clone());
        if before.is_some_and(|before| before != normal) {
            self.twice = Some(full);
        }
        normal
    }

    fn fields(&mut self, fields: &Value, space: &str) -> Value {
        let Value::Array(fields) = fields else { return fields.clone() };
        let field = |field: &Value| match field {
            Value::Object(members) => {
                let members = members.iter().map(|(name, value)| {
                    let value = match name.as_str() {
                        "type" => self.schema(value, space),
                        _ => value.clone(),
                    };
                    (name.clone(), value)
                });
                Value::Object(members.collect())
            }
            other => other.clone(),
        };
        fields.iter().map(field).collect()
    }

    /// Arrays, maps, and primitive types with further members.
    fn members(&mut self, members: &Map<String, Value>, space: &str) -> Value {
        let members = members.iter().map(|(name, value)| {
            let value = match name.as_str() {
                "items" | "values" => self.schema(value, space),
                "type" if !value.is_string() => self.schema(value, space),
                _ => value.clone(),
            };
            (name.clone(), value)
        });
        Value::Object(members.collect())
    }
}

const PRIMITIVE: [&str; 8] =
    ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

/// The full name of what is a named type.
fn full_name(schema: &Value, space: &str) -> Option<String> {
    let of = |member: &str| schema.get(member).and_then(Value::as_str);
    matches!(of("type")?, "record" | "error" | "enum" | "fixed").then_some(())?;
    Some(qualified(of("name")?, of("namespace").unwrap_or(space)))
}

fn qualified(name: &str, space: &str) -> String {
    if space.is_empty() || name.contains('.') { name.to_owned() } else { format!("{space}.{name}") }
}

fn aliases(aliases: &Value, space: &str) -> Value {
    let Value::Array(aliases) = aliases else { return aliases.clone() };
    let alias = |alias: &Value| match alias {
        Value::String(name) => qualified(name, space).into(),
        other => other.clone(),
    };
    aliases.iter().map(alias).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn given_two_ways_to_write_a_schema_then_their_normal_form_is_one() {
        let short = json!({"type": "record", "name": "R", "namespace": "a.b", "aliases": ["Q"], "fields": [
            {"name": "x", "type": {"type": "int"}, "default": 1},
            {"name": "y", "type": ["null", "R"]}]});
        let long = json!({"type": "record", "name": "a.b.R", "aliases": ["a.b.Q"], "fields": [
            {"name": "x", "type": "int", "default": 1},
            {"name": "y", "type": ["null", "a.b.R"]}]});
        assert_eq!(normal(&short), normal(&long));
        assert_ne!(normal(&long), normal(&json!({"type": "int", "doc": "x"})));
    }

    #[test]
    fn given_logical_types_and_docs_then_the_normal_form_keeps_them() {
        let schema =
            json!({"type": "array", "items": {"type": "long", "logicalType": "x"}, "doc": "d"});
        assert_eq!(normal(&schema), schema);
    }

    #[test]
    fn given_references_to_references_then_each_type_is_put_in_once_where_it_is_first_named() {
        let root = json!({"type": "record", "name": "n.Root", "fields": [
            {"name": "a", "type": "Money"}, {"name": "b", "type": ["null", "n.Money"]},
            {"name": "c", "type": {"type": "map", "values": "Unit"}}]});
        let money =
            json!({"type": "record", "name": "n.Money", "fields": [{"name": "u", "type": "Unit"}]});
        let unit = json!({"type": "enum", "name": "Unit", "namespace": "n", "symbols": ["EUR"]});
        let unit_in = json!({"type": "enum", "name": "n.Unit", "symbols": ["EUR"]});
        let whole = bundle(&root, &[money, unit]).unwrap();
        assert_eq!(
            whole,
            json!({"type": "record", "name": "n.Root", "fields": [
                {"name": "a", "type": {"type": "record", "name": "n.Money", "fields": [
                    {"name": "u", "type": unit_in}]}},
                {"name": "b", "type": ["null", "n.Money"]},
                {"name": "c", "type": {"type": "map", "values": "n.Unit"}}]})
        );
    }

    #[test]
    fn given_a_schema_that_defines_what_it_refers_to_then_it_is_refused() {
        let fixed = |size: u32| json!({"type": "fixed", "name": "F", "size": size});
        let root = |kind: Value| json!({"type": "record", "name": "R", "fields": [{"name": "a", "type": kind}]});
        for own in [fixed(1), fixed(2)] {
            let refused = bundle(&root(own), &[fixed(1)]).unwrap_err();
            assert_eq!(refused, "the schema and those that it refers to define `F` twice");
        }
        let refused = bundle(&root(json!("int")), &[root(json!("long"))]).unwrap_err();
        assert!(refused.contains("define `R` twice"), "{refused}");
        // a reference that holds another one is no second definition
        assert!(bundle(&json!(["F", "R"]), &[fixed(1), root(fixed(1))]).is_ok());
        assert!(bundle(&json!(["R", "F"]), &[fixed(1), root(fixed(1))]).is_ok());
    }

    #[test]
    fn given_references_that_nest_beyond_the_limit_then_it_is_refused() {
        let link = |n: usize, next: Value| json!({"type": "record", "name": format!("R{n}"), "fields": [{"name": "next", "type": next}]});
        let chain: Vec<_> = (0..200).map(|n| link(n, json!(format!("R{}", n + 1)))).collect();
        let refused = bundle(&json!("R0"), &[&chain[..], &[link(200, json!("int"))]].concat());
        assert!(refused.unwrap_err().contains("128 levels"));
    }

    #[test]
    fn given_a_reference_to_what_has_no_name_or_two_of_one_name_then_it_is_refused() {
        let fixed = |size: u32| json!({"type": "fixed", "name": "F", "size": size});
        assert!(bundle(&json!("int"), &[json!("int")]).unwrap_err().contains("no named type"));
        assert!(bundle(&json!("F"), &[fixed(1), fixed(2)]).unwrap_err().contains("twice"));
        assert_eq!(bundle(&json!("F"), &[fixed(1), fixed(1)]), Ok(fixed(1)));
    }
}
